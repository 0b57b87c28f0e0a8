"""How are the molecules of a frame moved as rigid bodies, and what does a model say of that?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.asking import predict_pieces
from mlipbench.benchmarks.molecular import molecular
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.cells import minimum_image
from mlipbench.physics.conservation import STEPS, slope
from mlipbench.physics.scans import centres, molecular_virial_eV, scaled_rigidly

if TYPE_CHECKING:
    from ase import Atoms

VIRIAL_STEP: Final = 0.02  # of the logarithm of the scale, the wider of two; large against round-off
LEAST_VIRIAL_EV: Final = 1e-3  # per molecule; errors are relative to virials of at least this size
DEEPEST: Final = 0.2  # scale below which a contact is not looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """A frame of two molecules or more, whole.

    Attributes:
        frame: number of the frame in the data set.
        atoms: with an array "molecule" that names the molecules, as bonds by distance would join squeezed ones.
        molecule: shape (n_atoms,), molecule number of each atom, from 0.
        charges: of each molecule; empty where the data say nothing.
    """

    frame: int
    atoms: Atoms
    molecule: Int
    charges: tuple[int, ...] = ()

    @property
    def n_molecules(self) -> int:
        """Number of molecules."""
        return int(self.molecule.max()) + 1

    def at(self, scale: float) -> Atoms:
        """Return the frame with the centres of its molecules, and its cell if any, scaled."""
        moved = self.atoms.copy()
        moved.set_cell(self.atoms.cell.array * scale, scale_atoms=False)
        moved.positions = scaled_rigidly(self.atoms.positions, self.atoms.get_masses(), self.molecule, scale)
        return moved

    def alone(self) -> list[Atoms]:
        """Return each molecule without cell and company."""
        parts = []
        for number in range(self.n_molecules):
            part = self.atoms[self.molecule == number]
            part.info = {"charge": self.charges[number]} if self.charges and self.charges[number] else {}
            part.set_pbc(False)
            part.set_cell(None)
            parts.append(part)
        return parts

    def nearest(self, n_atoms: int, *, least: int) -> Company:
        """Return a molecule from the middle and those nearest to it, without a cell, up to so many atoms.

        Args:
            n_atoms: most atoms.
            least: molecules that are taken whatever their size.
        """
        masses, positions = self.atoms.get_masses(), self.atoms.positions
        places = centres(positions, masses, self.molecule)
        middle = int(np.argmin(np.linalg.norm(places - places.mean(axis=0), axis=1)))
        apart = minimum_image(places - places[middle], self.atoms.cell.array, self.atoms.pbc)
        order = np.argsort(np.linalg.norm(apart, axis=1), kind="stable")
        sizes = np.cumsum(np.bincount(self.molecule)[order])
        kept = order[: max(int((sizes <= n_atoms).sum()), least)]
        rows = np.concatenate([np.flatnonzero(self.molecule == number) for number in kept])
        number = np.repeat(np.arange(len(kept)), [int((self.molecule == one).sum()) for one in kept])
        atoms = self.atoms[rows]
        atoms.set_constraint()
        atoms.positions = positions[rows] + (apart + places[middle] - places)[self.molecule[rows]]
        charges = tuple(self.charges[one] for one in kept.tolist()) if self.charges else ()
        atoms.info = {"charge": sum(charges)} if sum(charges) else {}
        atoms.set_pbc(False)
        atoms.set_cell(None)
        atoms.positions -= atoms.get_center_of_mass()
        atoms.set_array("molecule", number)
        return Company(frame=self.frame, atoms=atoms, molecule=number, charges=charges)


def atom_by_atom(data: Dataset, frame: int) -> Company:
    """Return a frame whose atoms are moved each for itself, as crystals and single molecules are."""
    atoms = data.frames[frame].copy()
    atoms.set_constraint()
    if not atoms.pbc.any():
        atoms.positions -= atoms.get_center_of_mass()
    return Company(frame=frame, atoms=atoms, molecule=np.arange(len(atoms)))


def companies(data: Dataset, frames: Int, *, lone_elements: Sequence[str]) -> tuple[Company, ...]:
    """Return the frames, among these, that hold two molecules or more.

    Args:
        data: the data set.
        frames: shape (n,), frame numbers.
        lone_elements: symbols of elements that are never bonded.

    Raises:
        NotApplicable: there are none.
    """
    found = molecular(data, frames, lone_elements=lone_elements)
    out = []
    for place, frame in enumerate(found.frames.tolist()):
        if found.molecules_in_frame[place] < 2:
            continue
        own = found.frame_of_atom == place
        molecule = found.molecule[own] - found.molecule[own].min()
        atoms = data.frames[frame].copy()
        atoms.set_constraint()
        atoms.positions = found.positions[own]
        if not atoms.pbc.any():
            atoms.positions -= atoms.get_center_of_mass()
        atoms.set_array("molecule", molecule)
        charges = charges_of(data, frame, int(molecule.max()) + 1)
        out.append(Company(frame=frame, atoms=atoms, molecule=molecule, charges=charges))
    if not out:
        raise NotApplicable(f"data set {data.spec.name} has no frame of two molecules or more here")
    return tuple(out)


def charges_of(data: Dataset, frame: int, n_molecules: int) -> tuple[int, ...]:
    """Return the charges of a frame's molecules, in the order of their numbers; nothing where the data say nothing.

    Raises:
        BadInput: there is another number of charges than of molecules.
    """
    if data.molecule_charges is None:
        return ()
    given = data.molecule_charges[frame]
    if len(given) != n_molecules:
        raise BadInput(
            f"frame {data.uid[frame]} has {n_molecules} molecules but {len(given)} molecule charges; give one each"
        )
    return given


def energies_alone(model: Model, company: Sequence[Company], context: Context) -> Float:
    """Return the sum of the energies of each frame's molecules, each alone, eV, shape (n_frames,)."""
    parts = [one.alone() for one in company]
    said = predict_pieces(model, [part for many in parts for part in many], context, remark="molecules alone")
    ends = np.cumsum([len(many) for many in parts])[:-1]
    return np.array([energy.sum() for energy in np.split(said.energy, ends)])


