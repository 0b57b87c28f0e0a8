"""From per-item numbers to a metric value with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlipbench.core.metric import Metric, MetricValue, Samples
from mlipbench.core.model import Float
from mlipbench.physics.statistics import QUANTILES, SUMS, estimate, reduce_rows, sum_by_unit


def measure(metric: Metric, rows: Float, units: Sequence[str], reducer: str, *, part: str = "") -> MetricValue:
    """Reduce rows to a value with its interval over the units they belong to.

    Args:
        metric: what it is.
        rows: shape (n_rows, k), in the metric's unit, as the reducer wants them (see `physics.statistics`).
        units: length n_rows, name of the independent unit of each row, such as its trajectory.
        reducer: a name in `physics.statistics.REDUCERS`.
        part: what the value covers; empty for everything.

    Returns:
        The value; rows that a reducer adds up are kept as one row per unit.
    """
    names = sorted(set(units))
    number = {name: k for k, name in enumerate(names)}
    unit = np.fromiter((number[name] for name in units), dtype=np.int64, count=len(units))
    if reducer not in QUANTILES:
        rows, unit = sum_by_unit(rows, unit, n_units=len(names)), np.arange(len(names))
    order = np.argsort(unit, kind="stable")
    rows, unit = rows[order], unit[order]
    lowest, highest = bounds(metric, rows, reducer)
    found = estimate(rows, unit, reducer, lowest=lowest, highest=highest)
    return MetricValue(
        metric=metric.name, part=part, value=found.value, stderr=found.stderr, low=found.low, high=found.high,
        n=found.n_units, samples=Samples(units=tuple(names), unit_of_row=unit, rows=rows, reducer=reducer),
    )  # fmt: skip


def bounds(metric: Metric, rows: Float, reducer: str) -> tuple[float | None, float | None]:
    """Return where the interval ends: at the metric's bounds, and at 0 for a mean of which less is better.

    Rows beyond a bound say that a mean is taken of signed numbers and its size comes later: it has no such bound.
    """
    lowest, highest = metric.lowest, metric.highest
    if reducer == "mean":
        lowest = 0.0 if lowest is None and metric.better == "lower" else lowest
        means = rows[:, 0] / rows[:, 1]
        lowest = None if lowest is not None and (means < lowest).any() else lowest
        highest = None if highest is not None and (means > highest).any() else highest
    return lowest, highest


def by_unit(samples: Samples) -> Float:
    """Return the value of each unit alone, in the order of `samples.units`; shape (n_units,)."""
    if samples.reducer in SUMS and len(samples.rows) == len(samples.units):
        return SUMS[samples.reducer](samples.rows)
    parts = [samples.rows[samples.unit_of_row == k] for k in range(len(samples.units))]
    return np.array([reduce_rows(part, samples.reducer) for part in parts])


def squares(errors: Float) -> Float:
    """Return columns (sum of squares, count) per item for "root_mean"; errors: shape (n_items, ...)."""
    flat = errors.reshape(len(errors), -1)
    return np.column_stack([(flat**2).sum(axis=1), np.full(len(flat), float(flat.shape[1]))])


def magnitudes(errors: Float) -> Float:
    """Return columns (sum of absolute values, count) per item for "mean"; errors: shape (n_items, ...)."""
    flat = np.abs(errors.reshape(len(errors), -1))
    return np.column_stack([flat.sum(axis=1), np.full(len(flat), float(flat.shape[1]))])


def relative_squares(errors: Float, reference: Float) -> Float:
    """Return the columns of "relative_root_mean" per item; both of shape (n_items, ...)."""
    flat = reference.reshape(len(reference), -1)
    return np.column_stack([squares(errors), flat.sum(axis=1), (flat**2).sum(axis=1)])
