"""Pair lists against a brute-force sum over images."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlipbench.ace import neighbours as module
from mlipbench.ace.neighbours import Neighbours, SkinList, neighbours
from mlipbench.errors import BadInput, ModelFailure

CUTOFF_A = 4.3


def brute(frame: Atoms, reach: int = 4) -> list[tuple[float, ...]]:
    shifts = product(*(range(-reach, reach + 1) if periodic else (0,) for periodic in frame.pbc))
    found = []
    for shift in shifts:
        offset = np.array(shift) @ frame.cell.array
        for i, j in product(range(len(frame)), repeat=2):
            vector = frame.positions[j] + offset - frame.positions[i]
            if (i != j or any(shift)) and np.linalg.norm(vector) < CUTOFF_A:
                found.append((i, j, *(np.round(vector, 6) + 0.0)))
    return sorted(found)


def listed(frame: Atoms) -> list[tuple[float, ...]]:
    pairs = neighbours(frame, CUTOFF_A)
    centre = np.repeat(np.arange(len(frame)), np.diff(pairs.start))
    return sorted(
        (int(i), int(j), *(np.round(v, 6) + 0.0)) for i, j, v in zip(centre, pairs.index, pairs.vector, strict=True)
    )


def cases() -> dict[str, Atoms]:
    rod = molecule("CH3CH2OH")
    rod.set_cell([[0, 0, 0], [0, 0, 0], [1.0, 2.0, 3.0]])
    rod.pbc = (False, False, True)
    slab = molecule("CH3CH2OH")
    slab.set_cell([[4, 0, 0], [1, 5, 0], [0.5, 0.5, 1.0]])  # the last vector is not periodic, and shorter than the slab
    slab.pbc = (True, True, False)
    flat = bulk("Cu", cubic=True)
    flat.pbc = False
    flat.cell = np.ones((3, 3))
    return {
        "molecule without a cell": molecule("CH3CH2OH"),
        "one atom per cell": bulk("Cu"),
        "atoms outside the cell": Atoms("HO", [[0.1, 0, 0], [9.5, -7.0, 1.0]], cell=[3.5, 4, 5], pbc=True),
        "rod": rod,
        "slab": slab,
        "singular cell that does not matter": flat,
        "far apart": Atoms("H2", [[0, 0, 0], [500, 0, 0]]),
        "lone atom": Atoms("H"),
    }


@pytest.mark.parametrize("name", cases())
def test_pairs_are_those_of_a_brute_force_search(name: str) -> None:
    frame = cases()[name]
    ours, theirs = np.array(listed(frame)).reshape(-1, 5), np.array(brute(frame)).reshape(-1, 5)
    assert ours.shape == theirs.shape
    assert np.array_equal(ours[:, :2], theirs[:, :2])
    assert np.allclose(ours, theirs, atol=2e-6)


def test_no_atoms_give_no_pairs() -> None:
    pairs = neighbours(Atoms(), CUTOFF_A)
    assert pairs.start.tolist() == [0]
    assert pairs.index.shape == (0,)


def test_atoms_on_top_of_each_other_are_refused() -> None:
    with pytest.raises(ModelFailure, match=r"atoms 0 and 1 are .* apart"):
        neighbours(Atoms("H2", [[0, 0, 0], [0, 0, 0]]), CUTOFF_A)
    with pytest.raises(ModelFailure, match="apart"):  # through the boundary
        neighbours(Atoms("H2", [[0, 0, 0], [5, 0, 0]], cell=[5, 5, 5], pbc=True), CUTOFF_A)


def test_periodicity_without_volume_is_refused() -> None:
    with pytest.raises(BadInput, match="span no volume"):
        neighbours(Atoms("H2", [[0, 0, 0], [0, 0, 1]], pbc=True), CUTOFF_A)


def test_a_position_that_is_not_finite_is_refused() -> None:
    with pytest.raises(BadInput, match="atom 1 has a position"):
        neighbours(Atoms("H2", [[0, 0, 0], [0, np.nan, 1]]), CUTOFF_A)


def within(pairs: Neighbours) -> list[tuple[float, ...]]:
    centre = np.repeat(np.arange(len(pairs.start) - 1), np.diff(pairs.start))
    near = np.linalg.norm(pairs.vector, axis=1) < CUTOFF_A
    rows = zip(centre[near], pairs.index[near], pairs.vector[near], strict=True)
    return sorted((int(i), int(j), *(np.round(v, 6) + 0.0)) for i, j, v in rows)


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("strain", [0.0, 2e-3])
def test_a_list_with_a_skin_misses_no_pair_on_the_way(name: str, strain: float) -> None:
    frame, rng = cases()[name], np.random.default_rng(4)
    known = SkinList(CUTOFF_A, skin_A=0.4)
    for _ in range(40):
        if strain and frame.pbc.any():
            turn = np.eye(3) + rng.normal(scale=strain, size=(3, 3))
            frame.set_cell(frame.cell.array @ turn)
            frame.positions = frame.positions @ turn
        frame.positions += rng.normal(scale=0.02, size=(len(frame), 3)) + 0.01
        assert within(known.pairs(frame)) == listed(frame)
    assert known.n_searches < 40


def test_a_list_with_a_skin_is_searched_anew_when_it_must() -> None:
    frame = bulk("Cu", cubic=True).repeat(2)
    known = SkinList(4.0, skin_A=0.5)
    for _ in range(5):
        known.pairs(frame)
    assert known.n_searches == 1
    frame.positions[3, 0] += 0.249
    known.pairs(frame)
    assert known.n_searches == 1
    frame.positions[3, 0] += 0.002
    known.pairs(frame)
    assert known.n_searches == 2
    frame.pbc = (True, True, False)
    known.pairs(frame)
    assert known.n_searches == 3
    frame.pbc = True
    known.pairs(frame)
    frame.set_cell(frame.cell.array * 1.1, scale_atoms=True)  # 4.5 Å (1 - 0.1) > 4 Å: an affine change within the skin
    known.pairs(frame)
    assert known.n_searches == 4
    frame.set_cell(frame.cell.array * 1.05, scale_atoms=True)
    known.pairs(frame)
    assert known.n_searches == 5
    with pytest.raises(ModelFailure, match="apart"):
        frame.positions[1] = frame.positions[0]
        known.pairs(frame)
    with pytest.raises(BadInput, match="skin_A"):
        SkinList(4.0, skin_A=-1.0)


# Geometries that would hang or exhaust memory


def liquid(n_per_side: int = 9, *, spacing_A: float = 2.5) -> Atoms:
    """Return more atoms than are searched by pairs, in a periodic cell."""
    grid = spacing_A * np.array(list(product(range(n_per_side), repeat=3)), dtype=float)
    frame = Atoms(numbers=np.ones(len(grid), dtype=int), positions=grid, cell=np.eye(3) * n_per_side * spacing_A)
    frame.pbc = True
    frame.rattle(0.2, seed=0)
    return frame


def with_cell(cell: Any, frame: Atoms) -> Atoms:
    frame.set_cell(cell)
    frame.pbc = True
    return frame


def crushed(n_atoms: int) -> Atoms:
    """Return very many atoms within one cutoff."""
    return Atoms(numbers=np.ones(n_atoms, dtype=int), positions=np.random.default_rng(0).uniform(size=(n_atoms, 3)))


HOPELESS: dict[str, Callable[[], Atoms]] = {
    "flat cell": lambda: Atoms("H", cell=[10, 10, 1e-9], pbc=True),
    "almost parallel vectors": lambda: Atoms("H", cell=[[10, 0, 0], [10, 1e-5, 0], [0, 0, 10]], pbc=True),
    "cell at the edge of round-off": lambda: Atoms("H", cell=[1.0, 1.0, 8e-16], pbc=True),
    "tiny cell": lambda: Atoms("H", cell=[1e-30] * 3, pbc=True),
    "short rod": lambda: Atoms("H", cell=[0, 0, 1e-9], pbc=(False, False, True)),
    "flat cell of many": lambda: with_cell([10, 10, 1e-9], liquid()),
    "almost parallel vectors of many": lambda: with_cell([[10, 0, 0], [10, 1e-5, 0], [0, 0, 10]], liquid()),
    "very many at one place": lambda: crushed(40_000),
    "very many, and one far away": lambda: crushed(40_000) + Atoms("H", [[1e9, 1e9, 1e9]]),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_a_search_without_end_is_refused_before_it_begins(name: str) -> None:
    frame = HOPELESS[name]()
    began = perf_counter()
    searches: list[Callable[[Atoms], Neighbours]] = [lambda x: neighbours(x, CUTOFF_A), SkinList(CUTOFF_A).pairs]
    for search in searches:
        with pytest.raises(BadInput, match=rf"pairs of {len(frame)} atoms within .* distances; at most 1e\+09"):
            search(frame)
    assert perf_counter() - began < 10.0


def test_more_pairs_than_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = bulk("Cu", cubic=True)
    n_pairs = len(neighbours(frame, CUTOFF_A).index)
    monkeypatch.setattr(module, "MOST_PAIRS", n_pairs)
    neighbours(frame, CUTOFF_A)
    monkeypatch.setattr(module, "MOST_PAIRS", n_pairs - 1)
    with pytest.raises(BadInput, match=f"{n_pairs} pairs of 4 atoms are closer"):
        neighbours(frame, CUTOFF_A)


def near(frame: Atoms, digits: int = 6) -> list[tuple[float, ...]]:
    pairs = neighbours(frame, CUTOFF_A)
    centre = np.repeat(np.arange(len(frame)), np.diff(pairs.start))
    rows = zip(centre, pairs.index, pairs.vector, strict=True)
    return sorted((int(i), int(j), *(np.round(v, digits) + 0.0)) for i, j, v in rows)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, True)])
def test_many_atoms_far_outside_their_cell_are_wrapped(pbc: tuple[bool, bool, bool]) -> None:
    frame = liquid()
    frame.set_cell(frame.cell.array @ [[1.0, 0.1, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 1.0]], scale_atoms=True)
    frame.pbc = pbc
    far, rng = frame.copy(), np.random.default_rng(0)
    far.positions += (rng.integers(-(10**8), 10**8, size=(len(frame), 3)) * pbc) @ frame.cell.array
    began = perf_counter()
    found, wanted = near(far, 4), near(frame, 4)
    assert perf_counter() - began < 10.0
    assert [row[:2] for row in found] == [row[:2] for row in wanted]
    mean = [np.sort(np.linalg.norm(np.array(rows)[:, 2:], axis=1)) for rows in (found, wanted)]
    assert np.abs(mean[0] - mean[1]).max() < 1e-3


def test_many_atoms_have_the_pairs_that_few_would(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [liquid(), liquid()]
    frames[1].positions += np.random.default_rng(0).integers(-3, 3, size=(729, 3)) @ frames[1].cell.array
    by_cells = [near(frame) for frame in frames]
    monkeypatch.setattr(module, "MOST_ATOMS_BY_PAIRS", 1000)
    for frame, found in zip(frames, by_cells, strict=True):
        assert np.allclose(found, near(frame), atol=2e-6)


def test_one_atom_of_many_may_be_far_away() -> None:
    cluster = liquid()
    cluster.pbc = False
    for place in ([1e9, 0, 0], [1e9, -1e9, 1e9], [1e12, 0, 0]):
        assert near(cluster + Atoms("H", [place])) == near(cluster)
    slab = liquid()
    slab.pbc = (True, True, False)
    assert near(slab + Atoms("H", [[1e9, 0, 1e11]])) == near(slab)


@pytest.mark.parametrize("n_per_side", [1, 9])
def test_a_position_without_digits_for_distances_is_refused(n_per_side: int) -> None:
    frame = liquid(n_per_side, spacing_A=4.0)
    known = SkinList(CUTOFF_A)
    known.pairs(frame)
    for place in (-2e12, 1e200):
        frame.positions[-1, 1] = place
        for search in (known.pairs, lambda x: neighbours(x, CUTOFF_A)):
            with pytest.raises(BadInput, match=rf"atom {len(frame) - 1} has a coordinate .*; beyond 1e"):
                search(frame)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_cell_that_is_not_finite_is_refused_also_later(wrong: float) -> None:
    frame, known = bulk("Cu", cubic=True), SkinList(CUTOFF_A)
    known.pairs(frame)
    good = frame.cell.array.copy()
    frame.cell[1, 1] = wrong
    for search in (known.pairs, lambda x: neighbours(x, CUTOFF_A)):
        with pytest.raises(BadInput, match="span no volume"):
            search(frame)
    frame.set_cell(good)
    assert within(known.pairs(frame)) == listed(frame)
    frame.pbc = (True, False, True)  # then the second vector does not matter
    frame.cell[1, 1] = wrong
    for _ in range(2):
        assert np.isfinite(known.pairs(frame).vector).all()
    assert known.n_searches == 3
