"""Benchmarks: one file a published table or a speed claim; each prints JSON."""
