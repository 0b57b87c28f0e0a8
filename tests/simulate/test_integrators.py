"""Steps in time: their order, their symmetry, ASE's of the same name, and what friction leaves of an oscillator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.md.bussi import Bussi
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from batched_lj import BatchedLJ
from scipy import stats
from simulate.toys import Field, deviation, gas, halted, simulated

from mlipbench.core.dynamics import Replica, Schedule
from mlipbench.core.model import Float
from mlipbench.simulate import integrate, state
from mlipbench.simulate.noise import Noise
from mlipbench.simulate.state import State
from mlipbench.units import BOLTZMANN_EV_PER_K, EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS

SIGMAS, UNLIKELY = 4.0, 1e-3
HEAT_EV = BOLTZMANN_EV_PER_K * 300.0
NVE = Schedule(n_steps=0, thermostat="none", samples_pressure=False)
ARGON = BatchedLJ(is_shifted=True)
FS = 1.0 / np.sqrt(EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS)  # of CODATA 2018; ASE's fs is that of 2014, 3e-9 apart


def crystal(seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Ar", cubic=True, a=5.4).repeat(2)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    atoms.set_momenta(np.sqrt(0.007 * atoms.get_masses()[:, None]) * rng.normal(size=atoms.positions.shape))  # 80 K
    return atoms


def replica(atoms: Atoms, **more: Any) -> Replica:
    return Replica(**{"name": "a", "atoms": atoms, "seed": 0, "temperature_K": 40.0, "timestep_fs": 4.0, **more})


class Theirs(Calculator):
    """The same model as ASE asks for it."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        said = ARGON.predict([self.atoms])
        self.results = {"energy": float(said.energy[0]), "forces": said.forces}


def half_kicks(first: float, second: float) -> Callable[[State, float], None]:
    """Kicks before and after the drift, in other shares than one half."""
    real, shares = integrate.kick, [first, second]

    def kick(state: State, share: float) -> None:
        shares.append(shares.pop(0))
        real(state, shares[-1])

    return kick


def test_velocity_verlet_is_ases(tmp_path: Path) -> None:
    start = crystal()
    ours = halted(ARGON, [replica(start)], NVE, tmp_path, after=100)

    def theirs(step_fs: float) -> Atoms:
        atoms = start.copy()
        atoms.set_momenta(atoms.get_momenta() * fs / FS)
        atoms.calc = Theirs()
        VelocityVerlet(atoms, step_fs * FS).run(100)
        return atoms

    atoms = theirs(4.0)
    assert np.abs(ours["positions"] - atoms.positions).max() < 1e-9
    assert np.abs(ours["velocities"] - atoms.get_velocities() * FS).max() < 1e-11
    assert np.abs(ours["positions"] - theirs(4.0 * (1.0 + 1e-8)).positions).max() > 1e-9  # and so little would show


def way_home_A(folder: Path) -> float:
    """Distance from the start after 50 steps, and 50 back."""
    start = crystal()
    there = halted(ARGON, [replica(start)], NVE, folder / "there", after=50)
    back = start.copy()
    back.positions = there["positions"]
    back.set_momenta(-there["velocities"] / fs * back.get_masses()[:, None])
    home = halted(ARGON, [replica(back)], NVE, folder / "back", after=50)
    assert np.abs(there["positions"] - start.positions).max() > 0.3
    return float(np.abs(home["positions"] - start.positions).max())


def test_motion_runs_backwards(tmp_path: Path) -> None:
    assert way_home_A(tmp_path) < 1e-10


def test_kicks_at_the_wrong_time_do_not_run_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrate, "kick", half_kicks(1.0, 0.0))
    assert way_home_A(tmp_path) > 1e-4


def order_of_energy_errors() -> tuple[float, float]:
    """Slope of log fluctuation against log time step over five starts, and its standard error."""
    steps = np.array([4.0, 8.0, 16.0])
    spreads = []
    for step in steps:
        plan = Schedule(n_steps=round(1600 / step), thermostat="none", sample_every=1, samples_pressure=False)
        tracks = simulated(ARGON, [crystal(k) for k in range(5)], plan, timestep_fs=step)
        spreads.append([(track.potential_eV + track.kinetic_eV).std() for track in tracks])
    slopes = np.polyfit(np.log(steps), np.log(spreads), 1)[0]
    return float(slopes.mean()), float(slopes.std(ddof=1) / np.sqrt(5))


# The next order raises the fluctuation by (ω dt)²/4 at most; the fastest waves of solid argon have 2 THz.
NEXT_ORDER = (2.0 * np.pi * 2e-3 * 16.0) ** 2 / 4.0


