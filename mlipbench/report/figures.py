"""How is a view drawn?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from mlipbench.core.model import Float
from mlipbench.core.view import Bars, Lines, Parity, View
from mlipbench.report.panels import (
    INK,
    Entry,
    Figure,
    Mark,
    Panel,
    Spec,
    axis_title,
    colour,
    dash,
    escaped,
    layout,
    log_axis,
    plain_axis,
    short,
)
from mlipbench.report.parity import MAX_POINTS, parity_figure

AnyView = TypeVar("AnyView", Parity, Bars, Lines)
UPRIGHT_LETTERS: Final = 80  # what fits side by side under upright bars, on a narrow screen too


def figures(
    views: Mapping[str, Sequence[View]], *, colours: Mapping[str, str], names: Mapping[str, str] | None = None
) -> tuple[Figure, ...]:
    """Put the views of several models side by side, one figure per title.

    Args:
        views: by model, in the order in which models are shown.
        colours: by model, see `colour_of`.
        names: what to write for labels of bars, such as the titles of metrics; others stay as they are.
    """
    titles = dict.fromkeys((type(view), view.title) for many in views.values() for view in many)
    out: list[Figure] = []
    for kind, title in titles:
        if kind is Parity:
            out.append(parity_figure(title, _pick(views, Parity, title)))
        elif kind is Bars:
            out.append(_bars_figure(title, _pick(views, Bars, title), colours, names or {}))
        else:
            out.append(_lines_figure(title, _pick(views, Lines, title), colours))
    return tuple(figure for figure in out if figure.panels)


def _pick(views: Mapping[str, Sequence[View]], kind: type[AnyView], title: str) -> dict[str, AnyView]:
    """Return the view of one kind and title of each model that has it."""
    found = {
        model: next((view for view in many if isinstance(view, kind) and view.title == title), None)
        for model, many in views.items()
    }
    return {model: view for model, view in found.items() if view is not None}


# --- bars -------------------------------------------------------------------------------------------------------------


def _bars_figure(title: str, views: Mapping[str, Bars], colours: Mapping[str, str], names: Mapping[str, str]) -> Figure:
    """Draw bars grouped by label, one colour per model; they lie down when labels need room."""
    views = {model: view for model, view in views.items() if view.labels}
    if not views:
        return Figure(title=title, caption="", panels=())
    labels = list(dict.fromkeys(names.get(label, label) for view in views.values() for label in view.labels))
    upright = len(labels) * max(len(label) for label in labels) <= UPRIGHT_LETTERS
    axis = next(iter(views.values())).axis
    log = axis.log and all(bool((view.values > 0.0).all()) for view in views.values())
    numbers = _decades(list(views.values())) if log else {**plain_axis(""), "rangemode": "tozero"}
    numbers["title"] = {"text": axis_title(axis), "standoff": 8}
    kinds = {
        **plain_axis(""), "type": "category", "gridcolor": "#ffffff", "ticks": "",
        **({} if upright else {"autorange": "reversed"}),
    }  # fmt: skip
    traces = [
        _bars(view, model, place, colours[model], names, upright=upright)
        for place, (model, view) in enumerate(views.items())
    ]
    height = 340 if upright else 84 + len(labels) * (12 + 9 * len(views))
    drawing = {**layout(height=height), "barmode": "group", "bargap": 0.25}
    drawing["xaxis"], drawing["yaxis"] = (kinds, numbers) if upright else (numbers, kinds)
    return Figure(
        title=title, caption="Whiskers are 95 % intervals; a bar without whiskers rests on a single independent unit.",
        panels=(Panel(model="", spec={"data": traces, "layout": drawing}),),
        legend=tuple(Entry(name=model, colour=colours[model], mark="bar") for model in views),
    )  # fmt: skip


def _decades(views: Sequence[Bars]) -> Spec:
    """Return an axis of decades with room around all bars and whiskers."""
    everything = np.concatenate([np.concatenate([view.values, view.low, view.high]) for view in views])
    positive = everything[everything > 0.0]
    return log_axis("", 0.6 * float(positive.min()), 1.25 * float(positive.max()))


def _bars(view: Bars, model: str, place: int, fill: str, names: Mapping[str, str], *, upright: bool) -> Spec:
    """Draw the bars of one model."""
    along, across = ("x", "y") if upright else ("y", "x")
    return {
        "type": "bar", "name": escaped(model), "meta": place, "orientation": "v" if upright else "h",
        along: [escaped(names.get(label, label)) for label in view.labels],
        across: short(view.values),
        "marker": {"color": fill},
        f"error_{across}": {
            "type": "data", "symmetric": False, "thickness": 1.2, "width": 3 if upright else 2, "color": INK,
            "array": short(np.maximum(view.high - view.values, 0.0)),
            "arrayminus": short(np.maximum(view.values - view.low, 0.0)),
        },
        "hovertemplate": f"%{{fullData.name}}<br>%{{{along}}}: %{{{across}}}<extra></extra>",
    }  # fmt: skip


# --- lines ------------------------------------------------------------------------------------------------------------


def _lines_figure(title: str, views: Mapping[str, Lines], colours: Mapping[str, str]) -> Figure:
    """Draw curves: all models in one drawing when each has one curve, else one drawing per model."""
    views = {model: view for model, view in views.items() if view.x.size and view.names}
    if not views:
        return Figure(title=title, caption="", panels=())
    drawing = _lines_layout(list(views.values()))
    if all(len(view.names) == 1 for view in views.values()):
        entries = [Entry(name=m, colour=colours[m], mark=dash(i)) for i, m in enumerate(views)]
        traces = [_curve(view.x, view.y[0], entries[i], i) for i, view in enumerate(views.values())]
        panel = Panel(model="", spec={"data": traces, "layout": drawing})
        return Figure(title=title, caption="", panels=(panel,), legend=tuple(entries))
    names = list(dict.fromkeys(name for view in views.values() for name in view.names))
    entries = [Entry(name=name, colour=colour(i), mark=dash(i)) for i, name in enumerate(names)]
    panels = []
    for model, view in views.items():
        places = [names.index(name) for name in view.names]
        traces = [_curve(view.x, y, entries[place], place) for place, y in zip(places, view.y, strict=True)]
        panels.append(Panel(model=model, spec={"data": traces, "layout": drawing}))
    return Figure(title=title, caption="The same axes in every panel.", panels=tuple(panels), legend=tuple(entries))


def _curve(x: Float, y: Float, entry: Entry, place: int) -> Spec:
    """Draw one curve, thinned evenly."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).round().astype(np.int64))
    return {
        "type": "scatter", "mode": "lines", "x": short(x[chosen]), "y": short(y[chosen]),
        "name": escaped(entry.name), "meta": place, "line": {"color": entry.colour, "width": 2, "dash": entry.mark},
    }  # fmt: skip


