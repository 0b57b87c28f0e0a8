"""Which molecules does each frame hold, and where are they whole?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlipbench.benchmarks.comparison import Errors, Names
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Bool, Float, Int
from mlipbench.core.view import Axis, Bars
from mlipbench.errors import NotApplicable
from mlipbench.physics.forces import ForceParts, split_forces
from mlipbench.physics.molecules import find_molecules, unwrap
from mlipbench.units import MEV_PER_EV

# Covalent radii would bond these ions to the solvent around them. Al is not among them: AlCl4- and Al(H2O)6 3+ keep
# their ligands for longer than any simulation.
LONE_ELEMENTS: Final = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Ag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Molecular:
    """Frames whose molecules are known and whole.

    Attributes:
        frames: shape (n_frames,), their numbers in the data set they were taken from.
        n_left_out: frames in which a molecule is bonded to its own image.
        molecule: shape (n_atoms_total,), molecule number of each atom, counted from 0 through all frames.
        positions: shape (n_atoms_total, 3), Å, with every molecule whole.
        masses: shape (n_atoms_total,), u.
        molecules_in_frame: shape (n_frames,).
        frame_of_atom: shape (n_atoms_total,), counted from 0 in the order of `frames`.
    """

    frames: Int
    n_left_out: int
    molecule: Int
    positions: Float
    masses: Float
    molecules_in_frame: Int
    frame_of_atom: Int

    @property
    def is_in_company(self) -> Bool:
        """Does an atom's frame hold two molecules or more? Shape (n_atoms_total,)."""
        return np.asarray(self.molecules_in_frame[self.frame_of_atom] > 1)

    @property
    def is_in_polyatomic(self) -> Bool:
        """Does an atom's molecule have two atoms or more? Shape (n_atoms_total,)."""
        return np.asarray(np.bincount(self.molecule)[self.molecule] > 1)

    @property
    def rows_by_molecule(self) -> Int:
        """Atom rows, molecule after molecule in the order of their numbers, shape (n_atoms_total,)."""
        return np.argsort(self.molecule, kind="stable")

    def split(self, forces: Float) -> ForceParts:
        """Return the translation, rotation and vibration parts of forces on these frames."""
        return split_forces(forces, self.positions, self.masses, self.molecule)

    def split_errors(self, data: Dataset, forces: Float, *, names: Sequence[str]) -> tuple[Errors, Errors, Errors]:
        """Return translation, rotation and vibration of predicted forces beside the reference's.

        Translation and rotation are those of atoms in frames of two molecules or more, as a single one is not moved
        by anything; rotation and vibration are those of atoms in molecules that have such a mode.

        Args:
            data: these frames alone, in this order.
            forces: shape (n_atoms_total, 3), eV/Å.
            names: of the three `Errors`, in meV/Å.
        """
        reference, predicted = self.split(data.forces * MEV_PER_EV), self.split(forces * MEV_PER_EV)
        units: Names = np.array(data.trajectory)[self.frame_of_atom]
        config_types: Names = np.array(data.config_type)[self.frame_of_atom]
        translation, rotation, vibration = (
            Errors(of=name, reference=one, predicted=other, units=units, config_types=config_types)
            for name, one, other in zip(
                names,
                (reference.translation, reference.rotation, reference.vibration),
                (predicted.translation, predicted.rotation, predicted.vibration),
                strict=True,
            )
        )
        return (
            translation.only(self.is_in_company),
            rotation.only(self.is_in_company & self.is_in_polyatomic),
            vibration.only(self.is_in_polyatomic),
        )


def radii_A(numbers: Int, lone_elements: Sequence[str]) -> Float:
    """Return covalent radii in Å, shape (n_atoms,); 0 for elements that stay alone.

    Where there is nothing but such elements, it is a metal, and they are bonded to each other.
    """
    from ase.data import atomic_numbers, covalent_radii

    lone = np.isin(numbers, [atomic_numbers[symbol] for symbol in lone_elements])
    if lone.all():
        return np.asarray(covalent_radii[numbers])
    return np.where(lone, 0.0, covalent_radii[numbers])


def molecular(data: Dataset, frames: Int, *, lone_elements: Sequence[str]) -> Molecular:
    """Return the molecules of some frames: those the data set names, or those the bond rule finds.

    Args:
        data: the data set.
        frames: shape (n,), frame numbers.
        lone_elements: symbols of elements that are never bonded.

    Raises:
        NotApplicable: every frame has a molecule that is bonded to its own image.
    """
    used: list[int] = []
    molecules: list[Int] = []
    positions: list[Float] = []
    masses: list[Float] = []
    refusal = ""
    offsets, n_so_far = data.offsets, 0
    for i in frames.tolist():
        atoms = data.frames[i]
        place = (atoms.positions, atoms.cell.array, atoms.pbc)
        radii = radii_A(atoms.numbers, lone_elements)
        if data.molecule is None:
            molecule = find_molecules(*place, radii=radii)
        else:
            # In the order of their numbers, as the charges of molecules are.
            molecule = np.unique(data.molecule[offsets[i] : offsets[i + 1]], return_inverse=True)[1]
        try:
            whole = unwrap(*place, molecule, radii=radii)
        except NotApplicable as error:
            refusal = refusal or f"frame {data.uid[i]}: {error}"
            continue
        used.append(i)
        molecules.append(molecule + n_so_far)
        positions.append(whole)
        masses.append(atoms.get_masses())
        n_so_far += int(molecule.max()) + 1
    if not used:
        raise NotApplicable(refusal or f"data set {data.spec.name} has no frames to look for molecules in")
    sizes = [len(part) for part in molecules]
    return Molecular(
        frames=np.array(used, dtype=np.int64),
        n_left_out=len(frames) - len(used),
        molecule=np.concatenate(molecules),
        positions=np.concatenate(positions),
        masses=np.concatenate(masses),
        molecules_in_frame=np.array([len(np.unique(part)) for part in molecules], dtype=np.int64),
        frame_of_atom=np.repeat(np.arange(len(used)), sizes),
    )


def left_out_view(n_used: int, n_left_out: int) -> tuple[Bars, ...]:
    """Return a figure of the frames left out; nothing when there are none."""
    if not n_left_out:
        return ()
    counts = np.array([float(n_used), float(n_left_out)])
    labels = ("used", "left out: a molecule is bonded to its own image")
    return (Bars(title="Frames", axis=Axis(quantity="frames"), labels=labels, values=counts, low=counts, high=counts),)
