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
