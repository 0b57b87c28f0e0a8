"""What are GAFF2's energy, forces and stress of a structure, and of its molecules alone, in double precision?"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.core.model import Int, ModelSpec
from mlipbench.models.mm import GaffModel, load

if TYPE_CHECKING:
    from ase import Atoms

METHOD = "GAFF2/AM1-BCC"


@cache
def _model() -> GaffModel:
    return load(ModelSpec(name="gaff2", kind="mm"), device="cpu")


def record(atoms: Atoms, molecule: Int) -> dict[str, Any]:
    """Return a labelled frame as plain JSON values; its molecules are whole.

    Args:
        atoms: the frame; it is not changed.
        molecule: shape (n_atoms,), molecule number of each atom, from 0.

    Raises:
        NotApplicable: openmm is not installed, or a molecule is neither EC nor EMC.
    """
    named = atoms.copy()
    named.set_array("molecule", molecule)  # bonds by distance would join molecules that are squeezed together
    parts = []
    for number in range(int(molecule.max()) + 1):
        part = atoms[molecule == number]
        part.set_pbc(False)
        part.set_cell(None)
        parts.append(part)
    whole, alone = _model().predict([named]), _model().predict(parts)
    intra = np.zeros((len(atoms), 3))
    for number, first in enumerate(alone.offsets[:-1]):
        intra[molecule == number] = alone.forces[first : first + alone.n_atoms[number]]
    return {
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist() if atoms.pbc.any() else None,
        "molecule": molecule.tolist(),
        "energy": float(whole.energy[0]),
        "forces": whole.forces.tolist(),
        "stress": whole.stress[0].tolist() if whole.has_stress[0] else None,
        "energy_intra": float(alone.energy.sum()),
        "forces_intra": intra.tolist(),
    }
