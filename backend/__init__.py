"""The service: speaks the ML-backend protocol and runs the reconcile loop."""
