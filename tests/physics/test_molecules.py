"""Molecules are found and made whole, wherever the cell cuts them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from molecular_cases import Case, random_case

from mlipbench.errors import NotApplicable
from mlipbench.physics.cells import Float, Int
from mlipbench.physics.molecules import find_bonds, find_molecules, renumbered, split_by_molecule, unwrap

SEEDS = st.integers(0, 2**32 - 1)
PERIODIC = np.ones(3, bool)


def test_bond_rule_is_sharp() -> None:
    for distance, n_bonds in ((1.2499, 1), (1.2501, 0)):
        bonds = find_bonds(
            np.array([[0.0, 0, 0], [distance, 0, 0]]), np.zeros((3, 3)), ~PERIODIC, radii=np.full(2, 0.5)
        )
        assert len(bonds.first) == n_bonds


def test_ion_of_radius_zero_stays_alone() -> None:
    near = np.array([[0.0, 0, 0], [1.9, 0, 0]])
    place = (near, np.zeros((3, 3)), ~PERIODIC)
    assert find_molecules(*place, radii=np.array([1.28, 0.66])).tolist() == [0, 0]
    assert find_molecules(*place, radii=np.array([0.0, 0.66])).tolist() == [0, 1]


def test_lone_periodic_atom() -> None:
    place = (np.array([[9.0, 9.0, 9.0]]), np.eye(3) * 5, PERIODIC)
    assert find_molecules(*place, radii=np.ones(1)).tolist() == [0]
    np.testing.assert_array_equal(unwrap(*place, np.array([0]), radii=np.ones(1)), place[0])


def test_cell_smaller_than_a_bond_finds_every_image() -> None:
    bonds = find_bonds(np.zeros((1, 3)), np.eye(3), PERIODIC, radii=np.ones(1), radius_factor=1.01)
    # Images up to 2.02 Å on a cubic grid of 1 Å: 6 + 12 + 8 + 6, and each pair of opposite ones counts once.
    assert len(bonds.first) == 16
    assert not bonds.first.any() and not bonds.second.any()


@given(seed=SEEDS, edge_A=st.floats(1.5, 6.0))
@settings(max_examples=40, deadline=None)
def test_bonds_are_those_of_a_plain_search(seed: int, edge_A: float) -> None:
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * edge_A + rng.normal(scale=0.15 * edge_A, size=(3, 3))
    positions, radii = rng.uniform(-5, 5, size=(6, 3)), rng.uniform(0.2, 0.9, size=6)
    bonds = find_bonds(positions, cell, PERIODIC, radii=radii)
    inside = positions - np.floor(positions @ np.linalg.inv(cell)) @ cell
    wanted = []
    for shift in product(range(-5, 6), repeat=3):
        vectors = inside[None] + np.array(shift) @ cell - inside[:, None]
        near = np.linalg.norm(vectors, axis=2) < 1.25 * (radii[:, None] + radii[None])
        wanted += [vectors[i, j] for i, j in np.argwhere(near) if i < j or (i == j and shift > (0, 0, 0))]
    # The same vectors, in another order; an atom and its image may be listed in either direction.
    assert len(bonds.first) == len(wanted)
    if wanted:
        np.testing.assert_allclose(
            np.sort(np.linalg.norm(bonds.vectors, axis=1)), np.sort(np.linalg.norm(wanted, axis=1)), atol=1e-9
        )


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_molecules_are_found_in_any_order(seed: int) -> None:
    case = random_case(seed)
    found = find_molecules(case.positions, case.cell, case.pbc, radii=case.radii)
    np.testing.assert_array_equal(found, renumbered(case.molecule))


def check_unwrap(make_whole: Callable[[Case], Float], case: Case) -> None:
    """Distances within molecules are those of whole ones, and atoms have moved by lattice vectors only."""
    whole = make_whole(case)
    turns = (whole - case.positions) @ np.linalg.inv(case.cell)
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-10)
    for number in np.unique(case.molecule):
        own = case.molecule == number
        for true, made in ((case.whole[own], whole[own]),):
            np.testing.assert_allclose(made - made[0], true - true[0], atol=1e-10)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_unwrapped_molecules_are_whole(seed: int) -> None:
    case = random_case(seed)
    check_unwrap(lambda c: unwrap(c.positions, c.cell, c.pbc, c.molecule, radii=c.radii), case)
    check_unwrap(lambda c: unwrap(c.positions, c.cell, c.pbc, c.molecule), case)


def nearest_to_first_in_a_box(case: Case) -> Float:
    """The usual shortcut: every atom goes to the rounded image nearest to its molecule's first atom."""
    whole = case.positions.copy()
    for number in np.unique(case.molecule):
        own = np.flatnonzero(case.molecule == number)
        vectors = whole[own] - whole[own[0]]
        whole[own] = whole[own[0]] + vectors - np.rint(vectors @ np.linalg.inv(case.cell)) @ case.cell
    return whole


