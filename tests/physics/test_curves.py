"""Shapes of energy curves whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.physics import curves

X = np.linspace(0.9, 3.0, 211)
LJ = 4.0 * (X**-12 - X**-6)
PULL = 4.0 * (12 * X**-13 - 6 * X**-7)


def test_a_single_well_is_straight() -> None:
    assert curves.tortuosity(LJ) == pytest.approx(1.0)
    assert curves.sign_changes(PULL, threshold=1e-3) == 1
    assert len(curves.minima(LJ, prominence=0.1)) == 1
    assert curves.largest_fall(LJ, prominence=0.1) == 0.0
    lowest = int(np.argmin(LJ))
    assert curves.rank_correlation(LJ[: lowest + 1]) == -1.0
    assert curves.rank_correlation(LJ[lowest:]) == 1.0


def test_the_work_is_that_of_the_force() -> None:
    step = float(X[1] - X[0])
    right = curves.work_mismatch(LJ, PULL, step, least=1e-3)
    assert right.max() < 1e-3
    assert curves.work_mismatch(LJ, 1.01 * PULL, step, least=1e-6).mean() == pytest.approx(0.01, rel=0.05)
    assert curves.work_mismatch(LJ, -PULL, step, least=1e-3).mean() > 1.5


@given(st.floats(0.2, 5.0), st.integers(40, 150))
def test_a_jump_is_as_large_as_it_is(size: float, place: int) -> None:
    flat = np.concatenate([np.linspace(1.0, 0.0, place), np.full(200 - place, -0.0)])
    broken = (
        flat + np.where(np.arange(200) >= place + 10, size, 0.0) - np.where(np.arange(200) >= place + 12, size, 0.0)
    )
    assert curves.energy_jump(flat, threshold=1e-3) == 0.0
    # up and down again, and each step counts for both turns beside it
    assert curves.energy_jump(broken, threshold=1e-3) <= 3 * size
    assert curves.tortuosity(broken) == pytest.approx(1.0 + 2 * size, rel=1e-9)


def test_a_hole_in_the_wall() -> None:
    hole = LJ - 60.0 * np.exp(-(((X - 0.93) / 0.02) ** 2))
    assert curves.largest_fall(hole, prominence=0.1) > 20.0
    assert len(curves.minima(hole, prominence=0.1)) == 2
    assert curves.tortuosity(hole) > 1.02


@given(st.floats(1.05, 2.5), st.floats(-2.0, 2.0), st.floats(0.1, 9.0))
def test_the_minimum_of_a_parabola(place: float, value: float, curvature: float) -> None:
    x = np.linspace(0.5, 3.0, 12)
    found = curves.spline_minimum(x, value + 0.5 * curvature * (x - place) ** 2)
    assert found == pytest.approx((place, value, curvature), abs=1e-6)


def test_a_far_wall_does_not_bend_the_minimum() -> None:
    x = np.linspace(0.5, 3.0, 26)
    y = (x - 1.7) ** 2
    y[:4] = 1e5
    assert curves.spline_minimum(x, y) == pytest.approx((1.7, 0.0, 2.0), abs=1e-6)


def test_no_minimum_inside() -> None:
    assert curves.spline_minimum(X, X) is None
    assert curves.spline_minimum(X, -X) is None


def test_crossings() -> None:
    assert curves.crossing(X, LJ, 0.5) == pytest.approx(0.9823, abs=1e-3)
    assert curves.crossing(X, LJ, -9.0) is None
    assert curves.crossing(X, LJ, 1e9) is None


@given(st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4))
def test_a_cubic_is_not_rough(coefficients: list[float]) -> None:
    x = np.array([0.0, 0.3, 0.7, 1.1, 1.9, 2.0, 2.8])
    assert np.abs(curves.roughness(x, np.polynomial.Polynomial(coefficients)(x))).max() < 1e-9


def test_a_bump_is_rough() -> None:
    x = np.arange(9.0)
    y = np.where(x == 4, 1.0, 0.0)
    assert curves.roughness(x, y)[4] == 1.0
