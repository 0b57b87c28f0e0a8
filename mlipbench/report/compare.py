"""Is one model better than another, or do the data not tell?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from scipy import stats

from mlipbench.core.measure import by_unit
from mlipbench.core.metric import Metric, MetricValue, Samples
from mlipbench.core.model import Float
from mlipbench.physics.statistics import CONFIDENCE, SUMS

Z: float = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))  # 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far one value lies above another.

    Attributes:
        value: first minus second in the metric's unit, or the logarithm of their ratio, over what both have.
        is_ratio: the latter?
        shift: what is tested: `value`, or for pairs the mean over units of the logarithms of their own ratios.
        stderr: of the shift; None when one of the two has none.
        freedom: degrees of freedom of the standard error, for Student's t.
        influence: what each shared unit adds to the error; the squares add up to its variance. Empty when not paired.
        exact: chances that counts put the first so far above the second, and so far below; None for what is no count.
    """

    value: float
    is_ratio: bool = False
    shift: float
    stderr: float | None
    freedom: float = math.inf
    influence: Mapping[str, float] = field(default_factory=dict)
    exact: tuple[float, float] | None = None

    @property
    def paired(self) -> bool:
        """Were both measured on the same units, and compared unit by unit?"""
        return bool(self.influence)

    @property
    def p_value(self) -> float:
        """How often chance alone makes a difference of this size, of either sign; 1 when there is no interval."""
        if self.exact is not None:
            return min(1.0, 2.0 * min(self.exact))
        if self.stderr is None or self.value * self.shift < 0.0:
            return 1.0  # a few units against all others: neither is ahead
        return min(1.0, 2.0 * min(_tail(self, 1.0), _tail(self, -1.0)))

    @property
    def p_above(self) -> float:
        """How often chance alone puts the first so far above the second; 1 when there is no interval."""
        if self.exact is not None:
            return self.exact[0]
        if self.stderr is None:
            return 1.0
        return max(0.5, _tail(self, 1.0)) if self.value <= 0.0 else _tail(self, 1.0)

    @property
    def significant(self) -> bool:
        """Does zero lie outside the 95 % interval? Never without one: what has no interval is level."""
        return self.p_value < 1.0 - CONFIDENCE

    def turned(self) -> Difference:
        """Return second minus first."""
        influence = {unit: -part for unit, part in self.influence.items()}
        exact = None if self.exact is None else (self.exact[1], self.exact[0])
        return replace(self, value=-self.value, shift=-self.shift, influence=influence, exact=exact)


def _tail(found: Difference, sign: float) -> float:
    """Return the chance of a shift as far on one side."""
    if not found.stderr:
        return 0.5 if found.shift == 0.0 else float(sign * found.shift < 0.0)
    return float(stats.t.sf(sign * found.shift / found.stderr, found.freedom))


def difference(first: MetricValue, second: MetricValue) -> Difference:
    """Compare two values of one metric.

    Values that are made of sums over units (trajectories, molecules) are compared on the units that both have, which
    drops what both models find hard: the mean over units of the logarithm of the ratio of the two models' own values,
    with Student's t. Leaving out one unit at a time is not used for that: when errors of units differ in size, as they
    do, a few of them make up most of a root mean square, and far in the tails, where many numbers are judged at once,
    it calls equal models different ten times too often. Where a unit's value is not positive, there is nothing else
    than the jackknife of the plain difference. Counts are compared exactly. Values without units in common count as
    independent; of those that share one unit only, among others, nothing can be told.

    Args:
        first: value of one model.
        second: value of another.

    Source: paired t-test of log ratios, J. M. Bland & D. G. Altman, Brit. Med. J. 312, 1079 (1996); Efron & Tibshirani,
    An Introduction to the Bootstrap (1993), chapter 11.

    >>> a, b = (MetricValue(metric="m", value=x, stderr=s, n=9) for x, s in ((5.0, 3.0), (-1.0, 4.0)))
    >>> difference(a, b).stderr, difference(a, b).significant
    (5.0, False)
    """
    mine, theirs = first.samples, second.samples
    value = first.value - second.value
    if mine is not None and theirs is not None and mine.reducer == theirs.reducer and mine.reducer in EXACT:
        return Difference(value=value, shift=value, stderr=None, exact=EXACT[mine.reducer](mine, theirs))
    units = shared_units(mine, theirs)
    if mine is not None and theirs is not None and units:
        found = _paired(mine, theirs, units) if len(units) > 1 else None
        if found is not None:
            return _with_trainings(found, first, second)
        if set(mine.units) != set(theirs.units):  # values of other systems say nothing of these models
            return Difference(value=value, shift=value, stderr=None)
    if first.stderr is None or second.stderr is None:
        return Difference(value=value, shift=value, stderr=None)
    parts = first.stderr, second.stderr
    freedom = _welch(parts, (first.n, second.n))
    return Difference(value=value, shift=value, stderr=math.hypot(*parts), freedom=freedom)


