"""Scans of pairs of argon atoms, labelled by a pair potential."""

from __future__ import annotations

import broken
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.physics.scans import scaled_rigidly

SCALES = (0.8, 0.84, 0.88, 0.92, 0.96, 1.0, 1.04, 1.1, 1.2, 1.4, 1.8, 2.5)
MOLECULE = {
    "volume": np.repeat(np.arange(4), 2),
    "cluster": np.repeat(np.arange(3), 2),
    "binding": np.array([0, 0, 1, 1]),
}


def start(kind: str, seed: int) -> Atoms:
    """Molecules of two atoms 3.2 Å apart, each turned at random."""
    rng = np.random.default_rng(seed)
    places = {
        "volume": [[0, 0, 0], [4.4, 4.4, 0], [4.4, 0, 4.4], [0, 4.4, 4.4]],
        "cluster": [[0, 0, 0], [5.0, 0, 0], [2.2, 4.4, 0]],
        "binding": [[0, 0, 0], [5.0, 0, 0]],
    }[kind]
    positions = []
    for place in places:
        way = rng.normal(size=3)
        way *= 1.6 / np.linalg.norm(way)
        positions += [np.array(place) + way, np.array(place) - way]
    cell = [8.8, 8.8, 8.8] if kind == "volume" else None
    return Atoms(f"Ar{len(positions)}", positions, cell=cell, pbc=kind == "volume")


def frames_of(kind: str, seed: int) -> list[Atoms]:
    atoms, out = start(kind, seed), []
    for scale in SCALES:
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array * scale, scale_atoms=False)
        moved.positions = scaled_rigidly(atoms.positions, atoms.get_masses(), MOLECULE[kind], scale)
        out.append(moved)
    return out


def data(kinds: tuple[str, ...] = ("volume", "cluster"), *, truth: Calculator | None = None, n: int = 2) -> Dataset:
    """Scans of each kind, with labels of the whole and of molecules alone."""
    model = broken.model(broken.Pairs() if truth is None else truth)
    frames, molecules, names, config_types = [], [], [], []
    for kind in kinds:
        for seed in range(n):
            own = frames_of(kind, seed)
            frames += own
            molecules += [MOLECULE[kind]] * len(own)
            names += [f"{kind}-{seed}"] * len(own)
            config_types += [kind] * len(own)
    said = model.predict(frames)
    intra = []
    for atoms, molecule in zip(frames, molecules, strict=True):
        parts = [Atoms("Ar2", atoms.positions[molecule == k]) for k in range(int(molecule.max()) + 1)]
        intra.append(float(model.predict(parts).energy.sum()))
    return Dataset(
        spec=DatasetSpec(
            name="scans", version="1", level_of_theory="pairs", licence="MIT", citation=(), elements=("Ar",), sha256=""
        ),
        frames=tuple(frames), uid=tuple(f"{name}:{k}" for k, name in enumerate(names)), trajectory=tuple(names),
        config_type=tuple(config_types), energy=said.energy, forces=said.forces, stress=said.stress,
        has_stress=said.has_stress, molecule=np.concatenate(molecules), energy_intra=np.array(intra),
        forces_intra=np.zeros_like(said.forces),
    )  # fmt: skip
