"""Which atoms form a molecule, and where is it whole?

Molecules come from an explicit rule: two atoms are bonded when r < factor · (R_i + R_j), with no skin added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from mlipbench.errors import NotApplicable
from mlipbench.physics.cells import (
    Bool,
    Float,
    Int,
    complete_cell,
    minimum_image,
    plane_spacings,
    reduced_cell,
    shifts_within,
)

RADIUS_FACTOR: Final = 1.25
SAME_PLACE_A: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonds:
    """Bonded pairs, each once, with the image of the second atom that is meant.

    Attributes:
        first: shape (n_bonds,), atom number.
        second: shape (n_bonds,), atom number; equal to `first` when an atom is bonded to its own image.
        vectors: shape (n_bonds, 3), Å, from the first atom to that image of the second.
    """

    first: Int
    second: Int
    vectors: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Molecule:
    """One molecule of a frame.

    Attributes:
        number: as in the frame's molecule numbers.
        atoms: shape (n,), its atoms' numbers in the frame, ascending.
        positions: shape (n, 3), Å, whole: not cut by the cell.
    """

    number: int
    atoms: Int
    positions: Float


def find_bonds(
    positions: Float, cell: Float, pbc: Bool, *, radii: Float, radius_factor: float = RADIUS_FACTOR
) -> Bonds:
    """Return all pairs closer than `radius_factor` times the sum of their radii, periodic images included.

    Args:
        positions: shape (n_atoms, 3), Å; atoms may lie outside the cell.
        cell: shape (3, 3), Å; may be skewed, or smaller than a bond.
        pbc: shape (3,).
        radii: shape (n_atoms,), covalent radius of each atom in Å; 0 for an ion that must stay alone.
        radius_factor: scales the sum of the radii.

    Raises:
        BadInput: the cell has no volume along its periodic directions.

    Two atoms 1 Å apart across the boundary:

    >>> bonds = find_bonds(np.array([[0.5, 0, 0], [9.5, 0, 0]]), np.eye(3) * 10, np.ones(3, bool), radii=np.ones(2))
    >>> bonds.first.tolist(), bonds.second.tolist(), bonds.vectors.tolist()
    ([0], [1], [[-1.0, 0.0, 0.0]])
    """
    n_atoms = len(positions)
    longest = 2.0 * radius_factor * float(radii.max(initial=0.0))
    lattice, _ = reduced_cell(complete_cell(cell, pbc), pbc)
    wrapped = positions - np.where(pbc, np.floor(positions @ np.linalg.inv(lattice)), 0.0) @ lattice
    reach = np.where(pbc, np.ceil(longest / plane_spacings(lattice)), 0).astype(np.int64)
    shifts = shifts_within(reach)
    images = (wrapped[None] + (shifts @ lattice)[:, None]).reshape(-1, 3)
    near = cKDTree(wrapped).sparse_distance_matrix(cKDTree(images), longest, output_type="ndarray")
    first, image = near["i"].astype(np.int64), near["j"].astype(np.int64)
    shift, second = np.divmod(image, n_atoms)
    bonded = near["v"] < radius_factor * (radii[first] + radii[second])
    # Every pair is found from both ends; an atom and its own image are found as +shift and -shift.
    half = len(shifts) // 2  # the zero shift, as the list is symmetric
    once = (first < second) | ((first == second) & (shift > half))
    keep = np.flatnonzero(bonded & once)
    first, second, image = first[keep], second[keep], image[keep]
    return Bonds(first=first, second=second, vectors=images[image] - wrapped[first])


def inside(bonds: Bonds, molecule: Int) -> Bonds:
    """Return the bonds whose atoms belong to one molecule.

    Args:
        bonds: of all atoms.
        molecule: shape (n_atoms,), molecule number of each atom.

    >>> chain = Bonds(first=np.array([0, 1]), second=np.array([1, 2]), vectors=np.zeros((2, 3)))
    >>> inside(chain, np.array([0, 0, 1])).second.tolist()
    [1]
    """
    kept = molecule[bonds.first] == molecule[bonds.second]
    return Bonds(first=bonds.first[kept], second=bonds.second[kept], vectors=bonds.vectors[kept])


def are_whole(positions: Float, molecule: Int, *, radii: Float, radius_factor: float = RADIUS_FACTOR) -> bool:
    """Tell whether every molecule hangs together by bonds that cross no cell boundary.

    Args:
        positions: shape (n_atoms, 3), Å.
        molecule: shape (n_atoms,), molecule number of each atom.
        radii: shape (n_atoms,), covalent radius of each atom in Å.
        radius_factor: scales the sum of the radii.

    >>> cut = np.array([[0.5, 0, 0], [9.5, 0, 0]])
    >>> are_whole(cut, np.zeros(2, int), radii=np.ones(2)), are_whole(cut, np.arange(2), radii=np.ones(2))
    (False, True)
    """
    nowhere = np.zeros(3, dtype=bool)
    bonds = inside(find_bonds(positions, np.eye(3), nowhere, radii=radii, radius_factor=radius_factor), molecule)
    n_atoms = len(positions)
    graph = coo_array((np.ones(len(bonds.first)), (bonds.first, bonds.second)), shape=(n_atoms, n_atoms))
    return int(connected_components(graph, directed=False)[0]) == len(np.unique(molecule))


def find_molecules(
    positions: Float, cell: Float, pbc: Bool, *, radii: Float, radius_factor: float = RADIUS_FACTOR
) -> Int:
    """Return the molecule number of each atom, from 0 in the order of first atoms.

    Args:
        positions: shape (n_atoms, 3), Å.
        cell: shape (3, 3), Å.
        pbc: shape (3,).
        radii: shape (n_atoms,), covalent radius of each atom in Å, as `ase.data.covalent_radii[numbers]`.
        radius_factor: scales the sum of the radii.

    Returns:
        Shape (n_atoms,).

    Raises:
        BadInput: the cell has no volume along its periodic directions.

    >>> line = np.array([[0.0, 0, 0], [5.0, 0, 0], [1.0, 0, 0]])
    >>> find_molecules(line, np.zeros((3, 3)), np.zeros(3, bool), radii=np.full(3, 0.5)).tolist()
    [0, 1, 0]
    """
    bonds = find_bonds(positions, cell, pbc, radii=radii, radius_factor=radius_factor)
    n_atoms = len(positions)
    graph = coo_array((np.ones(len(bonds.first)), (bonds.first, bonds.second)), shape=(n_atoms, n_atoms))
    return renumbered(connected_components(graph, directed=False)[1])


def renumbered(molecule: Int) -> Int:
    """Return the same grouping with numbers from 0 in the order of first atoms.

    >>> renumbered(np.array([7, 3, 7, 5])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(molecule, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def unwrap(
    positions: Float,
    cell: Float,
    pbc: Bool,
    molecule: Int,
    *,
    radii: Float | None = None,
    radius_factor: float = RADIUS_FACTOR,
) -> Float:
    """Return positions in which every molecule is whole; its first atom stays where it is.

    Atoms are joined along the spanning tree of shortest nearest-image distances within each molecule, measured in
    sums of radii when those are given, so that bonds always come before contacts. The tree also joins a molecule
    that no bond rule would, such as an ion pair counted as one.

    Args:
        positions: shape (n_atoms, 3), Å.
        cell: shape (3, 3), Å.
        pbc: shape (3,).
        molecule: shape (n_atoms,), molecule number of each atom, in any order.
        radii: shape (n_atoms,), covalent radii in Å; None: plain distances, and no check for bonds to own images.
        radius_factor: of the bond rule in that check.

    Returns:
        Shape (n_atoms, 3), Å.

    Raises:
        BadInput: the cell has no volume along its periodic directions.
        NotApplicable: a molecule is bonded to its own image (a polymer, a layer, a crystal), so it is never whole.

    >>> cut = np.array([[0.5, 0, 0], [9.5, 0, 0]])
    >>> unwrap(cut, np.eye(3) * 10, np.ones(3, bool), np.array([0, 0])).tolist()
    [[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]
    """
    if not pbc.any():
        return np.array(positions, dtype=np.float64)
    n_atoms = len(positions)
    first, second = np.nonzero(np.triu(molecule[:, None] == molecule[None, :], k=1))
    vectors = minimum_image(positions[second] - positions[first], cell, pbc)
    weights = np.linalg.norm(vectors, axis=1)
    if radii is not None:
        weights = weights / np.maximum(radii[first] + radii[second], 0.1)
    # A stored zero would read as "no edge".
    graph = coo_array((weights + 1e-9, (first, second)), shape=(n_atoms, n_atoms))
    tree = minimum_spanning_tree(graph.tocsr())
    vector_of_pair = dict(zip(zip(first.tolist(), second.tolist(), strict=True), vectors, strict=True))
    whole = np.array(positions, dtype=np.float64)
    for root in np.unique(molecule, return_index=True)[1]:
        order, parents = breadth_first_order(tree, root, directed=False)
        for atom in order[1:].tolist():
            parent = int(parents[atom])
            step = vector_of_pair[parent, atom] if parent < atom else -vector_of_pair[atom, parent]
            whole[atom] = whole[parent] + step
    if radii is not None:
        bonds = find_bonds(positions, cell, pbc, radii=radii, radius_factor=radius_factor)
        _refuse_endless(bonds, whole, molecule)
    return whole


def _refuse_endless(bonds: Bonds, whole: Float, molecule: Int) -> None:
    """Raise when a bond inside a molecule does not lead to the whole molecule's own atom, but to an image of it."""
    inside = molecule[bonds.first] == molecule[bonds.second]
    direct = whole[bonds.second] - whole[bonds.first]
    elsewhere = inside & (np.abs(direct - bonds.vectors).max(axis=1, initial=0.0) > SAME_PLACE_A)
    if elsewhere.any():
        bond = int(np.argmax(elsewhere))
        raise NotApplicable(
            f"molecule {int(molecule[bonds.first[bond]])} is bonded to its own periodic image "
            f"(atoms {int(bonds.first[bond])} and {int(bonds.second[bond])}), so it cannot be taken out whole"
        )


def split_by_molecule(
    positions: Float,
    cell: Float,
    pbc: Bool,
    molecule: Int,
    *,
    radii: Float | None = None,
    radius_factor: float = RADIUS_FACTOR,
) -> tuple[Molecule, ...]:
    """Return every molecule with its atoms and whole positions, in the order of molecule numbers.

    Takes and raises what `unwrap` does.

    >>> cut = np.array([[0.5, 0, 0], [5.0, 5, 5], [9.5, 0, 0]])
    >>> pieces = split_by_molecule(cut, np.eye(3) * 10, np.ones(3, bool), np.array([0, 1, 0]))
    >>> [(piece.atoms.tolist(), piece.positions.tolist()) for piece in pieces]
    [([0, 2], [[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]), ([1], [[5.0, 5.0, 5.0]])]
    """
    whole = unwrap(positions, cell, pbc, molecule, radii=radii, radius_factor=radius_factor)
    groups = [(int(number), np.flatnonzero(molecule == number)) for number in np.unique(molecule)]
    return tuple(Molecule(number=number, atoms=atoms, positions=whole[atoms]) for number, atoms in groups)