WRONG: dict[str, Callable[[Case], Float]] = {
    "no unwrapping": lambda case: case.positions,
    "each atom wrapped": lambda case: case.positions - np.floor(case.positions @ np.linalg.inv(case.cell)) @ case.cell,
    "skew ignored": nearest_to_first_in_a_box,
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str) -> None:
    with pytest.raises(AssertionError):
        for seed in range(10):
            check_unwrap(WRONG[name], random_case(seed))


def test_molecule_longer_than_half_the_cell_is_whole() -> None:
    chain = np.column_stack([np.arange(8) * 1.2, np.zeros(8), np.zeros(8)])
    cell = np.diag([10.2, 5.0, 5.0])
    wrapped = chain - np.floor(chain @ np.linalg.inv(cell)) @ cell
    whole = unwrap(wrapped, cell, PERIODIC, np.zeros(8, int), radii=np.full(8, 0.55))
    np.testing.assert_allclose(whole, chain, atol=1e-12)


def test_bonds_come_before_shorter_contacts() -> None:
    """A long bond of large atoms is followed, not the shorter contact of small ones across the boundary."""
    large_apart_A, contact_A = 2.6, 1.6
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [1.0 + large_apart_A, 0, 0], [2.0 + large_apart_A, 0, 0]])
    cell = np.diag([2.0 + large_apart_A + contact_A, 9.0, 9.0])
    radii = np.array([0.3, 1.3, 1.3, 0.3])
    whole = unwrap(positions, cell, PERIODIC, np.zeros(4, int), radii=radii)
    np.testing.assert_allclose(whole, positions, atol=1e-12)


def test_unbonded_pair_given_as_one_molecule_is_joined() -> None:
    ions = np.array([[0.5, 0, 0], [7.5, 0, 0]])
    whole = unwrap(ions, np.eye(3) * 10, PERIODIC, np.zeros(2, int), radii=np.zeros(2))
    np.testing.assert_allclose(whole, [[0.5, 0, 0], [-2.5, 0, 0]], atol=1e-12)


def polymer() -> tuple[Float, Float, Int]:
    return np.array([[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]]), np.diag([3.6, 9.0, 9.0]), np.zeros(3, int)


def lone_in_small_cell() -> tuple[Float, Float, Int]:
    return np.zeros((1, 3)), np.diag([1.0, 9.0, 9.0]), np.zeros(1, int)


def pair_bonded_both_ways() -> tuple[Float, Float, Int]:
    return np.array([[0.0, 0, 0], [1.2, 0, 0]]), np.diag([2.4, 9.0, 9.0]), np.zeros(2, int)


@pytest.mark.parametrize("endless", [polymer, lone_in_small_cell, pair_bonded_both_ways])
def test_molecule_bonded_to_its_own_image_is_not_applicable(endless: Callable[[], tuple[Float, Float, Int]]) -> None:
    positions, cell, molecule = endless()
    with pytest.raises(NotApplicable, match="bonded to its own periodic image"):
        unwrap(positions, cell, PERIODIC, molecule, radii=np.full(len(positions), 0.55))


def test_neighbour_bonded_across_the_cell_is_no_polymer() -> None:
    positions, cell, _ = polymer()
    whole = unwrap(positions, cell * 2, PERIODIC, np.zeros(3, int), radii=np.full(3, 0.55))
    np.testing.assert_allclose(whole, positions, atol=1e-12)


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_split_gives_each_molecule_once(seed: int) -> None:
    case = random_case(seed)
    pieces = split_by_molecule(case.positions, case.cell, case.pbc, case.molecule, radii=case.radii)
    assert sorted(np.concatenate([piece.atoms for piece in pieces])) == list(range(len(case.positions)))
    for piece in pieces:
        assert (case.molecule[piece.atoms] == piece.number).all()
        true = case.whole[piece.atoms]
        np.testing.assert_allclose(piece.positions - piece.positions[0], true - true[0], atol=1e-10)
