"""How sure is the mean of a series whose neighbours resemble each other, and where does it begin to be one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import optimize, stats

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float
from mlipbench.physics.statistics import CONFIDENCE

POWER: Final = 0.8
MOST_DROPPED: Final = 0.5  # of a series, as its approach to equilibrium
N_CANDIDATES: Final = 21
SAMPLES_PER_FREEDOM: Final = 6.0
SHORTEST: Final = 8  # samples; fewer say nothing about their correlation
N_CORRECTIONS: Final = 3  # rounds for the variance of the mean, on which the correlations depend that give it
LONGEST_SUM: Final = 4  # correlations are summed up to half the series: as pairs of lags, a fourth of its length
N_QUANTILES: Final = 2000  # of the chi-squared distribution, for a power to 1e-4
MOST_FREEDOM: Final = 1e4  # more makes no difference
LOST: Final = 4.0  # a fitted line takes three quarters of white noise's share in its slope along with it
ROUNDING: Final = 4.0  # spacings of floating-point numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMean:
    """The mean of some series of one quantity.

    Attributes:
        mean: over all samples kept.
        stderr: standard error.
        low: lower end of the 95 % interval.
        high: upper end.
        n_effective: independent samples that the kept ones are worth.
        inefficiency: samples that one independent sample costs.
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

    @property
    def freedom(self) -> float:
        """Degrees of freedom that Student's t takes for an interval of this mean."""
        return freedom_of(self.n_effective)

    @property
    def n_replicas(self) -> int:
        """Number of series."""
        return len(self.replica_means)


def _lagged_sums(away: Float) -> Float:
    """Return the sums of products of samples a lag apart, at all lags, shape of the series."""
    n = len(away)
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    spectrum = np.fft.rfft(away, size)
    return np.asarray(np.fft.irfft(spectrum * np.conj(spectrum), size)[:n], dtype=np.float64)


