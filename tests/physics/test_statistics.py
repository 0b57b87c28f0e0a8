"""Values are what a pencil gives, and intervals cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlipbench.physics.statistics import REDUCERS, Float, Int, estimate, reduce_rows, sum_by_unit

SEEDS = st.integers(0, 2**32 - 1)
N_DRAWS = 500
N_UNITS = 12
ROWS_PER_UNIT = 20


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


@pytest.mark.parametrize("reducer", REDUCERS)
def test_one_unit_has_a_value_and_no_interval(reducer: str) -> None:
    rows = np.array([[4.0, 2.0, 1.0, 3.0], [2.0, 1.0, 2.0, 5.0]])
    found = estimate(rows, np.zeros(2, int), reducer)
    assert np.isfinite(found.value)
    assert (found.stderr, found.low, found.high, found.n_units) == (None, None, None, 1)


@given(seed=SEEDS, reducer=st.sampled_from(REDUCERS), factor=st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_interval_holds_the_value_and_scales_with_the_unit(seed: int, reducer: str, factor: float) -> None:
    rows, unit = drawn(np.random.default_rng(seed), reducer, n_units=6, rows_per_unit=4)
    found, scaled = (estimate(rows_scaled(rows, reducer, f), unit, reducer) for f in (1.0, factor))
    scale = 1.0 if reducer == "relative_root_mean" else factor
    assert found.low is not None and found.high is not None and scaled.low is not None and scaled.high is not None
    assert found.low <= found.value <= found.high
    np.testing.assert_allclose(
        [scaled.value, scaled.low, scaled.high], scale * np.array([found.value, found.low, found.high]), rtol=1e-6
    )


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
    if reducer == "relative_root_mean":
        reference = rng.normal(size=errors.size)
        return np.column_stack([errors**2, ones, reference, reference**2]), unit
    return np.abs(errors)[:, None], unit


def coverage(reducer: str, n_draws: int, *, ignore_units: bool = False) -> float:
    """How often the interval holds the value of a sample so large that it is the truth."""
    truth = reduce_rows(drawn(np.random.default_rng(1), reducer, n_units=50_000, rows_per_unit=20)[0], reducer)
    rng, held = np.random.default_rng(2), 0
    for _ in range(n_draws):
        rows, unit = drawn(rng, reducer, n_units=N_UNITS, rows_per_unit=ROWS_PER_UNIT)
        found = estimate(rows, np.arange(len(rows)) if ignore_units else unit, reducer)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    return held / n_draws


def check_coverage(share: float, n_draws: int) -> None:
    """Between 90 and 98 %, within two standard errors of the simulation."""
    assert 0.90 - 2 * np.sqrt(0.9 * 0.1 / n_draws) <= share <= 0.98 + 2 * np.sqrt(0.98 * 0.02 / n_draws)


@pytest.mark.parametrize("reducer", ["root_mean", "mean", "relative_root_mean"])
def test_interval_of_sums_covers_the_truth(reducer: str) -> None:
    check_coverage(coverage(reducer, N_DRAWS), N_DRAWS)


@pytest.mark.parametrize("reducer", ["quantile_95", "median"])
def test_interval_of_quantiles_covers_the_truth(reducer: str) -> None:
    check_coverage(coverage(reducer, N_DRAWS), N_DRAWS)


def test_coverage_check_has_teeth() -> None:
    """Rows that belong together, taken as independent, give intervals that are too narrow."""
    with pytest.raises(AssertionError):
        check_coverage(coverage("root_mean", N_DRAWS, ignore_units=True), N_DRAWS)
