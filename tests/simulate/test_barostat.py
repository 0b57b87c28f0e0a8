"""A perfect gas at constant pressure has a volume distribution known on paper; wrong barostats have another one.

With G things that move on their own the volume has the weight V^G exp(-PV/kT): a gamma distribution of G + 1. Bonds
take their atoms' freedom away, whatever the volume moves as a whole. Where the total momentum rests, one G is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from scipy import stats
from simulate.toys import Bound, Field, deviation, gas, simulated

from mlipbench.core.dynamics import Schedule
from mlipbench.core.model import Float
from mlipbench.simulate import driver, integrate
from mlipbench.simulate.noise import Noise
from mlipbench.simulate.state import State
from mlipbench.units import BAR_PER_EV_PER_CUBIC_ANGSTROM, BOLTZMANN_EV_PER_K

HEAT_EV = BOLTZMANN_EV_PER_K * 300.0
PRESSURE_BAR = 500.0
SCALE_A3 = HEAT_EV * BAR_PER_EV_PER_CUBIC_ANGSTROM / PRESSURE_BAR  # kT/P
SIGMAS, UNLIKELY = 4.0, 1e-3
N_REPLICAS = 100


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume five times smaller ends a run, but in a gas of six it belongs to the distribution."""
    monkeypatch.setattr(driver, "LARGEST_CHANGE", 1e3)


def frames(n: int) -> list[Atoms]:
    """Gases of n atoms, at the mean volume of n."""
    return [gas(n, seed=k, edge_A=(n * SCALE_A3) ** (1 / 3)) for k in range(N_REPLICAS)]


def pairs(n: int) -> list[Atoms]:
    """Gases of n pairs, next to each other in the list of atoms."""
    made = []
    for one in frames(n):
        both = one.repeat(1)[np.repeat(np.arange(n), 2)]
        both.positions += np.random.default_rng(len(made)).normal(scale=0.2, size=(2 * n, 3))
        made.append(both)
    return made


def volumes(model: Any, starts: list[Atoms], *, group: Any = None, thermostat: str = "langevin") -> Float:
    """Volumes of each replica over kT/P, shape (n_replicas, n_samples), after five relaxation times (2 ps)."""
    plan = Schedule(
        n_steps=1600, thermostat=thermostat, friction_per_ps=5.0, barostat_ps=0.4, compressibility_per_bar=2e-3,
        barostat_every=2, sample_every=20, frame_every=1600, samples_pressure=False,
    )  # fmt: skip
    tracks = simulated(model, starts, plan, timestep_fs=5.0, pressure_bar=PRESSURE_BAR, group=group)
    assert not any(track.failure for track in tracks)
    return np.array([track.volume_A3[20:] for track in tracks]) / SCALE_A3


def check(found: Float, moves: int) -> None:
    """Mean and variance of a gamma distribution, and all of it a few relaxation times apart."""
    shape = moves + 1
    assert deviation(found.mean(axis=1), shape) < SIGMAS
    assert deviation(((found - shape) ** 2).mean(axis=1), shape) < SIGMAS
    far = found[:, ::30].ravel()  # 7 relaxation times
    assert stats.kstest(far, stats.gamma(shape).cdf).pvalue > UNLIKELY


def refused(found: Float, moves: int) -> bool:
    try:
        check(found, moves)
    except AssertionError:
        return True
    return False


TWO = np.repeat(np.arange(6), 2)
CASES: dict[str, tuple[Any, Callable[[int], list[Atoms]], Any, str, int]] = {
    "atoms": (Field(), frames, None, "langevin", 6),
    "pairs moved as wholes": (Bound(), pairs, TWO, "langevin", 6),
    "pairs moved atom by atom": (Bound(), pairs, None, "langevin", 6),
    "any grouping": (Field(), pairs, np.arange(12) % 6, "langevin", 6),
    "atoms, momentum at rest": (Field(), frames, None, "rescaling", 5),
}


@pytest.mark.parametrize("name", CASES)
def test_the_volume_of_a_perfect_gas_has_its_distribution(name: str) -> None:
    model, made, group, thermostat, moves = CASES[name]
    found = volumes(model, made(6), group=group, thermostat=thermostat)
    check(found, moves)
    assert refused(found, moves + 1)
    assert refused(found, moves - 1)


def like(*, drift: float = 0.25, noise_share: float = 0.5, half: float = 0.5) -> Callable[..., None]:
    """The barostat written once more, with its numbers in the open."""

    def breathe(state: State, *, barostat_ps: float, every: int, noise: Noise) -> None:
        root, heat = np.sqrt(state.volume_A3()), BOLTZMANN_EV_PER_K * state.temperature_K
        weight = state.compressibility_A3_eV / barostat_ps * 1e-3 * every * state.timestep_fs
        step = weight * (half * root * (state.pressure() - state.pressure_eV_A3) + drift * heat / root)
        step += np.sqrt(noise_share * heat * weight) * noise.barostat(state.step)[:, 0]
        integrate.stretch(state, np.maximum(1.0 + step / root, 0.5) ** (2.0 / 3.0))

    return breathe


def test_the_barostat_written_once_more_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = volumes(Field(), frames(6)[:3])
    monkeypatch.setattr(integrate, "breathe", like())
    np.testing.assert_allclose(volumes(Field(), frames(6)[:3]), found, rtol=1e-9)


WRONG = {
    "kT/4L left out": like(drift=0.0),
    "kT/4L twice": like(drift=0.5),
    "noise of half the power": like(noise_share=0.25),
    "the volume's equation, not its root's": like(half=1.0),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_barostat_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrate, "breathe", WRONG[name])
    assert refused(volumes(Field(), frames(6)), 6)


def atomic_pressure(state: State) -> Float:
    """Motion of atoms, where that of groups belongs."""
    return (2.0 * state.kinetic_eV() - np.trace(state.virial, axis1=1, axis2=2)) / (3.0 * state.volume_A3())


def test_a_pressure_of_atoms_that_moves_molecules_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of molecules without bonds it would be the pressure of twice as many."""
    monkeypatch.setattr(State, "pressure", atomic_pressure)
    assert refused(volumes(Field(), pairs(6), group=TWO), 6)


PV = {
    "atoms": (Field(), frames, None, "langevin", 6),
    "atoms, momentum at rest": (Field(), frames, None, "rescaling", 5),
    "pairs, by atoms and bonds": (Bound(), pairs, None, "langevin", 6),
    "pairs as wholes": (Bound(), pairs, TWO, "langevin", 6),
}


@pytest.mark.parametrize("name", PV)
def test_pv_is_nkt(name: str) -> None:
    """At constant volume. Rescaling alone would not let bonds and molecules share their energy: there is no chaos."""
    model, made, group, thermostat, moves = PV[name]
    plan = Schedule(n_steps=1500, thermostat=thermostat, friction_per_ps=10.0, thermostat_ps=0.1, frame_every=1500)
    tracks = simulated(model, made(6)[:60], plan, timestep_fs=5.0, group=group)
    found = np.array([track.pressure_bar[30:].mean() * track.volume_A3[0] for track in tracks])
    wanted = HEAT_EV * BAR_PER_EV_PER_CUBIC_ANGSTROM
    assert deviation(found, moves * wanted) < SIGMAS
    assert deviation(found, (moves + 0.5) * wanted) > SIGMAS
