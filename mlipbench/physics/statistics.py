"""How large is a number, and how sure are we of it?

Every value is a function of rows that belong to independent units (trajectories, molecules, seeds). Atoms of one
frame and frames of one trajectory err together, so an interval that resampled them would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlipbench.errors import BadInput

Float = NDArray[np.float64]
Int = NDArray[np.int64]

Bounds: TypeAlias = tuple[float | None, float | None]

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
    "share": _mean,  # columns: hits, trials
    "rate": _mean,  # columns: events, exposure
}
QUANTILES: Final[dict[str, float]] = {"quantile_95": 0.95, "median": 0.5}
REDUCERS: Final[tuple[str, ...]] = (*SUMS, *QUANTILES)
# Lower and upper arm of an interval in the logarithm, in half widths of the jackknife-t interval. With few units the
# one that errs most is mostly not among them, so that values lie too low and look too sure of it. The lengths are
# chosen so that intervals hold the truth in about 95 of 100 cases where units err alike and where they do not:
# `mlipbench.testing.coverage`.
ARMS: Final[dict[str, tuple[float, float]]] = {
    "root_mean": (0.9, 1.7),
    "mean": (0.9, 1.5),
    "relative_root_mean": (0.95, 1.5),
}
QUANTILE_WIDTH: Final[dict[str, float]] = {"quantile_95": 1.1, "median": 1.0}
FEWEST_UNITS_OF_QUANTILE: Final = 6  # with fewer, shares of rows are alike by chance
FARTHEST: Final = 1000.0  # an upper end so many times the value says nothing, and is left open


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its standard error and its 95 % interval.

    An end is None where the sample cannot tell it; all three are None with fewer than two units, but for counts.
    """

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


def estimate(
    rows: Float,
    unit_of_row: Int,
    reducer: str,
    *,
    confidence: float = CONFIDENCE,
    lowest: float | None = None,
    highest: float | None = None,
) -> Estimate:
    """Return the value with a standard error and an interval over the units.

    Values made of sums get the delete-one-unit jackknife and Student's t with n - 1 degrees of freedom; those that
    have a bound take them in the logarithm of the distance from it, with arms of unequal length (`ARMS`). Shares and
    rates get exact intervals, a share that of as many trials as there are units. Quantiles, for which the jackknife is
    inconsistent, get Woodruff's interval: that of the share of rows below the value, taken back to values; it has no
    end where the sample has none.

    Args:
        rows: shape (n_rows, k), as `reducer` wants them.
        unit_of_row: shape (n_rows,), unit of each row, from 0 without gaps.
        reducer: one of `REDUCERS`.
        confidence: of the interval.
        lowest: the least value there can be; the interval ends there.
        highest: the greatest one.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 11; R. S. Woodruff, J. Am. Stat.
    Assoc. 47, 635 (1952); `clopper_pearson` and `poisson_rate` for theirs.
    """
    if reducer in QUANTILES:
        found = _woodruff(rows[:, 0], unit_of_row, reducer, confidence=confidence)
    else:
        totals = sum_by_unit(rows, unit_of_row, n_units=int(unit_of_row.max()) + 1)
        bounds = (lowest if reducer == "mean" else 0.0, highest)
        found = _of_sums(totals, reducer, confidence=confidence, bounds=bounds)
    return found if found.low is None and found.high is None else _bounded(found, lowest, highest)


def _bounded(found: Estimate, lowest: float | None, highest: float | None) -> Estimate:
    """Let the interval end at the bounds, also where the sample leaves it open."""
    low, high = found.low, found.high
    if lowest is not None:
        low = min(lowest, found.value) if low is None else max(low, min(lowest, found.value))
    if highest is not None:
        high = max(highest, found.value) if high is None else min(high, max(highest, found.value))
    return replace(found, low=low, high=high)


def _of_sums(totals: Float, reducer: str, *, confidence: float, bounds: Bounds) -> Estimate:
    """Return the estimate of a value that is made of sums; totals: shape (n_units, k)."""
    n_units, total = len(totals), totals.sum(axis=0)
    value = float(SUMS[reducer](total))
    with np.errstate(divide="ignore", invalid="ignore"):
        left = SUMS[reducer](total - totals)
    # A unit that holds every item of a part leaves nothing when it is left out.
    left_well = n_units > 1 and bool(np.isfinite(left).all())
    stderr = _stderr_of(left) if left_well else None
    if reducer == "rate":
        _, low, high = poisson_rate(float(total[0]), float(total[1]), confidence=confidence)
        return Estimate(value, stderr, low, high, n_units)
    if reducer == "share":
        n = _trials(value, float(total[1]), n_units, stderr=stderr)
        low, high = clopper_pearson(round(value * n, 9), n, confidence=confidence)
        return Estimate(value, stderr, min(low, value), max(high, value), n_units)
    if not left_well:
        return Estimate(value, None, None, None, n_units)
    return Estimate(
        value, stderr, *_jackknife(left, ARMS[reducer], value=value, confidence=confidence, bounds=bounds), n_units
    )


