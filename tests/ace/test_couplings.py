"""Couplings and harmonics: closed forms, e3nn, and rotations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlipbench.ace.couplings import coupling, solid_harmonics, wigner_3j

L_MAX = 4
TRIPLES = [t for t in product(range(4), repeat=3) if sum(t) % 2 == 0 and abs(t[0] - t[1]) <= t[2] <= t[0] + t[1]]


def harmonics(points: NDArray[np.float64]) -> NDArray[np.float64]:
    table = solid_harmonics(L_MAX)
    values = np.zeros((len(points), (L_MAX + 1) ** 2))
    for (k, *powers), c in zip(table.powers, table.coefficients, strict=True):
        values[:, k] += c * np.prod(points ** np.array(powers), axis=1)
    return values


def invariants(points: NDArray[np.float64], l1: int, l2: int, l3: int) -> NDArray[np.float64]:
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
    assert invariants(turned, *triple) == pytest.approx(invariants(points, *triple), abs=1e-11)
    assert invariants(-points, *triple) == pytest.approx(invariants(points, *triple), abs=1e-11)


def test_a_coupling_with_two_axes_swapped_is_not_invariant() -> None:
    points = np.random.default_rng(1).normal(size=(3, 3))
    turned = points @ Rotation.random(rng=2).as_matrix().T
    wrong = coupling(1, 1, 2)[:, ::-1]
    seen = [
        np.einsum("abc,a,b,c->", wrong, y[0, 1:4], y[1, 1:4], y[2, 4:9]) for y in (harmonics(points), harmonics(turned))
    ]
    assert abs(seen[0] - seen[1]) > 1e-3


def test_odd_sums_are_left_out() -> None:
    assert not coupling(1, 1, 1).any()


def test_couplings_agree_with_e3nn() -> None:
    torch = pytest.importorskip("torch")
    torch.serialization.add_safe_globals([slice])
    o3 = pytest.importorskip("e3nn.o3")
    for triple in TRIPLES:
        ours, theirs = coupling(*triple), o3.wigner_3j(*triple, dtype=torch.float64).numpy()
        sign = np.sign((ours * theirs).sum())  # a coupling is defined up to its sign
        assert np.abs(ours - sign * theirs).max() < 1e-13
