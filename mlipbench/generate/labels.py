"""What are GFN1-xTB's (or GFN2-xTB's) energy, forces and stress of a structure, and of its molecules alone?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.core.model import Float, Int
from mlipbench.errors import BadInput, missing_package

if TYPE_CHECKING:
    from ase import Atoms

METHOD = "GFN1-xTB"
ACCURACY = 0.1
ELECTRONIC_TEMPERATURE_K = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What the labels of one frame are.

    Attributes:
        energy: eV.
        forces: shape (n_atoms, 3), eV/Å.
        stress: shape (3, 3), eV/Å^3, ASE's sign; None without a cell.
        energy_intra: eV, sum over the molecules, each alone in vacuum at the same geometry.
        forces_intra: shape (n_atoms, 3), eV/Å, on each atom from its own molecule alone.
    """

    energy: float
    forces: Float
    stress: Float | None
    energy_intra: float
    forces_intra: Float


def calculator(*, method: str = METHOD, accuracy: float = ACCURACY) -> Any:
    """Return a fresh xTB calculator: closed shell, Fermi smearing at 300 K.

    Args:
        method: "GFN1-xTB" or "GFN2-xTB".
        accuracy: tblite's own scale; smaller is tighter, 1 is its default.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1: with more threads small molecules run up to hundreds of times slower.
        NotApplicable: tblite is not installed.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise BadInput(
            f"OMP_NUM_THREADS is {os.environ.get('OMP_NUM_THREADS', 'not set')}; "
            "xTB labels need OMP_NUM_THREADS=1, set before Python starts: run more processes instead"
        )
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise missing_package("tblite", extra="xtb", needed_for="xTB labels") from error
    return TBLite(method=method, accuracy=accuracy, electronic_temperature=ELECTRONIC_TEMPERATURE_K, verbosity=0)


def label(atoms: Atoms, molecule: Int, *, method: str = METHOD) -> Labels:
    """Return the labels of one frame whose molecules are whole (not cut by the cell).

    Args:
        atoms: the frame; it is not changed.
        molecule: shape (n_atoms,), molecule number of each atom, from 0.
        method: as in `calculator`.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: tblite is not installed.
        CalculationFailed: the electronic structure did not converge (ASE's exception).
    """
    energy, forces, stress = _single_point(atoms, method)
    if not atoms.pbc.any() and molecule.max() == 0:
        return Labels(energy=energy, forces=forces, stress=None, energy_intra=energy, forces_intra=forces.copy())
    energy_intra, forces_intra = 0.0, np.zeros_like(forces)
    for number in range(int(molecule.max()) + 1):
        own = molecule == number
        part = atoms[own]
        part.set_pbc(False)
        part.set_cell(None)
        part_energy, forces_intra[own], _ = _single_point(part, method)
        energy_intra += part_energy
    return Labels(energy=energy, forces=forces, stress=stress, energy_intra=energy_intra, forces_intra=forces_intra)


def _single_point(atoms: Atoms, method: str) -> tuple[float, Float, Float | None]:
    copy = atoms.copy()
    copy.info, copy.calc = {}, calculator(method=method)
    stress = copy.get_stress(voigt=False) if copy.pbc.any() else None
    return float(copy.get_potential_energy()), copy.get_forces(), stress
