"""Which atom of a frame is which atom of the force field?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.core.model import Float, Int
from mlipbench.errors import NotApplicable
from mlipbench.models.gaff2 import NAMES, template
from mlipbench.physics.molecules import find_bonds, find_molecules, inside, unwrap

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A frame in the force field's words.

    Attributes:
        names: of the molecules, EC first.
        order: shape (n_atoms,), the frame's atom that stands at each place of the composed system.
        positions: shape (n_atoms, 3), Å, in the frame's order, molecules whole.
    """

    names: tuple[str, ...]
    order: Int
    positions: Float


def assign(atoms: Atoms, *, where: str) -> Assigned:
    """Find the molecules of a frame by their bonds and match each with one of the force field.

    A frame that is squeezed until molecules touch as if bonded can name them: an array "molecule" with the molecule
    number of each atom. Its molecules must be whole.

    Args:
        atoms: in any order, wrapped or not; whole where it names its molecules.
        where: the frame's name, for the error.

    Raises:
        NotApplicable: a molecule is neither EC nor EMC.
    """
    from ase.data import covalent_radii

    radii = covalent_radii[atoms.numbers]
    cell = atoms.cell.array
    named = atoms.arrays.get("molecule")
    if named is None:
        bonds = find_bonds(atoms.positions, cell, atoms.pbc, radii=radii)
        molecule = find_molecules(atoms.positions, cell, atoms.pbc, radii=radii)
        positions = unwrap(atoms.positions, cell, atoms.pbc, molecule, radii=radii)
    else:
        molecule, positions = np.unique(named, return_inverse=True)[1], atoms.positions
        bonds = inside(find_bonds(positions, cell, np.zeros(3, dtype=bool), radii=radii), molecule)
    found = []
    for number in range(int(molecule.max()) + 1):
        own = np.flatnonzero(molecule == number)
        here = molecule[bonds.first] == number
        first, second = np.searchsorted(own, bonds.first[here]), np.searchsorted(own, bonds.second[here])
        pairs = frozenset(zip(first.tolist(), second.tolist(), strict=True))
        symbols = tuple(atoms[own].get_chemical_symbols())
        matched = _match(symbols, pairs)
        if matched is None:
            raise NotApplicable(
                f"{where}: the molecule {atoms[own].get_chemical_formula('hill')} (atom {int(own[0])} and those bonded "
                f"to it) is not in this GAFF2 force field; it knows {', '.join(NAMES)}"
            )
        found.append((matched[0], own[list(matched[1])]))
    found.sort(key=lambda one: (NAMES.index(one[0]), int(one[1].min())))
    order = np.concatenate([atoms_of_one for _, atoms_of_one in found])
    return Assigned(names=tuple(name for name, _ in found), order=order, positions=positions)


@lru_cache(maxsize=4096)
def _match(symbols: tuple[str, ...], bonds: frozenset[tuple[int, int]]) -> tuple[str, tuple[int, ...]] | None:
    """Return the molecule's name and, for each of its template's atoms, the number of the atom that plays it."""
    from networkx.algorithms.isomorphism import GraphMatcher, categorical_node_match

    given = _graph(symbols, bonds)
    for name in NAMES:
        known = template(name)
        if sorted(known.symbols) != sorted(symbols):
            continue
        matcher = GraphMatcher(
            _graph(known.symbols, known.bonds), given, node_match=categorical_node_match("symbol", "")
        )
        if matcher.is_isomorphic():
            return name, tuple(matcher.mapping[k] for k in range(len(symbols)))
    return None


def _graph(symbols: tuple[str, ...], bonds: Iterable[tuple[int, int]]) -> Any:
    import networkx as nx

    graph = nx.Graph()
    for k, symbol in enumerate(symbols):
        graph.add_node(k, symbol=symbol)
    graph.add_edges_from(bonds)
    return graph
