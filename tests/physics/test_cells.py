"""Nearest images are nearest, in any cell."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.errors import BadInput
from mlipbench.physics.cells import (
    Bool,
    Float,
    complete_cell,
    minimum_image,
    plane_spacings,
    reduced_cell,
    shifts_within,
)

SEEDS = st.integers(0, 2**32 - 1)


def skewed_cell(rng: np.random.Generator, *, skew: int = 3) -> Float:
    """A cell of edges about 3 to 6 Å, whose vectors are sums of others too."""
    cell = np.diag(rng.uniform(3.0, 6.0, size=3)) + rng.normal(scale=0.4, size=(3, 3))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        cell[i] += rng.integers(-skew, skew + 1) * cell[j]
    return cell


def by_brute_force(vectors: Float, cell: Float, pbc: Bool, *, reach: int = 6) -> Float:
    """Length of the nearest image among many, around the one that lies in the cell."""
    full = complete_cell(cell, pbc)
    lattice, _ = reduced_cell(full, pbc)
    start = vectors - np.where(pbc, np.floor(vectors @ np.linalg.inv(lattice)), 0.0) @ lattice
    reaches = [range(-reach, reach + 1) if periodic else range(1) for periodic in pbc]
    images = [start + np.array(shift) @ lattice for shift in product(*reaches)]
    return np.asarray(np.linalg.norm(images, axis=2).min(axis=0))


def test_cube() -> None:
    vectors = np.array([[0.9, 0.1, -0.6], [0.5, 2.2, 0.0]])
    nearest = minimum_image(vectors, np.eye(3), np.ones(3, bool))
    np.testing.assert_allclose(np.abs(nearest), [[0.1, 0.1, 0.4], [0.5, 0.2, 0.0]], atol=1e-14)


def test_nothing_moves_without_periodicity() -> None:
    vectors = np.array([[7.0, 8.0, 9.0]])
    np.testing.assert_array_equal(minimum_image(vectors, np.zeros((3, 3)), np.zeros(3, bool)), vectors)


def test_slab_moves_in_its_plane_only() -> None:
    cell = np.array([[2.0, 0, 0], [0.9, 2.0, 0], [0, 0, 0]])
    nearest = minimum_image(np.array([[2.0, 0.0, 50.0]]), cell, np.array([True, True, False]))
    np.testing.assert_allclose(nearest, [[0.0, 0.0, 50.0]], atol=1e-14)


@pytest.mark.parametrize(
    "cell",
    [np.zeros((3, 3)), np.diag([1.0, 1.0, 0.0]), np.ones((3, 3)), np.diag([1.0, np.nan, 1.0])],
    ids=["zero", "flat", "dependent", "not a number"],
)
def test_cell_without_volume_is_refused(cell: Float) -> None:
    with pytest.raises(BadInput, match="the cell"):
        minimum_image(np.ones((1, 3)), cell, np.ones(3, bool))


@given(seed=SEEDS, periodic=st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(max_examples=60, deadline=None)
def test_nearest_image_is_nearest(seed: int, periodic: tuple[bool, bool, bool]) -> None:
    check_minimum_image(minimum_image, seed, np.array(periodic))


def check_minimum_image(find: Callable[[Float, Float, Bool], Float], seed: int, pbc: Bool) -> None:
    """The image is one of the vector, and no other is shorter."""
    rng = np.random.default_rng(seed)
    cell, vectors = skewed_cell(rng), rng.normal(scale=10.0, size=(20, 3))
    nearest = find(vectors, cell, pbc)
    turns = (nearest - vectors) @ np.linalg.inv(complete_cell(cell, pbc))
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-9)
    np.testing.assert_allclose(turns[:, ~pbc], 0.0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(nearest, axis=1), by_brute_force(vectors, cell, pbc), atol=1e-9)


def rounded(vectors: Float, cell: Float, pbc: Bool) -> Float:
    """The usual shortcut, right in a box only."""
    full = complete_cell(cell, pbc)
    return vectors - np.where(pbc, np.rint(vectors @ np.linalg.inv(full)), 0.0) @ full


def as_a_box(vectors: Float, cell: Float, pbc: Bool) -> Float:
    """As if the cell were its diagonal."""
    edges = np.where(pbc, np.diag(cell), np.inf)
    return vectors - np.where(pbc, np.rint(vectors / edges) * np.diag(cell), 0.0)


@pytest.mark.parametrize("wrong", [rounded, as_a_box, lambda vectors, cell, pbc: vectors])
def test_the_check_has_teeth(wrong: Callable[[Float, Float, Bool], Float]) -> None:
    with pytest.raises(AssertionError):
        for seed in range(10):
            check_minimum_image(wrong, seed, np.ones(3, bool))


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_reduced_cell_spans_the_same_lattice(seed: int) -> None:
    cell = skewed_cell(np.random.default_rng(seed))
    lattice, transform = reduced_cell(cell, np.ones(3, bool))
    assert round(abs(np.linalg.det(transform))) == 1
    np.testing.assert_allclose(transform @ cell, lattice)
    assert np.linalg.norm(lattice, axis=1).sum() <= np.linalg.norm(cell, axis=1).sum() + 1e-9


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_plane_spacing_is_volume_over_area(seed: int) -> None:
    cell = skewed_cell(np.random.default_rng(seed))
    volume = abs(np.linalg.det(cell))
    areas = [np.linalg.norm(np.cross(cell[i], cell[j])) for i, j in ((1, 2), (2, 0), (0, 1))]
    np.testing.assert_allclose(plane_spacings(cell), volume / np.array(areas))


def test_shifts_are_symmetric_about_zero() -> None:
    shifts = shifts_within(np.array([1, 2, 0]))
    assert len(shifts) == 15
    np.testing.assert_array_equal(shifts, -shifts[::-1])
    assert not shifts[len(shifts) // 2].any()
