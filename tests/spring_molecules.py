"""Molecules of springs whose minima and Hessians are known, as data and as a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import Float, ModelSpec
from mlipbench.models.ase import AseModel

BONDED_EV_A2, ANGLE_EV_A2 = 40.0, 12.0
TENSION_A = 0.05  # by which bonds of a straight molecule are too long: what keeps it straight


@dataclass(frozen=True, eq=False)
class Springs:
    """Pairs of atoms with their stiffness (eV/Å²) and rest length (Å), and the geometry at which all forces vanish."""

    atoms: Atoms
    first: np.ndarray
    second: np.ndarray
    stiffness: Float
    rest_A: Float

    def forces(self, positions: Float) -> tuple[float, Float]:
        """Energy and forces."""
        vector = positions[self.second] - positions[self.first]
        length = np.linalg.norm(vector, axis=1)
        pull = (self.stiffness * (length - self.rest_A) / length)[:, None] * vector
        forces = np.zeros_like(positions)
        np.add.at(forces, self.first, pull)
        np.add.at(forces, self.second, -pull)
        return 0.5 * float((self.stiffness * (length - self.rest_A) ** 2).sum()), forces

    def hessian(self) -> Float:
        """Second derivatives at the minimum: k n nᵀ + (V'/r) (1 - n nᵀ) between the two atoms of each spring."""
        n = len(self.atoms)
        blocks = np.zeros((n, 3, n, 3))
        for i, j, k, rest in zip(self.first, self.second, self.stiffness, self.rest_A, strict=True):
            vector = self.atoms.positions[j] - self.atoms.positions[i]
            r = np.linalg.norm(vector)
            along = np.outer(vector, vector) / r**2
            block = k * along + k * (r - rest) / r * (np.eye(3) - along)
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                blocks[a, :, b, :] += sign * block
        return blocks.reshape(3 * n, 3 * n)


@cache
def springs(name: str) -> Springs:
    """Springs between all atoms of a molecule, softer between atoms that are not bonded."""
    atoms = molecule(name)
    atoms.set_initial_magnetic_moments(None)
    if name == "CO2":
        return straight(atoms)
    first, second = np.triu_indices(len(atoms), 1)
    length = atoms.get_all_distances()[first, second]
    stiffness = np.where(length < 1.6, BONDED_EV_A2, ANGLE_EV_A2)
    return Springs(atoms, first, second, stiffness, length)


def straight(atoms: Atoms) -> Springs:
    """Two bonds that pull and one spring between the ends that pushes them apart."""
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    length = atoms.get_all_distances()[first, second]
    stiffness = np.array([BONDED_EV_A2, BONDED_EV_A2, ANGLE_EV_A2])
    push = BONDED_EV_A2 * TENSION_A / ANGLE_EV_A2
    return Springs(atoms, first, second, stiffness, length + np.array([-TENSION_A, -TENSION_A, push]))


class SpringCalculator(Calculator):  # type: ignore[misc]
    """Knows the molecules by their formulas; `scale` makes all springs of all of them stiffer."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, *, scale: float = 1.0, names: Sequence[str], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.scale = scale
        self.known = {springs(name).atoms.get_chemical_formula(): springs(name) for name in names}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.answer(self.atoms)
        self.results = {"energy": energy, "forces": forces}

    def answer(self, atoms: Atoms) -> tuple[float, Float]:
        energy, forces = self.known[atoms.get_chemical_formula()].forces(atoms.positions)
        return self.scale * energy, self.scale * forces


NAMES = ("H2O", "CO2", "CH3OH", "NH3")


def model(calculator: Calculator | None = None, *, elements: tuple[str, ...] | None = None) -> AseModel:
    bare = SpringCalculator(names=NAMES) if calculator is None else calculator
    return AseModel(spec=ModelSpec(name="springs", kind="test", elements=elements), bare=bare)


def data(names: Sequence[str] = NAMES) -> Dataset:
    """Each molecule at its minimum, with its Hessian."""
    found = [springs(name) for name in names]
    frames = tuple(one.atoms.copy() for one in found)
    n = len(frames)
    return Dataset(
        spec=DatasetSpec(
            name="springs", version="1", level_of_theory="springs", licence="MIT", citation=(),
            elements=("H", "C", "O", "N"), sha256="",
        ),
        frames=frames, uid=tuple(names), energy=np.array([one.forces(one.atoms.positions)[0] for one in found]),
        forces=np.concatenate([one.forces(one.atoms.positions)[1] for one in found]), stress=np.zeros((n, 3, 3)),
        has_stress=np.zeros(n, dtype=bool), trajectory=tuple(names), config_type=("molecule",) * n,
        observables={f"{name}/hessian": one.hessian() for name, one in zip(names, found, strict=True)},
    )  # fmt: skip
