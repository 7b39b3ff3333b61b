"""Blood cells cut into tiles: what ``benchmarks.bccd`` is made of."""
