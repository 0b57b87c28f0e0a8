"""A curve is recovered from its own energies, and the distance of two curves is the integral it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.errors import BadInput
from mlipbench.physics.eos import Curve, Fit, delta, energy, fit, pressure
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

curves = st.builds(
    Curve,
    volume_A3=st.floats(5.0, 120.0),
    modulus_eV_per_A3=st.floats(0.003, 3.0),
    derivative=st.floats(-0.5, 15.0),
    energy_eV=st.floats(-2000.0, 10.0),
)


def measured(volume_A3: float, modulus_GPa: float, derivative: float) -> Curve:
    return Curve(
        volume_A3=volume_A3,
        modulus_eV_per_A3=modulus_GPa / GPA_PER_EV_PER_CUBIC_ANGSTROM,
        derivative=derivative,
    )


def around(curve: Curve, *, strain: float = 0.06, n: int = 7) -> np.ndarray:
    return curve.volume_A3 * np.linspace(1.0 - strain, 1.0 + strain, n)


def check_fit(fitted: Callable[[np.ndarray, np.ndarray], Fit], curve: Curve, volume: np.ndarray) -> None:
    found = fitted(volume, energy(curve, volume))
    assert found.curve is not None
    assert found.curve.volume_A3 == pytest.approx(curve.volume_A3, rel=1e-6)
    assert found.curve.modulus_eV_per_A3 == pytest.approx(curve.modulus_eV_per_A3, rel=1e-4)
    assert found.curve.derivative == pytest.approx(curve.derivative, abs=1e-2)
    assert found.curve.energy_eV == pytest.approx(curve.energy_eV, abs=1e-8)
    assert found.residual_eV < 1e-9


@settings(deadline=None, max_examples=50)
@given(curve=curves, shift=st.floats(-0.04, 0.04), n=st.integers(5, 15))
def test_a_curve_is_recovered_from_its_own_energies(curve: Curve, shift: float, n: int) -> None:
    volume = around(curve, n=n) * (1.0 + shift)
    quiet = replace(curve, energy_eV=min(curve.energy_eV, 0.0) / 100.0)
    check_fit(fit, quiet, volume)
    assert fit(volume, energy(quiet, volume)).is_inside


def without_the_cube(volume: np.ndarray, energies: np.ndarray) -> Fit:
    """A parabola in the volume: the harmonic crystal."""
    c = np.polyfit(volume, energies, 2)
    lowest = -c[1] / (2.0 * c[0])
    curve = Curve(
        volume_A3=lowest, modulus_eV_per_A3=2.0 * c[0] * lowest, derivative=4.0, energy_eV=np.polyval(c, lowest)
    )
    return Fit(curve=curve, is_inside=True, residual_eV=0.0, scatter_eV=1.0, falls_inward=False)


def in_the_wrong_power(volume: np.ndarray, energies: np.ndarray) -> Fit:
    """A polynomial in V^(-1/3)."""
    return fit(np.sqrt(volume), energies)


def with_another_factor(volume: np.ndarray, energies: np.ndarray) -> Fit:
    found = fit(volume, energies)
    assert found.curve is not None
    wrong = replace(found.curve, modulus_eV_per_A3=found.curve.modulus_eV_per_A3 * 9.0 / 8.0)
    return replace(found, curve=wrong)


@pytest.mark.parametrize("wrong", [without_the_cube, in_the_wrong_power, with_another_factor])
def test_the_check_of_fits_has_teeth(wrong: Callable[[np.ndarray, np.ndarray], Fit]) -> None:
    curve = measured(20.453, 88.545, 4.31)
    check_fit(fit, curve, around(curve))
    with pytest.raises(AssertionError):
        check_fit(wrong, curve, around(curve))


@settings(deadline=None, max_examples=50)
@given(curve=curves)
def test_the_parameters_are_what_they_are_called(curve: Curve) -> None:
    """Slopes of the curve itself: P = −dE/dV, B0 = V d²E/dV² and B1 = dB/dP at the minimum."""
    v0, step = curve.volume_A3, 1e-3 * curve.volume_A3
    flat = replace(curve, energy_eV=0.0)
    v = v0 + step * np.arange(-2, 3)
    slope = (energy(flat, v[2:]) - energy(flat, v[:-2])) / (2.0 * step)
    scale = curve.modulus_eV_per_A3
    np.testing.assert_allclose(pressure(curve, v[1:-1]), -slope, atol=2e-4 * scale)
    assert pressure(curve, np.array(v0)) == pytest.approx(0.0, abs=1e-12 * scale)
    fine = v0 * (1.0 + 1e-4 * np.arange(-2, 3))
    bulk = -fine[1:-1] * (pressure(curve, fine[2:]) - pressure(curve, fine[:-2])) / (fine[2:] - fine[:-2])
    assert bulk[1] == pytest.approx(scale, rel=1e-5)
    change = pressure(curve, fine[1:-1])
    assert (bulk[2] - bulk[0]) / (change[2] - change[0]) == pytest.approx(curve.derivative, abs=1e-2)


def test_no_minimum_is_said_so() -> None:
    volume = np.linspace(18.0, 22.0, 9)
    assert not fit(volume, -((volume - 20.0) ** 2)).is_inside
    u = (20.0 / volume) ** (2 / 3) - 1.0
    assert fit(volume, u + 5.0 * u**3).curve is None
    assert fit(volume, -u - 5.0 * u**3).curve is None
    for falling, inward in ((volume, True), (-volume, False), (-1.0 / volume, True)):
        found = fit(volume, falling)
        assert not found.is_inside
        assert found.falls_inward is inward


def test_a_minimum_outside_is_found_but_is_not_inside() -> None:
    curve = measured(20.453, 88.545, 4.31)
    for first, last in ((0.80, 0.95), (1.05, 1.25)):
        volume = curve.volume_A3 * np.linspace(first, last, 7)
        found = fit(volume, energy(curve, volume))
        assert found.curve is not None
        assert found.curve.volume_A3 == pytest.approx(curve.volume_A3, rel=1e-4)
        assert not found.is_inside


@settings(deadline=None, max_examples=50)
@given(curve=curves, away=st.floats(0.75, 1.35))
def test_a_minimum_is_found_from_afar(curve: Curve, away: float) -> None:
    """Even from beyond the maximum that the curve of a crystal that softens fast has at large volumes."""
    flat = replace(curve, energy_eV=0.0)
    volume = away * around(flat)
    found = fit(volume, energy(flat, volume))
    assert found.curve is not None
    assert found.curve.volume_A3 == pytest.approx(curve.volume_A3, rel=1e-3)
    assert found.is_inside == (volume[0] <= found.curve.volume_A3 <= volume[-1])


def test_energies_that_are_no_curve_leave_a_residual() -> None:
    curve = measured(20.453, 88.545, 4.31)
    volume = around(curve, n=13)
    noise = 0.02 * np.random.default_rng(0).normal(size=13)
    found = fit(volume, energy(curve, volume) + noise)
    assert found.residual_eV == pytest.approx(0.02, rel=0.5)
    assert found.scatter_eV == pytest.approx(np.std(energy(curve, volume) + noise))


@pytest.mark.parametrize("volume", [[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 3.0, 4.0], [-1.0, 1.0, 2.0, 3.0, 4.0]])
def test_too_few_volumes_are_refused(volume: list[float]) -> None:
    with pytest.raises(BadInput, match="5 different positive volumes or more"):
        fit(np.array(volume), np.zeros(len(volume)))


def closed_form(one: Curve, other: Curve, strain: float) -> float:
    """The integral of the polynomial in x = (V/middle)^(-2/3), term by term; needs more digits than it gives."""
    middle = 0.5 * (one.volume_A3 + other.volume_A3)
    d = np.zeros(4, dtype=np.longdouble)
    for sign, curve in ((1, one), (-1, other)):
        a = np.longdouble(curve.volume_A3 / middle) ** (np.longdouble(2) / 3)
        bend = curve.derivative - 4.0
        # 2 w² + (B1 − 4) w³ with w = a x − 1
        terms = np.array([2 - bend, (3 * bend - 4) * a, (2 - 3 * bend) * a**2, bend * a**3], dtype=np.longdouble)
        d += sign * np.longdouble(9) / 16 * curve.modulus_eV_per_A3 * curve.volume_A3 * terms
    power = 1 - 2 * np.arange(7, dtype=np.longdouble) / 3
    ends = [np.longdouble(1 + sign * strain) ** power for sign in (1, -1)]
    return float(np.sqrt(np.maximum(np.convolve(d, d) @ ((ends[0] - ends[1]) / power), 0) / (2 * strain)))


def check_delta(distance: Callable[..., float], one: Curve, other: Curve, strain: float = 0.06) -> None:
    expected = closed_form(one, other, strain)
    scale = max(one.modulus_eV_per_A3 * one.volume_A3, other.modulus_eV_per_A3 * other.volume_A3)
    assert distance(one, other, strain=strain) == pytest.approx(expected, rel=1e-5, abs=1e-8 * scale)


@settings(deadline=None, max_examples=100)
@given(one=curves, other=curves, near=st.floats(0.9, 1.1), strain=st.floats(0.01, 0.1))
def test_delta_is_its_integral(one: Curve, other: Curve, near: float, strain: float) -> None:
    other = replace(other, volume_A3=one.volume_A3 * near)
    check_delta(delta, one, other, strain)
    assert delta(one, other) == pytest.approx(delta(other, one), rel=1e-9)
    assert delta(one, replace(one, energy_eV=5.0)) == 0.0


def with_the_zeros_of_energy(one: Curve, other: Curve, *, strain: float) -> float:
    return delta(one, other, strain=strain) + abs(one.energy_eV - other.energy_eV)


def around_the_reference(one: Curve, other: Curve, *, strain: float) -> float:
    """The asymmetric range of earlier versions."""
    volume = other.volume_A3 * np.linspace(1.0 - strain, 1.0 + strain, 1001)
    flat = [energy(replace(curve, energy_eV=0.0), volume) for curve in (one, other)]
    return float(np.sqrt(np.mean((flat[0] - flat[1]) ** 2)))


def mean_instead_of_root(one: Curve, other: Curve, *, strain: float) -> float:
    return delta(one, other, strain=strain) ** 2


@pytest.mark.parametrize("wrong", [with_the_zeros_of_energy, around_the_reference, mean_instead_of_root])
def test_the_check_of_delta_has_teeth(wrong: Callable[..., float]) -> None:
    one, other = measured(29.3888, 47.256, 3.443), replace(measured(29.0544, 46.384, 2.94), energy_eV=-1.0)
    check_delta(delta, one, other)
    with pytest.raises(AssertionError):
        check_delta(wrong, one, other)


@pytest.mark.parametrize(
    ("vasp", "wien2k", "meV"),
    [
        ((29.3888, 47.256, 3.443), (29.0544, 46.384, 2.94), 3.484),  # Lu
        ((17.721235, 0.922, 7.423), (17.7708, 0.847, 7.71), 0.010),  # He
    ],
)
def test_delta_of_published_curves(
    vasp: tuple[float, float, float], wien2k: tuple[float, float, float], meV: float
) -> None:
    """VASP 5.4 against WIEN2k, with what version 3.0 of the authors' program calcDelta.py gives for them."""
    assert MEV_PER_EV * delta(measured(*vasp), measured(*wien2k)) == pytest.approx(meV, abs=5e-4)


def test_delta_is_that_of_ase_up_to_its_grid() -> None:
    from ase.utils.deltacodesdft import delta as midpoint_rule

    one, other = measured(20.45, 88.5, 4.3), measured(20.9, 80.0, 4.6)
    theirs = midpoint_rule(
        one.volume_A3, one.modulus_eV_per_A3, one.derivative,
        other.volume_A3, other.modulus_eV_per_A3, other.derivative,
    )  # fmt: skip
    assert delta(one, other) == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("shift", [1e-4, 1e-7, 1e-10])
def test_small_differences_keep_their_digits(shift: float) -> None:
    """Curves whose V0 differ by the share ε are apart by ε V ∂E/∂V0, whose mean square is that of a derivative."""
    one = measured(20.453, 88.545, 4.31)
    other = replace(one, volume_A3=one.volume_A3 * (1.0 + shift))
    coarse = replace(one, volume_A3=one.volume_A3 * 1.0001)
    assert delta(one, other) / shift == pytest.approx(closed_form(one, coarse, 0.06) / 1e-4, rel=1e-3)
