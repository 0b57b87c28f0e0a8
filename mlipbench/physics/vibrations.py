"""At which frequencies does a molecule vibrate about its minimum, and which vibration is which?

paper   code         meaning
H       hessian      second derivatives of the energy by Cartesian coordinates, eV/Å^2
m_i     masses_u     mass of atom i, u
T, R    rigid        mass-weighted translations and rotations of the whole, orthonormal columns
Q       inside       an orthonormal basis of what is orthogonal to them
λ_k     curvature    eigenvalues of Qᵀ M^(-1/2) H M^(-1/2) Q, eV/Å^2/u
L_k     modes        its eigenvectors, in mass-weighted Cartesian coordinates
ν_k     wavenumbers  √λ_k / 2πc in cm⁻¹; where λ_k is negative, -√|λ_k| / 2πc

Source: E. B. Wilson, J. C. Decius & P. C. Cross, Molecular Vibrations (1955), chapter 2. Diagonalising in the basis Q
leaves 3n - 6 modes of a bent molecule, 3n - 5 of a linear one and none of an atom, with no threshold for "zero".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float, Int
from mlipbench.physics.forces import rotation_basis
from mlipbench.units import EV_PER_INVERSE_CM, INVERSE_CM_PER_ROOT_EV_PER_U_SQUARE_ANGSTROM

# Relaxation leaves a straight molecule bent by the last force over the stiffness of its bends, about 1e-3 Å, and a turn
# about an axis that near to all atoms would be that bend.
STRAIGHT_A: Final = 0.02
TIE: Final = 1e-9  # of equally good rotations take the smallest, as of a straight molecule about its axis


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vibrations:
    """The harmonic vibrations of one molecule.

    Attributes:
        wavenumbers_per_cm: shape (n_modes,), ascending; that of a mode with a negative curvature is imaginary, and
            stands here as minus its size.
        modes: shape (n_modes, 3 n_atoms), orthonormal, in mass-weighted Cartesian coordinates (√m times displacement).
    """

    wavenumbers_per_cm: Float
    modes: Float


def vibrations(hessian: Float, positions: Float, masses_u: Float) -> Vibrations:
    """Return the vibrations about a geometry, with translations and rotations of the whole projected out.

    Args:
        hessian: shape (3 n_atoms, 3 n_atoms), eV/Å^2; its symmetric part counts.
        positions: shape (n_atoms, 3), Å.
        masses_u: shape (n_atoms,).

    Raises:
        BadInput: shapes do not fit, or a mass is not a positive number.

    A spring of 80 eV/Å² between two atoms of 10 u each, √(k/µ) = √16:

    >>> pair = np.array([[0.0, 0, 0], [0, 0, 1.1]])
    >>> spring = 80.0 * np.kron([[1, -1], [-1, 1]], np.diag([0, 0, 1]))
    >>> found = vibrations(spring, pair, np.array([10.0, 10.0]))
    >>> (found.wavenumbers_per_cm / INVERSE_CM_PER_ROOT_EV_PER_U_SQUARE_ANGSTROM).round(9).tolist()
    [4.0]
    """
    n = len(positions)
    if hessian.shape != (3 * n, 3 * n) or masses_u.shape != (n,) or positions.shape != (n, 3):
        raise BadInput(
            f"vibrations: a Hessian of shape {hessian.shape} and {masses_u.size} masses for positions of shape"
            f" {positions.shape}; ({3 * n}, {3 * n}) and {n} are needed"
        )
    if not (np.isfinite(masses_u).all() and (masses_u > 0.0).all()):
        raise BadInput("vibrations: every atom needs a positive mass")
    root = np.sqrt(np.repeat(masses_u, 3))
    weighted = 0.5 * (hessian + hessian.T) / np.outer(root, root)
    rigid = rigid_motions(positions, masses_u)
    inside = np.linalg.qr(rigid, mode="complete")[0][:, rigid.shape[1] :]
    curvature, vectors = np.linalg.eigh(inside.T @ weighted @ inside)
    return Vibrations(wavenumbers_per_cm=wavenumbers_per_cm(curvature), modes=(inside @ vectors).T)


def wavenumbers_per_cm(curvature: Float) -> Float:
    """Return √λ in cm⁻¹ for curvatures in eV/Å²/u, and -√|λ| for negative ones."""
    return np.asarray(np.sign(curvature) * np.sqrt(np.abs(curvature)) * INVERSE_CM_PER_ROOT_EV_PER_U_SQUARE_ANGSTROM)


def rigid_motions(positions: Float, masses_u: Float) -> Float:
    """Return orthonormal mass-weighted translations and rotations of the whole, shape (3 n_atoms, 6, 5 or 3).

    >>> rigid_motions(np.array([[0.0, 0, 0], [0, 0, 1.2], [0, 1e-3, -1.2]]), np.array([12.0, 16.0, 16.0])).shape
    (9, 5)
    """
    moves: Float = np.kron(np.sqrt(masses_u)[:, None], np.eye(3)) / np.sqrt(masses_u.sum())
    if len(positions) == 1:
        return moves
    place = _on_a_line(positions) if is_straight(positions) else positions
    return np.hstack([moves, rotation_basis(place, masses_u)])


def is_straight(positions: Float) -> bool:
    """Are all atoms on one line, within 0.02 Å?

    >>> is_straight(np.array([[0.0, 0, 0], [0, 0, 1.2], [0, 0.01, -1.2]])), is_straight(np.eye(3))
    (True, False)
    """
    return bool(np.abs(positions - _on_a_line(positions)).max() < STRAIGHT_A)


def _on_a_line(positions: Float) -> Float:
    """Return the nearest points on the line that fits the atoms best."""
    middle = positions.mean(axis=0)
    axis = np.linalg.svd(positions - middle)[2][0]
    return np.asarray(middle + np.outer((positions - middle) @ axis, axis))


def zero_point_energy_eV(wavenumbers: Float) -> float:
    """Return half the sum of hcν over the real ones of some wavenumbers in cm⁻¹.

    >>> round(zero_point_energy_eV(np.array([-50.0, 8065.544 * 2])), 6)
    1.0
    """
    return float(0.5 * EV_PER_INVERSE_CM * np.maximum(wavenumbers, 0.0).sum())


def displaced(positions: Float, step_A: float) -> Float:
    """Return the 6n geometries that `central_hessian` wants: each coordinate in turn moved up, then each moved down.

    Returns:
        Shape (6 n_atoms, n_atoms, 3), Å.
    """
    steps = step_A * np.eye(positions.size).reshape(-1, *positions.shape)
    return np.concatenate([positions + steps, positions - steps])


def central_hessian(forces: Float, step_A: float) -> Float:
    """Return minus the central differences of forces; row k holds what moving coordinate k does.

    The error is step²/6 times a fourth derivative of the energy, so that it need not be symmetric.

    Args:
        forces: shape (6 n_atoms, n_atoms, 3), eV/Å, at the geometries of `displaced`.
        step_A: with which they were made.

    Returns:
        Shape (3 n_atoms, 3 n_atoms), eV/Å^2, as it comes out.
    """
    up, down = np.split(forces.reshape(len(forces), -1), 2)
    return np.asarray((down - up) / (2.0 * step_A))


def asymmetry_squares(hessian: Float) -> tuple[float, float]:
    """Return ‖(H - Hᵀ)/2‖² and ‖H‖², whose ratio is zero where forces have a potential, eV²/Å⁴.

    Source: F. Bigi, M. Langer & M. Ceriotti, arXiv:2412.11569.

    >>> asymmetry_squares(np.array([[0.0, 1.0], [-1.0, 0.0]]))
    (2.0, 2.0)
    """
    return float((0.25 * (hessian - hessian.T) ** 2).sum()), float((hessian**2).sum())


def superposition(moved: Float, fixed: Float, weights: Float) -> Float:
    """Return the proper rotation R that lays `moved` on `fixed` best: the weighted Σ |R x - y|² is least.

    Args:
        moved: shape (n, 3), Å, about its own weighted centre or not.
        fixed: shape (n, 3), Å, likewise.
        weights: shape (n,); ones, or masses.

    Source: W. Kabsch, Acta Cryst. A 32, 922 (1976) and 34, 827 (1978).
    """
    x, y = (one - weights @ one / weights.sum() for one in (moved, fixed))
    overlap = (weights[:, None] * y).T @ x
    overlap += TIE * np.linalg.norm(overlap) * np.eye(3)
    left, _, right = np.linalg.svd(overlap)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return np.asarray(left @ handed @ right)


def rmsd_squares_A2(moved: Float, fixed: Float) -> Float:
    """Return each atom's squared distance from where it should be, after superposition, shape (n,), Å²."""
    x, y = (one - one.mean(axis=0) for one in (moved, fixed))
    turn = superposition(moved, fixed, np.ones(len(moved)))
    return np.asarray(((x @ turn.T - y) ** 2).sum(axis=1))


