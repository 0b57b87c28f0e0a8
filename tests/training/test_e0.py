"""Energies of the elements: which frames count as lone atoms, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.errors import BadInput
from mlipbench.training.e0 import baseline


def dataset(frames: list[Atoms], energies: list[float]) -> Dataset:
    n = len(frames)
    return Dataset(
        spec=DatasetSpec(
            name="toy", version="1", level_of_theory="none", licence="MIT", citation=(), elements=("Cu",), sha256="0"
        ),
        frames=tuple(frames),
        uid=tuple(f"f{i}" for i in range(n)),
        energy=np.array(energies, dtype=np.float64),
        forces=np.zeros((sum(len(frame) for frame in frames), 3)),
        stress=np.zeros((n, 3, 3)),
        has_stress=np.zeros(n, dtype=bool),
        trajectory=("a",) * n,
        config_type=("b",) * n,
    )


def isolated(frames: list[Atoms], energies: list[float]) -> float:
    return baseline(dataset(frames, energies), "isolated", ("Cu",), is_shifted=False).energies_eV["Cu"]


LONE = Atoms("Cu")
PRIMITIVE = bulk("Cu")


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_periodic_primitive_cell_is_no_lone_atom(order: list[int]) -> None:
    frames, energies = [LONE, PRIMITIVE], [-1.0, -4.5]
    assert isolated([frames[i] for i in order], [energies[i] for i in order]) == -1.0


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.eye(3) * 6.1, True),
        ([[7, 0, 0], [0, 8, 0], [0, 0, 1]], (True, True, False)),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 6.5]], (False, False, True)),
        (np.eye(3), False),
    ],
)
def test_a_large_box_leaves_an_atom_alone(cell: object, pbc: object) -> None:
    assert isolated([Atoms("Cu", cell=cell, pbc=pbc)], [-2.0]) == -2.0


@pytest.mark.parametrize(
    "frame",
    [
        PRIMITIVE,
        Atoms("Cu", cell=np.eye(3) * 5.9, pbc=True),
        Atoms("Cu", cell=[[9, 0, 0], [8, 3, 0], [0, 0, 9]], pbc=True),  # no vector is short, their difference is
        Atoms("Cu", cell=[9, 9, 3], pbc=(False, False, True)),
        Atoms("Cu", pbc=True),
    ],
)
def test_an_atom_near_its_image_is_refused(frame: Atoms) -> None:
    with pytest.raises(BadInput, match=r"no one-atom frame of Cu \(those of Cu are periodic, with images within 6 Å\)"):
        isolated([frame], [-4.5])


def test_lone_atoms_of_one_element_must_agree() -> None:
    assert isolated([LONE] * 3, [-1.0, -1.0005, -1.0002]) == -1.0005
    with pytest.raises(BadInput, match=r"lone Cu atoms of training frames 2 \(f2\) and 0 \(f0\) differ by 2 meV"):
        isolated([LONE] * 3, [-1.0, -1.001, -1.002])


@pytest.mark.parametrize("e0", ["average", "isolated"])
def test_an_energy_that_is_not_finite_is_refused(e0: str) -> None:
    with pytest.raises(BadInput, match=r"training frame 1 \(f1\) is not finite"):
        baseline(dataset([LONE, LONE], [-1.0, np.nan]), e0, ("Cu",), is_shifted=False)
