"""What to show of a result, said without a plotting library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mlipbench.core.model import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A quantity and its unit, as in "force component" and "eV/Å"; `log` for decades."""

    quantity: str
    unit: str = ""
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Predictions against the reference, point by point.

    Attributes:
        title: what is compared; the same in every model, so that a report can put models side by side.
        axis: of both directions.
        reference: shape (n,).
        predicted: shape (n,).
        group: kind of each point, shown by colour; empty or of length n.
    """

    title: str
    axis: Axis
    reference: Float
    predicted: Float
    group: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """One number per label, with an interval where there is one.

    Attributes:
        title: what is shown.
        axis: of the numbers.
        labels: one per bar.
        values: shape (n,).
        low: lower ends, shape (n,); equal to `values` where there is no interval.
        high: upper ends, shape (n,).
    """

    title: str
    axis: Axis
    labels: tuple[str, ...]
    values: Float
    low: Float
    high: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Curves over one axis.

    Attributes:
        title: what is shown.
        x_axis: shared.
        y_axis: shared.
        names: one per curve.
        x: shape (n_points,).
        y: shape (n_curves, n_points).
    """

    title: str
    x_axis: Axis
    y_axis: Axis
    names: tuple[str, ...]
    x: Float
    y: Float


View: TypeAlias = Parity | Bars | Lines
