"""How are rigid molecules moved together or apart, and what does that say about forces and stress?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlipbench.physics.cells import Float, Int
from mlipbench.physics.curves import fall_inward, minima


def centres(positions: Float, masses_u: Float, molecule: Int) -> Float:
    """Return the centre of mass of each molecule, shape (n_molecules, 3), Å.

    Args:
        positions: shape (n_atoms, 3), Å, molecules whole.
        masses_u: shape (n_atoms,).
        molecule: shape (n_atoms,), molecule number of each atom, from 0.
    """
    mass = np.bincount(molecule, masses_u)
    return np.stack([np.bincount(molecule, masses_u * x) / mass for x in positions.T], axis=1)


def scaled_rigidly(positions: Float, masses_u: Float, molecule: Int, scale: float) -> Float:
    """Return positions with the centres of all molecules scaled about the origin, and each molecule as it was.

    In a cell, the cell has to be scaled alike.

    Args:
        positions: shape (n_atoms, 3), Å, molecules whole.
        masses_u: shape (n_atoms,).
        molecule: shape (n_atoms,), molecule number of each atom, from 0.
        scale: of distances between centres.

    >>> pair = np.array([[0.0, 0, 0], [1.0, 0, 0], [5.0, 0, 0]])
    >>> scaled_rigidly(pair, np.ones(3), np.array([0, 0, 1]), 2.0)[:, 0].tolist()
    [0.5, 1.5, 10.0]
    """
    return np.asarray(positions + (scale - 1.0) * centres(positions, masses_u, molecule)[molecule])


def molecular_virial_eV(
    virial_trace_eV: float, positions: Float, forces: Float, masses_u: Float, molecule: Int
) -> float:
    """Return tr W - Σ (r_i - R_m)·f_i: what rigid molecules say when their centres are scaled.

    When the centres (and the cell) of rigid molecules are scaled by s, it equals -s dE/ds, which is -3 V dE/dV in a
    cell. A virial of the wrong sign, or of the wrong size, breaks this.

    Args:
        virial_trace_eV: trace of the virial: -V tr(stress) in a cell (ASE's sign), Σ r_i·f_i without one.
        positions: shape (n_atoms, 3), Å, molecules whole.
        forces: shape (n_atoms, 3), eV/Å.
        masses_u: shape (n_atoms,).
        molecule: shape (n_atoms,), molecule number of each atom, from 0.

    Source: chain rule; M. P. Allen & D. J. Tildesley, Computer Simulation of Liquids (2017), section 2.4.
    """
    inside = positions - centres(positions, masses_u, molecule)[molecule]
    return float(virial_trace_eV - (inside * forces).sum())


def contact_shift_A(fixed: Float, moved: Float, direction: Float, *, gap_A: float, may_approach: bool = False) -> float:
    """Return how far atoms must be shifted to be just in contact with others, and never nearer on the way out.

    Args:
        fixed: shape (n, 3), Å, atoms that stay.
        moved: shape (m, 3), Å, atoms to be shifted.
        direction: shape (3,), of length 1.
        gap_A: the least distance between an atom of one and an atom of the other.
        may_approach: may atoms that pass each other farther than the gap still come nearer on the way out?

    Two atoms on one line, and two that pass each other 3 Å apart:

    >>> x = np.array([1.0, 0.0, 0.0])
    >>> contact_shift_A(np.zeros((1, 3)), np.array([[-7.0, 0.0, 0.0]]), x, gap_A=2.0)
    9.0
    >>> contact_shift_A(np.zeros((1, 3)), np.array([[-7.0, 3.0, 0.0]]), x, gap_A=2.0)
    7.0
    """
    apart = (moved[:, None] - fixed[None]).reshape(-1, 3)
    along = apart @ direction
    room = gap_A**2 - ((apart**2).sum(axis=1) - along**2)
    shifts = np.sqrt(np.maximum(room, 0.0)) - along
    touching = room > 0.0
    return float((shifts[touching] if may_approach and touching.any() else shifts).max())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is plainly wrong with the energy of molecules that are moved together and apart.

    Attributes:
        no_minimum: nowhere is the energy lower than at both ends.
        double_minimum: there is more than one well.
        collapse: pushed together, the molecules do not repel, or inside the deepest well the wall has a hole; ions may
            still attract each other where their wall begins.
        unbound: nowhere are they better off than alone.
    """

    no_minimum: bool
    double_minimum: bool
    collapse: bool
    unbound: bool


def shape_of(energy: Float, *, least_eV: float = 1e-3, share: float = 0.05) -> Shape:
    """Judge a curve of energies per molecule less those of the molecules alone.

    Args:
        energy: shape (n_points,), eV, from the compressed to the expanded end.
        least_eV: smaller wells are none.
        share: of the depth, by which a second well or a hole in the wall must stand out.

    >>> shape_of(np.array([2.0, 0.1, -0.4, -0.2, -0.01]))
    Shape(no_minimum=False, double_minimum=False, collapse=False, unbound=False)
    >>> shape_of(np.array([0.5, 0.3, 0.2, 0.1, 0.01])).unbound, shape_of(np.array([-5.0, 1.0, -0.4, -0.1])).collapse
    (True, True)
    """
    depth = max(-float(energy.min()), 0.0)
    prominence = max(least_eV, share * depth)
    return Shape(
        no_minimum=bool(min(energy[0], energy[-1]) - energy.min() < 0.1 * least_eV),
        double_minimum=len(minima(energy, prominence=prominence)) > 1,
        collapse=bool(
            energy[0] - energy.min() <= prominence or fall_inward(energy, int(np.argmin(energy))) > prominence
        ),
        unbound=depth < least_eV,
    )
