"""The degenerate environments are degenerate up to the stated body order and no further, by brute force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Float
from mlipbench.physics.environments import DIFFERENT, FOUR_BODY, SAME, THREE_BODY, TWO_BODY, Twins, scaled

DIGITS = 9
Key = tuple[float, ...]


def shape_of(points: Float) -> Key:
    """The Gram matrix of some neighbours, in that order of them that gives the smallest numbers."""
    gram = (points @ points.T).round(DIGITS) + 0.0  # no negative zeros
    upper = np.triu_indices(len(points))
    return min(tuple(gram[np.ix_(order, order)][upper].tolist()) for order in permutations(range(len(points))))


def signed_shape_of(points: Float) -> Key:
    """The same with the handedness of three neighbours, so that only rotations leave it as it is."""
    keys = []
    for order in permutations(range(3)):
        ordered = points[list(order)]
        gram, volume = ordered @ ordered.T, np.linalg.det(ordered)
        keys.append(tuple((np.append(gram.ravel(), volume).round(DIGITS) + 0.0).tolist()))
    return min(keys)


def sets_of(points: Float, size: int, describe: Callable[[Float], Key] = shape_of) -> Counter[Key]:
    """How often each shape of so many neighbours occurs."""
    return Counter(describe(points[list(chosen)]) for chosen in combinations(range(len(points)), size))


def highest_equal_body_order(twins: Twins) -> int:
    """One more than the largest number of neighbours whose shapes occur equally often."""
    n = len(twins.first)
    equal = [sets_of(twins.first, size) == sets_of(twins.second, size) for size in range(1, n + 1)]
    return 1 + (equal.index(False) if False in equal else n)


def isometries(twins: Twins) -> list[Float]:
    """All rotations and reflections that turn the first into the second: try where three neighbours may go."""
    basis = next(
        list(chosen)
        for size in (3, 2)
        for chosen in combinations(range(len(twins.first)), size)
        if np.linalg.matrix_rank(twins.first[list(chosen)], tol=1e-6) == size
    )
    own = twins.first[basis]
    found = []
    for images in permutations(range(len(twins.second)), len(basis)):
        other = twins.second[list(images)]
        if not np.allclose(own @ own.T, other @ other.T, atol=1e-9):
            continue
        for matrix in orthogonal_maps(own, other):
            distance = np.linalg.norm((twins.first @ matrix.T)[:, None] - twins.second[None], axis=2)
            if sorted(distance.argmin(axis=1)) == list(range(len(twins.second))) and distance.min(axis=1).max() < 1e-9:
                found.append(matrix)
    return found


def orthogonal_maps(own: Float, other: Float) -> list[Float]:
    """The map of three vectors onto others; with two, both signs of their normal."""
    if len(own) == 3:
        return [np.linalg.solve(own, other).T]
    normals = np.cross(own[0], own[1]), np.cross(other[0], other[1])
    return [
        np.linalg.solve(np.vstack([own, normals[0]]), np.vstack([other, sign * normals[1]])).T for sign in (1.0, -1.0)
    ]


def check_different(twins: Twins, body_order: int) -> None:
    assert highest_equal_body_order(twins) == body_order
    assert not isometries(twins)


@pytest.mark.parametrize(("twins", "body_order"), [(TWO_BODY, 2), (THREE_BODY, 3), (FOUR_BODY, 4)])
def test_pairs_agree_up_to_their_body_order_and_are_different(twins: Twins, body_order: int) -> None:
    check_different(twins, body_order)


def test_seven_neighbours_agree_in_handedness_too() -> None:
    """Triangles with a sign agree, so that features which know left from right need five bodies as well."""
    first, second = (sets_of(points, 3, signed_shape_of) for points in (FOUR_BODY.first, FOUR_BODY.second))
    assert first == second


@pytest.mark.parametrize("twins", SAME, ids=lambda twins: twins.name)
def test_controls_are_equal(twins: Twins) -> None:
    signs = {round(float(np.linalg.det(matrix))) for matrix in isometries(twins)}
    assert highest_equal_body_order(twins) == 1 + len(twins.first)
    assert signs == {-1} if twins.name == "mirrored_4" else 1 in signs


def test_coordinates_are_those_published() -> None:
    """The twist of the lower triangle, to the digits in circulation."""
    ring = [[4.778191992294735, -2, -1.4727122206223704], [-2.938926261462366, -2, 4.045084971874737]]
    np.testing.assert_allclose(FOUR_BODY.first[3:5], ring, atol=1e-14)
    np.testing.assert_allclose(SAME[0].first[5], [-0.0759099739549498, -2.0, -4.999423734377209], atol=1e-14)


@pytest.mark.parametrize("twins", [*DIFFERENT, *SAME], ids=lambda twins: twins.name)
def test_scaling_keeps_the_shape(twins: Twins) -> None:
    small = scaled(twins, radius=3.5)
    assert np.linalg.norm(small.first, axis=1).max() == pytest.approx(3.5)
    assert np.linalg.norm(small.second, axis=1).max() == pytest.approx(3.5)
    factor = 3.5 / np.linalg.norm(twins.first, axis=1).max()
    np.testing.assert_allclose(small.first, factor * twins.first)
    np.testing.assert_allclose(small.second, factor * twins.second)
    with pytest.raises(BadInput, match="radius is 0"):
        scaled(twins, radius=0.0)


WRONG = {
    "isosceles": replace(FOUR_BODY, first=SAME[0].first, second=SAME[0].second),
    "not twisted": replace(FOUR_BODY, first=SAME[2].first, second=SAME[2].second),
    "moved": replace(FOUR_BODY, second=FOUR_BODY.second + 1e-3 * np.eye(7, 3)),
    "three bodies": THREE_BODY,
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_has_teeth(name: str) -> None:
    with pytest.raises(AssertionError):
        check_different(WRONG[name], 4)
