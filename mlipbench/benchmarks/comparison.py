"""How do the errors of many frames become values with intervals?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mlipbench.core.measure import magnitudes, measure, relative_squares, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float
from mlipbench.core.view import Axis, Bars, Parity
from mlipbench.physics.statistics import reduce_rows

Names = NDArray[np.str_]
KINDS: Final = ("rmse", "mae", "q95", "relative_rmse")
MAX_POINTS: Final = 3000
WORST_POINTS: Final = 50
OVER: Final = "interval over trajectories"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """A predicted quantity beside its reference, item by item (frames or atoms).

    Attributes:
        of: first word of the metrics' names, as in "force".
        reference: shape (n_items, ...), in the metrics' unit.
        predicted: likewise.
        units: shape (n_items,), name of the independent unit of each item, such as its trajectory.
        config_types: shape (n_items,), kind of the frame of each item.
        ignorance: what a model that knows nothing answers here: zero, or the reference's mean, component by component;
            None where no such answer makes sense.
    """

    of: str
    reference: Float
    predicted: Float
    units: Names
    config_types: Names
    ignorance: Literal["zero", "mean"] | None = None

    def only(self, chosen: Bool) -> Errors:
        """Return some of the items."""
        return replace(
            self,
            reference=self.reference[chosen],
            predicted=self.predicted[chosen],
            units=self.units[chosen],
            config_types=self.config_types[chosen],
        )


def error_metrics(
    of: str,
    title: str,
    unit: str,
    *,
    good: float,
    bad: float,
    over: str,
    headline: bool = False,
    merit: Literal["rmse", "relative_rmse"] = "rmse",
    tolerance: float = 0.05,
    relative: tuple[float, float] = (0.02, 1.0),
) -> tuple[Metric, ...]:
    """Return the definitions of RMSE, MAE, 95th percentile and relative RMSE of one quantity.

    One of them is the merit, by which models are compared; the others say the same thing in other words.

    Args:
        of: first word of their names.
        title: what tables call the quantity.
        unit: of the first three.
        good: RMSE with score 1; MAE and percentile are scaled as for a Gaussian.
        bad: RMSE with score 0.
        over: what is averaged over, as in "all components of all atoms".
        headline: does the merit stand in the first table?
        merit: which of them it is.
        tolerance: of the merit.
        relative: relative RMSE with score 1 and 0.
    """

    def metric(kind: str, title: str, says: str, *, unit: str = unit, factor: float = 1.0) -> Metric:
        is_relative, is_merit = kind == "relative_rmse", kind == merit
        ends = relative if is_relative else (factor * good, factor * bad)
        return Metric(
            name=f"{of}_{kind}", title=title, unit=unit, better="lower", good=ends[0], bad=ends[1], says=says,
            headline=headline and is_merit, log_scale=is_relative, role="merit" if is_merit else "diagnostic",
            tolerance=tolerance, lowest=0.0,
        )  # fmt: skip

    return (
        metric("rmse", f"{title} RMSE", f"root of the mean squared error over {over}; {OVER}"),
        metric("mae", f"{title} MAE", f"mean absolute error over {over}; {OVER}", factor=0.8),
        metric(
            "q95", f"{title} 95 % error",
            f"95th percentile of the absolute errors over {over}; {OVER}, by Woodruff's method", factor=2.0,
        ),
        metric(
            "relative_rmse", f"{title} relative RMSE",
            f"RMSE over {over}, divided by the standard deviation of the reference over the same, about the mean of"
            f" each component: 1 for a model that always answers with that; {OVER}", unit="",
        ),
    )  # fmt: skip


def error_values(
    errors: Errors, metrics: Sequence[Metric], *, kinds: Sequence[str] = KINDS, part: str = ""
) -> tuple[MetricValue, ...]:
    """Return the values of some kinds for one part; a value that has no meaning there is left out.

    Each says what ignorance would get on the same items, where `errors` knows what it answers.

    Args:
        errors: of the part.
        metrics: definitions to pick from.
        kinds: among `KINDS`.
        part: what the items have in common; empty for everything.
    """
    if not len(errors.reference):
        return ()
    definition = {metric.name: metric for metric in metrics}
    # The spread is the same about any point, and sums of large numbers lose digits.
    centred = errors.reference - errors.reference.mean(axis=0)
    blind = {"zero": errors.reference, "mean": centred, None: None}[errors.ignorance]
    found = []
    for kind in kinds:
        if kind == "relative_rmse" and not has_spread(errors):
            continue
        rows, reducer = _rows(kind, errors.predicted - errors.reference, centred)
        units = np.repeat(errors.units, len(rows) // len(errors.units))
        value = value_of(definition[f"{errors.of}_{kind}"], rows, units, reducer, part=part)
        zero = None if blind is None else reduce_rows(*_rows(kind, blind, centred))
        found.append(replace(value, zero=zero))
    return tuple(found)


def has_spread(errors: Errors) -> bool:
    """Does the reference differ from its mean, so that an error can be relative to that?"""
    if not len(errors.reference):
        return False
    centred = errors.reference - errors.reference.mean(axis=0)
    return bool(np.sqrt((centred**2).mean()) > 1e-12 * np.abs(errors.reference).max())


def _rows(kind: str, wrong: Float, centred: Float) -> tuple[Float, str]:
    """Return the rows of one kind, and the reducer they are for."""
    if kind == "rmse":
        return squares(wrong), "root_mean"
    if kind == "mae":
        return magnitudes(wrong), "mean"
    if kind == "q95":
        return np.abs(wrong).reshape(-1, 1), "quantile_95"
    return relative_squares(wrong, centred), "relative_root_mean"


def value_of(metric: Metric, rows: Float, units: Names, reducer: str, *, part: str = "") -> MetricValue:
    """Return `core.measure.measure` of the rows, with the units as an array of names."""
    return measure(metric, rows, units.tolist(), reducer, part=part)


def share_of(metric: Metric, hit: Bool, units: Names, *, part: str = "") -> MetricValue:
    """Return the share of items that are hit, with an exact interval.

    A jackknife knows no interval where all items agree, and leaves 0 to 1 where they do not.

    Args:
        metric: what it is.
        hit: shape (n_items,).
        units: shape (n_items,), name of the independent unit of each item.
        part: what the value covers; empty for everything.
    """
    rows = np.column_stack([hit.astype(np.float64), np.ones(len(hit))])
    return value_of(metric, rows, units, "share", part=part)


def values_by_config_type(
    errors: Errors, metrics: Sequence[Metric], *, kinds: Sequence[str]
) -> tuple[MetricValue, ...]:
    """Return the values of each kind of frame, with parts such as "config_type=liquid"."""
    return values_by(errors, metrics, label="config_type", names=errors.config_types, kinds=kinds)


def values_by(
    errors: Errors, metrics: Sequence[Metric], *, label: str, names: Names, kinds: Sequence[str]
) -> tuple[MetricValue, ...]:
    """Return the values of each group of items, with parts such as "element=H".

    Args:
        errors: of all items.
        metrics: definitions to pick from.
        label: what the groups are, as in "element".
        names: shape (n_items,), group of each item.
        kinds: among `KINDS`.
    """
    found: list[MetricValue] = []
    for name in np.unique(names).tolist():
        found += error_values(errors.only(names == name), metrics, kinds=kinds, part=f"{label}={name}")
    return tuple(found)


def bars(title: str, axis: Axis, values: Sequence[MetricValue]) -> Bars:
    """Return one bar per value, labelled by its part."""
    return Bars(
        title=title,
        axis=axis,
        labels=tuple(value.part.partition("=")[2] or value.metric for value in values),
        values=np.array([value.value for value in values]),
        low=np.array([value.value if value.low is None else value.low for value in values]),
        high=np.array([value.value if value.high is None else value.high for value in values]),
    )


def parity(title: str, axis: Axis, errors: Errors, group: Names) -> Parity:
    """Return reference and prediction component by component, thinned, with the worst points kept.

    Args:
        title: what is compared.
        axis: of both.
        errors: of all items.
        group: shape (n_items,), kind of each item.
    """
    reference, predicted = errors.reference.ravel(), errors.predicted.ravel()
    kept = thinned(predicted - reference)
    groups = np.repeat(group, reference.size // max(len(group), 1))
    return Parity(
        title=title, axis=axis, reference=reference[kept], predicted=predicted[kept], group=tuple(groups[kept].tolist())
    )


def thinned(errors: Float) -> NDArray[np.int64]:
    """Return numbers of at most 3000 items, ascending: the 50 worst, and others evenly spaced.

    >>> kept = thinned(np.where(np.arange(10_000) == 7, 1.0, 0.0))
    >>> len(kept), 7 in kept
    (3000, True)
    """
    if errors.size <= MAX_POINTS:
        return np.arange(errors.size)
    order = np.argsort(-np.abs(errors), kind="stable")
    rest = np.sort(order[WORST_POINTS:])
    spaced = np.floor(np.linspace(0, rest.size - 1, MAX_POINTS - WORST_POINTS)).astype(np.int64)
    return np.sort(np.concatenate([order[:WORST_POINTS], rest[spaced]]))
