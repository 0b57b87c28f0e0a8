"""How sure is the mean of a series whose neighbours resemble each other, and where does it begin to be one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from mlipbench.physics.cells import Float
from mlipbench.physics.statistics import CONFIDENCE

POWER: Final = 0.8
MOST_DROPPED: Final = 0.5  # of a series, as its approach to equilibrium
N_CANDIDATES: Final = 21
SAMPLES_PER_FREEDOM: Final = 5.0
SHORTEST: Final = 8  # samples; fewer say nothing about their correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMean:
    """The mean of some series of one quantity.

    Attributes:
        mean: over all samples kept.
        stderr: standard error.
        low: lower end of the 95 % interval.
        high: upper end.
        n_effective: independent samples that the kept ones are worth.
        inefficiency: samples that one independent sample costs, the mean over the series.
        starts: first sample kept of each series.
        replica_means: mean of each series.
    """

    mean: float
    stderr: float
    low: float
    high: float
    n_effective: float
    inefficiency: float
    starts: tuple[int, ...]
    replica_means: tuple[float, ...]


def autocorrelation(series: Float) -> Float:
    """Return the normalised autocorrelation at all lags, shape of the series; 1 at lag 0, and 0 for a constant."""
    n = len(series)
    away = series - series.mean()
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    spectrum = np.fft.rfft(away, size)
    sums = np.fft.irfft(spectrum * np.conj(spectrum), size)[:n]
    if not sums[0] > 0.0:
        return np.concatenate([[1.0], np.zeros(n - 1)])
    found: Float = sums / np.arange(n, 0, -1) / (sums[0] / n)
    return found


def statistical_inefficiency(series: Float, *, centre: float | None = None) -> float:
    """Return how many samples one independent sample costs: 1 + 2 Σ (1 - t/n) C(t), 1 or more.

    The sum ends where two neighbouring correlations first add up to nothing or less (Geyer's initial positive
    sequence), which is where noise begins.

    Args:
        series: shape (n,), evenly spaced.
        centre: mean to take correlations around; None for the series' own, which makes short series look less
            correlated than they are.

    Source: C. J. Geyer, Stat. Sci. 7, 473 (1992); J. D. Chodera et al., J. Chem. Theory Comput. 3, 26 (2007).

    >>> statistical_inefficiency(np.ones(10))
    1.0
    """
    n = len(series)
    if n < SHORTEST or not np.ptp(series) > 0.0:
        return 1.0
    if centre is None:
        known = autocorrelation(series)
    else:
        shifted = series - centre
        size = 2 ** int(np.ceil(np.log2(2 * n)))
        spectrum = np.fft.rfft(shifted, size)
        sums = np.fft.irfft(spectrum * np.conj(spectrum), size)[:n]
        known = sums / np.arange(n, 0, -1) / (sums[0] / n)
    weighted = (1.0 - np.arange(n) / n) * known
    even = n // 2 * 2
    pairs = weighted[:even].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0.0)
    last = int(ended[0]) if len(ended) else len(pairs)
    return max(1.0, float(2.0 * pairs[:last].sum() - 1.0))


def equilibration(series: Float) -> int:
    """Return the first sample to keep: the start that leaves the most independent samples, half of them at the latest.

    Source: J. D. Chodera, J. Chem. Theory Comput. 12, 1799 (2016).

    >>> equilibration(np.ones(100))
    0
    """
    n = len(series)
    if n < 2 * SHORTEST:
        return 0
    starts = np.unique(np.linspace(0, MOST_DROPPED * n, N_CANDIDATES).astype(np.int64))
    worth = [(n - start) / statistical_inefficiency(series[start:]) for start in starts]
    return int(starts[int(np.argmax(worth))])


def mean_over_replicas(series: Sequence[Float], *, confidence: float = CONFIDENCE) -> TimeMean:
    """Return the mean of independent series, each without its approach to equilibrium, and how sure it is.

    The standard error is the larger of two: that of the samples' variance over their effective number, with all
    correlations taken around the common mean, and that of the spread between series. The correlation time is itself
    an estimate, whose relative variance is about 10 in the number of effective samples; a variance so unsure is that of
    a fifth as many degrees of freedom, which Student's t takes.

    Source: A. D. Sokal, in Functional Integration (1997), section 3, for the variance of the correlation time.

    Args:
        series: each of shape (n_k,), evenly spaced.
        confidence: of the interval.
    """
    starts = tuple(equilibration(one) for one in series)
    kept = [np.asarray(one[start:], dtype=np.float64) for one, start in zip(series, starts, strict=True)]
    means = np.array([one.mean() for one in kept])
    counts = np.array([len(one) for one in kept])
    mean = float(means @ counts / counts.sum())
    costs = np.array([statistical_inefficiency(one, centre=mean) for one in kept])
    variance = float(np.mean(np.concatenate([(one - mean) ** 2 for one in kept])))
    n_effective = float(max((counts / costs).sum(), 1.0))
    within = np.sqrt(variance / max(n_effective - 1.0, 0.5))
    between = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 2 else 0.0
    stderr = float(max(within, between))
    reach = float(stats.t.ppf(0.5 + confidence / 2, max(n_effective / SAMPLES_PER_FREEDOM, 1.0))) * stderr
    return TimeMean(
        mean=mean, stderr=stderr, low=mean - reach, high=mean + reach, n_effective=n_effective,
        inefficiency=float(costs.mean()), starts=starts, replica_means=tuple(means.tolist()),
    )  # fmt: skip


def block_errors(series: Float, *, n_blocks: int) -> float:
    """Return the standard error of the mean from the spread of the means of blocks.

    Source: H. Flyvbjerg & H. G. Petersen, J. Chem. Phys. 91, 461 (1989).

    >>> block_errors(np.array([1.0, 1.0, 3.0, 3.0]), n_blocks=2)
    1.0
    """
    size = len(series) // n_blocks
    means = series[: size * n_blocks].reshape(n_blocks, size).mean(axis=1)
    return float(np.std(means, ddof=1) / np.sqrt(n_blocks))


def smallest_detectable(stderr: float, reference_stderr: float, *, confidence: float = CONFIDENCE) -> float:
    """Return the smallest difference that a test at 5 % finds with a power of 80 %: 2.80 combined standard errors.

    Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), chapter 2.

    >>> round(smallest_detectable(3.0, 4.0), 2)
    14.01
    """
    sigmas = float(stats.norm.ppf(0.5 + confidence / 2) + stats.norm.ppf(POWER))
    return sigmas * float(np.hypot(stderr, reference_stderr))