def test_energy_fluctuates_with_the_square_of_the_step() -> None:
    slope, error = order_of_energy_errors()
    assert abs(slope - 2.0) < SIGMAS * error + NEXT_ORDER
    assert error < 0.05


def test_kicks_at_the_wrong_time_make_it_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrate, "kick", half_kicks(1.0, 0.0))
    slope, error = order_of_energy_errors()
    assert abs(slope - 2.0) > SIGMAS * error + NEXT_ORDER
    assert slope == pytest.approx(1.0, abs=0.1)


STIFFNESS_EV_A2, STEP_FS = 8.0, 3.6
PHASE = STEP_FS * np.sqrt(
    STIFFNESS_EV_A2 / (1.008 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS)
)  # ω dt, half of what lasts


def oscillations() -> tuple[Float, Float]:
    """⟨x²⟩ of 2400 independent oscillators over kT/k, and m⟨v²⟩ over kT."""
    start = Atoms("H50", gas(50).positions, cell=[50.0] * 3, pbc=True)
    plan = Schedule(n_steps=600, friction_per_ps=50.0, frame_every=5, sample_every=600, keeps_velocities=True)
    tracks = simulated(Field(STIFFNESS_EV_A2), [start] * 16, plan, timestep_fs=STEP_FS)
    assert not any(track.failure for track in tracks)
    away = np.stack([track.positions[20:].astype(float) - start.positions for track in tracks])
    speed = np.stack([track.velocities[20:].astype(float) for track in tracks])
    heaviness = 1.008 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS
    return (away**2).mean(axis=1) * STIFFNESS_EV_A2 / HEAT_EV, (speed**2).mean(axis=1) * heaviness / HEAT_EV


def test_oscillators_spread_as_they_should_at_the_largest_steps() -> None:
    """BAOAB's ⟨x²⟩ of an oscillator is exact; its ⟨v²⟩ is too small by (ω dt)²/4."""
    assert pytest.approx(1.0, abs=0.01) == PHASE
    spread, warmth = oscillations()
    assert deviation(spread, 1.0) < SIGMAS
    assert deviation(warmth, 1.0 - PHASE**2 / 4.0) < SIGMAS
    assert deviation(warmth, 1.0) > SIGMAS


def whole_drifts() -> Callable[[State, float], None]:
    """Drift first and rub then, which is no longer symmetric."""
    real, shares = integrate.drift, [1.0, 0.0]

    def drift(state: State, share: float) -> None:
        shares.append(shares.pop(0))
        real(state, shares[-1])

    return drift


def short_noise(state: State, friction_per_ps: float, noise: Noise) -> None:
    """1 - c where 1 - c² belongs."""
    kept = np.exp(-1e-3 * friction_per_ps * state.timestep_fs)
    heat = (BOLTZMANN_EV_PER_K * state.temperature_K * (1.0 - kept))[state.owner, None]
    width = np.sqrt(heat / (state.mass_u * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS))
    state.velocities = kept[state.owner, None] * state.velocities + width * noise.langevin(state.step)


def frozen_noise(state: State, friction_per_ps: float, noise: Noise) -> None:
    """The mass left out of the noise."""
    kept = np.exp(-1e-3 * friction_per_ps * state.timestep_fs)
    heat = (BOLTZMANN_EV_PER_K * state.temperature_K * (1.0 - kept**2))[state.owner, None]
    width = np.sqrt(heat / (1.1 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS))
    state.velocities = kept[state.owner, None] * state.velocities + width * noise.langevin(state.step)