def contact(atoms: Atoms, molecule: Int, radii_A: Float) -> float:
    """Return the shortest distance of atoms of different molecules, in sums of their radii."""
    first, second = np.nonzero(np.triu(molecule[:, None] != molecule[None, :]))
    apart = minimum_image(atoms.positions[second] - atoms.positions[first], atoms.cell.array, atoms.pbc)
    return float((np.linalg.norm(apart, axis=1) / (radii_A[first] + radii_A[second])).min())


def touching_scale(one: Company, *, nearest: float) -> float:
    """Return the largest scale below 1 at which molecules come as near as this, in sums of covalent radii."""
    from ase.data import covalent_radii

    radii_A = covalent_radii[one.atoms.numbers]
    if contact(one.atoms, one.molecule, radii_A) <= nearest:
        return 1.0
    outer = 1.0
    while outer > DEEPEST:
        inner = 0.97 * outer
        if contact(one.at(inner), one.molecule, radii_A) <= nearest:
            return inner
        outer = inner
    return outer


@dataclass(frozen=True, slots=True, kw_only=True)
class Virials:
    """Both sides of the identity of the molecular virial, per molecule.

    Attributes:
        told: shape (n_frames,), eV, from forces and stress.
        slope: shape (n_frames,), eV, minus the slope of the energy along the logarithm of the scale.
        known: shape (n_frames,); a frame with a cell whose model gives no stress tells nothing.
    """

    told: Float
    slope: Float
    known: Bool


def virials(model: Model, company: Sequence[Company], context: Context) -> Virials:
    """Ask for forces and stress of each frame, and for its energy a little smaller and larger.

    Raises:
        ModelFailure: the model is at fault.
        NotApplicable: the model does not cover the frames.
    """
    said = predict_pieces(model, [one.atoms for one in company], context, remark="virials")
    moved = [one.at(float(np.exp(VIRIAL_STEP * step))) for one in company for step in STEPS]
    energy = predict_pieces(model, moved, context, remark="virials").energy.reshape(len(company), len(STEPS))
    told, known = [], []
    for k, one in enumerate(company):
        forces = said.forces[said.offsets[k] : said.offsets[k + 1]]
        periodic = bool(one.atoms.pbc.any())
        trace = 0.0 if periodic else float((one.atoms.positions * forces).sum())
        if said.has_stress[k] and periodic:  # a piece in a wide cell has forces enough
            trace = -one.atoms.get_volume() * float(np.trace(said.stress[k]))
        masses = one.atoms.get_masses()
        told.append(molecular_virial_eV(trace, one.atoms.positions, forces, masses, one.molecule) / one.n_molecules)
        known.append(bool(said.has_stress[k]) or not periodic)
    n_molecules = np.array([one.n_molecules for one in company])
    return Virials(told=np.array(told), slope=-slope(energy, VIRIAL_STEP) / n_molecules, known=np.array(known))


def virial_errors(told: Float, from_slope: Float, scan: Int) -> Float:
    """Return the difference of both sides, relative to the larger one, to their median size on the scan, or to 1 meV.

    Whichever is largest: relative to each value alone, round-off would rule where molecules hardly feel each other.

    Args:
        told: shape (n,), eV per molecule.
        from_slope: likewise.
        scan: shape (n,), number of the scan of each.

    >>> virial_errors(np.array([2.0, 4.0, 1.0]), np.array([2.0, 4.0, 1.2]), np.zeros(3, int)).round(9).tolist()
    [0.0, 0.0, -0.1]
    """
    size = np.maximum(np.maximum(np.abs(told), np.abs(from_slope)), LEAST_VIRIAL_EV)
    medians = {number: float(np.median(size[scan == number])) for number in np.unique(scan).tolist()}
    return np.asarray((told - from_slope) / np.maximum(size, [medians[number] for number in scan.tolist()]))
