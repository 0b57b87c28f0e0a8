"""How is a view drawn?

Figures are plain plotly specifications (data and layout); nothing is imported to make them, and every text that came
from outside is escaped, because plotly reads a few HTML tags in labels.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from mlipbench.core.model import Float
from mlipbench.core.view import Axis, Bars, Lines, Parity, View

Spec: TypeAlias = dict[str, Any]
AnyView = TypeVar("AnyView", Parity, Bars, Lines)

# Okabe & Ito's colours without yellow, which is too light for points on white.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B4B8A", "#444444")
DASHES: Final = ("solid", "dash", "dot", "dashdot")
MAX_POINTS: Final = 1200  # per panel: SVG stays quick, and the eye sees no more
N_WORST: Final = 15
INK: Final = "#24313d"
GRID: Final = "#e3e8ed"
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawing; `model` names it when each model has its own."""

    model: str
    spec: Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Drawings that belong together, such as one parity plot per model over the same axes."""

    title: str
    caption: str
    panels: tuple[Panel, ...]


def figures(views: Mapping[str, Sequence[View]], *, colours: Mapping[str, str]) -> tuple[Figure, ...]:
    """Put the views of several models side by side, one figure per title.

    Args:
        views: by model, in the order in which models are shown.
        colours: by model, see `colour_of`.
    """
    titles = dict.fromkeys((type(view), view.title) for many in views.values() for view in many)
    out: list[Figure] = []
    for kind, title in titles:
        if kind is Parity:
            out.append(_parity_figure(title, _pick(views, Parity, title)))
        elif kind is Bars:
            out.append(_bars_figure(title, _pick(views, Bars, title), colours))
        else:
            out.append(_lines_figure(title, _pick(views, Lines, title), colours))
    return tuple(figure for figure in out if figure.panels)


def colour_of(models: Sequence[str]) -> dict[str, str]:
    """Give each model a colour that does not depend on who leads."""
    return {model: COLOURS[i % len(COLOURS)] for i, model in enumerate(sorted(models))}


def _pick(views: Mapping[str, Sequence[View]], kind: type[AnyView], title: str) -> dict[str, AnyView]:
    """Return the view of one kind and title of each model that has it."""
    found = {
        model: next((view for view in many if isinstance(view, kind) and view.title == title), None)
        for model, many in views.items()
    }
    return {model: view for model, view in found.items() if view is not None}


def escaped(text: str) -> str:
    """Take the meaning of markup from a text that plotly will draw.

    >>> escaped("<b>&")
    '&lt;b&gt;&amp;'
    """
    return html.escape(text, quote=False)


def _axis_title(axis: Axis) -> str:
    """Write a quantity and its unit."""
    return escaped(f"{axis.quantity} ({axis.unit})" if axis.unit else axis.quantity)


def _layout(*, height: int, legend: bool) -> Spec:
    """Return what all figures share."""
    return {
        "height": height,
        "margin": {"l": 62, "r": 14, "t": 12, "b": 52},
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemsizing": "constant"},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "dragmode": "zoom",
    }


def _axis(title: str, *, log: bool = False) -> Spec:
    """Return one axis."""
    spec = {
        "title": {"text": title, "standoff": 8}, "gridcolor": GRID, "zeroline": False, "linecolor": "#9aa7b3",
        "showline": True, "ticks": "outside", "tickcolor": "#9aa7b3", "automargin": True,
    }  # fmt: skip
    return {**spec, "type": "log", "exponentformat": "power", "dtick": 1} if log else spec


def short(values: Float) -> list[float]:
    """Round to five significant digits, so that a page stays small."""
    return [float(f"{x:.5g}") for x in np.asarray(values, dtype=float).tolist()]


# --- parity -----------------------------------------------------------------------------------------------------------


def _parity_figure(title: str, views: Mapping[str, Parity]) -> Figure:
    """Draw one square per model, all with the same axes."""
    views = {model: view for model, view in views.items() if view.reference.size}
    if not views:
        return Figure(title=title, caption="", panels=())
    low, high = _parity_range(list(views.values()))
    groups = sorted({name for view in views.values() for name in view.group})
    panels, outside = [], 0
    for model, view in views.items():
        spec, n_outside = _parity_panel(view, low, high, groups)
        panels.append(Panel(model=model, spec=spec))
        outside += n_outside
    caption = (
        f"Model against reference, the same axes in every panel; the line is perfect agreement. Up to {MAX_POINTS} "
        f"points per model are drawn, among them the largest errors; rings mark the {N_WORST} largest."
    )
    if outside:
        lies, are = ("point lies", "is") if outside == 1 else ("points lie", "are")
        caption += f" {outside} {lies} outside the axes and {are} drawn as ▲ or ▼ at the edge."
    return Figure(title=title, caption=caption, panels=tuple(panels))


def _parity_range(views: Sequence[Parity]) -> tuple[float, float]:
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


def _parity_panel(view: Parity, low: float, high: float, groups: Sequence[str]) -> tuple[Spec, int]:
    """Draw one model; returns the specification and how many points lie outside the axes."""
    chosen = thin(view.predicted - view.reference)
    x, y = view.reference[chosen], view.predicted[chosen]
    kinds = np.array([view.group[i] for i in chosen] if view.group else [""] * len(chosen))
    line = {
        "type": "scatter", "mode": "lines", "x": short(np.array([low, high])), "y": short(np.array([low, high])),
        "line": {"color": "#9aa7b3", "width": 1}, "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    traces: list[Spec] = [line]
    for number, kind in enumerate(groups or [""]):
        mask = kinds == kind
        if mask.any():
            traces.append(_points(x[mask], y[mask], low, high, name=kind, number=number))
    worst = np.argsort(-np.abs(y - x), kind="stable")[:N_WORST]
    worst = worst[(y[worst] >= low) & (y[worst] <= high)]
    ring = {"symbol": "circle-open", "size": 9, "color": "#b3261e", "line": {"width": 1.3}}
    traces.append({
        "type": "scatter", "mode": "markers", "x": short(x[worst]), "y": short(y[worst]), "marker": ring,
        "hoverinfo": "skip", "name": "largest errors", "showlegend": False,
    })  # fmt: skip
    layout = _layout(height=340 if groups else 315, legend=bool(groups))
    layout["xaxis"] = {**_axis(f"reference {_axis_title(view.axis)}"), "range": short(np.array([low, high]))}
    layout["yaxis"] = {**_axis(f"model {_axis_title(view.axis)}"), "range": short(np.array([low, high]))}
    outside = int(((view.predicted < low) | (view.predicted > high)).sum())
    return {"data": traces, "layout": layout}, outside


def _points(x: Float, y: Float, low: float, high: float, *, name: str, number: int) -> Spec:
    """Draw the points of one group; those outside the axes sit at the edge."""
    symbols = np.where(y > high, "triangle-up", np.where(y < low, "triangle-down", "circle"))
    edge = 0.012 * (high - low)
    plain = bool((symbols == "circle").all())
    return {
        "type": "scatter", "mode": "markers", "x": short(x), "y": short(np.clip(y, low + edge, high - edge)),
        "customdata": short(y), "name": escaped(name),
        "hovertemplate": "reference %{x}<br>model %{customdata}<extra></extra>",
        "marker": {
            "size": 4.5 if plain else [4.5 if s == "circle" else 9 for s in symbols.tolist()],
            "opacity": 0.45, "color": COLOURS[number % len(COLOURS)],
            "symbol": "circle" if plain else symbols.tolist(),
        },
    }  # fmt: skip


# --- bars and lines ---------------------------------------------------------------------------------------------------


def _bars_figure(title: str, views: Mapping[str, Bars], colours: Mapping[str, str]) -> Figure:
    """Draw bars grouped by label, one colour per model."""
    views = {model: view for model, view in views.items() if view.labels}
    if not views:
        return Figure(title=title, caption="", panels=())
    axis = next(iter(views.values())).axis
    log = axis.log and all(bool((view.values > 0.0).all()) for view in views.values())
    traces = [
        {
            "type": "bar",
            "name": escaped(model),
            "x": [escaped(label) for label in view.labels],
            "y": short(view.values),
            "marker": {"color": colours[model]},
            "error_y": {
                "type": "data", "symmetric": False, "thickness": 1.2, "width": 3, "color": INK,
                "array": short(np.maximum(view.high - view.values, 0.0)),
                "arrayminus": short(np.maximum(view.values - view.low, 0.0)),
            },
            "hovertemplate": "%{fullData.name}<br>%{x}: %{y}<extra></extra>",
        }
        for model, view in views.items()
    ]  # fmt: skip
    layout = {**_layout(height=340, legend=True), "barmode": "group", "bargap": 0.25}
    layout["xaxis"] = {**_axis(""), "type": "category", "gridcolor": "#ffffff"}
    layout["yaxis"] = {**_axis(_axis_title(axis), log=log), **({} if log else {"rangemode": "tozero"})}
    caption = "Whiskers are 95 % intervals; a bar without whiskers rests on a single independent unit."
    return Figure(title=title, caption=caption, panels=(Panel(model="", spec={"data": traces, "layout": layout}),))


def _lines_figure(title: str, views: Mapping[str, Lines], colours: Mapping[str, str]) -> Figure:
    """Draw curves: all models in one drawing when each has one curve, else one drawing per model."""
    views = {model: view for model, view in views.items() if view.x.size and view.names}
    if not views:
        return Figure(title=title, caption="", panels=())
    if all(len(view.names) == 1 for view in views.values()):
        traces = [
            _curve(view.x, view.y[0], name=model, colour=colours[model], dash=DASHES[i // len(COLOURS) % len(DASHES)])
            for i, (model, view) in enumerate(views.items())
        ]
        spec = {"data": traces, "layout": _lines_layout(list(views.values()))}
        return Figure(title=title, caption="", panels=(Panel(model="", spec=spec),))
    layout = _lines_layout(list(views.values()))
    panels = []
    for model, view in views.items():
        traces = [
            _curve(view.x, y, name=name, colour=COLOURS[i % len(COLOURS)], dash=DASHES[i // len(COLOURS) % len(DASHES)])
            for i, (name, y) in enumerate(zip(view.names, view.y, strict=True))
        ]
        panels.append(Panel(model=model, spec={"data": traces, "layout": layout}))
    return Figure(title=title, caption="The same axes in every panel.", panels=tuple(panels))


def _curve(x: Float, y: Float, *, name: str, colour: str, dash: str) -> Spec:
    """Draw one curve, thinned evenly."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).round().astype(np.int64))
    return {
        "type": "scatter", "mode": "lines", "x": short(x[chosen]), "y": short(y[chosen]), "name": escaped(name),
        "line": {"color": colour, "width": 2, "dash": dash},
    }  # fmt: skip


