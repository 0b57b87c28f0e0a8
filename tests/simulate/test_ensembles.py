"""Anything that moves atoms is checked against statistical mechanics, and a wrong integrator would be noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from batched_lj import BatchedLJ
from scipy import stats
from simulate.toys import STIFFNESS_EV_A2, Field, gas

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.core.model import Float
from mlipbench.physics.timeseries import mean_over_replicas
from mlipbench.simulate import integrate
from mlipbench.simulate.driver import run
from mlipbench.units import (
    BAR_PER_EV_PER_CUBIC_ANGSTROM,
    BOLTZMANN_EV_PER_K,
    EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS,
)

TEMPERATURE_K = 300.0
HEAT_EV = BOLTZMANN_EV_PER_K * TEMPERATURE_K
SIGMAS = 4.0  # of every comparison with theory


def simulated(model: object, frames: Sequence[Atoms], plan: Schedule, **more: object) -> tuple[Track, ...]:
    replicas = [
        Replica(name=str(k), atoms=atoms, seed=k, **{"temperature_K": TEMPERATURE_K, "timestep_fs": 2.0, **more})
        for k, atoms in enumerate(frames)
    ]
    return run(model, replicas, plan, progress=no_progress)


def deviation(series: Sequence[Float], wanted: float) -> float:
    """Distance of a mean from its theory in standard errors."""
    found = mean_over_replicas(list(series))
    return abs(found.mean - wanted) / found.stderr


def gas_at_constant_pressure(n: int, *, groups: int | None = None, plan: Schedule | None = None) -> tuple[Float, float]:
    """Volumes of a perfect gas, and kT/P."""
    pressure = 500.0
    scale = HEAT_EV * BAR_PER_EV_PER_CUBIC_ANGSTROM / pressure
    frames = [gas(n, seed=k, edge_A=((groups or n) * scale) ** (1 / 3)) for k in range(40)]
    plan = plan or Schedule(
        n_steps=4000, friction_per_ps=5.0, barostat_ps=0.4, compressibility_per_bar=2e-3, barostat_every=5,
        sample_every=20, frame_every=4000,
    )  # fmt: skip
    group = None if groups is None else np.arange(n) % groups
    tracks = simulated(Field(), frames, plan, timestep_fs=5.0, pressure_bar=pressure, group=group)
    return np.array([t.volume_A3 for t in tracks]), scale


@pytest.mark.parametrize(("n", "groups"), [(20, None), (20, 10)])
def test_the_volume_of_a_perfect_gas_has_its_distribution(n: int, groups: int | None) -> None:
    """V^N exp(-PV/kT) dV: a gamma distribution of N + 1, where N counts what moves on its own."""
    volumes, scale = gas_at_constant_pressure(n, groups=groups)
    free = (groups or n) + 1
    assert deviation(volumes, free * scale) < SIGMAS
    last = volumes[:, -1] / scale  # replicas are independent
    assert stats.kstest(last, stats.gamma(free).cdf).pvalue > 1e-3
    assert stats.kstest(last, stats.gamma(2 * n if groups else n // 2).cdf).pvalue < 1e-3


def test_a_barostat_that_forgets_its_drift_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kT/4L the volume would be that of one molecule less."""
    real = integrate.stretch

    def wrong(state: integrate.State, scale: Float) -> None:
        real(state, scale * (1.0 - 2e-3))

    monkeypatch.setattr(integrate, "stretch", wrong)
    volumes, scale = gas_at_constant_pressure(20)
    assert deviation(volumes, 21 * scale) > SIGMAS


