"""What the dashboard shows: one module a panel, each from the stores' small files to a model.

Nothing here loads a network; what needs the mirror (``queue``, ``review``, ``thumbnails``) is asked
for by requests of its own, after the page is there.
"""
