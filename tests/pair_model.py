"""A pair potential whose answers are known, and small data labelled by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.neighborlist import neighbor_list

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import Float, ModelSpec, Predictions

CUTOFF_A = 4.0
STRENGTH = {1: 0.3, 3: 1.0, 6: 0.5, 8: -0.8}
LONE_ATOM_EV = {1: -13.6, 3: -203.0, 6: -1030.0, 8: -2040.0}


@dataclass(frozen=True)
class PairModel:
    """E = sum of lone atoms + scale · sum over pairs of s_i s_j (1 − r²/rc²)³."""

    scale: float = 1.0
    shift_eV: dict[int, float] = field(default_factory=dict)
    gives_stress: bool = True
    calls: list[int] = field(default_factory=list)

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="pairs", kind="test")

    def calculator(self) -> Calculator:
        raise NotImplementedError

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        self.calls.append(len(frames))
        answers = [self.answer(atoms) for atoms in frames]
        periodic = np.array([bool(atoms.pbc.all()) and self.gives_stress for atoms in frames])
        return Predictions(
            n_atoms=np.array([len(atoms) for atoms in frames]),
            energy=np.array([energy for energy, _, _ in answers]),
            forces=np.concatenate([forces for _, forces, _ in answers]),
            stress=np.array([stress for _, _, stress in answers]) * periodic[:, None, None],
            has_stress=periodic,
        )

    def answer(self, atoms: Atoms) -> tuple[float, Float, Float]:
        i, j, vector, r = neighbor_list("ijDd", atoms, CUTOFF_A)
        s = np.array([STRENGTH[z] for z in atoms.numbers])
        factor = self.scale * s[i] * s[j]
        x = 1.0 - (r / CUTOFF_A) ** 2
        lone = sum(LONE_ATOM_EV[z] + self.shift_eV.get(z, 0.0) for z in atoms.numbers.tolist())
        # dE/d(vector) of each directed pair; every pair is listed twice.
        slope = (factor * -6.0 * x**2 / CUTOFF_A**2)[:, None] * vector
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, slope)
        stress = np.zeros((3, 3))
        if atoms.pbc.all():
            stress = 0.5 * slope.T @ vector / atoms.get_volume()
        return lone + 0.5 * float((factor * x**3).sum()), forces, stress


def frames_of(kind: str, rng: np.random.Generator) -> tuple[Atoms, np.ndarray, tuple[int, ...]]:
    """One frame, the molecule of each atom and the molecules' charges."""
    names = {
        "molecule": ["CH3OH"],
        "atom": ["O"],
        "cluster": ["H2O", "CO2", "Li"],
        "liquid": ["H2O", "CO2", "CH3OH", "Li"],
    }[kind]
    places = np.array([[1.0, 1.0, 1.0], [5.0, 1.5, 1.0], [1.5, 5.2, 4.5], [5.3, 5.0, 5.0]])
    atoms, numbers = Atoms(), []
    for k, name in enumerate(names):
        piece = molecule(name) if name != "Li" else Atoms("Li")
        piece.rotate(rng.uniform(0, 360), rng.normal(size=3))
        piece.translate(places[k] - piece.get_center_of_mass())
        atoms += piece
        numbers += [k] * len(piece)
    atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
    group = np.array(numbers)
    if kind == "liquid":
        atoms.set_cell([[8.5, 0, 0], [3.0, 8.5, 0], [-2.0, 2.5, 8.5]])
        atoms.set_pbc(True)
        order = rng.permutation(len(atoms))
        atoms, group = atoms[order], group[order]
        atoms.wrap()
    atoms.set_initial_magnetic_moments(None)
    return atoms, group, tuple(1 if name == "Li" else 0 for name in names)


def labelled(kinds: Sequence[str], *, n_trajectories: int = 3, n_frames: int = 2, seed: int = 0) -> Dataset:
    """Frames of each kind, labelled by the pair model."""
    rng = np.random.default_rng(seed)
    frames, molecules, charges, trajectory, config_type, uid = [], [], [], [], [], []
    for kind in kinds:
        for t in range(n_trajectories):
            for k in range(n_frames):
                atoms, group, charge = frames_of(kind, rng)
                frames.append(atoms)
                molecules.append(group)
                charges.append(charge)
                trajectory.append(f"{kind}_{t}")
                config_type.append(kind)
                uid.append(f"{kind}_{t}:{k}")
    truth = PairModel().predict(frames)
    alone = [vacuum(atoms, group) for atoms, group in zip(frames, molecules, strict=True)]
    return Dataset(
        spec=DatasetSpec(
            name="toy", version="1", level_of_theory="pairs", licence="MIT", citation=(),
            elements=("H", "C", "O", "Li"), sha256="", make_vacuum_labels="mlipbench data vacuum toy",
        ),
        frames=tuple(frames), uid=tuple(uid), energy=truth.energy, forces=truth.forces, stress=truth.stress,
        has_stress=truth.has_stress, trajectory=tuple(trajectory), config_type=tuple(config_type),
        molecule=np.concatenate(molecules), molecule_charges=tuple(charges),
        energy_intra=np.array([energy for energy, _ in alone]), forces_intra=np.concatenate([f for _, f in alone]),
    )  # fmt: skip


def vacuum(atoms: Atoms, group: np.ndarray) -> tuple[float, Float]:
    """The pair model inside molecules alone: nearest images are enough, as no molecule is longer than half a cell."""
    energy, forces = 0.0, np.zeros((len(atoms), 3))
    for number in np.unique(group):
        own = np.flatnonzero(group == number)
        positions = atoms.positions[own[0]] + atoms.get_distances(own[0], own, mic=True, vector=True)
        part_energy, forces[own], _ = PairModel().answer(Atoms(atoms.numbers[own], positions))
        energy += part_energy
    return energy, forces