def _lines_layout(views: Sequence[Lines]) -> Spec:
    """Return axes that hold all curves."""
    first = views[0]
    drawing = layout(height=340)
    for key, axis, values in (
        ("xaxis", first.x_axis, [view.x for view in views]),
        ("yaxis", first.y_axis, [view.y.ravel() for view in views]),
    ):
        drawing[key] = _holding(np.concatenate(values), axis_title(axis), log=axis.log)
    return drawing


def _holding(everything: Float, title: str, *, log: bool) -> dict[str, Any]:
    """Return an axis that holds all values with some room; of decades when asked for and nothing stands against it."""
    log = log and bool((everything > 0.0).all())
    ends = np.array([everything.min(), everything.max()], dtype=float)
    ends = np.log10(ends) if log else ends
    pad = 0.04 * float(ends[1] - ends[0]) or 0.5
    low, high = float(ends[0] - pad), float(ends[1] + pad)
    return (
        log_axis(title, 10.0**low, 10.0**high) if log else {**plain_axis(title), "range": short(np.array([low, high]))}
    )


def history_figure(title: str, history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw how the errors of a training went down; quantities that are always positive get decades.

    Args:
        title: of the figure.
        history: one mapping per epoch or step; "epoch" or "step" is the x axis when it is there.
    """
    keys = list(dict.fromkeys(key for entry in history for key in entry))
    along = next((key for key in ("epoch", "step", "iteration") if all(key in entry for entry in history)), None)
    curves = [key for key in keys if key != along and any(word in key for word in ("rmse", "mae", "loss", "error"))]
    if not curves or len(history) < 2:
        return Figure(title=title, caption="", panels=())
    x = np.array([float(entry[along]) if along else float(i) for i, entry in enumerate(history)])
    mark: Mark = "solid"
    entries = [Entry(name=key, colour=colour(i), mark=mark) for i, key in enumerate(curves)]
    traces, values = [], []
    for place, entry in enumerate(entries):
        here = [i for i, epoch in enumerate(history) if entry.name in epoch]
        values.append(np.array([float(history[i][entry.name]) for i in here]))
        traces.append(_curve(x[here], values[-1], entry, place))
    drawing = layout(height=300)
    drawing["xaxis"] = plain_axis(along or "step")
    drawing["yaxis"] = _holding(np.concatenate(values), "", log=True)
    panel = Panel(model="", spec={"data": traces, "layout": drawing})
    return Figure(title=title, caption="", panels=(panel,), legend=tuple(entries))