WRONG = {
    "Boltzmann's constant twice": ("BOLTZMANN_EV_PER_K", lambda: 2.0 * BOLTZMANN_EV_PER_K),
    "drifts not in halves": ("drift", whole_drifts),
    "kicks not in halves": ("kick", lambda: half_kicks(1.0, 0.0)),
    "noise too weak": ("rub", lambda: short_noise),
    "noise of another mass": ("rub", lambda: frozen_noise),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_steps_spread_otherwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what, made = WRONG[name]
    monkeypatch.setattr(integrate, what, made())
    spread, warmth = oscillations()
    assert max(deviation(spread, 1.0), deviation(warmth, 1.0 - PHASE**2 / 4.0)) > SIGMAS


def rescaled(thermostat: str = "rescaling") -> Float:
    """2K/kT of gases of twelve atoms, shape (n_replicas, n_samples)."""
    plan = Schedule(n_steps=900, thermostat=thermostat, friction_per_ps=10.0, thermostat_ps=0.05, sample_every=10)
    tracks = simulated(Field(), [gas(12, seed=k) for k in range(60)], plan)
    return 2.0 * np.array([track.kinetic_eV[20:] for track in tracks]) / HEAT_EV


def check_kinetic(found: Float, freedom: int) -> None:
    """Chi-square: mean, variance, and all of it ten relaxation times apart."""
    assert deviation(found.mean(axis=1), freedom) < SIGMAS
    assert deviation(((found - freedom) ** 2).mean(axis=1), 2 * freedom) < SIGMAS
    assert stats.kstest(found[:, ::50].ravel(), stats.chi2(freedom).cdf).pvalue > UNLIKELY


@pytest.mark.parametrize(("thermostat", "freedom"), [("langevin", 36), ("rescaling", 33)])
def test_kinetic_energy_has_its_distribution(thermostat: str, freedom: int) -> None:
    check_kinetic(rescaled(thermostat), freedom)


def without(what: str) -> Callable[..., None]:
    """Stochastic velocity rescaling with a term missing."""

    def rescale(state: State, relaxation_ps: float, noise: Noise) -> None:
        kinetic = state.kinetic_eV()
        kept = np.exp(-1e-3 * state.timestep_fs / relaxation_ps)
        ratio = 0.5 * BOLTZMANN_EV_PER_K * state.temperature_K / kinetic * (1.0 - kept)
        first, others = noise.rescaling(state.step).T
        square = kept + ratio * (first**2 + others) + (what != "cross") * 2.0 * first * np.sqrt(kept * ratio)
        if what == "noise":  # what is left is Berendsen's thermostat
            square = kept + ratio * state.freedom
        state.velocities *= np.sqrt(square)[state.owner, None]

    return rescale


def test_the_rescaling_written_once_more_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rescaled()
    monkeypatch.setattr(integrate, "rescale", without(""))
    np.testing.assert_allclose(rescaled(), found, rtol=1e-9)


WRONG_RESCALING = {
    "no cross term": (integrate, "rescale", without("cross")),
    "no noise": (integrate, "rescale", without("noise")),
    "Boltzmann's constant twice": (integrate, "BOLTZMANN_EV_PER_K", 2.0 * BOLTZMANN_EV_PER_K),
    "momentum forgotten": (state, "_freedom", lambda replica, *, rests: 3.0 * len(replica.atoms)),
}


@pytest.mark.parametrize("name", WRONG_RESCALING)
def test_a_wrong_rescaling_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*WRONG_RESCALING[name])
    with pytest.raises(AssertionError):
        check_kinetic(rescaled(), 33)


def test_one_atom_alone_keeps_all_its_motion() -> None:
    plan = Schedule(n_steps=600, thermostat="rescaling", thermostat_ps=0.05, sample_every=10)
    tracks = simulated(Field(), [gas(1, seed=k) for k in range(100)], plan)
    kinetic = np.array([track.kinetic_eV[20:].mean() for track in tracks])
    assert deviation(kinetic, 1.5 * HEAT_EV) < SIGMAS
    assert deviation(kinetic, 0.5 * HEAT_EV) > SIGMAS


def test_rescaling_is_ases() -> None:
    """Kinetic and potential energy of warm argon, ours and from Bussi's thermostat in ASE."""
    n, starts = 32, [crystal(k) for k in range(5)]
    for start in starts:
        start.set_momenta(start.get_momenta() - start.get_momenta().mean(axis=0))
    plan = Schedule(n_steps=600, thermostat="rescaling", thermostat_ps=0.1, sample_every=10, samples_pressure=False)
    tracks = simulated(ARGON, starts, plan, timestep_fs=8.0, temperature_K=40.0)
    ours = np.array([(t.kinetic_eV[20:].mean(), t.potential_eV[20:].mean()) for t in tracks])
    theirs = []
    for k, start in enumerate(starts):
        atoms, kept = start.copy(), []
        atoms.calc = Theirs()
        # ASE counts the momentum's three degrees of freedom too, so it is asked for less.
        move = Bussi(atoms, 8.0 * fs, temperature_K=40.0 * (n - 1) / n, taut=100.0 * fs, rng=np.random.default_rng(k))
        move.attach(lambda a=atoms, k=kept: k.append((a.get_kinetic_energy(), a.get_potential_energy())), interval=10)
        move.run(600)
        theirs.append(np.mean(kept[20:], axis=0))
    other = np.array(theirs)
    errors = np.hypot(ours.std(axis=0, ddof=1), other.std(axis=0, ddof=1)) / np.sqrt(len(starts))
    assert (np.abs(ours.mean(axis=0) - other.mean(axis=0)) < SIGMAS * errors).all()
    wanted = 1.5 * (n - 1) * BOLTZMANN_EV_PER_K * 40.0
    assert deviation(ours[:, 0], wanted) < SIGMAS
    assert deviation(ours[:, 0], 1.2 * wanted) > SIGMAS