def _trials(share: float, n_trials: float, n_units: int, *, stderr: float | None) -> float:
    """Return how many independent trials tell as much as these; one of each unit at least.

    Source: E. L. Korn & B. I. Graubard, Survey Methodology 24, 193 (1998).
    """
    if not stderr or n_trials <= n_units:
        return float(n_units)
    as_many = min(n_trials, share * (1.0 - share) / stderr**2)
    few = _student(0.975, n_units - 1) / _student(0.975, round(n_trials) - 1)
    return max(float(n_units), as_many / few**2)


def _stderr_of(left: Float) -> float:
    """Return the jackknife's standard error from the values without one unit each."""
    return float(np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()))


def _jackknife(
    left: Float, arms: tuple[float, float], *, value: float, confidence: float, bounds: Bounds
) -> tuple[float | None, float | None]:
    """Return both ends, from the values without one unit each; in the logarithm where there is a bound."""
    t = _student(0.5 + 0.5 * confidence, len(left) - 1)
    lowest, highest = bounds
    if highest is not None and (lowest is None or highest - value < value - lowest):
        low, high = _jackknife(-left, arms, value=-value, confidence=confidence, bounds=(-highest, None))
        return None if high is None else -high, None if low is None else -low
    if lowest is None:
        half = t * _stderr_of(left)
        return value - half, value + half
    if not (value > lowest and (left > lowest).all()):
        # At most one unit is off the bound: nothing says how far from it others may lie.
        return (value, value) if (left == value).all() else (min(lowest, value), None)
    half = t * _stderr_of(np.log(left - lowest))
    low = lowest + (value - lowest) * float(np.exp(-arms[0] * half))
    is_far = arms[1] * half > np.log(FARTHEST)
    return low, None if is_far else lowest + (value - lowest) * float(np.exp(arms[1] * half))


def _woodruff(values: Float, unit: Int, reducer: str, *, confidence: float) -> Estimate:
    """Take the interval of the share of rows below the value, from unit to unit, back to the values."""
    q, n_units = QUANTILES[reducer], int(unit.max()) + 1
    value = float(np.quantile(values, q))
    if n_units < FEWEST_UNITS_OF_QUANTILE:
        return Estimate(value, None, None, None, n_units)
    n_rows = np.bincount(unit, minlength=n_units)
    excess = np.bincount(unit, weights=values <= value, minlength=n_units)
    excess = excess - excess.sum() / n_rows.sum() * n_rows
    stderr = float(np.sqrt(n_units / (n_units - 1) * (excess**2).sum())) / n_rows.sum()
    half = QUANTILE_WIDTH[reducer] * _student(0.5 + 0.5 * confidence, n_units - 1) * stderr
    below, above = q - half, q + half
    ends = np.quantile(values, np.clip([below, above, q - stderr, q + stderr], 0.0, 1.0))
    low = None if below <= 1.0 / len(values) else min(float(ends[0]), value)
    high = None if above >= 1.0 - 1.0 / len(values) else max(float(ends[1]), value)
    return Estimate(value, 0.5 * float(ends[3] - ends[2]), low, high, n_units)


@cache
def _student(share: float, degrees: int) -> float:
    """Return a quantile of Student's t."""
    return float(stats.t.ppf(share, degrees))


def clopper_pearson(successes: float, n: float, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a share; a number of successes between whole ones is taken as such.

    Source: C. J. Clopper & E. S. Pearson, Biometrika 26, 404 (1934).

    None of ten failed: a failure rate of up to 31 % is not excluded.

    >>> [round(x, 3) for x in clopper_pearson(10, 10)]
    [0.692, 1.0]
    """
    tail = 0.5 * (1.0 - confidence)
    low = float(stats.beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1.0 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return low, high


def poisson_rate(failures: float, total_time: float, *, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return failures per time with its exact interval.

    Raises:
        BadInput: the time is not positive.

    Source: F. Garwood, Biometrika 28, 437 (1936).

    No failure in 100 ps: up to 0.037 per ps are not excluded.

    >>> [round(x, 4) for x in poisson_rate(0, 100.0)]
    [0.0, 0.0, 0.0369]
    """
    if not total_time > 0.0:
        raise BadInput(f"a rate needs a time above 0 to have happened in, not {total_time}")
    tail = 0.5 * (1.0 - confidence)
    low = 0.5 * float(stats.chi2.ppf(tail, 2 * failures)) if failures else 0.0
    high = 0.5 * float(stats.chi2.ppf(1.0 - tail, 2 * failures + 2))
    return failures / total_time, low / total_time, high / total_time