@pytest.mark.parametrize("thermostat", ["langevin", "rescaling"])
def test_kinetic_energy_has_its_distribution(thermostat: str) -> None:
    n = 12
    plan = Schedule(n_steps=1500, thermostat=thermostat, friction_per_ps=10.0, thermostat_ps=0.05, sample_every=10)
    tracks = simulated(Field(), [gas(n, seed=k) for k in range(48)], plan)
    freedom = 3 * n if thermostat == "langevin" else 3 * n - 3
    kinetic = np.array([t.kinetic_eV for t in tracks])
    assert deviation(kinetic, 0.5 * freedom * HEAT_EV) < SIGMAS
    assert deviation((kinetic - 0.5 * freedom * HEAT_EV) ** 2, 0.5 * freedom * HEAT_EV**2) < SIGMAS
    last = 2.0 * kinetic[:, -1] / HEAT_EV
    assert stats.kstest(last, stats.chi2(freedom).cdf).pvalue > 1e-3
    pressure = np.array([t.pressure_bar for t in tracks]) / BAR_PER_EV_PER_CUBIC_ANGSTROM
    assert deviation(pressure, freedom / 3 * HEAT_EV / 12.0**3) < SIGMAS


def test_velocities_are_maxwells() -> None:
    plan = Schedule(n_steps=200, friction_per_ps=20.0, frame_every=200, keeps_velocities=True)
    atoms = Atoms("HOAr" * 100, gas(300).positions, cell=[12.0] * 3, pbc=True)
    (track,) = simulated(Field(), [atoms], plan)
    for number in (1, 8, 18):
        own = atoms.numbers == number
        mass = atoms.get_masses()[own][0]
        width = np.sqrt(HEAT_EV / (mass * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS))
        for k in (0, -1):  # drawn, and after the thermostat
            assert stats.kstest(track.velocities[k][own].ravel(), stats.norm(scale=width).cdf).pvalue > 1e-3
        assert stats.kstest(track.velocities[-1][own].ravel(), stats.norm(scale=1.5 * width).cdf).pvalue < 1e-3


def test_oscillators_spread_as_they_should_at_every_temperature() -> None:
    """⟨x²⟩ = kT/k, which BAOAB keeps at any time step, and the same energy in light atoms as in heavy ones."""
    atoms = Atoms("HCAr" * 20, gas(60).positions, cell=[50.0] * 3, pbc=True)
    temperatures = [100.0, 300.0, 900.0]
    replicas = [
        Replica(name=f"{t}-{k}", atoms=atoms, seed=10 * k + int(t), temperature_K=t, timestep_fs=3.0)
        for t in temperatures
        for k in range(4)
    ]
    plan = Schedule(n_steps=4000, friction_per_ps=20.0, frame_every=20, sample_every=20, keeps_velocities=True)
    tracks = run(Field(stiffness_eV_A2=STIFFNESS_EV_A2), replicas, plan, progress=no_progress)
    for t in temperatures:
        own = [track for one, track in zip(replicas, tracks, strict=True) if one.temperature_K == t]
        for number in (1, 6, 18):
            chosen = atoms.numbers == number
            spread = [((o.positions - atoms.positions)[:, chosen].astype(float) ** 2).mean(axis=(1, 2)) for o in own]
            wanted = BOLTZMANN_EV_PER_K * t / STIFFNESS_EV_A2
            assert deviation(spread, wanted) < SIGMAS
            assert deviation(spread, 1.1 * wanted) > SIGMAS


def crystal(seed: int = 0) -> Atoms:
    atoms = bulk("Ar", cubic=True, a=5.4).repeat(2)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def test_energy_fluctuates_with_the_square_of_the_step() -> None:
    steps = np.array([4.0, 8.0, 16.0])
    spreads = []
    for step in steps:
        plan = Schedule(n_steps=round(2400 / step), thermostat="none", sample_every=1)
        (track,) = simulated(BatchedLJ(), [crystal()], plan, timestep_fs=step, temperature_K=40.0)
        spreads.append((track.potential_eV + track.kinetic_eV).std())
        assert np.abs(np.polyfit(track.time_ps, track.potential_eV + track.kinetic_eV, 1)[0]) * 2.4 < spreads[-1]
    slope = np.polyfit(np.log(steps), np.log(spreads), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.15)


