"""Whole pieces of work, each readable from top to bottom."""
