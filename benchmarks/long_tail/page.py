"""The results as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Published balanced accuracy (%) on the full set at the same ratio, docs/methods.md 14.2.
_PUBLISHED = {
    "erm": "70.36", "resample": "70.55", "reweight": "72.37", "ldam": "77.03", "m2m": "78.3",
    "m2m_ldam": "79.1",
}  # fmt: skip


def page(told: Mapping[str, Any]) -> str:
    """Markdown."""
    counts = ", ".join(str(count) for count in told["counts"])
    lines = [
        f"# CIFAR-10, long tail: preset `{told['preset']}`",
        "",
        f"`{told['command']}`, {told['date']}.",
        "",
        f"{told['network']} from scratch, {told['config']['epochs']} epochs, pictures a class: "
        f"{counts}; test: {told['test_pictures_a_class']} a class. Seeds "
        f"{', '.join(map(str, told['seeds']))}: mean and standard deviation, in %. Majority: the "
        "three largest classes, minority: the three smallest. The last column is a class-balanced "
        "accuracy published for 5,000 pictures of the largest class and 200 epochs: not "
        "comparable, for the order only.",
        "",
        "| strategy | balanced accuracy | over erm | geometric mean | macro-F1 | majority "
        "| minority | calibration error | epoch, erm = 1 | published |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = told["strategies"].get("erm", {}).get("balanced_accuracy", [None])[0]
    for name, line in told["strategies"].items():
        gain = "" if base is None else f"{100 * (line['balanced_accuracy'][0] - base):+.1f}"
        ratio = line["epoch_to_erm_epoch"]
        lines.append(
            f"| {name} | {_percent(line['balanced_accuracy'])} | {gain} "
            f"| {_percent(line['geometric_mean'])} | {_percent(line['macro_f1'])} "
            f"| {_percent(line['majority'])} | {_percent(line['minority'])} "
            f"| {_percent(line['calibration_error'])} "
            f"| {'' if ratio is None else f'{ratio[0]:.2f}'} | {_PUBLISHED.get(name, '')} |"
        )
    for name, line in told["strategies"].items():
        if "m2m_acceptance" in line:
            shares = ", ".join(
                f"{title} {'-' if share is None else f'{100 * share:.0f} %'}"
                for title, share in line["m2m_acceptance"].items()
            )
            lines += ["", f"Translations that g accepted, {name}: {shares}."]
        if "harder_than_neutral" in line:
            lines += [
                "",
                f"{name}: {_percent(line['harder_than_neutral'])} % of the examples are harder "
                f"than neutral at the end, the largest difficulty is "
                f"{line['largest_difficulty'][0]:.2f}.",
            ]
    return "\n".join(lines) + "\n"


def _percent(figure: list[float]) -> str:
    return f"{100 * figure[0]:.1f} ± {100 * figure[1]:.1f}"