def _shares(first: Samples, second: Samples) -> tuple[float, float]:
    """Fisher's exact test of two shares, on both sides; rows hold hits and trials."""
    (hits, trials), (others, of) = first.rows.sum(axis=0).round(), second.rows.sum(axis=0).round()
    table = [[hits, trials - hits], [others, of - others]]
    above, below = (float(stats.fisher_exact(table, alternative=way).pvalue) for way in ("greater", "less"))
    return above, below


def _rates(first: Samples, second: Samples) -> tuple[float, float]:
    """Exact test of two Poisson rates, given the sum of events, on both sides; rows hold events and exposure.

    Source: J. Przyborowski & H. Wilenski, Biometrika 31, 313 (1940).
    """
    (events, time), (others, other_time) = first.rows.sum(axis=0), second.rows.sum(axis=0)
    total, share = round(events + others), float(time / (time + other_time))
    if not total:
        return 1.0, 1.0
    above, below = (
        float(stats.binomtest(round(events), total, share, alternative=way).pvalue) for way in ("greater", "less")
    )
    return above, below


# Counts are compared by exact tests, as three of three against none of three have no scatter to judge by.
EXACT: Final[Mapping[str, Callable[[Samples, Samples], tuple[float, float]]]] = {"share": _shares, "rate": _rates}


def _welch(parts: tuple[float, float], n: tuple[int, int]) -> float:
    """Return Welch and Satterthwaite's degrees of freedom of the sum of two variances."""
    whole = math.hypot(*parts)
    below = sum((part / whole) ** 4 / max(1, k - 1) for part, k in zip(parts, n, strict=True)) if whole else 0.0
    return 1.0 / below if below > 0.0 else math.inf


def shared_units(first: Samples | None, second: Samples | None) -> tuple[str, ...]:
    """Return the units on which two values can be paired; none when they are not made of sums, or reduced otherwise."""
    if first is None or second is None or first.reducer != second.reducer or first.reducer not in SUMS:
        return ()
    if any(len(one.rows) != len(one.units) for one in (first, second)):
        return ()
    theirs = set(second.units)
    return tuple(unit for unit in first.units if unit in theirs)


def left_out(samples: Samples, units: Sequence[str]) -> tuple[float, Float]:
    """Return the value over some units, and the values with each of them left out; shape (n_units,)."""
    place = {unit: k for k, unit in enumerate(samples.units)}
    rows = samples.rows[[place[unit] for unit in units]]
    total, reduce = rows.sum(axis=0), SUMS[samples.reducer]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(reduce(total)), np.asarray(reduce(total - rows), dtype=np.float64)


def _with_trainings(found: Difference, first: MetricValue, second: MetricValue) -> Difference:
    """Add the scatter of trainings, which the units do not know, to the error of a comparison in pairs."""
    scatter = [
        ((one.training_stderr / (one.value if found.is_ratio else 1.0)) ** 2, one.n_trainings - 1)
        for one in (first, second)
        if one.training_stderr and (one.value > 0.0 or not found.is_ratio)
    ]
    if not scatter or found.stderr is None:
        return found
    parts = [(found.stderr**2, found.freedom), *scatter]
    whole = sum(variance for variance, _ in parts)
    below = sum(variance**2 / freedom for variance, freedom in parts)
    return replace(found, stderr=math.sqrt(whole), freedom=whole**2 / below)


