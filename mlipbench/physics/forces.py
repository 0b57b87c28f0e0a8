"""Which part of a force moves a molecule, turns it, and deforms it?

paper    code         meaning
f_i      forces       force on atom i
m_i      masses       its mass
R_m      centre       centre of mass of molecule m
rho_i    arms         r_i − R_m, of the whole molecule
F_m      net_force    sum of f_i over the molecule
tau_m    torque       sum of rho_i × f_i

translation  f_i = (m_i / M) F_m            every atom has the acceleration of the centre of mass
rotation     f_i = m_i (I⁺ tau_m) × rho_i   the accelerations are those of a rigid body turning about R_m
vibration    what is left                   no net force, no torque

The inverse of the moment of inertia I is never formed: it does not exist for a linear molecule, and loses its digits
near one. The rotation is the projection of f_i / √m_i on an orthonormal basis of √m_i e_k × rho_i instead, which has
three vectors for a bent molecule, two for a linear one and none for an atom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float, Int
from mlipbench.physics.statistics import sum_by_unit

# Round-off of coordinates up to 100 Å bends a straight molecule by about 1e-14; a real bend is far larger.
STRAIGHT: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceParts:
    """The three parts of each force; they add up to it.

    Attributes:
        translation: shape (n_atoms, 3), in the unit of the forces.
        rotation: likewise; zero for an atom that is its own molecule.
        vibration: likewise; zero for an atom that is its own molecule.
    """

    translation: Float
    rotation: Float
    vibration: Float


def split_forces(forces: Float, positions: Float, masses: Float, molecule: Int) -> ForceParts:
    """Split each force into the parts that move its molecule, turn it and deform it.

    The parts are orthogonal in the mass-weighted product Σ f·f′/m, not in the plain one.

    Args:
        forces: shape (n_atoms, 3), any unit.
        positions: shape (n_atoms, 3), Å, with every molecule whole (`physics.molecules.unwrap`).
        masses: shape (n_atoms,), any unit; only ratios matter.
        molecule: shape (n_atoms,), molecule number of each atom, in any order.

    Raises:
        BadInput: a mass is not a positive number.

    Source: rigid-body mechanics in mass-weighted coordinates, as in Wilson, Decius & Cross, Molecular Vibrations
    (1955), chapter 2.

    A force of 4 across a rod, on its lighter end, moves and turns the rod and leaves nothing to deform it:

    >>> rod = np.array([[0.0, 3, 0], [0, -1, 0]])
    >>> parts = split_forces(np.array([[4.0, 0, 0], [0, 0, 0]]), rod, np.array([1.0, 3.0]), np.array([0, 0]))
    >>> parts.translation[:, 0].round(12).tolist(), parts.rotation[:, 0].round(12).tolist()
    ([1.0, 3.0], [3.0, -3.0])
    >>> bool(np.abs(parts.vibration).max() < 1e-12)
    True
    """
    if not (np.isfinite(masses).all() and (masses > 0.0).all()):
        raise BadInput("every atom needs a positive mass to split its force into translation, rotation and vibration")
    numbers, own = np.unique(molecule, return_inverse=True)
    total_mass = sum_by_unit(masses[:, None], own, n_units=len(numbers))
    net_force = sum_by_unit(forces, own, n_units=len(numbers))
    translation = masses[:, None] * (net_force / total_mass)[own]
    rest = forces - translation
    rotation = np.zeros_like(rest)
    for atoms in np.split(np.argsort(own, kind="stable"), np.cumsum(np.bincount(own))[:-1]):
        if len(atoms) > 1:
            rotation[atoms] = _turning_part(rest[atoms], positions[atoms], masses[atoms])
    return ForceParts(translation=translation, rotation=rotation, vibration=rest - rotation)


def _turning_part(forces: Float, positions: Float, masses: Float) -> Float:
    """Project the forces on one molecule, which have no sum, on its rigid rotations."""
    weights = np.sqrt(masses)[:, None]
    basis = rotation_basis(positions, masses)
    rest = (forces / weights).ravel()
    turning = np.zeros_like(rest)
    for _ in range(2):  # the second pass removes the round-off of the first
        share = basis @ (basis.T @ rest)
        turning, rest = turning + share, rest - share
    return np.asarray(turning.reshape(-1, 3) * weights)


def rotation_basis(positions: Float, masses: Float) -> Float:
    """Return orthonormal mass-weighted rotations of one molecule about its centre of mass.

    Args:
        positions: shape (n_atoms, 3), Å, whole.
        masses: shape (n_atoms,).

    Returns:
        Shape (3 n_atoms, rank); rank is 3, or 2 for a linear molecule, or 0 for one atom.

    >>> rotation_basis(np.array([[0.0, 0, 0], [0, 0, 1.2], [0, 0, -1.2]]), np.array([12.0, 16.0, 16.0])).shape
    (9, 2)
    """
    weights = np.sqrt(masses)[:, None]
    arms = positions - positions[0]
    for _ in range(2):  # the second pass removes the round-off of the first
        arms = arms - masses @ arms / masses.sum()
    turns = np.stack([(weights * np.cross(axis, arms)).ravel() for axis in np.eye(3)], axis=1)
    left, singular, _ = np.linalg.svd(turns, full_matrices=False)
    basis = left[:, singular > STRAIGHT * singular[0]]
    # Near linearity the last vector is round-off magnified, translations included; it must be free of these.
    moves = np.kron(weights, np.eye(3)) / np.sqrt(masses.sum())
    return np.linalg.qr(basis - moves @ (moves.T @ basis))[0]
