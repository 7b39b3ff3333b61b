"""The panels' figures as plotly reads them, built as plain dictionaries: plotly is not imported.

A colour is a name of the style sheet's (``--series-1``); the page's script puts in what it stands
for, in light and in dark.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from backend.dashboard.finetunes import FinetuneCard
from backend.dashboard.found import FoundCurve, FoundPanel
from backend.dashboard.precision import PrecisionPanel, QueuePrecision

Figure = dict[str, JsonValue]

_FOUND, _RANDOM, _BAND, _OTHER = "--series-1", "--series-2", "--band", "--control"


def found_figure(panel: FoundPanel, curve: FoundCurve) -> Figure:
    """Found over labels, and random order's expectation with its interval."""
    labels: list[JsonValue] = list(panel.labels)
    traces: list[JsonValue] = []
    expected = [curve.expected(count) for count in panel.labels]
    known = [one for one in expected if one is not None]
    if len(known) == len(labels):
        traces += [
            {
                "x": [*labels, *reversed(labels)],
                "y": _rounded([*(one[2] for one in known), *(one[1] for one in reversed(known))]),
                "mode": "lines",
                "fill": "toself",
                "fillcolor": _BAND,
                "line": {"width": 0},
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "x": labels,
                "y": _rounded([one[0] for one in known]),
                "mode": "lines",
                "name": "random order",
                "line": {"color": _RANDOM, "dash": "dash", "width": 2},
            },
        ]
    traces.append(
        {
            "x": labels,
            "y": list(curve.found),
            "mode": "lines+markers" if len(labels) < 30 else "lines",
            "name": "found",
            "line": {"color": _FOUND, "width": 3},
        }
    )
    return _figure(traces, x="labels given", y="rare ones found")


def precision_figure(panel: PrecisionPanel) -> Figure:
    """One bar a queue, and a line where random order would be."""
    names: list[JsonValue] = [f"{k + 1}" for k in range(len(panel.queues))]
    numbered = list(zip(names, panel.queues, strict=True))
    traces: list[JsonValue] = []
    # A legend without colours too: bars of an order that knows nothing of the rare are hatched.
    for mined, words, colour, shape in (
        (True, "rarest first", _FOUND, ""),
        (False, "no order by rarity", _OTHER, "/"),
    ):
        some = [(name, one) for name, one in numbered if one.mined is mined]
        if some:
            traces.append(
                {
                    "type": "bar",
                    "x": [name for name, _ in some],
                    "y": _rounded([one.precision for _, one in some]),
                    "text": [_told(one) for _, one in some],
                    "textposition": "none",
                    "hovertemplate": "%{text}<extra></extra>",
                    "name": words,
                    "marker": {"color": colour, "pattern": {"shape": shape}},
                }
            )
    if panel.random is not None:
        traces.append(
            {
                "x": names,
                "y": _rounded([panel.random] * len(names)),
                "mode": "lines",
                "name": "random order",
                "line": {"color": _RANDOM, "dash": "dash", "width": 2},
            }
        )
    return _figure(traces, x="queue", y="share that was rare", percent=True, order=names)


def _told(one: QueuePrecision) -> str:
    words = f"{_plain(one.version or one.publication)}: {one.rare} of {one.labeled}"
    return f"{words}, by {_plain(one.kind)}" if one.kind else words


def loss_figure(card: FinetuneCard) -> Figure:
    """Mean loss of each epoch."""
    epochs: list[JsonValue] = list(range(1, len(card.loss) + 1))
    trace: JsonValue = {
        "x": epochs,
        "y": _rounded(card.loss),
        "mode": "lines+markers",
        "name": "loss",
        "line": {"color": _FOUND, "width": 3},
    }
    return _figure([trace], x="epoch", y="loss")


def _figure(
    traces: list[JsonValue],
    *,
    x: str,
    y: str,
    percent: bool = False,
    order: list[JsonValue] | None = None,
) -> Figure:
    """``order``: the categories of the lower axis, in their order; else it is one of numbers."""
    axis: dict[str, JsonValue] = {"title": {"text": y}, "rangemode": "tozero"}
    if percent:
        axis["tickformat"] = ".0%"
    kind: dict[str, JsonValue] = {"title": {"text": x}, "type": "linear"}
    if order is not None:
        kind |= {"type": "category", "categoryorder": "array", "categoryarray": order}
    return {"data": traces, "layout": {"xaxis": kind, "yaxis": axis}}


def _rounded(values: Sequence[float]) -> list[JsonValue]:
    return [round(value, 4) for value in values]


def _plain(text: str) -> str:
    """Text that plotly shows as it is: it takes some tags for markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
