"""The parts of a force are what their names say, to 1e-10."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from molecular_cases import Case, random_case, random_rotation

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float
from mlipbench.physics.forces import ForceParts, rotation_basis, split_forces
from mlipbench.physics.molecules import unwrap

SEEDS = st.integers(0, 2**32 - 1)
BENDS_A = st.sampled_from([0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3, 0.1])
TOLERANCE = 1e-10
Split = Callable[[Case], ForceParts]


def split(case: Case) -> ForceParts:
    """The right way: make molecules whole, then split."""
    whole = unwrap(case.positions, case.cell, case.pbc, case.molecule, radii=case.radii)
    return split_forces(case.forces, whole, case.masses, case.molecule)


def arms_of(case: Case, own: np.ndarray) -> Float:
    """Vectors from the centre of mass, of the molecule as it truly is."""
    masses, whole = case.masses[own], case.whole[own] - case.whole[own][0]
    return np.asarray(whole - masses @ whole / masses.sum())


def is_clearly_bent_or_straight(arms: Float) -> bool:
    """Between the two, round-off of the positions decides about which line a molecule could turn."""
    extent = np.linalg.svd(arms, compute_uv=False)
    return len(arms) == 1 or bool(extent[1] > 1e-3 * extent[0] or extent[1] < 1e-13 * extent[0])


def check_split(found: Split, case: Case) -> None:
    """All identities of the decomposition."""
    parts = found(case)
    three = (parts.translation, parts.rotation, parts.vibration)
    np.testing.assert_allclose(sum(three), case.forces, atol=TOLERANCE)
    for number in np.unique(case.molecule):
        own = np.flatnonzero(case.molecule == number)
        arms, weights = arms_of(case, own), case.masses[own][:, None]
        translation, rotation, vibration = (part[own] for part in three)
        # One acceleration for all, and the whole net force.
        np.testing.assert_allclose(
            translation / weights, (translation / weights)[[0]].repeat(len(own), 0), atol=TOLERANCE
        )
        np.testing.assert_allclose(translation.sum(axis=0), case.forces[own].sum(axis=0), atol=TOLERANCE)
        np.testing.assert_allclose(np.cross(arms, translation).sum(axis=0), 0.0, atol=TOLERANCE)
        np.testing.assert_allclose(rotation.sum(axis=0), 0.0, atol=TOLERANCE)
        np.testing.assert_allclose(vibration.sum(axis=0), 0.0, atol=TOLERANCE)
        np.testing.assert_allclose(np.cross(arms, vibration).sum(axis=0), 0.0, atol=TOLERANCE)
        if is_clearly_bent_or_straight(arms):
            # A rigid turn keeps all distances: relative accelerations are normal to the bonds they belong to.
            relative = (rotation / weights)[:, None] - (rotation / weights)[None]
            along = (relative * (arms[:, None] - arms[None])).sum(axis=2)
            np.testing.assert_allclose(along, 0.0, atol=TOLERANCE)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            product = (three[one][own] * three[other][own] / weights).sum()
            np.testing.assert_allclose(product, 0.0, atol=TOLERANCE)


def test_lone_atom_only_moves() -> None:
    parts = split_forces(np.array([[1.0, 2.0, 3.0]]), np.ones((1, 3)), np.array([7.0]), np.array([0]))
    np.testing.assert_allclose(parts.translation, [[1.0, 2.0, 3.0]])
    assert not parts.rotation.any() and not parts.vibration.any()


def test_stretched_rod_only_vibrates() -> None:
    rod = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    parts = split_forces(np.array([[1.0, 0, 0], [-1.0, 0, 0]]), rod, np.array([1.0, 16.0]), np.array([0, 0]))
    np.testing.assert_allclose(parts.vibration, [[1.0, 0, 0], [-1.0, 0, 0]], atol=1e-14)


def test_couple_on_a_straight_molecule_only_turns_it() -> None:
    """A linear molecule turns about two axes; a singular moment of inertia is no reason to lose them."""
    straight = np.array([[-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0]])
    couple = np.array([[0.0, 1, 0], [0, 0, 0], [0, -1, 0]])
    parts = split_forces(couple, straight, np.array([16.0, 12.0, 16.0]), np.zeros(3, int))
    np.testing.assert_allclose(parts.rotation, couple, atol=1e-14)


def test_moment_of_inertia_gives_the_same_rotation() -> None:
    """Away from linearity the textbook formula f = m (I⁻¹ τ) × r is right, and agrees."""
    rng = np.random.default_rng(3)
    positions, masses, forces = rng.normal(size=(5, 3)), rng.uniform(1, 20, size=5), rng.normal(size=(5, 3))
    arms = positions - masses @ positions / masses.sum()
    inertia = sum(m * (r @ r * np.eye(3) - np.outer(r, r)) for m, r in zip(masses, arms, strict=True))
    spin = np.linalg.solve(inertia, np.cross(arms, forces).sum(axis=0))
    parts = split_forces(forces, positions, masses, np.zeros(5, int))
    np.testing.assert_allclose(parts.rotation, masses[:, None] * np.cross(spin, arms), atol=1e-12)


@pytest.mark.parametrize(("shape", "rank"), [([[0, 0, 0]], 0), ([[0, 0, 0], [1, 1, 1]], 2), (np.eye(3), 3)])
def test_rank_of_rotations(shape: list[list[float]], rank: int) -> None:
    positions = np.array(shape, dtype=float)
    basis = rotation_basis(positions, np.arange(1.0, len(positions) + 1))
    assert basis.shape == (3 * len(positions), rank)
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-14)


@pytest.mark.parametrize("mass", [0.0, -1.0, np.nan])
def test_mass_that_is_not_positive_is_refused(mass: float) -> None:
    with pytest.raises(BadInput, match="positive mass"):
        split_forces(np.ones((1, 3)), np.ones((1, 3)), np.array([mass]), np.array([0]))


@given(seed=SEEDS, bend_A=BENDS_A)
@settings(max_examples=60, deadline=None)
def test_identities_hold(seed: int, bend_A: float) -> None:
    check_split(split, random_case(seed, bend_A=bend_A))


@given(seed=SEEDS, n_atoms=st.integers(1, 12), spread=st.sampled_from([1e-3, 1.0, 100.0]))
@settings(max_examples=60, deadline=None)
def test_identities_hold_for_random_clouds_far_from_the_origin(seed: int, n_atoms: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(n_atoms, 3)) * [1.0, spread, 1.0] + rng.normal(scale=100.0, size=3)
    case = Case(
        whole=cloud, positions=cloud, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool), molecule=np.zeros(n_atoms, int),
        masses=rng.uniform(1, 200, size=n_atoms), forces=rng.normal(size=(n_atoms, 3)),
    )  # fmt: skip
    check_split(lambda c: split_forces(c.forces, c.positions, c.masses, c.molecule), case)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_parts_turn_with_the_frame(seed: int) -> None:
    case, turn = random_case(seed), random_rotation(np.random.default_rng(seed))
    parts = split_forces(case.forces, case.whole, case.masses, case.molecule)
    turned = split_forces(case.forces @ turn.T, case.whole @ turn.T, case.masses, case.molecule)
    for name in ("translation", "rotation", "vibration"):
        np.testing.assert_allclose(getattr(turned, name), getattr(parts, name) @ turn.T, atol=TOLERANCE)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_parts_follow_the_atom_order(seed: int) -> None:
    case = random_case(seed)
    order = np.random.default_rng(seed).permutation(len(case.positions))
    parts, shuffled = split(case), split(case.shuffled(order))
    for name in ("translation", "rotation", "vibration"):
        np.testing.assert_allclose(getattr(shuffled, name), getattr(parts, name)[order], atol=TOLERANCE)


def by_inverse(invert: Callable[[Float], Any]) -> Split:
    """The textbook formula with some inverse of the moment of inertia."""

    def found(case: Case) -> ForceParts:
        translation, rotation = np.zeros_like(case.forces), np.zeros_like(case.forces)
        for number in np.unique(case.molecule):
            own = np.flatnonzero(case.molecule == number)
            arms, masses = arms_of(case, own), case.masses[own]
            translation[own] = masses[:, None] * case.forces[own].sum(axis=0) / masses.sum()
            inertia = sum(m * (r @ r * np.eye(3) - np.outer(r, r)) for m, r in zip(masses, arms, strict=True))
            spin = invert(np.asarray(inertia)) @ np.cross(arms, case.forces[own]).sum(axis=0)
            rotation[own] = masses[:, None] * np.cross(spin, arms)
        return ForceParts(translation=translation, rotation=rotation, vibration=case.forces - translation - rotation)

    return found


def sign_flipped(case: Case) -> ForceParts:
    parts = split(case)
    return ForceParts(
        translation=parts.translation,
        rotation=-parts.rotation,
        vibration=case.forces - parts.translation + parts.rotation,
    )


def stored_molecule_by_molecule(case: Case) -> ForceParts:
    """The parts of each molecule in turn, put back in a row as if the atoms stood so."""
    parts, order = split(case), np.argsort(case.molecule, kind="stable")
    return ForceParts(
        translation=parts.translation[order], rotation=parts.rotation[order], vibration=parts.vibration[order]
    )


WRONG: dict[str, Split] = {
    "masses ignored": lambda c: split_forces(
        c.forces, unwrap(c.positions, c.cell, c.pbc, c.molecule), np.ones(len(c.masses)), c.molecule
    ),
    "sign flipped": sign_flipped,
    "no unwrapping": lambda c: split_forces(c.forces, c.positions, c.masses, c.molecule),
    "singular inertia dropped": by_inverse(
        lambda inertia: np.zeros((3, 3)) if abs(np.linalg.det(inertia)) < 1e-6 else np.linalg.inv(inertia)
    ),
    "plain inverse": by_inverse(np.linalg.inv),
    "pseudo-inverse": by_inverse(np.linalg.pinv),
    "atom order ignored": stored_molecule_by_molecule,
    "one molecule for all": lambda c: split_forces(
        c.forces, unwrap(c.positions, c.cell, c.pbc, c.molecule), c.masses, np.zeros(len(c.masses), int)
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str) -> None:
    """Straight, nearly straight and bent molecules; the right way passes the very same cases."""
    cases = [random_case(seed, bend_A=bend_A) for seed in range(3) for bend_A in (0.0, 1e-5, 0.1)]
    for case in cases:
        check_split(split, case)
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        for case in cases:
            check_split(WRONG[name], case)
