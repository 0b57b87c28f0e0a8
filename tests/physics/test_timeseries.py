"""Intervals of time averages cover the truth as often as they say, for series as short as they come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float
from mlipbench.physics.timeseries import (
    MOST_DROPPED,
    TimeMean,
    autocorrelation,
    block_errors,
    equilibration,
    foreseen,
    mean_over_replicas,
    smallest_detectable,
    statistical_inefficiency,
    trend,
)

N_DRAWS = 200
N_SAMPLES = 200


def ar1(
    rng: np.random.Generator, *, n: int, time: float, n_replicas: int, start: float = 0.0, relaxation: float = 1.0
) -> Float:
    """Series of mean 0 and variance 1 whose correlation falls by e in `time`, plus a relaxation from `start`."""
    rho = np.exp(-1.0 / time)
    kicks = rng.normal(size=(n_replicas, n)) * np.sqrt(1.0 - rho**2)
    kicks[:, 0] = rng.normal(size=n_replicas)
    noise = lfilter([1.0], [1.0, -rho], kicks, axis=1)
    return np.asarray(noise + start * np.exp(-np.arange(n) / relaxation))


def inefficiency_of(time: float) -> float:
    """1 + 2 Σ ρ^t, in closed form."""
    rho = np.exp(-1.0 / time)
    return float((1.0 + rho) / (1.0 - rho))


def test_autocorrelation_is_the_sum_it_says() -> None:
    series = np.random.default_rng(0).normal(size=37)
    away = series - series.mean()
    by_hand = [np.mean(away[: 37 - lag] * away[lag:]) / np.mean(away**2) for lag in range(37)]
    np.testing.assert_allclose(autocorrelation(series), by_hand, atol=1e-12)
    assert autocorrelation(np.ones(3)).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("time", [3.0, 20.0])
def test_inefficiency_is_that_of_the_process(time: float) -> None:
    series = ar1(np.random.default_rng(1), n=100_000, time=time, n_replicas=1)[0]
    assert statistical_inefficiency(series) == pytest.approx(inefficiency_of(time), rel=0.1)
    # White noise costs one sample each, and an alternating series no less.
    assert statistical_inefficiency(np.random.default_rng(2).normal(size=100_000)) == pytest.approx(1.0, abs=0.05)
    assert statistical_inefficiency(np.tile([1.0, -1.0], 50)) == 1.0


def test_inefficiency_does_not_depend_on_unit_or_origin() -> None:
    series = ar1(np.random.default_rng(3), n=400, time=8.0, n_replicas=1)[0]
    assert statistical_inefficiency(1e4 - 30.0 * series) == pytest.approx(statistical_inefficiency(series))


def test_equilibration_drops_the_approach_and_not_more_than_half() -> None:
    series = ar1(np.random.default_rng(4), n=1000, time=2.0, n_replicas=1, start=20.0, relaxation=40.0)[0]
    begin = equilibration(series)
    assert 20.0 * np.exp(-begin / 40.0) < 1.0
    assert begin < MOST_DROPPED * 1000
    assert equilibration(np.linspace(0.0, 1.0, 1000)) <= MOST_DROPPED * 1000
    assert equilibration(np.ones(3)) == 0


def test_mean_by_hand() -> None:
    white = np.random.default_rng(5).normal(size=(4, 5000))
    found = mean_over_replicas(list(white))
    assert found.n_replicas == len(found.starts) == 4
    kept = np.concatenate([one[start:] for one, start in zip(white, found.starts, strict=True)])
    assert found.mean == pytest.approx(kept.mean())
    assert found.stderr == pytest.approx(1.0 / np.sqrt(len(kept)), rel=0.25)
    assert found.low < found.mean < found.high


def test_replicas_that_disagree_set_the_error() -> None:
    """Each in its own basin: no series shows it, their spread does."""
    rng = np.random.default_rng(6)
    series = [level + 0.01 * rng.normal(size=500) for level in (0.0, 1.0, 2.0)]
    assert mean_over_replicas(series).stderr >= 0.9 / np.sqrt(3.0)


def test_mean_of_constant_and_of_short_series() -> None:
    constant = mean_over_replicas([np.full(50, 0.3), np.full(20, 0.3)])
    assert (constant.mean, constant.stderr) == (pytest.approx(0.3), 0.0)
    short = mean_over_replicas([np.array([1.0, 2.0, 3.0])])
    assert short.stderr == pytest.approx(1.0 / np.sqrt(3.0))
    for wrong in ([], [np.array([])], [np.array([1.0, np.nan])], [np.array([1.0])]):
        with pytest.raises(BadInput):
            mean_over_replicas(wrong)


def test_mean_does_not_depend_on_the_order_of_replicas() -> None:
    series = [ar1(np.random.default_rng(k), n=n, time=9.0, n_replicas=1)[0] for k, n in enumerate((150, 200, 90))]
    one, other = mean_over_replicas(series), mean_over_replicas(series[::-1])
    assert (one.mean, one.stderr, one.low) == pytest.approx((other.mean, other.stderr, other.low))


Method = Callable[[list[Float]], TimeMean]


def coverage(method: Method, *, n_draws: int, length: float, n_replicas: int, start: float) -> float:
    """How often the interval holds 0; `length` in correlation times, which are relaxation times too."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(n_draws):
        time = N_SAMPLES / length
        series = ar1(rng, n=N_SAMPLES, time=time, n_replicas=n_replicas, start=start, relaxation=time)
        found = method(list(series))
        held += found.low <= 0.0 <= found.high
    return held / n_draws


