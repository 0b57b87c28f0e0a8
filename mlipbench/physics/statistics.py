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
from scipy import special, stats

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
MISSED_BY_RANKS: Final = 0.035  # on each side
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
    end where the sample has none. With one row a unit it is exact.

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
        ends = estimates(totals[None], reducer, confidence=confidence, lowest=lowest, highest=highest)
        value, *others = (float(number[0]) for number in ends)
        stderr, low, high = (number if np.isfinite(number) else None for number in others)
        found = Estimate(value, stderr, low, high, len(totals))
    return found if found.low is None and found.high is None else _bounded(found, lowest, highest)


def _bounded(found: Estimate, lowest: float | None, highest: float | None) -> Estimate:
    """Let the interval end at the bounds, also where the sample leaves it open."""
    low, high = found.low, found.high
    if lowest is not None:
        low = min(lowest, found.value) if low is None else max(low, min(lowest, found.value))
    if highest is not None:
        high = max(highest, found.value) if high is None else min(high, max(highest, found.value))
    return replace(found, low=low, high=high)


def estimates(
    totals: Float,
    reducer: str,
    *,
    confidence: float = CONFIDENCE,
    lowest: float | None = None,
    highest: float | None = None,
) -> tuple[Float, Float, Float, Float]:
    """Return what `estimate` does, of many samples at once, for values that are made of sums.

    Args:
        totals: shape (n_samples, n_units, k), sums of each unit.
        reducer: a key of `SUMS`.
        confidence: of the intervals.
        lowest: as in `estimate`.
        highest: as in `estimate`.

    Returns:
        Values, standard errors, lower and upper ends, shape (n_samples,) each; NaN where there is none.
    """
    n_units, total = totals.shape[1], totals.sum(axis=1)
    value = SUMS[reducer](total)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = SUMS[reducer](total[:, None] - totals)
    # A unit that holds every item of a part leaves nothing when it is left out.
    left[~np.isfinite(left).all(axis=1) | (n_units < 2)] = np.nan
    stderr = _stderr_of(left)
    if reducer == "rate":
        low, high = (end / total[:, 1] for end in _garwood(total[:, 0], confidence=confidence))
    elif reducer == "share":
        trials = _trials(value, total[:, 1], n_units, stderr=stderr)
        low, high = _clopper_pearson(np.round(value * trials, 9), trials, confidence=confidence)
        low, high = np.minimum(low, value), np.maximum(high, value)
    else:
        bounds = (lowest if reducer == "mean" else 0.0, highest)
        low, high = _jackknife(left, value, ARMS[reducer], confidence=confidence, bounds=bounds)
    return value, stderr, low, high


def _trials(share: Float, n_trials: Float, n_units: int, *, stderr: Float) -> Float:
    """Return how many independent trials tell as much as these; one of each unit at least.

    Source: E. L. Korn & B. I. Graubard, Survey Methodology 24, 193 (1998).
    """
    if n_units < 2:
        return np.ones_like(share)
    with np.errstate(divide="ignore", invalid="ignore"):
        as_many = np.minimum(n_trials, share * (1.0 - share) / stderr**2)
        few = _student(0.975, n_units - 1) / stats.t.ppf(0.975, np.maximum(n_trials - 1.0, 1.0))
        as_many /= few**2
    return np.where((stderr > 0.0) & (as_many > n_units), as_many, float(n_units))


def _stderr_of(left: Float) -> Float:
    """Return the jackknife's standard error; left: shape (n_samples, n_units), the values without one unit each."""
    n_units = left.shape[1]
    mean = left.mean(axis=1, keepdims=True)
    return np.asarray(np.sqrt((n_units - 1) / n_units * ((left - mean) ** 2).sum(axis=1)))


