"""What ``benchmarks.bccd`` measured, summed up over seeds, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.blood.cells import BUDGETS, MINED, SCORERS, TAILS

_FIGURES = ("ap", "average_f", "p@10", "p@25", "p@50", "clear_ap", "clear_p@10", "clear_p@50")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    return {
        "mean": round(float(np.mean(values)), 4),
        "std": round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4),
    }


def mined(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the seeds of one tail: every scorer's figures, and its part of the possible gain."""
    rows = {}
    for scorer in SCORERS:
        each = [cell["scorers"][scorer] for cell in cells]
        rows[scorer] = {name: spread([one[name] for one in each]) for name in _FIGURES}
        rows[scorer]["gain"] = spread(
            [
                (cell["scorers"][scorer]["average_f"] - chance)
                / (cell["perfect"]["average_f"] - chance)
                for cell, chance in zip(cells, map(chance_f, cells), strict=True)
            ]
        )
    return {
        "seeds": [cell["seed"] for cell in cells],
        "pool": spread([cell["pool"] for cell in cells]),
        "base_rate": spread([cell["pool_tail"] / cell["pool"] for cell in cells]),
        "fragments": spread([cell["pool_fragments"] / cell["pool"] for cell in cells]),
        "chance_average_f": spread([chance_f(cell) for cell in cells]),
        "perfect": {n: spread([cell["perfect"][n] for cell in cells]) for n in _FIGURES},
        "train_boxes": [cell["train_boxes"] for cell in cells],
        "scorers": rows,
        "ap_before": _of_classes([cell["before"] for cell in cells]),
    }


def chance_f(cell: Mapping[str, Any]) -> float:
    """Average F that random order has in expectation: precision is the base rate throughout."""
    from models.metrics import published_budgets

    share = cell["pool_tail"] / cell["pool"]
    recall = np.asarray([n / cell["pool"] for n in published_budgets(cell["pool"])])
    return float(np.mean(2 * share * recall / (share + recall)))


def tuned(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the seeds of one tail: AP and AR after fine-tuning, by scorer and labels mined."""
    found = {}
    for scorer in MINED:
        for budget in BUDGETS:
            each = [c for c in cells if (c["scorer"], c["budget"]) == (scorer, budget)]
            if each:
                found[f"{scorer} {budget}"] = {
                    "seeds": len(each),
                    "tail_ap": spread([c["after"]["tail_ap"] for c in each]),
                    "tail_ar": spread([c["after"]["tail_ar"] for c in each]),
                    "mean_ap": spread([c["after"]["mean_ap"] for c in each]),
                    "classes": _of_classes([c["after"] for c in each]),
                    "new_boxes": [c["new_boxes"] for c in each],
                }
    return found


def goals(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the issue asks for, and whether it is so, by tail."""
    found = {}
    for tail, one in told["mined"].items():
        rows = one["scorers"]
        ours = rows["rarefirst"]["average_f"]
        above = {
            other: bool(
                ours["mean"] - ours["std"]
                > rows[other]["average_f"]["mean"] + rows[other]["average_f"]["std"]
            )
            for other in ("entropy", "max_score")
        }
        after = told["tuned"].get(tail, {})
        better = None
        if {"rarefirst 50", "random 50"} <= set(after):
            better = bool(
                after["rarefirst 50"]["tail_ap"]["mean"] > after["random 50"]["tail_ap"]["mean"]
            )
        found[tail] = {
            "half_of_the_possible_gain": rows["rarefirst"]["gain"]["mean"] >= 0.5,
            "above_beyond_the_spread": above,
            "fine_tuned_better_than_random_50": better,
        }
    return found


def page(told: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# Blood cells: finding tiles with rare cells",
        "",
        f"`{told['command']}`, {told['date']}, {told['cpu_minutes']} minutes of one core.",
        "",
        "Mean and standard deviation over seeds. *gain*: average F between random order (0) and a "
        "perfect one (1). *clear*: without tiles that show half of a rare object or less, which "
        "count as wrong in the other columns.",
    ]
    for tail in TAILS:
        if tail not in told["mined"]:
            continue
        one = told["mined"][tail]
        lines += [
            "",
            f"## Tail: {tail}",
            "",
            f"Pool {one['pool']['mean']:.0f} tiles, base rate {_share(one['base_rate'])}, fragments"
            f" {_share(one['fragments'])}. Perfect: average F {_text(one['perfect']['average_f'])},"
            f" P@50 {_text(one['perfect']['p@50'])}; random in expectation: average F "
            f"{_text(one['chance_average_f'])}.",
            "",
            "| scorer | AP | average F | gain | P@10 | P@25 | P@50 | clear AP | clear P@50 |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for scorer, row in one["scorers"].items():
            figures = (
                "ap", "average_f", "gain", "p@10", "p@25", "p@50", "clear_ap", "clear_p@50"
            )  # fmt: skip
            lines.append(f"| {scorer} | " + " | ".join(_text(row[n]) for n in figures) + " |")
        lines += _tuned_lines(one, told["tuned"].get(tail, {}))
    return "\n".join(lines) + "\n"


def _tuned_lines(one: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if not after:
        return []
    names = list(one["ap_before"])
    lines = [
        "",
        "Fine-tuned on the training tiles and the first of an order, judged on other pictures "
        "(COCO AP / AR, times 100):",
        "",
        "| labels mined | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        "| none | " + " | ".join(_both(one["ap_before"][n]) for n in names) + " |",
    ]
    lines += [
        f"| {name} | " + " | ".join(_both(row["classes"][n]) for n in names) + " |"
        for name, row in after.items()
    ]
    return lines


def _of_classes(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = each[0]["classes"] if each else {}
    return {
        name: {
            figure: spread([one["classes"][name][figure] for one in each])
            for figure in ("ap", "ap_50", "ar")
        }
        for name in names
    }


def _text(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.3f} ± {figure['std']:.3f}"


def _share(figure: Mapping[str, float]) -> str:
    return f"{100 * figure['mean']:.1f} %"


def _both(figures: Mapping[str, Any]) -> str:
    ap, ar = figures["ap"], figures["ar"]
    return f"{100 * ap['mean']:.1f} ± {100 * ap['std']:.1f} / {100 * ar['mean']:.1f}"
