"""Which functions a basis has."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytest

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.kernels import design
from mlipbench.ace.tables import pair_tables, product_tables
from mlipbench.errors import BadInput


def test_pairs_and_angles_are_counted_in_closed_form() -> None:
    # ν = 2, l = 0: pairs of radial numbers with n + m ≤ 4 are 9, without regard to order.
    table = functions(Basis(numbers=(14,), degrees=(6.0, 4.0), l_max=0))
    assert table.order_counts == (7, 9, 0)
    triples = functions(Basis(numbers=(14,), degrees=(2.0, -1.0, 2.0), l_max=0))
    assert triples.order_counts == (3, 0, 4)  # partitions of 0, 1, 2 into at most three parts
    mixed = functions(Basis(numbers=(1, 6, 8), degrees=(0.0, 0.0, 0.0), l_max=0))
    assert mixed.order_counts == (3, comb(4, 2), comb(5, 3))


@pytest.mark.parametrize(
    ("degrees", "n_functions", "n_terms"), [((9.0, 6.0, 4.0), 479, 725), ((11.0, 8.0, 6.0), 1161, 2298)]
)
def test_presets_have_the_published_sizes(degrees: tuple[float, ...], n_functions: int, n_terms: int) -> None:
    table = functions(Basis(numbers=(1, 6, 8), degrees=degrees))
    assert (table.n_functions, len(table.monomials)) == (n_functions, n_terms)


def test_functions_are_linearly_independent() -> None:
    rng = np.random.default_rng(0)
    basis = Basis(numbers=(1, 6), cutoff_A=4.0, degrees=(3.0, 3.0, 3.0), l_max=2)
    table, tables = functions(basis), (pair_tables(basis), product_tables(basis))
    values = np.zeros((table.n_functions + 60, 2 * table.n_functions))
    for row in values:
        around = rng.normal(size=(7, 3))
        around *= (rng.uniform(1.0, 3.8, size=7) / np.linalg.norm(around, axis=1))[:, None]
        start = np.array([0, *[7] * 8], dtype=np.int64)  # only the first atom is a centre with neighbours
        species = np.array([0, *rng.integers(2, size=7)], dtype=np.int64)
        forces, virial = np.zeros((24, len(row))), np.zeros((6, len(row)))
        design(*tables, start, np.arange(1, 8), around, species, row, forces, virial)
    values = values[:, : table.n_functions]  # of the element of the first atom
    values = values / np.linalg.norm(values, axis=0)
    assert np.linalg.matrix_rank(values, tol=1e-9) == table.n_functions


@pytest.mark.parametrize(
    "wrong",
    [
        {"numbers": ()},
        {"numbers": (8, 1)},
        {"cutoff_A": -1.0},
        {"cutoff_A": float("nan")},
        {"degrees": ()},
        {"degrees": (1.0, 1.0, 1.0, 1.0)},
        {"l_max": -1},
        {"l_weight": 0.0},
        {"decay": 0.0},
        {"envelope": 2},
    ],
)
def test_values_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(BadInput, match=name):
        Basis(**{"numbers": (1,), **wrong})
