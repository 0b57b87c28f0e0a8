"""What do all drawings share?

Drawings are plain plotly specifications (data and layout); nothing is imported to make them. Every text that came from
outside is escaped, because plotly reads a few HTML tags in labels. Legends are no part of them: one legend stands
above all panels of a figure, and its entries are numbered as the `meta` of the traces they switch on and off.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from mlipbench.core.model import Float
from mlipbench.core.view import Axis
from mlipbench.report.words import number

Spec: TypeAlias = dict[str, Any]
Mark: TypeAlias = Literal["point", "ring", "bar", "solid", "dash", "dot", "dashdot"]

# Okabe & Ito's colours without yellow, which is too light for points on white.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B4B8A", "#444444")
DASHES: Final[tuple[Mark, ...]] = ("solid", "dash", "dot", "dashdot")
WORST: Final = "#b3261e"
INK: Final = "#24313d"
LINE: Final = "#9aa7b3"
GRID: Final = "#e3e8ed"
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FINENESS: Final = 1e4  # steps along an axis, several to a pixel
NARROW_RATIO: Final = 1e3  # ends of an axis that deserve more ticks than decades


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawing; `model` names it when each model has its own."""

    model: str
    spec: Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a legend: how it is called and drawn."""

    name: str
    colour: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Drawings that belong together, such as one parity plot per model over the same axes.

    Attributes:
        title: what is shown.
        caption: how to read it.
        panels: side by side; none when there is nothing to draw.
        legend: of all panels.
    """

    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[Entry, ...] = ()


def colour(place: int) -> str:
    """Return the colour of the so many-th thing; colours come round again."""
    return COLOURS[place % len(COLOURS)]


def dash(place: int) -> Mark:
    """Return the line style of the so many-th curve; it changes each time the colours come round."""
    return DASHES[place // len(COLOURS) % len(DASHES)]


def colour_of(models: Sequence[str]) -> dict[str, str]:
    """Give each model a colour that does not depend on who leads."""
    return {model: colour(i) for i, model in enumerate(sorted(models))}


def escaped(text: str) -> str:
    """Take the meaning of markup from a text that plotly will draw.

    >>> escaped("<b>&")
    '&lt;b&gt;&amp;'
    """
    return html.escape(text, quote=False)


def axis_title(axis: Axis) -> str:
    """Write a quantity and its unit."""
    return escaped(f"{axis.quantity} ({axis.unit})" if axis.unit else axis.quantity)


def layout(*, height: int) -> Spec:
    """Return what all drawings share."""
    return {
        "height": height,
        "margin": {"l": 62, "r": 14, "t": 26, "b": 52},
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "showlegend": False,
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "dragmode": "zoom",
    }


def plain_axis(title: str) -> Spec:
    """Return an axis without decades."""
    return {
        "title": {"text": title, "standoff": 8}, "gridcolor": GRID, "zeroline": False, "linecolor": LINE,
        "showline": True, "ticks": "outside", "tickcolor": LINE, "automargin": True,
    }  # fmt: skip


def log_axis(title: str, low: float, high: float) -> Spec:
    """Return an axis of decades between two ends; a short one is labelled at 1, 2 and 5 of each decade."""
    spec = {**plain_axis(title), "type": "log", "range": short(np.log10([low, high])), "exponentformat": "power"}
    if high / low > NARROW_RATIO:
        return {**spec, "dtick": 1}
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5) if low <= step * 10.0**decade <= high]
    texts = [f"{tick:g}" if 1e-4 <= tick < 1e4 else number(tick) for tick in ticks]
    return {**spec, "tickmode": "array", "tickvals": short(np.array(ticks)), "ticktext": texts}


def short(values: Float) -> list[float]:
    """Round to five significant digits, so that a page stays small."""
    return [float(f"{x:.5g}") for x in np.asarray(values, dtype=float).tolist()]


def on_axis(values: Float, low: float, high: float) -> list[float] | list[int]:
    """Round to what an axis from `low` to `high` can show, so that a page stays small.

    >>> on_axis(np.array([0.123456, 12.3456]), 0.0, 100.0), on_axis(np.array([1234.56]), 0.0, 10_000.0)
    ([0.12, 12.35], [1235])
    """
    digits = math.ceil(math.log10(FINENESS / (high - low)))
    rounded = np.round(np.asarray(values, dtype=float), digits)
    return [int(x) for x in rounded.tolist()] if digits <= 0 else [float(f"{x:.{digits}f}") for x in rounded.tolist()]
