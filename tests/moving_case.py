"""An argon crystal in motion, with what its own dynamics gave: the cheapest reference there is."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms
from ase.build import bulk
from batched_lj import BatchedLJ

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.dynamics import Replica, Schedule
from mlipbench.physics.rdf import count_pairs
from mlipbench.physics.spectrum import velocity_spectrum
from mlipbench.simulate.driver import run
from mlipbench.units import density_g_per_cm3

STATES = {"cold": 20.0, "warm": 40.0}
EDGES_PER_CM = np.linspace(0.0, 200.0, 4)
RDF_MAX_A = 5.0
LAGS_PS = np.arange(0.0, 4.81, 0.08)
DISPLACEMENT_A2_PS = 0.06  # a crystal's own displacement has no slope, and nothing to compare with


MODEL = BatchedLJ()


@cache
def moving() -> Dataset:
    """Two states, two frames of each, and the reference's own dynamics, as `ecemc_gaff2_md` has them."""
    rng = np.random.default_rng(0)
    frames, kinds, observables = [], [], {}
    for state, temperature in STATES.items():
        starts = [rattled(temperature, rng) for _ in range(2)]
        frames += starts
        kinds += [state] * 2
        for name, array in own_dynamics(starts, temperature).items():
            observables[f"{state}/{name}"] = array
    said = MODEL.predict(frames)
    return Dataset(
        spec=DatasetSpec(
            name="argon", version="1", level_of_theory="LJ", licence="MIT", citation=(), elements=("Ar",), sha256=""
        ),
        frames=tuple(frames), uid=tuple(f"{kind}-{k}" for k, kind in enumerate(kinds)), energy=said.energy,
        forces=said.forces, stress=said.stress, has_stress=said.has_stress,
        trajectory=tuple(f"{kind}-{k}" for k, kind in enumerate(kinds)), config_type=tuple(kinds),
        observables=observables,
    )  # fmt: skip


def state(name: str) -> Dataset:
    data = moving()
    return data.take([i for i, kind in enumerate(data.config_type) if kind == name])


def rattled(temperature: float, rng: np.random.Generator) -> Atoms:
    atoms = bulk("Ar", cubic=True, a=5.3).repeat(2)
    atoms.positions += rng.normal(scale=0.1 * np.sqrt(temperature / 30.0), size=(len(atoms), 3))
    atoms.info = {"temperature_K": temperature, "pressure_bar": 1.0}
    return atoms


def own_dynamics(starts: list[Atoms], temperature: float) -> dict[str, np.ndarray]:
    def tracks(pressure: float | None, **more: int) -> tuple:
        replicas = [
            Replica(
                name=str(k), atoms=one, seed=90 + k, temperature_K=temperature, pressure_bar=pressure, timestep_fs=8.0
            )
            for k, one in enumerate(starts)
        ]
        return run(
            MODEL, replicas, Schedule(n_steps=150, sample_every=5, keeps_velocities=True, **more), progress=no_progress
        )

    mass = float(starts[0].get_masses().sum())
    free, fixed = tracks(1.0, frame_every=10), tracks(None, frame_every=5)
    kinds, alone = np.zeros(len(starts[0]), dtype=np.int64), np.arange(len(starts[0]))
    counts = [count_pairs(t.positions, t.cells, kinds, alone, r_max_A=RDF_MAX_A, n_bins=50) for t in free]
    return {
        "density_series": np.array([[density_g_per_cm3(mass, v) for v in t.volume_A3] for t in free]),
        "density_every_ps": np.array(0.04),
        "rdf_edges": counts[0].edges_A,
        "rdf_counts": np.array([one.counts for one in counts]),
        "rdf_density": np.array([one.density for one in counts]),
        "rdf_n_frames": np.array([one.n_frames for one in counts]),
        "rdf_n_kind": counts[0].n_kind,
        "rdf_inefficiency": np.ones(2),
        "rdf_every_ps": np.array(0.08),
        "pressure_series": np.array([t.pressure_bar for t in fixed]),
        "pressure_every_ps": np.array(0.04),
        "displacement": DISPLACEMENT_A2_PS * np.outer([1.0, 1.05], LAGS_PS)[:, None] * np.ones((2, 1)),
        "displacement_times": LAGS_PS,
        "spectrum_piece_ps": np.array(1.2),
        "spectrum_edges": EDGES_PER_CM,
        "spectrum": np.array([
            velocity_spectrum(
                t.velocities.astype(np.float64), starts[0].get_masses(), interval_fs=40.0, edges_per_cm=EDGES_PER_CM
            )
            for t in fixed
        ]),
    }
