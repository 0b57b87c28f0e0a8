"""Is one model better than another, or do the data not tell?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float
from mlipbench.physics.statistics import CONFIDENCE, SUMS

Z: float = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))  # 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far one value lies above another.

    Attributes:
        value: first minus second, in the metric's unit.
        stderr: of the difference; None when one of them has none.
        critical: how many standard errors a difference must reach to be significant at 95 %.
        paired: were both measured on the same units, and compared unit by unit?
    """

    value: float
    stderr: float | None
    critical: float = Z
    paired: bool = False

    @property
    def significant(self) -> bool:
        """Does zero lie outside the 95 % interval? True also when there is no interval and they differ."""
        return abs(self.value) > self.critical * (self.stderr or 0.0)


def difference(first: MetricValue, second: MetricValue) -> Difference:
    """Compare two values of one metric.

    Values that are made of sums over the same units (trajectories, molecules) are paired: the delete-one-unit
    jackknife of their difference drops what both models find hard. Others count as independent.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 11.

    >>> a, b = (MetricValue(metric="m", value=x, stderr=s, n=9) for x, s in ((5.0, 3.0), (1.0, 4.0)))
    >>> difference(a, b).stderr, difference(a, b).significant
    (5.0, False)
    """
    value = first.value - second.value
    mine, theirs = _left_out(first), _left_out(second)
    if mine is not None and theirs is not None and _same_units(first, second):
        left, n = mine - theirs, len(mine)
        stderr = math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))
        critical = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))
        return Difference(value=value, stderr=stderr, critical=critical, paired=True)
    if first.stderr is None or second.stderr is None:
        return Difference(value=value, stderr=None)
    return Difference(value=value, stderr=math.hypot(first.stderr, second.stderr))


def _same_units(first: MetricValue, second: MetricValue) -> bool:
    """Are both made of the same units, reduced alike?"""
    a, b = first.samples, second.samples
    return a is not None and b is not None and a.units == b.units and a.reducer == b.reducer


def _left_out(value: MetricValue) -> Float | None:
    """Return the value without each of its units, shape (n_units,); None when it cannot be had so."""
    samples = value.samples
    if samples is None or samples.reducer not in SUMS or len(samples.units) < 2:
        return None
    if len(samples.rows) != len(samples.units):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        left = SUMS[samples.reducer](samples.rows.sum(axis=0) - samples.rows)
    return left if bool(np.isfinite(left).all()) else None


def leaders(metric: Metric, values: Mapping[str, MetricValue]) -> tuple[str | None, frozenset[str]]:
    """Return the best model and those that the data cannot tell from it.

    Args:
        metric: says which way is better.
        values: by model; with fewer than two there is no best.
    """
    if len(values) < 2:
        return None, frozenset()
    sign = 1.0 if metric.better == "lower" else -1.0
    best = min(values, key=lambda model: (sign * values[model].value, model))
    tied = {
        model for model, value in values.items() if model != best and not difference(value, values[best]).significant
    }
    return best, frozenset(tied)
