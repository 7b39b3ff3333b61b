"""From cells to one line a strategy, and what must hold of the lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FIGURES = ("balanced_accuracy", "geometric_mean", "macro_f1", "calibration_error")


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means and standard deviations over the seeds of one strategy."""
    found: dict[str, Any] = {"seeds": [r["seed"] for r in results]}
    for name in _FIGURES:
        found[name] = _spread([r[name] for r in results])
    recalls = np.asarray([r["recall"] for r in results])
    third = recalls.shape[1] // 3
    found["majority"] = _spread(recalls[:, :third].mean(axis=1))
    found["minority"] = _spread(recalls[:, -third:].mean(axis=1))
    found["recall"] = recalls.mean(axis=0).round(4).tolist()
    found["each"] = [round(r["balanced_accuracy"], 4) for r in results]
    found["cpu_s"] = round(float(np.mean([r["cpu_s"] for r in results])), 1)
    found |= _costs(results) | _diagnostics(results)
    return found


def judged(lines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is asked of the strategies beside erm."""
    erm = lines.get("erm")
    if erm is None:
        return {}
    base, spread = erm["balanced_accuracy"]
    others = {name: line for name, line in lines.items() if name != "erm"}
    gains = {name: round(line["balanced_accuracy"][0] - base, 4) for name, line in others.items()}
    below = {
        name: bool(gains[name] < -max(spread, others[name]["balanced_accuracy"][1]))
        for name in ("focal", "m2m", "difficulty")
        if name in others
    }
    told: dict[str, Any] = {
        "gain_over_erm": gains,
        "best_gain_at_least_.06": bool(gains and max(gains.values()) >= 0.06),
        "below_erm_beyond_the_spread": below,
    }
    for name, limit in (("m2m", 8.0), ("difficulty", 1.4)):
        if name in others and others[name]["epoch_to_erm_epoch"] is not None:
            ratio = others[name]["epoch_to_erm_epoch"][0]
            told[f"{name}_epoch_ratio"] = {"found": ratio, "limit": limit, "met": ratio <= limit}
    return told


def _spread(values: Any) -> list[float]:
    numbers = np.asarray(values, dtype=np.float64)
    deviation = numbers.std(ddof=1) if len(numbers) > 1 else 0.0
    return [round(float(numbers.mean()), 4), round(float(deviation), 4)]


def _costs(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much longer an epoch is than one of plain training in the same run.

    M2m's epochs before it begins are plain training; of difficulty, what is spent beside the
    training of an epoch is its own.
    """
    ratios = []
    for result in results:
        epochs = result["epochs"]
        if any("m2m_tried" in line for line in epochs):
            own = [line["epoch_s"] for line in epochs if "m2m_tried" in line]
            plain = [line["epoch_s"] for line in epochs if "m2m_tried" not in line]
            if plain:
                ratios.append(float(np.median(own) / np.median(plain)))
        elif any("largest_difficulty" in line for line in epochs):
            ratios.append(float(np.median([line["epoch_s"] / line["train_s"] for line in epochs])))
    return {"epoch_to_erm_epoch": _spread(ratios) if ratios else None}


def _diagnostics(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Acceptance of M2m by class, and the last epoch's difficulties."""
    found: dict[str, Any] = {}
    tried: dict[str, int] = {}
    accepted: dict[str, int] = {}
    for result in results:
        for line in result["epochs"]:
            for name, count in line.get("m2m_tried", {}).items():
                tried[name] = tried.get(name, 0) + count
                accepted[name] = accepted.get(name, 0) + line["m2m_accepted"][name]
    if tried:
        found["m2m_tried"] = tried
        found["m2m_acceptance"] = {
            name: round(accepted[name] / count, 4) if count else None
            for name, count in tried.items()
        }
    hard = [r["epochs"][-1] for r in results if "largest_difficulty" in r["epochs"][-1]]
    if hard:
        found["largest_difficulty"] = _spread([line["largest_difficulty"] for line in hard])
        found["harder_than_neutral"] = _spread([line["harder_than_neutral"] for line in hard])
    return found