def _lines_layout(views: Sequence[Lines]) -> Spec:
    """Return axes that hold all curves."""
    first = views[0]
    layout = _layout(height=340, legend=True)
    for key, axis, values in (
        ("xaxis", first.x_axis, [view.x for view in views]),
        ("yaxis", first.y_axis, [view.y.ravel() for view in views]),
    ):
        everything = np.concatenate(values)
        log = axis.log and bool((everything > 0.0).all())
        low, high = float(everything.min()), float(everything.max())
        ends = np.log10([low, high]) if log else np.array([low, high])
        pad = 0.04 * float(ends[1] - ends[0]) or 0.5
        layout[key] = {**_axis(_axis_title(axis), log=log), "range": short(ends + np.array([-pad, pad]))}
    layout["yaxis"].pop("dtick", None)
    layout["xaxis"].pop("dtick", None)
    return layout


def history_figure(title: str, history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw how the errors of a training went down; a quantity that is always positive gets decades.

    Args:
        title: of the figure.
        history: one mapping per epoch or step; "epoch" or "step" is the x axis when it is there.
    """
    keys = list(dict.fromkeys(key for entry in history for key in entry))
    along = next((key for key in ("epoch", "step", "iteration") if all(key in entry for entry in history)), None)
    curves = [key for key in keys if key != along and any(word in key for word in ("rmse", "mae", "loss", "error"))]
    x = np.array([float(entry[along]) if along else float(i) for i, entry in enumerate(history)])
    traces, values = [], []
    for number, key in enumerate(curves):
        here = [i for i, entry in enumerate(history) if key in entry]
        y = np.array([float(history[i][key]) for i in here])
        values.append(y)
        traces.append(_curve(x[here], y, name=key, colour=COLOURS[number % len(COLOURS)], dash="solid"))
    if not traces or len(history) < 2:
        return Figure(title=title, caption="", panels=())
    log = all(bool((y > 0.0).all()) for y in values)
    layout = _layout(height=300, legend=True)
    layout["xaxis"] = _axis(along or "step")
    layout["yaxis"] = {key: value for key, value in _axis("", log=log).items() if key != "dtick"}
    return Figure(title=title, caption="", panels=(Panel(model="", spec={"data": traces, "layout": layout}),))
