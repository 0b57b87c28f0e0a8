"""The pressure that moves the volume is the slope of the energy, however atoms are grouped and wrapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from batched_lj import BatchedLJ
from simulate.test_driver import _Plain, ace, argon, water

from mlipbench.core.dynamics import Replica, Schedule
from mlipbench.core.model import Float, Model
from mlipbench.simulate import integrate
from mlipbench.simulate.fallback import OneByOne, batch_of
from mlipbench.simulate.state import State, starting
from mlipbench.units import EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS

GROUPS: dict[str, Callable[[int], Any]] = {
    "atoms": lambda n: None,
    "molecules": lambda n: np.arange(n) // 3,
    "at random": lambda n: np.random.default_rng(1).integers(0, 4, n),
    "all together": lambda n: np.zeros(n, dtype=np.int64),
}
MODELS: dict[str, tuple[Callable[[], Any], Callable[[int], Atoms]]] = {
    "ace": (ace, water), "lj": (lambda: BatchedLJ(cutoff_A=5.3), argon),
}  # fmt: skip
STEP = 1e-5


def disordered(atoms: Atoms) -> Atoms:
    """The same with atoms shuffled, and lattice vectors added to some: groups are torn apart."""
    rng = np.random.default_rng(2)
    found = atoms[rng.permutation(len(atoms))]
    found.positions += rng.integers(-1, 2, size=found.positions.shape) @ found.cell.array
    skewed = np.array([[1.0, 0.1, 0.0], [0.0, 1.0, -0.05], [0.0, 0.0, 1.0]])
    found.set_cell(found.cell.array @ skewed, scale_atoms=True)
    return found


def pressure_and_slope(model: Model, atoms: Atoms, group: Any, kelvin: float) -> tuple[float, float]:
    """Pressure, and minus the slope of energy and motion as the volume is stretched, eV/Å^3."""
    replica = Replica(name="a", atoms=atoms, seed=0, temperature_K=kelvin, pressure_bar=1.0, group=group)
    batch, energies, pressure = batch_of(model, [atoms]), [], 0.0
    for change in (0.0, STEP, -STEP):
        state = starting([replica], Schedule(n_steps=0))
        integrate.stretch(state, np.array([1.0 + change]))
        state.take(batch.evaluate(state.positions, state.cells, with_virial=True))
        energies.append(float(state.energy[0] + state.kinetic_eV()[0]))
        pressure = float(state.pressure()[0]) if change == 0.0 else pressure
    return pressure, -(energies[1] - energies[2]) / (2.0 * STEP) / (3.0 * atoms.get_volume())


@pytest.mark.parametrize("kelvin", [0.0, 300.0])
@pytest.mark.parametrize("grouping", GROUPS)
@pytest.mark.parametrize("name", MODELS)
def test_the_pressure_is_the_slope_of_the_energy(name: str, grouping: str, kelvin: float) -> None:
    model, atoms = MODELS[name][0](), disordered(MODELS[name][1](3))
    pressure, slope = pressure_and_slope(model, atoms, GROUPS[grouping](len(atoms)), kelvin)
    assert pressure == pytest.approx(slope, rel=1e-5, abs=1e-8)


def virial_of_atoms(state: State) -> Float:
    """The part that stretches groups is left in."""
    return -np.trace(state.virial, axis1=1, axis2=2) / (3.0 * state.volume_A3())


def no_kinetic_factor(state: State) -> Float:
    """Motion in half, as if it were an energy."""
    real = REAL(state)
    means = state.group_means(state.velocities)
    squares = EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * state.group_mass_u[:, 0] @ (means**2).sum(axis=1)
    return real - 0.5 * squares / (3.0 * state.volume_A3())


REAL = State.pressure


@pytest.mark.parametrize("wrong", [virial_of_atoms, no_kinetic_factor])
def test_a_wrong_pressure_is_noticed(wrong: Callable[[State], Float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "pressure", wrong)
    pressure, slope = pressure_and_slope(ace(), water(3), GROUPS["molecules"](12), 300.0)
    assert pressure != pytest.approx(slope, rel=1e-2)


def test_stretching_keeps_what_is_within_a_group_and_volume_in_phase_space() -> None:
    atoms, group = water(1), GROUPS["molecules"](12)
    replica = Replica(name="a", atoms=atoms, seed=0, temperature_K=300.0, pressure_bar=1.0, group=group)
    state = starting([replica], Schedule(n_steps=0))
    centres, means, inner = (
        state.group_means(state.positions), state.group_means(state.velocities), state.positions.copy(),
    )  # fmt: skip
    inner -= centres[group]
    integrate.stretch(state, np.array([1.1]))
    np.testing.assert_allclose(state.group_means(state.positions), 1.1 * centres, atol=1e-12)
    np.testing.assert_allclose(state.group_means(state.velocities), means / 1.1, atol=1e-15)
    np.testing.assert_allclose(state.positions - state.group_means(state.positions)[group], inner, atol=1e-12)
    assert state.volume_A3()[0] == pytest.approx(1.1**3 * atoms.get_volume())


@pytest.mark.parametrize("periodic", [True, False])
def test_one_calculator_after_the_other_is_a_batch(periodic: bool) -> None:
    model, frames = ace(), [water(k, periodic=periodic) for k in range(3)]
    ours, theirs = model.batch(frames), batch_of(_Plain(model), frames)
    assert isinstance(theirs, OneByOne)
    rng, cells = np.random.default_rng(0), np.array([frame.cell.array for frame in frames])
    positions = np.concatenate([frame.positions for frame in frames])
    for kept in (None, np.array([0, 2])):
        if kept is not None:
            ours.keep(kept)
            theirs.keep(kept)
            positions, cells = np.concatenate([positions[:12], positions[24:]]), cells[kept]
        for _ in range(4):
            positions = positions + rng.normal(scale=0.02, size=positions.shape)
            cells = cells * 1.001
            one, other = (batch.evaluate(positions, cells, with_virial=periodic) for batch in (ours, theirs))
            np.testing.assert_allclose(one.energy, other.energy, atol=1e-10)
            np.testing.assert_allclose(one.forces, other.forces, atol=1e-10)
            if periodic:
                np.testing.assert_allclose(one.virial, other.virial, atol=1e-10)
                assert np.abs(one.virial).max() > 1e-3
            else:
                assert one.virial is None
                assert other.virial is None
