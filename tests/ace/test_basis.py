"""Which functions a basis has."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.kernels import design
from mlipbench.ace.tables import pair_tables, product_tables
from mlipbench.errors import BadInput


def test_pairs_and_angles_are_counted_in_closed_form() -> None:
    # ν = 2, l = 0: pairs of radial numbers with n + m ≤ 4 are 9, without regard to order.
    table = functions(Basis(numbers=(14,), degrees=(6.0, 4.0), l_max=0))
    assert table.order_counts == (7, 9, 0, 0)
    triples = functions(Basis(numbers=(14,), degrees=(2.0, -1.0, 2.0), l_max=0))
    assert triples.order_counts == (3, 0, 4, 0)  # partitions of 0, 1, 2 into at most three parts
    mixed = functions(Basis(numbers=(1, 6, 8), degrees=(0.0, 0.0, 0.0, 0.0), l_max=0))
    assert mixed.order_counts == (3, comb(4, 2), comb(5, 3), comb(6, 4))


@pytest.mark.parametrize(
    ("degrees", "n_functions", "n_terms"), [((9.0, 6.0, 4.0), 479, 725), ((11.0, 8.0, 6.0), 1161, 2298)]
)
def test_presets_have_the_published_sizes(degrees: tuple[float, ...], n_functions: int, n_terms: int) -> None:
    table = functions(Basis(numbers=(1, 6, 8), degrees=degrees))
    assert (table.n_functions, len(table.monomials)) == (n_functions, n_terms)


@pytest.mark.parametrize(
    ("numbers", "degrees"), [((1, 6), (3.0, 3.0, 3.0)), ((1, 6), (2.0, 2.0, 2.0, 2.0)), ((14,), (2.0, 3.0, 3.0, 6.0))]
)
def test_functions_are_linearly_independent(numbers: tuple[int, ...], degrees: tuple[float, ...]) -> None:
    basis = Basis(numbers=numbers, cutoff_A=4.0, degrees=degrees, l_max=2)
    values = site_values(basis, functions(basis).n_functions + 60)
    values = values / np.linalg.norm(values, axis=0)
    assert np.linalg.matrix_rank(values, tol=1e-9) == functions(basis).n_functions


def test_leaving_the_dependent_functions_in_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without symmetrising equal factors the four of l = 1 would couple in three ways instead of one."""
    basis = Basis(numbers=(14,), cutoff_A=4.0, degrees=(0.0, -1.0, -1.0, 6.0), l_max=1)
    n_functions = functions(basis).n_functions
    monkeypatch.setattr("mlipbench.ace.basis._groups", lambda blocks: tuple(range(len(blocks))))
    functions.cache_clear()
    product_tables.cache_clear()
    pair_tables.cache_clear()
    wrong = functions(basis).n_functions
    values = site_values(basis, wrong + 60)
    assert wrong > n_functions
    assert np.linalg.matrix_rank(values / np.linalg.norm(values, axis=0), tol=1e-9) < wrong
    for cache in (functions, product_tables, pair_tables):
        cache.cache_clear()


def site_values(basis: Basis, n_rows: int) -> NDArray[np.float64]:
    """Return the functions of the first element for random surroundings."""
    rng = np.random.default_rng(0)
    table, tables = functions(basis), (pair_tables(basis), product_tables(basis))
    values = np.zeros((n_rows, len(basis.numbers) * table.n_functions))
    for row in values:
        around = rng.normal(size=(9, 3))
        around *= (rng.uniform(1.0, 3.8, size=9) / np.linalg.norm(around, axis=1))[:, None]
        start = np.array([0, *[9] * 10], dtype=np.int64)  # only the first atom is a centre with neighbours
        species = np.array([0, *rng.integers(len(basis.numbers), size=9)], dtype=np.int64)
        forces, virial = np.zeros((30, len(row))), np.zeros((6, len(row)))
        design(*tables, start, np.arange(1, 10), around, species, row, forces, virial)
    return values[:, : table.n_functions]


def test_too_many_functions_are_refused() -> None:
    with pytest.raises(BadInput, match="give more than 100000 functions for 4 elements"):
        functions(Basis(numbers=(1, 6, 7, 8), degrees=(20.0, 20.0, 20.0, 20.0)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"numbers": ()},
        {"numbers": (8, 1)},
        {"cutoff_A": -1.0},
        {"cutoff_A": float("nan")},
        {"degrees": ()},
        {"degrees": (1.0,) * 5},
        {"pair_cutoffs_A": ((1, 1, 5.0),)},
        {"pair_cutoffs_A": ((1, 8, 3.0),)},
        {"pair_cutoffs_A": ((1, 1, 3.0), (1, 1, 2.0))},
        {"l_max": -1},
        {"l_weight": 0.0},
        {"l_weight": "1"},
        {"decay": 0.0},
        {"decay": 0.9e-3},
        {"decay": float("nan")},
        {"decay": True},
        {"degrees": (1.0, float("nan"))},
        {"degrees": (1.0, -float("inf"))},
        {"degrees": (1.0, None)},
        {"degrees": 3.0},
        {"degrees": "11"},
        {"l_max": 1.5},
        {"l_max": 1.0},
        {"l_max": True},
        {"l_max": None},
        {"envelope": 3.5},
        {"pair_envelope": np.float64(4)},
        {"numbers": (True,)},
        {"numbers": (1.5,)},
        {"numbers": 1},
        {"numbers": "H"},
        {"cutoff_A": 10**400},
        {"cutoff_A": np.ones(1)},
        {"pair_cutoffs_A": ((1, 1),)},
        {"pair_cutoffs_A": ((1.0, 1, 3.0),)},
        {"pair_cutoffs_A": ((1, 1, "3"),)},
        {"pair_cutoffs_A": 5},
        {"pair_cutoffs_A": ((1, 1, float("nan")),)},
        {"envelope": 2},
    ],
)
def test_values_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(BadInput, match=f"^ACE basis: {name} is .*; it must be [^.;]*"):
        Basis(**{"numbers": (1,), **wrong})


def test_numbers_of_any_kind_become_plain_ones() -> None:
    given: dict[str, Any] = {
        "numbers": np.array([1, 8]),
        "cutoff_A": np.float32(4.0),
        "degrees": [3, np.int64(2)],
        "l_max": np.int32(1),
        "l_weight": 1,
        "decay": np.float64(3.0),
        "envelope": np.uint8(4),
        "pair_envelope": np.int64(3),
        "pair_cutoffs_A": [[np.int64(1), 8, np.float32(3.5)]],
    }
    plain = Basis(
        numbers=(1, 8), cutoff_A=4.0, degrees=(3.0, 2.0), l_max=1, l_weight=1.0, decay=3.0, envelope=4,
        pair_envelope=3, pair_cutoffs_A=((1, 8, 3.5),),
    )  # fmt: skip
    assert Basis(**given) == plain
    assert json.dumps(asdict(Basis(**given))) == json.dumps(asdict(plain))
    assert functions(Basis(**given)) is functions(plain)
    assert Basis(numbers=(1,), decay=1e-3).decay == 1e-3
