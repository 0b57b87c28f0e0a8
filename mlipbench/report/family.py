"""Is a model worse than the accepted one, when all numbers of a suite are asked at once?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import stats

from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float
from mlipbench.report.compare import Difference, difference, shared_units

N_DRAWS: Final = 20_000
POWER: Final = 0.8
NOISE: Final = 0.05  # a number that is less sure than that by itself is never worse, whatever the tolerance keeps out
METHOD: Final = (
    "All merits of the suite are one family. Each is compared on the units (trajectories, systems) that both models "
    "have: the mean over units of the logarithm of the ratio of the two models' own values, with Student's t; counts "
    "by exact tests. A number is worse when it is so by more than the metric's tolerance, and when between equally "
    "good models the smallest p-value of all numbers past their tolerance is that small in fewer than the stated share "
    f"of suites. The distribution of that p-value is drawn with {N_DRAWS} random weightings of the units, which "
    "keep the correlations between numbers made of the same units."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One number of the family: is it worse than it was?

    Attributes:
        row: of the suite.
        metric: definition.
        new: value of the candidate.
        old: value of the accepted model.
        domain: what tells units of one name apart: data and split.
        tolerance: share of the accepted value by which a number may be worse.
        error: difference in the bad direction.
    """

    row: str
    metric: Metric
    new: MetricValue
    old: MetricValue
    domain: str
    tolerance: float
    error: Difference

    @property
    def p(self) -> float | None:
        """Chance of a difference this bad between equally good models; None where nothing tells."""
        return None if self.error.stderr is None and self.error.exact is None else self.error.p_above

    @property
    def worse_by(self) -> float:
        """By which share of the accepted value it is worse; negative when it is better."""
        if self.error.is_ratio:
            # on shared units, which may be fewer than either value was made of
            return math.expm1(self.error.value)
        change = self.error.value
        return change / abs(self.old.value) if self.old.value else math.copysign(math.inf, change) if change else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the family says of one number.

    Attributes:
        question: see there.
        adjusted_p: chance that the smallest p-value of the whole family is this small; None where nothing tells.
        worse: beyond noise and beyond the tolerance?
        detectable: smallest share by which it would have to be worse to be found with a power of 80 %; None for counts
            and where nothing tells.
    """

    question: Question
    adjusted_p: float | None
    worse: bool
    detectable: float | None


def question(
    row: str, metric: Metric, new: MetricValue, old: MetricValue, *, domain: str, tolerance: float | None = None
) -> Question:
    """Compare one number with the accepted one.

    Args:
        row: of the suite.
        metric: definition.
        new: of the candidate.
        old: of the accepted model.
        domain: what tells units of one name apart: data and split.
        tolerance: None takes the metric's.
    """
    error = difference(new, old)
    return Question(
        row=row, metric=metric, new=new, old=old, domain=domain,
        error=error.turned() if metric.better == "higher" else error,
        tolerance=metric.tolerance if tolerance is None else tolerance,
    )  # fmt: skip


def answers(questions: Sequence[Question], *, error_rate: float) -> list[Answer]:
    """Judge a whole family at once; `METHOD` says how.

    Args:
        questions: all of them.
        error_rate: share of suites in which one number or more of an equally good model may be called worse.

    Source: P. H. Westfall & S. S. Young, Resampling-Based Multiple Testing (1993), min-p; E. Mammen, Ann. Statist. 21,
    255 (1993), random weights.
    """
    told = [one for one in questions if one.p is not None]
    smallest = np.sort(_smallest_p(told))
    level = min(NOISE, float(np.quantile(smallest, error_rate))) if told else 0.0
    out = []
    for one in questions:
        adjusted = None if one.p is None else (1 + int(np.searchsorted(smallest, one.p, "right"))) / (1 + N_DRAWS)
        beyond_noise = adjusted is not None and adjusted <= error_rate and (one.p or 0.0) <= NOISE
        out.append(Answer(
            question=one, adjusted_p=adjusted, worse=beyond_noise and one.worse_by > one.tolerance,
            detectable=_detectable(one, level),
        ))  # fmt: skip
    return out


def _smallest_p(told: Sequence[Question]) -> Float:
    """Draw the smallest p-value of equally good models, shape (N_DRAWS,), among numbers past their tolerance.

    Each unit gets a random weight, the same in all numbers made of it. The sums of weighted influences are normal with
    the right correlations; divided by one random standard error for all numbers of the same units they are Student's t.
    A number whose noise does not reach its tolerance can be no false alarm, and is no question that costs the others.
    """
    asked = [one for one in told if one.error.influence and one.error.stderr]
    pairs = [(one.domain, one.error) for one in asked]
    smallest = np.ones(N_DRAWS)
    if pairs:
        drawn = _shares(pairs) @ _normal(
            len({(d, unit) for d, error in pairs for unit in error.influence}) + len(pairs)
        )
        furthest: dict[float, Float] = {}
        groups: dict[tuple[str, tuple[str, ...], float], int] = {}
        for one, (domain, error), normal in zip(asked, pairs, drawn, strict=True):
            group = groups.setdefault((domain, tuple(error.influence), error.freedom), len(groups))
            own = normal / _spread(group, error.freedom)
            own[own * (error.stderr or 1.0) <= _least_shift(one)] = -np.inf
            furthest[error.freedom] = np.maximum(furthest.get(error.freedom, -np.inf), own)
        smallest = np.min([stats.t.sf(own, freedom) for freedom, own in furthest.items()], axis=0)
    others = len(told) - len(asked)
    if others:  # whatever has no units is independent of all else
        uniform = np.random.default_rng(2).random(N_DRAWS)
        smallest = np.minimum(smallest, -np.expm1(np.log1p(-uniform) / others))
    return smallest


def _least_shift(one: Question) -> float:
    """Return the tolerance in the quantity that is tested."""
    return math.log1p(one.tolerance) if one.error.is_ratio else one.tolerance * abs(one.old.value)


def _shares(pairs: Sequence[tuple[str, Difference]]) -> Float:
    """Return how each number is made of independent unit normals: its units, then what is its own (trainings)."""
    place: dict[tuple[str, str], int] = {}
    for domain, error in pairs:
        for unit in error.influence:
            place.setdefault((domain, unit), len(place))
    out = np.zeros((len(pairs), len(place) + len(pairs)))
    for k, (domain, error) in enumerate(pairs):
        for unit, part in error.influence.items():
            out[k, place[domain, unit]] = part / (error.stderr or 1.0)
        out[k, len(place) + k] = math.sqrt(max(0.0, 1.0 - float(np.square(out[k]).sum())))
    return out


@lru_cache(maxsize=1)
def _normal(n: int) -> Float:
    """Return the same normal numbers each time, shape (n, N_DRAWS)."""
    return np.random.default_rng(0).standard_normal((n, N_DRAWS))


@lru_cache(maxsize=64)
def _spread(group: int, freedom: float) -> Float:
    """Return random standard errors with so many degrees of freedom, shape (N_DRAWS,)."""
    if math.isinf(freedom):
        return np.ones(N_DRAWS)
    return np.asarray(np.sqrt(np.random.default_rng([1, group]).chisquare(freedom, N_DRAWS) / freedom))


def _detectable(one: Question, level: float) -> float | None:
    """Return the smallest share that would be found with a power of 80 % when p-values below `level` count."""
    error = one.error
    if not error.stderr or not level or not one.old.value:
        return None
    scale = 1.0 if error.is_ratio else 1.0 / abs(one.old.value)
    beyond_noise = scale * error.stderr * _shift(float(f"{level:.2g}"), error.freedom)
    tolerance = math.log1p(one.tolerance) if error.is_ratio else one.tolerance
    reach = max(beyond_noise, tolerance + scale * error.stderr * float(stats.t.ppf(POWER, error.freedom)))
    if reach > math.log(1e3):
        return None
    return math.expm1(reach) if error.is_ratio else reach


@lru_cache(maxsize=4096)
def _shift(level: float, freedom: float) -> float:
    """Return by how many standard errors a mean must move so that a t-test at `level` finds it in 80 % of cases.

    >>> round(_shift(0.025, 1e9), 2), round(_shift(0.025, 5), 2)
    (2.8, 3.51)
    """
    if math.isinf(freedom) or freedom > 1e6:
        return float(stats.norm.isf(level) + stats.norm.ppf(POWER))
    critical = float(stats.t.isf(level, freedom))
    from scipy.optimize import brentq

    return float(brentq(lambda shift: stats.nct.sf(critical, freedom, shift) - POWER, 0.0, 3.0 * critical + 10.0))


def lost_units(new: MetricValue, old: MetricValue) -> tuple[list[str], list[str]]:
    """Return units of the accepted value that the candidate failed on, and those that it does not cover."""
    if old.samples is None:
        return [], []
    mine: set[str] = set(new.samples.units) if new.samples is not None else set(old.samples.units)
    failed = [unit for unit in old.samples.units if unit in new.failed]
    return failed, [unit for unit in old.samples.units if unit not in mine and unit not in new.failed]


def has_shared_units(new: MetricValue, old: MetricValue) -> bool:
    """Is there a unit that both were measured on? True where one of them names none."""
    return new.samples is None or old.samples is None or bool(shared_units(new.samples, old.samples))