def turned(modes: Float, rotation: Float) -> Float:
    """Return modes of shape (n_modes, 3 n_atoms) as they are after the molecule has been turned."""
    return np.asarray((modes.reshape(len(modes), -1, 3) @ rotation.T).reshape(modes.shape))


def matched(modes: Float, reference: Float) -> tuple[Int, Float]:
    """Say for each mode of the reference which mode it is, so that the sum of squared overlaps is largest.

    Args:
        modes: shape (n_modes, 3 n_atoms), orthonormal.
        reference: of the same shape, in the same orientation and order of atoms.

    Returns:
        Shape (n_modes,), numbers of modes, each once; and the squared overlap of each pair, 1 for the same mode. Modes
        of one frequency may be mixed, and their overlaps small, without meaning.

    Raises:
        BadInput: the shapes differ.

    >>> matched(np.eye(3)[[2, 0, 1]], np.eye(3))[0].tolist()
    [1, 2, 0]
    """
    if modes.shape != reference.shape:
        raise BadInput(f"modes of shape {modes.shape} cannot be matched with {reference.shape}")
    overlap = (reference @ modes.T) ** 2
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return np.asarray(columns, dtype=np.int64), np.asarray(overlap[rows, columns])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Vibrations of one molecule beside those of a reference, each at its own minimum.

    Attributes:
        reference: shape (n_modes,), wavenumbers in cm⁻¹, ascending.
        matched: shape (n_modes,), those of the vibrations that overlap most with the reference's.
        ordered: shape (n_modes,), the same wavenumbers ascending.
        squares_A2: shape (n_atoms,), squared distance of each atom from the reference's, after superposition.
    """

    reference: Float
    matched: Float
    ordered: Float
    squares_A2: Float

    @property
    def zero_point_error_eV(self) -> float:
        """Zero-point energy less that of the reference."""
        return zero_point_energy_eV(self.ordered) - zero_point_energy_eV(self.reference)


def compared(
    hessian: Float, positions: Float, reference_hessian: Float, reference_positions: Float, *, masses_u: Float
) -> Comparison:
    """Compare the vibrations at two minima of one molecule; modes are turned with the atoms before they are matched.

    Args:
        hessian: shape (3 n_atoms, 3 n_atoms), eV/Å^2.
        positions: shape (n_atoms, 3), Å, where it was taken.
        reference_hessian: likewise.
        reference_positions: likewise, with as many modes.
        masses_u: shape (n_atoms,).

    Raises:
        BadInput: shapes do not fit, or only one of the two is straight.
    """
    own = vibrations(hessian, positions, masses_u)
    reference = vibrations(reference_hessian, reference_positions, masses_u)
    turn = superposition(positions, reference_positions, masses_u)
    order, _ = matched(turned(own.modes, turn), reference.modes)
    return Comparison(
        reference=reference.wavenumbers_per_cm,
        matched=own.wavenumbers_per_cm[order],
        ordered=own.wavenumbers_per_cm,
        squares_A2=rmsd_squares_A2(positions, reference_positions),
    )
