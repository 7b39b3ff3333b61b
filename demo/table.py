"""The demo's tables, narrow enough for a log."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from demo.report import Batch, RunReport, mean_and_spread


def batch_heading() -> str:
    """The heading over :func:`batch_line`."""
    return (
        f"{'batch':>6}{'labels':>8}{'rare':>6}{'so far':>10}{'random order':>14}{'new order':>12}"
    )


def batch_line(batch: Batch, rare_total: int) -> str:
    """One batch as one line: printed as it happens, so a table cannot know its widths."""
    return (
        f"{batch.number:>6}{batch.labels:>8}{batch.rare:>6}"
        f"{f'{batch.rare_so_far}/{rare_total}':>10}{batch.random_so_far:>14.1f}"
        f"{f'{batch.wait_s:.1f} s':>12}"
    )


def summary_table(reports: Sequence[RunReport]) -> Table:
    """One row a run; one at least. ``queue`` and ``order``: waits for the first and new ones."""
    table = Table(
        title=f"Rare {reports[0].noun} found in the served order",
        box=box.SIMPLE,
        padding=(0, 0, 0, 1),
    )
    for heading in (
        "seed", "rare", "labels", "found", "share", "random", "first 50", "queue", "order",
        "worked",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for report in reports:
        table.add_row(
            str(report.seed),
            ", ".join(report.rare),
            str(len(report.served)),
            f"{report.rare_found}/{report.rare_total}",
            f"{report.share_found:.0%}",
            f"{report.random_share:.0%}",
            str(report.rare_in_first_50),
            f"{report.first_queue_s:.0f} s",
            f"{report.median_wait_s:.1f} s",
            "no" if report.failures() else "yes",
        )
    return table


def spread_lines(reports: Sequence[RunReport]) -> list[str]:
    """Mean and standard deviation over the runs, a line for each figure."""
    found = mean_and_spread([100 * report.share_found for report in reports])
    first = mean_and_spread([report.rare_in_first_50 for report in reports])
    wait = mean_and_spread([report.median_wait_s for report in reports])
    return [
        f"{f'rare {reports[0].noun} found:':<21}{found[0]:.1f} ± {found[1]:.1f} %",
        f"rare in first 50:    {first[0]:.1f} ± {first[1]:.1f}",
        f"label to new order:  {wait[0]:.1f} ± {wait[1]:.1f} s (mean and spread of medians)",
    ]