def test_motion_runs_backwards() -> None:
    plan = Schedule(n_steps=50, thermostat="none", frame_every=50, keeps_velocities=True)
    start = crystal()
    (forth,) = simulated(BatchedLJ(), [start], plan, temperature_K=40.0)
    from ase.units import fs

    back = start.copy()
    back.positions = forth.positions[-1].astype(float)
    back.set_momenta(-forth.velocities[-1].astype(float) / fs * back.get_masses()[:, None])
    (home,) = simulated(BatchedLJ(), [back], plan, temperature_K=40.0)
    np.testing.assert_allclose(home.positions[-1], start.positions, atol=1e-4)  # frames are single precision


def test_velocity_verlet_is_ases() -> None:
    from ase.calculators.singlepoint import SinglePointCalculator  # noqa: F401  ASE's dynamics needs a calculator
    from ase.md.verlet import VelocityVerlet
    from ase.units import fs

    start = crystal()
    start.set_momenta(np.random.default_rng(1).normal(scale=0.5, size=(32, 3)))
    plan = Schedule(n_steps=100, thermostat="none", frame_every=100, sample_every=100)
    model = BatchedLJ(is_shifted=False)
    (ours,) = simulated(model, [start], plan, timestep_fs=2.0)
    theirs = start.copy()
    theirs.calc = _Ase(model)
    VelocityVerlet(theirs, 2.0 * fs).run(100)
    np.testing.assert_allclose(ours.positions[-1], theirs.positions, atol=2e-6)  # the last digit of single precision
    assert ours.potential_eV[-1] == pytest.approx(theirs.get_potential_energy(), abs=1e-8)
    assert ours.kinetic_eV[-1] == pytest.approx(theirs.get_kinetic_energy(), rel=1e-6)


