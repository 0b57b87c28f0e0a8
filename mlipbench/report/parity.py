"""How are predictions drawn against their reference?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mlipbench.core.model import Float
from mlipbench.core.view import Parity
from mlipbench.report.panels import (
    COLOURS,
    LINE,
    WORST,
    Entry,
    Figure,
    Panel,
    Spec,
    colour,
    escaped,
    layout,
    on_axis,
    plain_axis,
    short,
)

MAX_POINTS: Final = 1000  # per panel: SVG stays quick, and the eye sees no more
MAX_KINDS: Final = 6  # more than these are merged to families
N_WORST: Final = 15
OTHERS: Final = "others"
RING: Final = Entry(name="largest errors", colour=WORST, mark="ring")
_KIND: Final = re.compile(r"(?P<family>[^_]+)(?:_[^_]+)*?(?:_(?P<method>[^_]+)md)?")


def parity_figure(title: str, views: Mapping[str, Parity]) -> Figure:
    """Draw one square per model, all with the same axes and one legend."""
    views = {model: view for model, view in views.items() if view.reference.size}
    if not views:
        return Figure(title=title, caption="", panels=())
    low, high = _range(list(views.values()))
    called = families([name for view in views.values() for name in view.group])
    kinds = sorted(set(called.values()), key=lambda kind: (kind == OTHERS, kind))
    panels, outside = [], 0
    for model, view in views.items():
        groups = np.array([called[name] for name in view.group] if view.group else [""] * view.reference.size)
        panels.append(Panel(model=model, spec=_panel(view, low, high, groups, kinds or [""])))
        outside += int(((view.predicted < low) | (view.predicted > high)).sum())
    entries = [Entry(name=kind, colour=colour(i), mark="point") for i, kind in enumerate(kinds)]
    return Figure(
        title=title, caption=_caption(next(iter(views.values())), outside, merged=len(kinds) < len(called)),
        panels=tuple(panels), legend=(*entries, RING) if entries else (),
    )  # fmt: skip


def families(names: Sequence[str]) -> dict[str, str]:
    """Say how to call each kind of point, so that a legend stays short and colours differ.

    Up to `MAX_KINDS` kinds keep their names. More are merged by the word they begin with, those from the dynamics of
    another method apart; of more families than there are colours, the rarest become one.

    Args:
        names: kind of each point.

    >>> families(["liquid_3", "liquid_12", "liquid_3_gfn1md", "molecule_EC", "molecule_EMC", "dimer", "cluster_2"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'liquid_3': 'liquid', 'liquid_12': 'liquid', 'liquid_3_gfn1md': 'liquid (GFN1 dynamics)',
     'molecule_EC': 'molecule', 'molecule_EMC': 'molecule', 'dimer': 'dimer', 'cluster_2': 'cluster'}
    """
    counts = Counter(names)
    if len(counts) <= MAX_KINDS:
        return {name: name for name in counts}
    called = {name: _family(name) for name in counts}
    sizes: Counter[str] = Counter()
    for name, n in counts.items():
        sizes[called[name]] += n
    if len(sizes) <= len(COLOURS):
        return called
    kept = {family for family, _ in sizes.most_common(len(COLOURS) - 1)}
    return {name: family if family in kept else OTHERS for name, family in called.items()}


def _family(name: str) -> str:
    """Return the first word of a kind, and the method whose dynamics made it when its last word ends in "md"."""
    found = _KIND.fullmatch(name)
    if found is None:
        return name
    method = found["method"]
    return f"{found['family']} ({method.upper()} dynamics)" if method else found["family"]


def _caption(view: Parity, outside: int, *, merged: bool) -> str:
    """Say how to read the figure."""
    quantity = view.axis.quantity
    caption = (
        f"{quantity[:1].upper()}{quantity[1:]}: model against reference, on the same axes; the line is perfect "
        f"agreement. At most {MAX_POINTS} points per model, always with the largest errors; rings mark {N_WORST} of "
        "them."
    )
    if merged:
        caption += " Kinds of one family share a colour."
    if outside:
        lies, are = ("point lies", "is") if outside == 1 else ("points lie", "are")
        caption += f" {outside} {lies} outside the axes and {are} drawn as ▲ or ▼ at the edge."
    return caption


def _range(views: Sequence[Parity]) -> tuple[float, float]:
    """Return axes that hold the reference, and of the predictions what is not far off."""
    reference = np.concatenate([view.reference for view in views])
    predicted = np.concatenate([view.predicted for view in views])
    low, high = float(reference.min()), float(reference.max())
    room = 0.25 * (high - low) or max(abs(high), 1.0) * 0.1
    low = max(low - room, min(low, float(predicted.min())))
    high = min(high + room, max(high, float(predicted.max())))
    pad = 0.04 * (high - low) or room
    return low - pad, high + pad


def thin(error: Float, *, keep: int = MAX_POINTS) -> np.ndarray:
    """Choose points to draw: the worst ones, and of the others every so many-th.

    Args:
        error: shape (n,), how far each point is off.
        keep: how many to draw.

    Returns:
        Point numbers in ascending order; all of them when there are no more than `keep`.
    """
    n = len(error)
    if n <= keep:
        return np.arange(n)
    worst = np.argsort(-np.abs(error), kind="stable")[: max(keep // 20, min(N_WORST, keep))]
    even = np.linspace(0, n - 1, keep - len(worst)).round().astype(np.int64)
    return np.union1d(worst, even)


def _panel(view: Parity, low: float, high: float, groups: np.ndarray, kinds: Sequence[str]) -> Spec:
    """Draw one model; `groups` names the kind of each point."""
    chosen = thin(view.predicted - view.reference)
    x, y, groups = view.reference[chosen], view.predicted[chosen], groups[chosen]
    ends = short(np.array([low, high]))
    traces: list[Spec] = [{
        "type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": {"color": LINE, "width": 1},
        "hoverinfo": "skip",
    }]  # fmt: skip
    within = (y >= low) & (y <= high)
    for place, kind in enumerate(kinds):
        for mask, draw in ((within, _points), (~within, _edge_points)):
            here = mask & (groups == kind)
            if here.any():
                traces.append({"name": escaped(kind), "meta": place, **draw(x[here], y[here], low, high, place)})
    worst = np.argsort(-np.abs(y - x), kind="stable")[:N_WORST]
    worst = worst[within[worst]]
    traces.append({
        "type": "scatter", "mode": "markers", "x": on_axis(x[worst], low, high), "y": on_axis(y[worst], low, high),
        "marker": {"symbol": "circle-open", "size": 9, "color": WORST, "line": {"width": 1.3}},
        "hoverinfo": "skip", "name": RING.name, "meta": len(kinds),
    })  # fmt: skip
    unit = f" ({escaped(view.axis.unit)})" if view.axis.unit else ""
    drawing = layout(height=340)
    # squares: one unit is as long upwards as to the right
    same: Spec = {"range": ends, "constrain": "domain", "nticks": 6}
    drawing["xaxis"] = {**plain_axis(f"reference{unit}"), **same}
    drawing["yaxis"] = {**plain_axis(f"model{unit}"), **same, "scaleanchor": "x"}
    return {"data": traces, "layout": drawing}


def _points(x: Float, y: Float, low: float, high: float, place: int) -> Spec:
    """Draw the points of one kind within the axes."""
    return {
        "type": "scatter", "mode": "markers", "x": on_axis(x, low, high), "y": on_axis(y, low, high),
        "hovertemplate": "reference %{x}<br>model %{y}<extra></extra>",
        "marker": {"size": 4.5, "opacity": 0.45, "color": colour(place)},
    }  # fmt: skip


def _edge_points(x: Float, y: Float, low: float, high: float, place: int) -> Spec:
    """Draw the points of one kind that lie outside the axes as triangles at the edge."""
    edge = 0.012 * (high - low)
    return {
        "type": "scatter", "mode": "markers", "x": on_axis(x, low, high),
        "y": on_axis(np.clip(y, low + edge, high - edge), low, high), "customdata": short(y),
        "hovertemplate": "reference %{x}<br>model %{customdata}<extra></extra>",
        "marker": {
            "size": 9, "opacity": 0.45, "color": colour(place),
            "symbol": ["triangle-up" if above else "triangle-down" for above in (y > high).tolist()],
        },
    }  # fmt: skip
