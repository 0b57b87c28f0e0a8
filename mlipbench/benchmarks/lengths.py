"""Is a run long enough to tell anything, and how far is what it found beyond what sampling alone gives?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from scipy import stats

from mlipbench.core.metric import Metric, MetricValue
from mlipbench.errors import NotApplicable
from mlipbench.physics.statistics import CONFIDENCE
from mlipbench.physics.timeseries import Foreseen, TimeMean, foreseen

# Shorter trajectories still remember the reference's frames that they started from, and intervals of their means are
# too narrow (tests/physics/test_timeseries.py).
CORRELATION_TIMES: Final = 20.0
STRETCH: Final = 1.05
LONGEST_PS: Final = 1e5


def refuse_short(length_ps: float, needed_ps: float, *, what: str, why: str) -> None:
    """Raise when trajectories are too short, which depends on the reference and the row's parameters alone.

    Raises:
        NotApplicable: with the length that would do.
    """
    if length_ps >= needed_ps - 1e-9:
        return
    if not needed_ps < LONGEST_PS:
        raise NotApplicable(f"{what}: {why}; no run is long enough, as the reference itself is not")
    raise NotApplicable(
        f"{what}: trajectories of {length_ps:g} ps are too short to tell; {why}: this needs about"
        f" {_rounded_up(needed_ps):g} ps"
    )


def needed_ps(tells: Callable[[float], bool], *, least_ps: float) -> float:
    """Return the shortest length from `least_ps` on that tells, to 5 %; infinity where none does."""
    length_ps = least_ps
    while not tells(length_ps):
        length_ps *= STRETCH
        if length_ps > LONGEST_PS:
            return float("inf")
    return length_ps


def refuse_untold_mean(
    reference: TimeMean, *, every_ps: float, n_replicas: int, length_ps: float, bad: float, what: str
) -> Foreseen:
    """Return what a run is expected to tell of a mean; raise when that is nothing.

    Args:
        reference: mean of the reference's own series.
        every_ps: between two of its samples.
        n_replicas: trajectories of the run.
        length_ps: of each.
        bad: the difference, in the series' unit, that must be told for sure.
        what: is measured, for the reason.

    Raises:
        NotApplicable: it is shorter than 20 correlation times of the reference, or would not tell `bad` from none.
    """

    def seen(length: float) -> Foreseen:
        return foreseen(reference, every_ps=every_ps, n_replicas=n_replicas, length_ps=length)

    found = seen(length_ps)
    enough = needed_ps(lambda one: seen(one).resolution <= bad, least_ps=CORRELATION_TIMES * found.correlation_ps)
    why = (
        f"the reference forgets in {found.correlation_ps:.2g} ps, and {CORRELATION_TIMES:g} times that, or a resolution"
        f" of {bad:.3g}, is the least"
    )
    refuse_short(length_ps, enough, what=what, why=why)
    return found


def excess(size: float, noise: float) -> float:
    """Return how far a size is beyond noise: √(d² - n²), or 0.

    Errors of sampling add to the square of a difference on average, so that what is left has the true one's square;
    cut at 0, where less than the noise was found.

    >>> excess(5.0, 3.0), excess(1.0, 3.0)
    (4.0, 0.0)
    """
    return float(np.sqrt(max(size**2 - noise**2, 0.0)))


def reach_of(stderr: float, *, freedom: float) -> float:
    """Return half the width of the 95 % interval."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, max(freedom, 1.0))) * stderr


def sizes(
    error: Metric,
    beyond: Metric,
    difference: float,
    stderr: float,
    *,
    noise: float,
    n: int,
    freedom: float | None = None,
    part: str = "",
) -> tuple[MetricValue, MetricValue]:
    """Return the size of a difference as it was found, and how far it is beyond noise, both with its interval.

    Args:
        error: the metric of the size.
        beyond: the metric of what is beyond noise.
        difference: of either sign, in the metrics' unit.
        stderr: of the difference, both sides' errors in it.
        noise: standard deviation of the difference that sampling alone gives a model like the reference; a model whose
            own errors are smaller gets no more than these taken off, so that none gains by noise.
        n: independent trajectories.
        freedom: degrees of freedom of the error, for Student's t; None takes n - 1, and below two there is no interval.
        part: what is covered.
    """  # fmt: skip
    size = abs(difference)
    least = excess(size, min(noise, stderr))
    if freedom is None and n < 2:
        return tuple(
            MetricValue(metric=one.name, part=part, value=value, n=n) for one, value in ((error, size), (beyond, least))
        )  # type: ignore[return-value]
    reach = reach_of(stderr, freedom=n - 1.0 if freedom is None else freedom)
    first, second = (
        MetricValue(
            metric=one.name, part=part, value=value, stderr=stderr, low=max(0.0, size - reach), high=size + reach, n=n
        )
        for one, value in ((error, size), (beyond, least))
    )
    return first, second


def around(together: float, spread: MetricValue) -> MetricValue:
    """Return the value of all trajectories together with the width of the interval of those of each.

    Single trajectories are noisier, and so farther away: only the width of their interval is taken.
    """
    if spread.low is None or spread.high is None:
        return MetricValue(metric=spread.metric, value=together, n=spread.n)
    low, high = max(0.0, together - (spread.value - spread.low)), together + (spread.high - spread.value)
    return replace(spread, value=together, low=low, high=high, samples=None)


def _rounded_up(length_ps: float) -> float:
    """Return a length with two digits, not below what is given."""
    digits = 10.0 ** (np.floor(np.log10(length_ps)) - 1.0)
    return float(np.ceil(length_ps / digits - 1e-9) * digits)
