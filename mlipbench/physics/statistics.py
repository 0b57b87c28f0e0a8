"""How large is a number, and how sure are we of it?

Every value is a function of rows that belong to independent units (trajectories, molecules, seeds). Atoms of one
frame and frames of one trajectory err together, so an interval that resampled them would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Float = NDArray[np.float64]
Int = NDArray[np.int64]

CONFIDENCE: Final = 0.95


def _root_mean(total: Float) -> Float:
    """Square root of sum over count; columns: sum of squares, count."""
    return np.sqrt(total[..., 0] / total[..., 1])


def _mean(total: Float) -> Float:
    """Sum over count; columns: sum, count."""
    return np.asarray(total[..., 0] / total[..., 1])


def _relative_root_mean(total: Float) -> Float:
    """RMSE over the reference's standard deviation.

    Columns: sum of squared errors, count, sum of the reference, sum of its squares.
    """
    n = total[..., 1]
    variance = total[..., 3] / n - (total[..., 2] / n) ** 2
    return np.sqrt(total[..., 0] / n / variance)


SUMS: Final[dict[str, Callable[[Float], Float]]] = {
    "root_mean": _root_mean,
    "mean": _mean,
    "relative_root_mean": _relative_root_mean,
}
QUANTILES: Final[dict[str, float]] = {"quantile_95": 0.95, "median": 0.5}
REDUCERS: Final[tuple[str, ...]] = (*SUMS, *QUANTILES)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its standard error and its 95 % interval; the last three are None with fewer than two units."""

    value: float
    stderr: float | None
    low: float | None
    high: float | None
    n_units: int


def sum_by_unit(per_item: Float, unit: Int, *, n_units: int) -> Float:
    """Add up the rows of each unit.

    Args:
        per_item: shape (n_items, k).
        unit: shape (n_items,), unit of each item, from 0.
        n_units: number of units.

    Returns:
        Shape (n_units, k).

    >>> sum_by_unit(np.array([[1.0], [2.0], [4.0]]), np.array([0, 1, 1]), n_units=2).ravel()
    array([1., 6.])
    """
    out = np.zeros((n_units, per_item.shape[1]))
    np.add.at(out, unit, per_item)
    return out


def reduce_rows(rows: Float, reducer: str) -> float:
    """Turn all rows into the value.

    >>> reduce_rows(np.array([[8.0, 2.0], [10.0, 0.0]]), "root_mean")
    3.0
    """
    if reducer in QUANTILES:
        return float(np.quantile(rows[:, 0], QUANTILES[reducer]))
    return float(SUMS[reducer](rows.sum(axis=0)))


def estimate(rows: Float, unit_of_row: Int, reducer: str, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the value with a standard error and an interval over the units.

    Values made of sums get the delete-one-unit jackknife and Student's t with n - 1 degrees of freedom; a value
    that cannot be negative takes them in its logarithm, so that the interval stays positive. Quantiles, for which the
    jackknife is inconsistent, get Woodruff's interval: that of the share of rows below the value, taken back to values.

    Args:
        rows: shape (n_rows, k), as `reducer` wants them.
        unit_of_row: shape (n_rows,), unit of each row, from 0 without gaps.
        reducer: one of `REDUCERS`.
        confidence: of the interval.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 11; R. S. Woodruff, J. Am. Stat.
    Assoc. 47, 635 (1952).
    """
    n_units = int(unit_of_row.max()) + 1
    value = reduce_rows(rows, reducer)
    if n_units < 2:
        return Estimate(value, None, None, None, n_units)
    if reducer in QUANTILES:
        return _woodruff(rows[:, 0], unit_of_row, QUANTILES[reducer], value=value, confidence=confidence)
    return _jackknife(sum_by_unit(rows, unit_of_row, n_units=n_units), reducer, value=value, confidence=confidence)


def _jackknife(totals: Float, reducer: str, *, value: float, confidence: float) -> Estimate:
    """Leave out one unit at a time."""
    n_units = len(totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = SUMS[reducer](totals.sum(axis=0) - totals)
    left = left[np.isfinite(left)]  # a unit that holds every item of a part leaves nothing when it is left out
    if len(left) < n_units:
        return Estimate(value, None, None, None, n_units)
    factor = (n_units - 1) / n_units
    stderr = float(np.sqrt(factor * ((left - left.mean()) ** 2).sum()))
    t = float(stats.t.ppf(0.5 + confidence / 2, n_units - 1))
    if value > 0.0 and (left > 0.0).all():
        logarithm = np.log(left)
        spread = t * float(np.sqrt(factor * ((logarithm - logarithm.mean()) ** 2).sum()))
        return Estimate(value, stderr, value * float(np.exp(-spread)), value * float(np.exp(spread)), n_units)
    return Estimate(value, stderr, value - t * stderr, value + t * stderr, n_units)


def _woodruff(values: Float, unit: Int, q: float, *, value: float, confidence: float) -> Estimate:
    """Take the interval of the share of rows below the value, from unit to unit, back to the values."""
    n_units = int(unit.max()) + 1
    n_rows = np.bincount(unit, minlength=n_units)
    excess = np.bincount(unit, weights=values <= value, minlength=n_units)
    excess = excess - excess.sum() / n_rows.sum() * n_rows
    share_stderr = float(np.sqrt(n_units / (n_units - 1) * (excess**2).sum())) / n_rows.sum()
    t = float(stats.t.ppf(0.5 + confidence / 2, n_units - 1))
    low, high = np.quantile(values, np.clip([q - t * share_stderr, q + t * share_stderr], 0.0, 1.0))
    return Estimate(value, float(high - low) / (2.0 * t), min(float(low), value), max(float(high), value), n_units)