def _Ase(model: BatchedLJ) -> object:
    from ase.calculators.calculator import Calculator, all_changes

    class Own(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
            super().calculate(atoms, properties, system_changes)
            said = model.predict([self.atoms])
            self.results = {"energy": float(said.energy[0]), "forces": said.forces}

    return Own()


def test_langevin_means_are_ases() -> None:
    from ase.md.langevin import Langevin
    from ase.units import fs

    model, rng = BatchedLJ(), np.random.default_rng(5)
    plan = Schedule(n_steps=1500, friction_per_ps=5.0, sample_every=10)
    tracks = simulated(model, [crystal(k) for k in range(3)], plan, timestep_fs=8.0, temperature_K=40.0)
    ours = mean_over_replicas([t.potential_eV for t in tracks])
    series = []
    theirs = crystal(9)
    theirs.calc = _Ase(model)
    move = Langevin(theirs, 8.0 * fs, temperature_K=40.0, friction=0.005 / fs, rng=rng, fixcm=False)
    move.attach(lambda: series.append(theirs.get_potential_energy()), interval=10)
    move.run(2000)
    other = mean_over_replicas([np.array(series)])
    assert abs(ours.mean - other.mean) < SIGMAS * np.hypot(ours.stderr, other.stderr)


def lennard_jones_liquid(temperature: float, density: float, *, n_side: int = 4) -> tuple[float, float, float, float]:
    """Energy per atom and pressure in reduced units with long-range corrections, and their standard errors."""
    model = BatchedLJ(epsilon_eV=0.01, sigma_A=3.0, cutoff_A=9.0, is_shifted=False)
    kelvin = temperature * 0.01 / BOLTZMANN_EV_PER_K
    edge = (4.0 / density) ** (1.0 / 3.0) * 3.0
    frames = [bulk("Ar", cubic=True, a=edge).repeat(n_side)]
    # Mass chosen so that a step of 4 fs is 0.004 of the reduced unit of time.
    mass = np.full(len(frames[0]), 0.01 / EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * 1000.0**2 / 9.0)
    replicas = [
        Replica(name=str(k), atoms=one, seed=k, temperature_K=kelvin, timestep_fs=5.0, masses_u=mass)
        for k, one in enumerate(frames)
    ]
    plan = Schedule(n_steps=1200, friction_per_ps=1.0, sample_every=10, frame_every=1200)
    tracks = run(model, replicas, plan, progress=no_progress)
    n = len(frames[0])
    ninth, third = (1.0 / 3.0) ** 9, (1.0 / 3.0) ** 3
    energy_tail = 8.0 / 3.0 * np.pi * density * (ninth / 3.0 - third)
    pressure_tail = 16.0 / 3.0 * np.pi * density**2 * (2.0 / 3.0 * ninth - third)
    energy = mean_over_replicas([t.potential_eV / n / 0.01 for t in tracks])
    pressure = mean_over_replicas([t.pressure_bar / BAR_PER_EV_PER_CUBIC_ANGSTROM * 27.0 / 0.01 for t in tracks])
    return energy.mean + energy_tail, energy.stderr, pressure.mean + pressure_tail, pressure.stderr


@pytest.mark.slow
def test_lennard_jones_is_nists() -> None:
    """T* = 0.90, ρ* = 0.776: U* = -5.4689(4), P* = 0.2406(27), long-range corrected (NIST SRSW, LJ fluid)."""
    energy, energy_error, pressure, pressure_error = lennard_jones_liquid(0.90, 0.776)
    assert abs(energy + 5.4689) < SIGMAS * np.hypot(energy_error, 4e-4)
    assert abs(pressure - 0.24056) < SIGMAS * np.hypot(pressure_error, 2.7e-3)
    assert energy_error < 0.02 and pressure_error < 0.05  # or the comparison would say nothing


def coverage(series: Sequence[Float], truth: float, *, per_test: int = 2) -> float:
    tests = [mean_over_replicas(series[k : k + per_test]) for k in range(0, len(series), per_test)]
    return float(np.mean([found.low < truth < found.high for found in tests]))


def test_intervals_cover_the_truth() -> None:
    """Nominal 95 % intervals of many short runs: the volume of a gas, and the energy of oscillators, known exactly."""
    scale = HEAT_EV * BAR_PER_EV_PER_CUBIC_ANGSTROM / 500.0
    frames = [gas(8, seed=k, edge_A=(6 * scale) ** (1 / 3)) for k in range(300)]
    plan = Schedule(
        n_steps=2400, friction_per_ps=5.0, barostat_ps=0.4, compressibility_per_bar=2e-3, barostat_every=5,
        sample_every=20, frame_every=2400,
    )  # fmt: skip
    tracks = simulated(Field(), frames, plan, timestep_fs=5.0, pressure_bar=500.0)
    volumes = [t.volume_A3 for t in tracks if not t.failure]
    assert len(volumes) > 280
    assert 0.90 <= coverage(volumes, 9 * scale) <= 0.98
    bound = Field(stiffness_eV_A2=STIFFNESS_EV_A2)
    plan = Schedule(n_steps=1500, friction_per_ps=10.0, sample_every=10, frame_every=1500)
    energies = [t.potential_eV for t in simulated(bound, [gas(4, seed=k) for k in range(300)], plan)]
    assert 0.90 <= coverage(energies, 4 * 1.5 * HEAT_EV) <= 0.98
    assert coverage(energies, 4 * 1.7 * HEAT_EV) < 0.8


def test_replicas_with_their_own_masses_and_steps() -> None:
    atoms = gas(10)
    one = Replica(name="a", atoms=atoms, seed=1, temperature_K=300.0, timestep_fs=1.0)
    heavy = replace(one, name="b", masses_u=np.full(10, 400.0), timestep_fs=2.0)
    plan = Schedule(n_steps=10, thermostat="none", sample_every=5)
    light_track, heavy_track = run(Field(), [one, heavy], plan, progress=no_progress)
    assert light_track.time_ps[-1] == pytest.approx(0.01)
    assert heavy_track.time_ps[-1] == pytest.approx(0.02)
    assert heavy_track.kinetic_eV[0] == pytest.approx(light_track.kinetic_eV[0], rel=1e-9)  # same random numbers
