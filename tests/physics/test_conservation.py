"""Slopes, antisymmetry and closed curves, by closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.physics.conservation import (
    SLOPE_NOISE,
    SLOPES_NOISE,
    STEPS,
    THREE_STEPS,
    antisymmetry,
    loop_work,
    slope,
    slopes,
)

numbers = st.floats(-3.0, 3.0)


@given(st.lists(numbers, min_size=5, max_size=5), st.floats(0.01, 1.0))
def test_the_slope_of_a_quartic_is_exact(coefficients: list[float], step: float) -> None:
    polynomial = np.polynomial.Polynomial(coefficients)
    found = slope(polynomial(step * np.array(STEPS)), step)
    assert found == pytest.approx(coefficients[1], abs=1e-9 / step)


def test_the_error_is_of_fourth_order() -> None:
    errors = [abs(float(slope(np.exp(h * np.array(STEPS)), h)) - 1.0) for h in (0.2, 0.1)]
    assert errors[0] / errors[1] == pytest.approx(16.0, rel=0.05)


def test_noise_is_as_large_as_said() -> None:
    noise = np.random.default_rng(0).normal(size=(20000, 4))
    assert slope(noise, 0.5).std() == pytest.approx(SLOPE_NOISE / 0.5, rel=0.02)


@given(st.lists(numbers, min_size=7, max_size=7), st.floats(0.01, 1.0))
def test_the_slope_of_a_sextic_is_exact(coefficients: list[float], step: float) -> None:
    polynomial = np.polynomial.Polynomial(coefficients)
    found = slopes(polynomial(step * np.array(THREE_STEPS)), step)
    assert found[2] == pytest.approx(coefficients[1], abs=1e-9 / step)
    # h⁴ of what a fifth power leaves: D(h) = c₁ + c₃h² + c₅h⁴, extrapolated c₁ - c₅h⁴/4
    assert found[0] == pytest.approx(coefficients[1] - coefficients[5] * step**4 / 4, abs=1e-9 / step)
    assert found[1] == pytest.approx(coefficients[1] - coefficients[5] * step**4 / 64, abs=1e-9 / step)


def test_three_steps_bound_the_truncation_of_two() -> None:
    for step in (0.4, 0.2, 0.1):
        wide, narrow, best = slopes(np.exp(step * np.array(THREE_STEPS)), step)
        assert abs(best - 1.0) < 0.1 * abs(narrow - 1.0) < 0.1 * abs(wide - 1.0)
        assert abs(wide - best) == pytest.approx(abs(wide - 1.0), rel=0.1)


def test_noise_of_three_steps_is_as_large_as_said() -> None:
    noise = np.random.default_rng(0).normal(size=(20000, 6))
    assert slopes(noise, 0.5).std(axis=0) == pytest.approx(np.array(SLOPES_NOISE) / 0.5, rel=0.02)


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_antisymmetry_of_parts(n: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    symmetric, skew = matrix + matrix.T, matrix - matrix.T
    assert antisymmetry(symmetric) == 0.0
    assert antisymmetry(skew) == pytest.approx(1.0)
    share = np.linalg.norm(skew) / np.hypot(np.linalg.norm(skew), np.linalg.norm(symmetric))
    assert antisymmetry(symmetric + skew) == pytest.approx(share)


def test_nothing_has_no_antisymmetry() -> None:
    assert antisymmetry(np.zeros((3, 3))) == 0.0


@given(st.floats(0.1, 2.0), st.floats(-1.0, 1.0))
def test_work_around_an_ellipse(axis: float, swirl: float) -> None:
    """Green: the work of F = swirl (-y, x) is twice the swirl times the area."""
    t = 2 * np.pi * np.arange(24) / 24
    place = np.stack([axis * np.cos(t), np.sin(t)], axis=1)
    along = 2 * np.pi * np.stack([-axis * np.sin(t), np.cos(t)], axis=1)
    central = -(place**3)  # of the potential (x⁴ + y⁴)/4
    turning = swirl * np.stack([-place[:, 1], place[:, 0]], axis=1)
    work, on_the_way = loop_work(central + turning, along)
    assert work == pytest.approx(2 * swirl * np.pi * axis, abs=1e-9)
    assert on_the_way >= abs(work) - 1e-12
