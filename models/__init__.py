"""The machine learning; knows nothing of the service."""
