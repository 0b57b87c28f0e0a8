"""Data that the tests of training share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.models.toy import Springs

E0_EV = {"H": -3.0, "C": -7.0, "O": -11.0}


def springs_data(frames: list[Atoms], elements: tuple[str, ...] = ("H", "C", "O")) -> Dataset:
    """Label frames with springs on top of an energy per element."""
    energy, forces, stress = [], [np.zeros((0, 3))], np.zeros((len(frames), 3, 3))
    has_stress = np.array([bool(frame.pbc.all()) for frame in frames], dtype=bool)
    for i, frame in enumerate(frames):
        atoms = frame.copy()
        atoms.calc = Springs()
        energy.append(atoms.get_potential_energy() + sum(E0_EV[symbol] for symbol in atoms.symbols))
        forces.append(atoms.get_forces())
        if has_stress[i]:
            stress[i] = atoms.get_stress(voigt=False)
    spec = DatasetSpec(
        name="springs", version="1", level_of_theory="springs", licence="MIT", citation=(), elements=elements, sha256=""
    )
    return Dataset(
        spec=spec, frames=tuple(frames), uid=tuple(str(i) for i in range(len(frames))), energy=np.array(energy),
        forces=np.concatenate(forces), stress=stress, has_stress=has_stress,
        trajectory=tuple(str(i) for i in range(len(frames))), config_type=("cluster",) * len(frames),
    )  # fmt: skip


def clusters(n_frames: int, seed: int, formulas: tuple[str, ...] = ("CH3OH", "C2H4O", "CO2H2")) -> list[Atoms]:
    """Return random clusters; every third one repeats."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(n_frames):
        symbols = Atoms(formulas[i % len(formulas)]).symbols
        grid = 1.5 * np.array([[k % 2, (k // 2) % 2, k // 4] for k in range(len(symbols))], dtype=float)
        frame = Atoms(symbols, grid + rng.normal(0.0, 0.15, grid.shape))
        if i % 3 == 2:
            frame.set_cell([5.0, 5.0, 6.0])
            frame.pbc = True
        frames.append(frame)
    return frames


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Dataset]:
    return springs_data


@pytest.fixture(scope="session")
def make_clusters() -> Callable[..., list[Atoms]]:
    return clusters