def _paired(first: Samples, second: Samples, units: Sequence[str]) -> Difference | None:
    """Compare unit by unit; None when that is not possible."""
    (value, mine), (other, theirs) = left_out(first, units), left_out(second, units)
    places = [{unit: k for k, unit in enumerate(one.units)} for one in (first, second)]
    own = [by_unit(one)[[at[unit] for unit in units]] for one, at in zip((first, second), places, strict=True)]
    n = len(units)
    if all(np.isfinite(one).all() and (one > 0.0).all() for one in own):
        ratios = np.log(own[0] / own[1])
        whole, shift, is_ratio = math.log(value / other), float(ratios.mean()), True
        influence = (ratios - shift) / math.sqrt(n * (n - 1))
    elif all(np.isfinite(x).all() for x in (value, other, mine, theirs)):
        left = mine - theirs
        whole = shift = value - other
        influence, is_ratio = math.sqrt((n - 1) / n) * (left - left.mean()), False
    else:
        return None  # a unit that holds every item of a part leaves nothing when it is left out
    return Difference(
        value=whole, is_ratio=is_ratio, shift=shift, stderr=float(np.linalg.norm(influence)), freedom=n - 1,
        influence=dict(zip(units, influence.tolist(), strict=True)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a model may stand: from the best place that the data allow to the worst.

    >>> Standing(first=2, last=4).words, Standing(first=1, last=1).words
    ('2–4', '1')
    """

    first: int
    last: int

    @property
    def words(self) -> str:
        """As people write it."""
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


def standings(differences: Mapping[tuple[str, str], Difference], models: Sequence[str]) -> dict[str, Standing]:
    """Return the range of places of each model, from all pairwise differences.

    A pair is told apart at 95 % after Holm's correction for the number of pairs; a model stands behind those that are
    surely better, and before those that are surely worse.

    Args:
        differences: by pairs of models, first minus second, in a quantity of which less is better.
        models: names.

    Source: S. Holm, Scand. J. Statist. 6, 65 (1979).
    """
    told = _told_apart(differences)
    better = {model: sum(loser == model for _, loser in told) for model in models}
    worse = {model: sum(winner == model for winner, _ in told) for model in models}
    return {model: Standing(first=1 + better[model], last=len(models) - worse[model]) for model in models}


def _told_apart(differences: Mapping[tuple[str, str], Difference]) -> set[tuple[str, str]]:
    """Return the pairs (better, worse) that Holm's procedure tells apart."""
    out = set()
    ordered = sorted(differences.items(), key=lambda item: item[1].p_value)
    for k, ((first, second), found) in enumerate(ordered):
        if found.p_value > (1.0 - CONFIDENCE) / (len(ordered) - k):
            break
        if found.value != 0.0:
            out.add((first, second) if found.value < 0.0 else (second, first))
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How models stand at one number.

    Attributes:
        places: of each model; empty with fewer than two.
        best: of those that nobody is surely better than, the one that is better than most, pair by pair on the units
            that both have; None with fewer than two.
        level: those that the data cannot tell from it.
    """

    places: Mapping[str, Standing]
    best: str | None
    level: frozenset[str]


def ranking(metric: Metric, values: Mapping[str, MetricValue]) -> Ranking:
    """Compare models in pairs at one metric.

    Args:
        metric: says which way is better.
        values: by model.
    """
    if len(values) < 2:
        return Ranking(places={}, best=None, level=frozenset())
    models = sorted(values)
    found = {(a, b): difference(values[a], values[b]) for k, a in enumerate(models) for b in models[k + 1 :]}
    if metric.better == "higher":
        found = {pair: one.turned() for pair, one in found.items()}
    places = standings(found, models)
    ahead = [a if one.value < 0.0 else b for (a, b), one in found.items() if one.value != 0.0]
    best = min(models, key=lambda model: (places[model].first, -ahead.count(model), model))
    told = _told_apart(found)
    level = {model for model in models if model != best and (best, model) not in told}
    return Ranking(places=places, best=best, level=frozenset(level))
