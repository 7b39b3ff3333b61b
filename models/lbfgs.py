"""Limited-memory BFGS with a preconditioner: smooth functions of a few thousand numbers.

Features are correlated, so plain gradients zigzag. Where a matrix is known that is like the
curvature, its inverse as the first guess of every step halves the evaluations.
Source: Nocedal and Wright 2006, Numerical Optimization, algorithms 7.4 and 3.5 (backtracking).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]

_MEMORY = 10
_ENOUGH = 1e-4  # share of the promised decrease that a step must bring (Armijo)
_NOISE = 1e-8  # of the function's value: sums of single-precision terms are no better
_SHORTEST = 1e-8


def minimise(
    function: Callable[[Point], tuple[float, Point]],
    start: Point,
    *,
    precondition: Callable[[Point], Point],
    iterations: int,
    tolerance: float = 3e-5,
) -> Point:
    """A point where no entry of the gradient is above ``tolerance``.

    Args:
        function: value and gradient at a point.
        start: where to begin; any shape.
        precondition: a gradient times about the inverse of the curvature, symmetric and positive.
        iterations: most steps.
        tolerance: largest entry of the gradient that counts as none. It ends sooner where the
            value no longer falls by more than its own noise.
    """
    point = start.astype(np.float64)
    value, gradient = function(point)
    history: deque[tuple[Point, Point, float]] = deque(maxlen=_MEMORY)
    for _ in range(iterations):
        if np.abs(gradient).max(initial=0.0) <= tolerance:
            break
        direction = -_towards(gradient, history, precondition)
        slope = _inner(direction, gradient)
        if slope >= 0:
            break
        length, noise = 1.0, _NOISE * abs(value)
        while True:
            new_point = point + length * direction
            new_value, new_gradient = function(new_point)
            if new_value <= value + _ENOUGH * length * slope + noise or length < _SHORTEST:
                break
            # The parabola through both values and the slope; never much shorter at once.
            bend = new_value - value - slope * length
            best = -slope * length**2 / (2 * bend) if np.isfinite(bend) else 0.0
            length = min(max(best, 0.1 * length), 0.5 * length)
        if new_value > value + noise:
            break
        step, change = new_point - point, new_gradient - gradient
        curvature = _inner(step, change)
        # Where the function is not convex a step may show none; it teaches nothing then.
        if curvature > 1e-10 * _inner(change, change):
            history.append((step, change, curvature))
        fell = value - new_value
        point, value, gradient = new_point, new_value, new_gradient
        if fell <= noise:
            break
    return point


def _towards(
    gradient: Point,
    history: deque[tuple[Point, Point, float]],
    precondition: Callable[[Point], Point],
) -> Point:
    """The gradient times the current guess of the inverse curvature (the two-loop recursion)."""
    rest = gradient.copy()
    shares: list[float] = []
    for step, change, curvature in reversed(history):
        share = _inner(step, rest) / curvature
        rest -= share * change
        shares.append(share)
    found = precondition(rest)
    if history:
        _, change, curvature = history[-1]
        found = found * (curvature / _inner(change, precondition(change)))
    for (step, change, curvature), share in zip(history, reversed(shares), strict=True):
        found += (share - _inner(change, found) / curvature) * step
    return found


def _inner(one: Point, other: Point) -> float:
    # Not np.dot: BLAS would wake its own threads for it, beside torch's.
    return float((one * other).sum())