def check_coverage(share: float, n_draws: int) -> None:
    """Between 90 and 98 %, within two standard errors of the simulation."""
    assert 0.90 - 2 * np.sqrt(0.9 * 0.1 / n_draws) <= share <= 0.98 + 2 * np.sqrt(0.98 * 0.02 / n_draws)


@pytest.mark.parametrize("start", [0.0, 10.0])
@pytest.mark.parametrize("n_replicas", [1, 2, 4])
@pytest.mark.parametrize("length", [20.0, 50.0])
def test_interval_covers_the_truth(length: float, n_replicas: int, start: float) -> None:
    """The start is ten standard deviations away, or in equilibrium."""
    share = coverage(mean_over_replicas, n_draws=N_DRAWS, length=length, n_replicas=n_replicas, start=start)
    check_coverage(share, N_DRAWS)


def every_sample_counts(series: list[Float]) -> TimeMean:
    """Wrong: neighbours taken as independent."""
    every = np.concatenate(series)
    stderr = float(every.std(ddof=1) / np.sqrt(every.size))
    reach = float(stats.t.ppf(0.975, every.size - 1)) * stderr
    mean = float(every.mean())
    return TimeMean(
        mean=mean, stderr=stderr, low=mean - reach, high=mean + reach, n_effective=every.size,
        inefficiency=1.0, starts=(0,), replica_means=(mean,),
    )  # fmt: skip


def nothing_dropped(series: list[Float]) -> TimeMean:
    """Wrong: the approach to equilibrium stays in, but correlations are seen."""
    every = np.concatenate(series)
    mean, worth = float(every.mean()), every.size / inefficiency_of(N_SAMPLES / 20.0)
    stderr = 1.0 / np.sqrt(worth)
    return TimeMean(
        mean=mean, stderr=stderr, low=mean - 2 * stderr, high=mean + 2 * stderr, n_effective=worth,
        inefficiency=1.0, starts=(0,), replica_means=(mean,),
    )  # fmt: skip


@pytest.mark.parametrize(("wrong", "start"), [(every_sample_counts, 0.0), (nothing_dropped, 10.0)])
def test_coverage_check_has_teeth(wrong: Method, start: float) -> None:
    with pytest.raises(AssertionError):
        check_coverage(coverage(wrong, n_draws=100, length=20.0, n_replicas=4, start=start), 100)


def test_block_errors_agree_with_the_closed_form() -> None:
    series = ar1(np.random.default_rng(8), n=200_000, time=5.0, n_replicas=1)[0]
    expected = np.sqrt(inefficiency_of(5.0) / len(series))
    assert block_errors(series, n_blocks=200) == pytest.approx(expected, rel=0.15)
    # Blocks shorter than the correlation time see too little.
    assert block_errors(series, n_blocks=len(series)) < 0.5 * expected
    for n_blocks in (1, 4):
        with pytest.raises(BadInput, match="blocks"):
            block_errors(np.zeros(3), n_blocks=n_blocks)


@pytest.mark.parametrize("freedom", [1, 2, 7, 10_000])
def test_smallest_detectable_difference_is_found_four_times_in_five(freedom: int) -> None:
    """By the very test whose interval is shown: Student's t with an error that is itself an estimate."""
    rng, n = np.random.default_rng(9), 20_000
    difference = smallest_detectable(1.0, 2.0, freedom=freedom)
    error = np.sqrt(5.0 * rng.chisquare(freedom, size=n) / freedom)
    seen = difference + np.sqrt(5.0) * rng.normal(size=n)
    assert np.mean(np.abs(seen) > stats.t.ppf(0.975, freedom) * error) == pytest.approx(0.8, abs=0.012)


def test_the_reference_foresees_how_sure_a_run_will_be() -> None:
    rng = np.random.default_rng(11)
    reference = mean_over_replicas(list(ar1(rng, n=20_000, time=10.0, n_replicas=4)))
    run = foreseen(reference, every_ps=0.5, n_replicas=3, length_ps=400.0)
    assert run.correlation_ps == pytest.approx(0.5 * 0.5 * inefficiency_of(10.0), rel=0.15)
    means = [ar1(rng, n=800, time=10.0, n_replicas=3).mean() for _ in range(300)]
    assert run.stderr == pytest.approx(np.std(means), rel=0.2)


def test_swings_leave_no_drift_whatever_the_length() -> None:
    """An energy that is kept and swings by 0.3: an ordinary line has slopes of 0.2 in a tenth of a picosecond."""
    for length, most in ((0.3, 0.01), (1.0, 1e-3), (10.0, 1e-4)):
        times = np.arange(0.0, length, 0.004)
        for phase in (0.0, 1.0, 2.0):
            swing = 0.3 * np.sin(2.0 * np.pi * 30.0 * times + phase)
            assert abs(trend(times, swing).slope) < most
            assert trend(times, swing - 5.0 * times).slope == pytest.approx(-5.0, abs=most)


def test_white_noise_in_a_slope_is_known() -> None:
    rng, times = np.random.default_rng(12), np.arange(0.0, 1.0, 0.01)
    found = [trend(times, rng.normal(size=100)) for _ in range(400)]
    slopes, noises = (np.array([getattr(one, name) for one in found]) for name in ("slope", "noise"))
    assert np.sqrt(np.mean(noises**2)) == pytest.approx(np.sqrt(np.mean(slopes**2)), rel=0.15)
    with pytest.raises(BadInput, match="four samples"):
        trend(times[:3], times[:3])
