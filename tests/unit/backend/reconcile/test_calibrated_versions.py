"""A version says whether its likelihoods were calibrated, and why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.versions import show_version
from tests.unit.backend.reconcile.rounds import reconciler_of, run, settings_of, squares

BLUE = tuple(range(0, 120, 6))


@pytest.mark.parametrize(("labeled", "method"), [(24, "priors"), (90, "platt")])
def test_the_card_says_how_the_rarity_came_about(
    tmp_path: Path, clean_environment: None, labeled: int, method: str
) -> None:
    label_studio = squares(120, blue=BLUE, labeled=labeled)
    settings = settings_of(data_dir=tmp_path, tail_min_labels=10, tail_threshold=0.8)
    run(reconciler_of(label_studio, settings))
    card = show_version(settings, 1, "v0001").card
    assert card is not None
    assert card.tail == ("blue",)
    assert card.config["calibration"] == method
    assert card.metrics["calibrated"] == (method != "priors")
    assert ("calibration_slope" in card.metrics) == (method != "priors")
