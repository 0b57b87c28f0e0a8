"""Couplings and harmonics: closed forms, e3nn, and rotations."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlipbench.ace.couplings import coupling, invariants, solid_harmonics, wigner_3j

L_MAX = 4
TRIPLES = [t for t in product(range(4), repeat=3) if sum(t) % 2 == 0 and abs(t[0] - t[1]) <= t[2] <= t[0] + t[1]]


def harmonics(points: NDArray[np.float64]) -> NDArray[np.float64]:
    table = solid_harmonics(L_MAX)
    values = np.zeros((len(points), (L_MAX + 1) ** 2))
    for (k, *powers), c in zip(table.powers, table.coefficients, strict=True):
        values[:, k] += c * np.prod(points ** np.array(powers), axis=1)
    return values


def coupled(points: NDArray[np.float64], l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    y = harmonics(points)
    parts = [y[k, degree**2 : (degree + 1) ** 2] for k, degree in enumerate((l1, l2, l3))]
    return np.array(np.einsum("abc,a,b,c->", coupling(l1, l2, l3), *parts))


def test_symbols_in_closed_form() -> None:
    assert wigner_3j(1, 1, 2, 0, 0, 0) == pytest.approx(np.sqrt(2 / 15), abs=1e-15)
    assert wigner_3j(2, 2, 2, 0, 0, 0) == pytest.approx(-np.sqrt(2 / 35), abs=1e-15)
    assert wigner_3j(1, 1, 0, 1, -1, 0) == pytest.approx(1 / np.sqrt(3), abs=1e-15)
    assert wigner_3j(1, 1, 3, 0, 0, 0) == 0.0


def test_harmonics_are_orthonormal() -> None:
    u, w = np.polynomial.legendre.leggauss(12)
    phi = np.arange(24) * 2 * np.pi / 24
    s = np.sqrt(1 - u**2)[:, None]
    points = np.stack([s * np.cos(phi), s * np.sin(phi), np.repeat(u[:, None], 24, axis=1)], axis=-1).reshape(-1, 3)
    y = harmonics(points)
    overlap = y.T @ (y * np.repeat(w * 2 * np.pi / 24, 24)[:, None])
    assert np.abs(overlap - np.eye(len(overlap))).max() < 1e-13


def test_gradient_table_is_the_derivative() -> None:
    points = np.random.default_rng(0).normal(size=(6, 3))
    table, y, h = solid_harmonics(L_MAX), harmonics(points), 1e-5
    gradient = np.zeros((len(points), y.shape[1], 3))
    for (k, axis, q), c in zip(table.gradient, table.gradient_coefficients, strict=True):
        gradient[:, k, axis] += c * y[:, q]
    for axis in range(3):
        shift = h * np.eye(3)[axis]
        slope = (harmonics(points + shift) - harmonics(points - shift)) / (2 * h)
        assert np.abs(slope - gradient[:, :, axis]).max() < 1e-7


@pytest.mark.parametrize("triple", TRIPLES)
def test_couplings_are_normalised_and_invariant(triple: tuple[int, int, int]) -> None:
    points = np.random.default_rng(1).normal(size=(3, 3))
    turned = points @ Rotation.random(rng=2).as_matrix().T
    assert np.square(coupling(*triple)).sum() == pytest.approx(1.0, abs=1e-13)
    assert coupled(turned, *triple) == pytest.approx(coupled(points, *triple), abs=1e-11)
    assert coupled(-points, *triple) == pytest.approx(coupled(points, *triple), abs=1e-11)


def test_a_coupling_with_two_axes_swapped_is_not_invariant() -> None:
    points = np.random.default_rng(1).normal(size=(3, 3))
    turned = points @ Rotation.random(rng=2).as_matrix().T
    wrong = coupling(1, 1, 2)[:, ::-1]
    seen = [
        np.einsum("abc,a,b,c->", wrong, y[0, 1:4], y[1, 1:4], y[2, 4:9]) for y in (harmonics(points), harmonics(turned))
    ]
    assert abs(seen[0] - seen[1]) > 1e-3


def test_odd_sums_change_sign_under_inversion() -> None:
    epsilon = coupling(1, 1, 1) * np.sqrt(6)
    assert {round(float(x), 12) for x in epsilon.reshape(-1)} == {-1.0, 0.0, 1.0}
    assert np.array_equal(epsilon, -epsilon.transpose(1, 0, 2))


def test_couplings_agree_with_e3nn() -> None:
    torch = pytest.importorskip("torch")
    torch.serialization.add_safe_globals([slice])
    o3 = pytest.importorskip("e3nn.o3")
    for triple in [*TRIPLES, (1, 1, 1), (1, 2, 2), (2, 2, 3), (3, 3, 3)]:
        ours, theirs = coupling(*triple), o3.wigner_3j(*triple, dtype=torch.float64).numpy()
        sign = np.sign((ours * theirs).sum())  # a coupling is defined up to its sign
        assert np.abs(ours - sign * theirs).max() < 1e-13


def test_four_factors_span_what_e3nn_couples() -> None:
    """Through each intermediate l, also odd ones; the spaces are compared, as neither basis is unique."""
    torch = pytest.importorskip("torch")
    torch.serialization.add_safe_globals([slice])
    o3 = pytest.importorskip("e3nn.o3")
    for ls in ((1, 1, 1, 1), (0, 1, 1, 2), (1, 1, 2, 2), (2, 2, 2, 2), (1, 2, 2, 3)):
        theirs = []
        for middle in range(abs(ls[0] - ls[1]), ls[0] + ls[1] + 1):
            if abs(ls[2] - ls[3]) <= middle <= ls[2] + ls[3]:
                left, right = (o3.wigner_3j(*x, middle, dtype=torch.float64).numpy() for x in (ls[:2], ls[2:]))
                theirs.append(np.einsum("abm,cdm->abcd", left, right).reshape(-1))
        ours = np.array([tensor.reshape(-1) for tensor in invariants(ls, (0, 1, 2, 3))])
        assert len(ours) == len(theirs)
        left = np.array(theirs).T - ours.T @ (ours @ np.array(theirs).T)
        assert np.abs(left).max() < 1e-13


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_as_many_invariants_as_characters_count(order: int, l_max: int) -> None:
    """The number of invariants in a product of representations, symmetric in equal ones, is a mean of characters."""
    for ls in product(range(l_max + 1), repeat=order):
        if sum(ls) % 2 or tuple(sorted(ls)) != ls:
            continue
        assert len(invariants(ls, tuple(range(order)))) == count(ls, tuple(range(order)))
        assert len(invariants(ls, (0,) * order)) == count(ls, (0,) * order)


def count(ls: tuple[int, ...], groups: tuple[int, ...]) -> int:
    """Weyl's integral over rotation angles, averaged over exchanges of equal factors (Molien)."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    angle = np.pi * (nodes + 1) / 2
    measure = weights * np.pi / 2 * (1 - np.cos(angle)) / np.pi

    def character(degree: int, times: int) -> NDArray[np.float64]:
        return np.asarray(sum(np.cos(m * times * angle) for m in range(-degree, degree + 1)))

    total, n_orders = 0.0, 0
    for order in permutations(range(len(ls))):
        if any(groups[order[k]] != groups[k] or ls[order[k]] != ls[k] for k in range(len(ls))):
            continue
        n_orders += 1
        value, left = np.ones_like(angle), set(range(len(ls)))
        while left:
            cycle = [left.pop()]
            while order[cycle[-1]] in left:
                cycle.append(order[cycle[-1]])
                left.remove(cycle[-1])
            value = value * character(ls[cycle[0]], len(cycle))
        total += float(measure @ value)
    assert total / n_orders == pytest.approx(round(total / n_orders), abs=1e-9)
    return round(total / n_orders)


@pytest.mark.parametrize("groups", [(0, 1, 2, 3), (0, 0, 1, 2), (0, 0, 1, 1), (0, 0, 0, 0)])
def test_invariants_of_four_factors_keep_under_rotation_and_reflection(groups: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    turn = Rotation.random(rng=2).as_matrix()
    tensors = invariants((2, 2, 2, 2), groups)
    assert tensors
    directions = rng.normal(size=(4, 3))[list(groups)]

    def value(tensor: NDArray[np.float64], points: NDArray[np.float64]) -> float:
        return float(np.einsum("abcd,a,b,c,d->", tensor, *(y[4:9] for y in harmonics(points))))

    for tensor in tensors:
        for moved in (directions @ turn.T, -directions @ turn.T):
            assert value(tensor, moved) == pytest.approx(value(tensor, directions), abs=1e-10)
        assert np.square(tensor).sum() == pytest.approx(1.0, abs=1e-12)
