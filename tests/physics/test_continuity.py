"""A jump is found and measured; what is only steep is not taken for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.physics.continuity import (
    N_FITTED,
    SLOPE_SCATTER,
    VALUE_SCATTER,
    Breaks,
    Float,
    Signals,
    bracket,
    narrow,
    settled,
    size,
    suspects,
)

Function = Callable[[float], Float]
PLACES = np.linspace(1.0, 12.0, 161)


def found(function: Function, *, n_suspects: int = 2) -> Breaks:
    """Sample a function of one vector, and narrow down what looks odd."""

    def ask(curves: Sequence[int], places: Sequence[float]) -> list[Signals]:
        assert set(curves) == {0}
        return [(np.atleast_2d(function(place)),) for place in places]

    samples = np.array([np.atleast_2d(function(place)) for place in PLACES.tolist()])
    return narrow(ask, [bracket(0, 0, PLACES, k) for k in suspects(samples, n_suspects).tolist()])


def worst(breaks: Breaks) -> tuple[float, float, float]:
    """The largest jump of the value and of the slope, and where the former is."""
    value = settled(breaks.value_jump[:, 0], 2 * VALUE_SCATTER * breaks.scatter)[0]
    slope = settled(breaks.slope_jump[:, 0], 2 * SLOPE_SCATTER * breaks.scatter / breaks.width)[0]
    return float(value.max()), float(slope.max()), float(breaks.place[np.argmax(value)])


def well(x: float) -> float:
    """A steep wall, a well and ripples."""
    return 0.5 * ((2.0 / x) ** 6 - (2.0 / x) ** 3) + 0.3 * np.sin(2.3 * x)


def broken_at(place: float, *, value: float = 0.0, slope: float = 0.0) -> Function:
    return lambda x: np.array([well(x) + (value + slope * (x - place)) * (x > place), 0.3 * x, 0.0])


def test_step() -> None:
    breaks = found(lambda x: np.array([float(x > 7.123)]))
    value, _, place = worst(breaks)
    assert value == pytest.approx(1.0, abs=1e-9)
    assert place == pytest.approx(7.123, abs=1e-5)
    assert (breaks.width[:, -1] < 1e-5).all()


@settings(max_examples=60, deadline=None)
@given(place=st.floats(2.5, 11.0), value=st.floats(1e-3, 1.0), sign=st.sampled_from([-1, 1]))
def test_jump_of_the_value(place: float, value: float, sign: int) -> None:
    measured, _, where = worst(found(broken_at(place, value=sign * value)))
    assert measured == pytest.approx(value, rel=1e-3)
    assert where == pytest.approx(place, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(2.5, 11.0), slope=st.floats(1e-2, 10.0), sign=st.sampled_from([-1, 1]))
def test_jump_of_the_slope(place: float, slope: float, sign: int) -> None:
    value, measured, _ = worst(found(broken_at(place, slope=sign * slope)))
    assert measured == pytest.approx(slope, rel=1e-3)
    assert value < 1e-5 * slope


def test_smooth_function_has_none() -> None:
    value, slope, _ = worst(found(lambda x: np.array([well(x)])))
    assert value < 1e-10
    assert slope < 1e-6


@pytest.mark.parametrize("n", [1, 3])
def test_steep_wall_does_not_hide_a_small_jump(n: int) -> None:
    """A wall of 1000 at one end, a jump of 0.001 at the other."""
    value, _, _ = worst(found(lambda x: np.array([1000.0 / x**6 + 1e-3 * (x > 9.0)]), n_suspects=n))
    if n > 1:  # the wall is the first suspect
        assert value == pytest.approx(1e-3, rel=1e-6)
    else:
        assert value < 1e-9


def test_steep_but_smooth_step_vanishes() -> None:
    """Sixth differences are huge; the narrower the bracket, the smaller what is left."""
    breaks = found(lambda x: np.array([np.tanh((x - 6.0) / 0.02)]), n_suspects=1)
    assert np.array(breaks.value_jump[0, 0])[:1] > 1e-6
    assert worst(breaks)[0] < 1e-9
    assert worst(breaks)[1] < 1e-4


def test_teeth_wide_bracket_takes_steep_for_a_jump() -> None:
    """With one width only, the steep step would pass for a jump of the slope."""
    breaks = found(lambda x: np.array([np.tanh((x - 6.0) / 0.02)]), n_suspects=1)
    assert breaks.slope_jump[0, 0, 0] > 0.01


def test_scatter_is_that_of_single_values() -> None:
    rng = np.random.default_rng(0)
    breaks = found(lambda x: np.array([1e-3 * rng.normal()]), n_suspects=8)
    assert breaks.scatter.mean() == pytest.approx(1e-3, rel=0.3)
    jumps = np.array(breaks.value_jump).ravel()
    # Brackets close in on large scatter, so that their two ends are not quite random.
    assert np.sqrt((jumps**2).mean()) == pytest.approx(VALUE_SCATTER * 1e-3, rel=0.4)


def test_factors_of_the_scatter() -> None:
    """Fit parabolas to noise on either side with another routine."""
    rng = np.random.default_rng(1)
    x = np.arange(N_FITTED) + 0.5
    right, left = (np.polynomial.polynomial.polyfit(x, rng.normal(size=(N_FITTED, 20_000)), 2) for _ in range(2))
    assert (right[0] - left[0]).std() == pytest.approx(VALUE_SCATTER, rel=0.03)
    assert (right[1] + left[1]).std() == pytest.approx(SLOPE_SCATTER, rel=0.03)


def test_vectors_count_by_the_longest() -> None:
    """Two vectors jump, by 5 and by 1."""
    step = np.array([[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]])
    breaks = found(lambda x: step * (x > 4.0))
    assert worst(breaks)[0] == pytest.approx(5.0)
    assert size(step) == 5.0


def test_signals_of_one_curve_are_measured_together() -> None:
    """The first signal leads to the place where the second breaks too."""

    def ask(curves: Sequence[int], places: Sequence[float]) -> list[Signals]:
        steps = [float(place > 5.5 + curve) for curve, place in zip(curves, places, strict=True)]
        return [(np.full((1, 1), 2.0 * step), np.full((1, 3), -step)) for step in steps]

    breaks = narrow(ask, [bracket(curve, 0, PLACES, int(np.searchsorted(PLACES, 5.5 + curve))) for curve in (0, 3)])
    np.testing.assert_allclose(breaks.place, [5.5, 8.5], atol=1e-5)
    np.testing.assert_allclose(breaks.value_jump[:, :, -1], [[2.0, 3**0.5]] * 2)


def test_few_samples_give_few_suspects() -> None:
    assert len(suspects(np.random.default_rng(0).normal(size=(12, 1, 1)), 5)) <= 2
    assert suspects(np.zeros((30, 1, 1)), 2).shape == (2,)
