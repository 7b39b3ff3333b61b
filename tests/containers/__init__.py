"""The image and the compose file: what they say, and that the processes they start work."""