def _jackknife(
    left: Float, value: Float, arms: tuple[float, float], *, confidence: float, bounds: Bounds
) -> tuple[Float, Float]:
    """Return both ends, from the values without one unit each; in the logarithm where there is a bound."""
    lowest, highest = bounds
    if highest is not None:
        low, high = _jackknife(-left, -value, arms, confidence=confidence, bounds=(-highest, None))
        low, high = -high, -low
        if lowest is not None:  # the nearer bound counts
            from_bottom = _jackknife(left, value, arms, confidence=confidence, bounds=(lowest, None))
            is_low = value - lowest <= highest - value
            low, high = np.where(is_low, from_bottom[0], low), np.where(is_low, from_bottom[1], high)
        return low, high
    t = _student(0.5 + 0.5 * confidence, max(left.shape[1] - 1, 1))
    if lowest is None:
        half = t * _stderr_of(left)
        return value - half, value + half
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        half = t * _stderr_of(np.log(left - lowest))
        low = lowest + (value - lowest) * np.exp(-arms[0] * half)
        high = lowest + (value - lowest) * np.exp(arms[1] * half)
    high[arms[1] * half > np.log(FARTHEST)] = np.nan
    # Where at most one unit is off the bound, nothing says how far from it others may lie.
    at_bound = ~((left > lowest).all(axis=1) & (value > lowest)) & np.isfinite(left).all(axis=1)
    all_alike = (left == value[:, None]).all(axis=1)
    low[at_bound] = np.where(all_alike, value, np.minimum(lowest, value))[at_bound]
    high[at_bound] = np.where(all_alike, value, np.nan)[at_bound]
    return low, high


def _woodruff(values: Float, unit: Int, reducer: str, *, confidence: float) -> Estimate:
    """Take the interval of the share of rows below the value, from unit to unit, back to the values."""
    q, n_units = QUANTILES[reducer], int(unit.max()) + 1
    value = float(np.quantile(values, q))
    if len(values) == n_units:
        return _between_ranks(values, q, value=value)
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


def _between_ranks(values: Float, q: float, *, value: float) -> Estimate:
    """Return the interval between two of the sorted values, exact for any distribution of independent ones.

    Each end is missed in 3.5 % of cases at most, so that five values have an interval about their median.

    Source: W. R. Thompson, Ann. Math. Stat. 7, 122 (1936).
    """
    n, ordered = len(values), np.sort(values)
    below = stats.binom.cdf(np.arange(n), n, q)  # chance that so many values at most lie below the truth
    lower = np.flatnonzero(below <= MISSED_BY_RANKS)  # numbers of values that can be taken as lower ends
    upper = np.flatnonzero(1.0 - below <= MISSED_BY_RANKS)
    low = min(float(ordered[lower[-1]]), value) if len(lower) else None
    high = max(float(ordered[upper[0]]), value) if len(upper) else None
    half = np.sqrt(q * (1.0 - q) / n)
    ends = np.quantile(values, np.clip([q - half, q + half], 0.0, 1.0))
    return Estimate(value, 0.5 * float(ends[1] - ends[0]) if n > 1 else None, low, high, n)


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
    low, high = _clopper_pearson(np.array([float(successes)]), np.array([float(n)]), confidence=confidence)
    return float(low[0]), float(high[0])


def _clopper_pearson(successes: Float, n: Float, *, confidence: float) -> tuple[Float, Float]:
    """Return both ends of many shares."""
    tail = 0.5 * (1.0 - confidence)
    none, every = successes <= 0.0, successes >= n
    low = special.betaincinv(np.where(none, 1.0, successes), n - successes + 1.0, tail)
    high = special.betaincinv(successes + 1.0, np.where(every, 1.0, n - successes), 1.0 - tail)
    return np.where(none, 0.0, low), np.where(every, 1.0, high)


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
    low, high = _garwood(np.array([float(failures)]), confidence=confidence)
    return failures / total_time, float(low[0]) / total_time, float(high[0]) / total_time


def _garwood(events: Float, *, confidence: float) -> tuple[Float, Float]:
    """Return both ends of the expected number of events."""
    tail = 0.5 * (1.0 - confidence)
    low = special.gammaincinv(np.where(events > 0.0, events, 1.0), tail)
    return np.where(events > 0.0, low, 0.0), special.gammaincinv(events + 1.0, 1.0 - tail)
