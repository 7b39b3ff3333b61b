"""Everything that knows Label Studio: its API, its label configs, its scores and its files.

The only package that imports the Label Studio SDK.
"""