def autocorrelation(series: Float, *, centre: float | None = None) -> Float:
    """Return the normalised autocorrelation at all lags, shape of the series; 1 at lag 0, and 0 for a constant.

    Args:
        series: shape (n,), evenly spaced.
        centre: mean to take correlations around; None for the series' own.
    """
    n = len(series)
    sums = _lagged_sums(series - (series.mean() if centre is None else centre))
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
    weighted = (1.0 - np.arange(n) / n) * autocorrelation(series, centre=centre)
    pairs = weighted[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
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


def freedom_of(n_effective: float) -> float:
    """Return the degrees of freedom of a variance whose correlation time is an estimate; see `mean_over_replicas`."""
    return max(n_effective / SAMPLES_PER_FREEDOM, 1.0)


def mean_over_replicas(series: Sequence[Float], *, confidence: float = CONFIDENCE) -> TimeMean:
    """Return the mean of independent series, each without its approach to equilibrium, and how sure it is.

    Series of one length are also averaged before their start is looked for: what they have in common is the approach to
    equilibrium, and it stands out from noise that averages away. The later of the two starts is taken.

    The standard error is the larger of two: that of the samples' variance over their effective number, and, with three
    series or more, that of the spread between series. Correlations are taken around the common mean, averaged over the
    series, and raised by the variance of that mean, by which they come out too low. The correlation time is itself an
    estimate, whose relative variance is about 10 over the number of effective samples; a variance so unsure is that of
    a fifth as many degrees of freedom. Student's t takes a sixth, as that number itself comes out too large in short
    series: of AR(1) series as short as 20 correlation times, 95 % intervals then hold the truth 93 times in 100.

    Args:
        series: each of shape (n_k,), evenly spaced, all of one quantity in one state and at one interval.
        confidence: of the interval.

    Raises:
        BadInput: there are fewer than two samples, or a series is empty or not finite.

    Source: U. Wolff, Comput. Phys. Commun. 156, 143 (2004), for replicas and the bias; A. D. Sokal, in Functional
    Integration (1997), section 3, for the variance of the correlation time.

    >>> mean_over_replicas([np.full(20, 2.0), np.full(10, 2.0)]).n_replicas
    2
    """
    sizes = [len(one) for one in series]
    if sum(sizes) < 2 or min(sizes) < 1 or not all(np.isfinite(one).all() for one in series):
        raise BadInput(f"a mean over time needs two finite samples, and one in each series; the series have {sizes}")
    starts = _starts(series)
    kept = [np.asarray(one[start:], dtype=np.float64) for one, start in zip(series, starts, strict=True)]
    means = np.array([one.mean() for one in kept])
    counts = np.array([len(one) for one in kept])
    mean = float(means @ counts / counts.sum())
    inefficiency, variance_of_mean = _pooled(kept, mean)
    n_effective = max(float(counts.sum()) / inefficiency, 1.0)
    # The spread of two numbers is too unsure to overrule anything.
    between = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 2 else 0.0
    stderr = max(float(np.sqrt(variance_of_mean)), between)
    reach = float(stats.t.ppf(0.5 + confidence / 2, freedom_of(n_effective))) * stderr
    return TimeMean(
        mean=mean, stderr=stderr, low=mean - reach, high=mean + reach, n_effective=n_effective,
        inefficiency=inefficiency, starts=starts, replica_means=tuple(means.tolist()),
    )  # fmt: skip


def _starts(series: Sequence[Float]) -> tuple[int, ...]:
    """Return the first sample to keep of each series: its own start, or that of the mean over series if later."""
    together = 0
    if len(series) > 1 and len({len(one) for one in series}) == 1:
        together = equilibration(np.mean(series, axis=0))
    return tuple(max(equilibration(one), together) for one in series)


def _pooled(kept: Sequence[Float], mean: float) -> tuple[float, float]:
    """Return what an independent sample costs, and the variance of the mean, from the correlations of all series."""
    total, longest = sum(len(one) for one in kept), max(len(one) for one in kept)
    sums, n_pairs = np.zeros(longest), np.zeros(longest)
    for one in kept:
        sums[: len(one)] += _lagged_sums(one - mean)
        n_pairs[: len(one)] += np.arange(len(one), 0, -1)
    # The mean of numbers that are all the same differs from them by rounding; that is no variance.
    spacing = float(np.spacing(max(np.abs(one).max() for one in kept)))
    if sums[0] / total <= (ROUNDING * spacing) ** 2:
        return 1.0, 0.0
    covariance, correction = sums / n_pairs, 0.0
    if longest < SHORTEST:
        return 1.0, float(covariance[0]) / (total - 1)
    inefficiency = 1.0
    for _ in range(N_CORRECTIONS):
        corrected = covariance + correction
        pairs = (n_pairs / total * corrected)[: longest // 2 * 2].reshape(-1, 2).sum(axis=1)
        # Sums of neighbours fall in any reversible dynamics (Geyer's initial monotone sequence).
        falling = np.minimum.accumulate(pairs)
        ended = np.flatnonzero(falling <= 0.0)
        last = min(int(ended[0]) if len(ended) else len(pairs), max(1, longest // LONGEST_SUM))
        integral = max(float(2.0 * falling[:last].sum() - corrected[0]), float(corrected[0]))
        inefficiency = integral / float(corrected[0])
        correction = min(integral / total, float(covariance[0]))
    return inefficiency, correction


def block_errors(series: Float, *, n_blocks: int) -> float:
    """Return the standard error of the mean from the spread of the means of blocks.

    Source: H. Flyvbjerg & H. G. Petersen, J. Chem. Phys. 91, 461 (1989).

    Raises:
        BadInput: there are fewer than two blocks, or fewer samples than blocks.

    >>> block_errors(np.array([1.0, 1.0, 3.0, 3.0]), n_blocks=2)
    1.0
    """
    if not 2 <= n_blocks <= len(series):
        raise BadInput(f"{n_blocks} blocks of {len(series)} samples: at least 2 are needed, of one sample or more")
    size = len(series) // n_blocks
    means = series[: size * n_blocks].reshape(n_blocks, size).mean(axis=1)
    return float(np.std(means, ddof=1) / np.sqrt(n_blocks))


def smallest_detectable(
    stderr: float, reference_stderr: float, *, freedom: float, confidence: float = CONFIDENCE
) -> float:
    """Return the smallest difference that a test at 5 % finds with a power of 80 %, by Student's non-central t.

    Args:
        stderr: of one side's mean.
        reference_stderr: of the other's.
        freedom: degrees of freedom of the combined error, those that the difference's interval takes.
        confidence: of that interval.

    Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), chapter 2.

    It is 2.80 standard errors where these are known, and 5.8 times more with a single degree of freedom:

    >>> [round(smallest_detectable(3.0, 4.0, freedom=n), 1) for n in (1e6, 10.0, 3.0, 1.0)]
    [14.0, 15.5, 21.3, 81.7]
    """
    error = float(np.hypot(stderr, reference_stderr))
    if not error > 0.0:
        return 0.0
    return error * _detectable_shift(min(max(freedom, 1.0), MOST_FREEDOM), confidence)


@lru_cache(maxsize=256)
def _detectable_shift(freedom: float, confidence: float) -> float:
    """Return the shift of a t statistic that makes it pass its two-sided test with the wanted power."""
    # The mean over the error's own distribution, since scipy.stats.nct returns NaN for some arguments.
    shares = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    bar = stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)

    def power(shift: float) -> float:
        return float(np.mean(stats.norm.sf(bar - shift) + stats.norm.cdf(-bar - shift)))

    return float(optimize.brentq(lambda shift: power(shift) - POWER, 0.0, float(bar.max()) + 3.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What a run of a model like the reference would tell, from the reference's own series alone.

    Attributes:
        correlation_ps: integrated correlation time, half of what one independent sample costs.
        stderr: standard error of the run's mean.
        freedom: degrees of freedom of that error.
        resolution: smallest difference from the reference's mean that the run would tell.
    """

    correlation_ps: float
    stderr: float
    freedom: float
    resolution: float


def foreseen(reference: TimeMean, *, every_ps: float, n_replicas: int, length_ps: float) -> Foreseen:
    """Return what to expect of trajectories that fluctuate and forget as the reference does.

    Args:
        reference: mean of its series.
        every_ps: between two of its samples.
        n_replicas: of the run.
        length_ps: of each.

    Trajectories as long and as many as the reference's are as sure as it is:

    >>> series = [np.random.default_rng(k).normal(size=500) for k in range(2)]
    >>> own = mean_over_replicas(series)
    >>> run = foreseen(own, every_ps=0.1, n_replicas=2, length_ps=0.05 * own.n_effective * own.inefficiency)
    >>> round(run.stderr / own.stderr, 6)
    1.0
    """
    cost_ps = reference.inefficiency * every_ps
    n_effective = max(n_replicas * length_ps / cost_ps, 1.0)
    stderr = reference.stderr * float(np.sqrt(reference.n_effective / n_effective))
    freedom = freedom_of(n_effective)
    return Foreseen(
        correlation_ps=0.5 * cost_ps, stderr=stderr, freedom=freedom,
        resolution=smallest_detectable(stderr, reference.stderr, freedom=freedom),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A straight line through a series.

    Attributes:
        slope: per unit of time.
        noise: standard deviation of the slope that what is left beside the line would give alone.
        rest: root mean square distance from the line.
    """

    slope: float
    noise: float
    rest: float


def trend(times: Float, series: Float) -> Trend:
    """Return the line through a series whose ends count least, so that what only swings leaves no slope.

    An oscillation moves the slope of an ordinary line by up to 6 A/(π f T²); with Hann's window for weights, by another
    factor of the square of its number of periods f T less, so that short and long runs give the same drift. The noise
    is that of the rests with all their correlations: their power spectrum times that of the slope's weights.

    Args:
        times: shape (n,), evenly spaced.
        series: shape (n,).

    Raises:
        BadInput: there are fewer than four samples.

    Source: F. J. Harris, Proc. IEEE 66, 51 (1978), for the window; weighted least squares.

    >>> t = np.arange(0.0, 1.0, 0.01)
    >>> round(trend(t, 2.0 + 3.0 * t).slope, 9), round(trend(t, np.sin(2 * np.pi * 10 * t)).slope, 2) + 0.0
    (3.0, 0.0)
    """
    n = len(times)
    if n < 4:
        raise BadInput(f"a drift needs four samples or more; got {n}")
    weight = np.hanning(n + 2)[1:-1]
    middle = float(weight @ times / weight.sum())
    lever = weight * (times - middle) / float(weight @ (times - middle) ** 2)
    slope = float(lever @ series)
    rests = series - float(weight @ series / weight.sum()) - slope * (times - middle)
    # Tapered as the slope is, or the ends' leakage would pass for noise and hide drifts.
    covariance = _lagged_sums(weight * rests) / float(weight @ weight)
    products = _lagged_sums(lever)
    variance = LOST * float(covariance[0] * products[0] + 2.0 * (covariance[1:] @ products[1:]))
    return Trend(slope=slope, noise=float(np.sqrt(max(variance, 0.0))), rest=float(np.sqrt(np.mean(rests**2))))
