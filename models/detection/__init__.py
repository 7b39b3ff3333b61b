"""Boxes: what annotators drew, what a detector found, and how the two are compared."""
