"""Values are what a pencil gives, and intervals cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlipbench.physics.statistics import REDUCERS, Float, Int, estimate, reduce_rows, sum_by_unit

SEEDS = st.integers(0, 2**32 - 1)


def test_values_by_hand() -> None:
    assert reduce_rows(np.array([[9.0, 1.0], [16.0, 1.0]]), "root_mean") == pytest.approx(np.sqrt(12.5))
    assert reduce_rows(np.array([[3.0, 2.0], [6.0, 1.0]]), "mean") == pytest.approx(3.0)
    assert reduce_rows(np.arange(101.0)[:, None], "quantile_95") == pytest.approx(95.0)
    assert reduce_rows(np.array([[1.0], [9.0], [2.0]]), "median") == pytest.approx(2.0)
    # Errors of 1 about references -2 and 2, whose standard deviation is 2.
    rows = np.array([[1.0, 1.0, -2.0, 4.0], [1.0, 1.0, 2.0, 4.0]])
    assert reduce_rows(rows, "relative_root_mean") == pytest.approx(0.5)


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_sums_of_units_are_plain_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, unit = rng.normal(size=(40, 3)), rng.integers(5, size=40)
    totals = sum_by_unit(rows, unit, n_units=5)
    np.testing.assert_allclose(totals, [rows[unit == k].sum(axis=0) for k in range(5)], atol=1e-12)


def test_jackknife_of_a_mean_is_the_textbook_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=15)  # of both signs, so that no logarithm is taken
    found = estimate(np.column_stack([values, np.ones(15)]), np.arange(15), "mean")
    textbook = values.std(ddof=1) / np.sqrt(15)
    assert found.stderr == pytest.approx(textbook)
    half = stats.t.ppf(0.975, 14) * textbook
    assert found.low == pytest.approx(values.mean() - half)
    assert found.high == pytest.approx(values.mean() + half)


COUNTS = ("share", "rate")
NO_COUNTS = tuple(name for name in REDUCERS if name not in COUNTS)


@pytest.mark.parametrize("reducer", NO_COUNTS)
def test_one_unit_has_a_value_and_no_interval(reducer: str) -> None:
    rows = np.array([[4.0, 2.0, 1.0, 3.0], [2.0, 1.0, 2.0, 5.0]])
    found = estimate(rows, np.zeros(2, int), reducer)
    assert np.isfinite(found.value)
    assert (found.stderr, found.low, found.high, found.n_units) == (None, None, None, 1)


@given(seed=SEEDS, reducer=st.sampled_from(NO_COUNTS), factor=st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_interval_holds_the_value_and_scales_with_the_unit(seed: int, reducer: str, factor: float) -> None:
    rows, unit = drawn(np.random.default_rng(seed), reducer, n_units=6, rows_per_unit=4)
    found, scaled = (estimate(rows_scaled(rows, reducer, f), unit, reducer) for f in (1.0, factor))
    scale = 1.0 if reducer == "relative_root_mean" else factor
    assert found.low is None or found.low <= found.value
    assert found.high is None or found.value <= found.high
    for one, other in ((found.value, scaled.value), (found.low, scaled.low), (found.high, scaled.high)):
        assert (one is None) == (other is None)
        assert one is None or other is None or other == pytest.approx(scale * one, rel=1e-6)


def rows_scaled(rows: Float, reducer: str, factor: float) -> Float:
    """The rows in a unit that is smaller by this factor."""
    powers = {"root_mean": [2, 0], "mean": [1, 0], "relative_root_mean": [2, 0, 1, 2]}.get(reducer, [1])
    return np.asarray(rows * factor ** np.array(powers, dtype=float))


@given(seed=SEEDS, reducer=st.sampled_from(REDUCERS))
@settings(max_examples=20, deadline=None)
def test_order_of_units_does_not_matter(seed: int, reducer: str) -> None:
    rng = np.random.default_rng(seed)
    rows, unit = drawn(rng, reducer, n_units=6, rows_per_unit=4)
    order = rng.permutation(len(rows))
    found, shuffled = estimate(rows, unit, reducer), estimate(rows[order], unit[order], reducer)
    assert (found.value, found.low, found.high) == pytest.approx((shuffled.value, shuffled.low, shuffled.high))


def drawn(rng: np.random.Generator, reducer: str, *, n_units: int, rows_per_unit: int) -> tuple[Float, Int]:
    """Errors whose size differs from unit to unit (by 30 %), so that rows of one unit belong together."""
    size = np.exp(0.3 * rng.normal(size=(n_units, 1)))
    errors = (size * rng.normal(size=(n_units, rows_per_unit))).ravel()
    unit = np.repeat(np.arange(n_units), rows_per_unit)
    ones = np.ones(errors.size)
    if reducer == "root_mean":
        return np.column_stack([errors**2, ones]), unit
    if reducer == "mean":
        return np.column_stack([np.abs(errors), ones]), unit
    if reducer in COUNTS:
        return np.column_stack([(np.abs(errors) > 1.0).astype(float), ones]), unit
    if reducer == "relative_root_mean":
        reference = rng.normal(size=errors.size)
        return np.column_stack([errors**2, ones, reference, reference**2]), unit
    return np.abs(errors)[:, None], unit


def test_share_and_rate_by_hand() -> None:
    """Two of ten, and none; two events in ten, in units of one row each."""
    ones = np.ones(10)
    hit = np.isin(np.arange(10), (3, 7)).astype(float)
    found = estimate(np.column_stack([hit, ones]), np.arange(10), "share")
    # The ends are where two or more, and two or fewer, of ten have a chance of 2.5 %.
    assert found.low is not None and found.high is not None
    assert stats.binom.sf(1, 10, found.low) == pytest.approx(0.025)
    assert stats.binom.cdf(2, 10, found.high) == pytest.approx(0.025)
    none = estimate(np.column_stack([0.0 * ones, ones]), np.arange(10), "share")
    assert (none.value, none.low, none.stderr) == (0.0, 0.0, 0.0)
    assert none.high == pytest.approx(1.0 - 0.025**0.1)
    rate = estimate(np.column_stack([hit, 5.0 * ones]), np.arange(10), "rate")
    assert rate.value == pytest.approx(0.04)
    assert rate.low is not None and rate.high is not None
    assert stats.poisson.sf(1, 50.0 * rate.low) == pytest.approx(0.025)
    assert stats.poisson.cdf(2, 50.0 * rate.high) == pytest.approx(0.025)


@pytest.mark.parametrize("reducer", COUNTS)
def test_counts_of_one_unit_have_an_interval(reducer: str) -> None:
    found = estimate(np.array([[0.0, 1.0]]), np.zeros(1, int), reducer)
    assert (found.value, found.low, found.stderr, found.n_units) == (0.0, 0.0, None, 1)
    assert found.high is not None and found.high > 0.9


def test_rows_of_a_unit_that_agree_are_no_more_trials_than_units() -> None:
    """Ten units of twenty rows, two of them hit throughout: as two of ten."""
    hit = np.repeat(np.isin(np.arange(10), (3, 7)), 20).astype(float)
    many = estimate(np.column_stack([hit, np.ones(200)]), np.repeat(np.arange(10), 20), "share")
    few = estimate(np.column_stack([hit[::20], np.ones(10)]), np.arange(10), "share")
    assert (many.low, many.high) == pytest.approx((few.low, few.high))
    mixed = np.random.default_rng(0).permutation(hit)
    alone = estimate(np.column_stack([mixed, np.ones(200)]), np.repeat(np.arange(10), 20), "share")
    assert alone.high is not None and few.high is not None and alone.high < 0.5 * (few.value + few.high)


def test_interval_ends_at_the_bounds() -> None:
    cosines = np.array([0.999, 0.998, 0.9, 0.9995, 0.97, 0.99])
    rows = np.column_stack([cosines, np.ones(6)])
    free = estimate(rows, np.arange(6), "mean")
    assert free.high is not None and free.high > 1.0, "or the case shows nothing"
    bounded = estimate(rows, np.arange(6), "mean", lowest=-1.0, highest=1.0)
    assert bounded.low is not None and bounded.high is not None
    assert -1.0 < bounded.low < bounded.value < bounded.high < 1.0
    below = estimate(-rows * [1.0, -1.0], np.arange(6), "mean", lowest=-1.0, highest=1.0)
    assert (below.low, below.high) == pytest.approx((-bounded.high, -bounded.low))


def test_bound_is_the_metrics_and_not_the_datas() -> None:
    """Positive numbers of a quantity of either sign have an interval about the value."""
    rows = np.column_stack([np.arange(1.0, 7.0), np.ones(6)])
    plain = estimate(rows, np.arange(6), "mean")
    bounded = estimate(rows, np.arange(6), "mean", lowest=0.0)
    assert plain.low is not None and plain.high is not None and bounded.low is not None and bounded.high is not None
    assert plain.high - plain.value == pytest.approx(plain.value - plain.low)
    assert bounded.high - bounded.value > bounded.value - bounded.low


def test_all_at_the_bound_and_all_but_one() -> None:
    rows = np.column_stack([np.zeros(6), np.ones(6)])
    still = estimate(rows, np.arange(6), "root_mean")
    assert (still.value, still.low, still.high) == (0.0, 0.0, 0.0)
    rows[2, 0] = 6.0
    one = estimate(rows, np.arange(6), "root_mean")
    assert (one.value, one.low, one.high) == (1.0, 0.0, None)


def test_end_that_says_nothing_is_left_open() -> None:
    found = estimate(np.array([[1.0, 1.0], [100.0, 1.0]]), np.arange(2), "root_mean")
    assert found.low is not None and found.high is None


def test_percentile_is_open_where_the_sample_ends() -> None:
    """Of twelve rows the largest says nothing of how large one in twenty is; of 600 it does."""
    rng = np.random.default_rng(0)
    few = estimate(np.abs(rng.normal(size=(12, 1))), np.arange(12), "quantile_95")
    assert few.low is not None and few.high is None
    many = estimate(np.abs(rng.normal(size=(600, 1))), np.repeat(np.arange(12), 50), "quantile_95")
    assert many.high is not None


@pytest.mark.parametrize("reducer", ["quantile_95", "median"])
def test_quantile_of_too_few_units_has_no_interval(reducer: str) -> None:
    found = estimate(np.abs(np.random.default_rng(0).normal(size=(100, 1))), np.repeat(np.arange(5), 20), reducer)
    assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize(
    ("reducer", "q", "n"),
    [("median", 0.5, 5), ("median", 0.5, 6), ("median", 0.5, 12), ("median", 0.5, 30), ("quantile_95", 0.95, 200)],
)
def test_quantile_of_single_rows_lies_between_two_of_them_as_often_as_it_should(reducer: str, q: float, n: int) -> None:
    """Of n uniform numbers the share below q is binomial, so the chance of each interval is known."""
    found = estimate(np.arange(1.0, n + 1.0)[:, None], np.arange(n), reducer)
    assert found.low is not None and found.high is not None
    # Rows l and u hold the truth between them where at least l and at most u - 1 numbers lie below it.
    missed_low, missed_high = stats.binom.cdf(found.low - 1, n, q), stats.binom.sf(found.high - 1, n, q)
    assert 0.93 <= 1.0 - missed_low - missed_high <= 0.99
    assert missed_low + stats.binom.pmf(found.low, n, q) > 0.035, "the next row would do"
    assert missed_high + stats.binom.pmf(found.high - 1, n, q) > 0.035


def test_median_of_four_rows_has_no_interval() -> None:
    found = estimate(np.arange(4.0)[:, None], np.arange(4), "median")
    assert (found.low, found.high) == (None, None)
