"""Exact intervals, and curves that hold when none or all have failed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlipbench.errors import BadInput
from mlipbench.physics.survival import clopper_pearson, kaplan_meier, poisson_rate


def test_curve_by_hand() -> None:
    """Of four, one fails at 1, one at 2 where another leaves unharmed, and one lasts till 3."""
    curve = kaplan_meier(np.array([3.0, 1.0, 2.0, 2.0]), np.array([False, True, True, False]))
    assert curve.time.tolist() == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_allclose(curve.share, [1.0, 3 / 4, 3 / 4 * 2 / 3, 3 / 4 * 2 / 3])


def test_interval_is_that_of_scipy_where_it_exists() -> None:
    rng = np.random.default_rng(0)
    ended, failed = rng.exponential(size=30), rng.random(30) < 0.6
    failed[np.argmin(ended)], failed[np.argmax(ended)] = True, False
    curve = kaplan_meier(ended, failed)
    sample = stats.CensoredData(uncensored=ended[failed], right=ended[~failed])
    theirs = stats.ecdf(sample).sf.confidence_interval(0.95, method="log-log")
    np.testing.assert_allclose(curve.low[1:], theirs.low.probabilities, atol=1e-12)
    np.testing.assert_allclose(curve.high[1:], theirs.high.probabilities, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_none_and_all_failing_leave_an_interval(n: int) -> None:
    ended = np.arange(1.0, n + 1.0)
    none = kaplan_meier(ended, np.zeros(n, dtype=bool))
    assert (none.share == 1.0).all()
    assert none.high.tolist() == [1.0] * (n + 1)
    assert none.low[1] == pytest.approx(clopper_pearson(n, n)[0])
    assert (np.diff(none.low[1:]) < 0.0).all()  # fewer and fewer were watched
    every = kaplan_meier(ended, np.ones(n, dtype=bool))
    assert every.share[-1] == every.low[-1] == 0.0
    assert every.high[-1] > 0.0
    for curve in (none, every):
        assert ((curve.low <= curve.share) & (curve.share <= curve.high)).all()
    with pytest.raises(BadInput):
        kaplan_meier(np.array([]), np.array([], dtype=bool))


def test_curve_covers_the_truth() -> None:
    """Lifetimes of 1 on average, watched up to random times: what share lives for 0.7?"""
    rng, held, n_draws = np.random.default_rng(1), 0, 200
    for _ in range(n_draws):
        life, watched = rng.exponential(size=20), rng.uniform(0.3, 2.0, size=20)
        curve = kaplan_meier(np.minimum(life, watched), life <= watched)
        k = int(np.searchsorted(curve.time, 0.7, side="right")) - 1
        held += curve.low[k] <= np.exp(-0.7) <= curve.high[k]
    assert 0.90 <= held / n_draws <= 0.99


@pytest.mark.parametrize(("successes", "n"), [(0, 8), (3, 8), (8, 8), (1, 1)])
def test_ends_of_the_share_are_where_the_data_become_unlikely(successes: int, n: int) -> None:
    low, high = clopper_pearson(successes, n)
    if successes > 0:
        assert stats.binom.sf(successes - 1, n, low) == pytest.approx(0.025)
    else:
        assert low == 0.0
    if successes < n:
        assert stats.binom.cdf(successes, n, high) == pytest.approx(0.025)
    else:
        assert high == 1.0


@pytest.mark.parametrize("failures", [0, 1, 7])
def test_ends_of_the_rate_are_where_the_data_become_unlikely(failures: int) -> None:
    rate, low, high = poisson_rate(failures, 50.0)
    assert rate == failures / 50.0
    assert stats.poisson.cdf(failures, 50.0 * high) == pytest.approx(0.025)
    if failures:
        assert stats.poisson.sf(failures - 1, 50.0 * low) == pytest.approx(0.025)
    else:
        assert low == 0.0
    with pytest.raises(BadInput, match="time"):
        poisson_rate(failures, 0.0)
