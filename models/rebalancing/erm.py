"""Empirical risk minimisation: cross-entropy on the examples as they are."""

from __future__ import annotations

from models.rebalancing.base import Strategy


class Erm(Strategy):
    """The baseline: nothing is rebalanced. On boxes it is ``focal``, the detector's own loss."""

    balances = False
    takes_boxes = True
