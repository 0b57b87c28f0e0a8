"""Heavier hydrogen atoms: slower vibrations, so that a longer time step keeps the energy."""

from __future__ import annotations

import numpy as np

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float, Int
from mlipbench.physics.molecules import Bonds


def repartitioned(masses_u: Float, numbers: Int, bonds: Bonds, *, hydrogen_mass_u: float) -> Float:
    """Return masses with each hydrogen atom made heavier at the expense of the heavy atom it is bonded to.

    The mass of every molecule stays, and static averages do not feel masses.

    Args:
        masses_u: shape (n_atoms,).
        numbers: shape (n_atoms,), atomic numbers.
        bonds: of the atoms; hydrogen bonded to hydrogen alone keeps its mass.
        hydrogen_mass_u: what each bonded hydrogen atom gets.

    Raises:
        BadInput: a heavy atom would be left lighter than a hydrogen atom.

    Source: K. A. Feenstra, B. Hess & H. J. C. Berendsen, J. Comput. Chem. 20, 786 (1999).

    >>> bonds = Bonds(first=np.array([0, 0]), second=np.array([1, 2]), vectors=np.zeros((2, 3)))
    >>> repartitioned(np.array([16.0, 1.0, 1.0]), np.array([8, 1, 1]), bonds, hydrogen_mass_u=3.0).tolist()
    [12.0, 3.0, 3.0]
    """
    made = np.array(masses_u, dtype=np.float64)
    changed = np.zeros(len(made), dtype=bool)
    for first, second in zip(bonds.first.tolist(), bonds.second.tolist(), strict=True):
        light, heavy = (first, second) if numbers[first] == 1 else (second, first)
        if numbers[light] == 1 and numbers[heavy] > 1 and not changed[light]:
            made[heavy] -= hydrogen_mass_u - made[light]
            made[light] = hydrogen_mass_u
            changed[light] = True
    too_light = made < np.minimum(masses_u, hydrogen_mass_u)
    if too_light.any():
        atom = int(np.argmax(too_light))
        raise BadInput(
            f"hydrogen_mass_u = {hydrogen_mass_u} leaves atom {atom} {made[atom]:.2f} u; choose a smaller mass"
        )
    return made
