"""Pair lists against a brute-force sum over images."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

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
