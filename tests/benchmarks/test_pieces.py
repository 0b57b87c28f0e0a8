"""Molecules come out whole, and stand where they are put."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from pair_model import labelled

from mlipbench.benchmarks.pieces import CLUSTER, joined, pieces
from mlipbench.core.dataset import Dataset
from mlipbench.errors import BadInput
from mlipbench.physics.scans import contact_shift_A


def crystal(atoms: Atoms) -> Dataset:
    data = labelled(["atom"], n_trajectories=1, n_frames=1)
    return replace(data, frames=(atoms,), molecule=None, molecule_charges=None)


def test_one_molecule_of_each_frame_whole_and_centred() -> None:
    data = labelled(["liquid"], n_trajectories=2, n_frames=2)
    found = pieces(data, 4, np.random.default_rng(1), lone_elements=())
    assert [piece.frame for piece in found] == [0, 1, 2, 3]
    assert [piece.unit for piece in found] == ["liquid_0", "liquid_0", "liquid_1", "liquid_1"]
    assert {piece.atoms.get_chemical_formula() for piece in found} <= {"H2O", "CO2", "CH4O", "Li"}
    for piece in found:
        assert not piece.atoms.pbc.any()
        assert piece.atoms.get_all_distances().max() < 3.5
        np.testing.assert_allclose(piece.atoms.positions.mean(axis=0), 0.0, atol=1e-12)
        assert piece.atoms.info == ({"charge": 1} if len(piece.atoms) == 1 else {})


def test_inner_distances_are_those_of_the_frame() -> None:
    data = labelled(["molecule"], n_trajectories=1, n_frames=1)
    [piece] = pieces(data, 1, np.random.default_rng(0), lone_elements=())
    np.testing.assert_allclose(piece.atoms.get_all_distances(), data.frames[0].get_all_distances(), atol=1e-12)


@pytest.mark.parametrize("atoms", [bulk("Cu"), bulk("Cu", cubic=True) * (3, 3, 3)])
def test_crystal_gives_an_atom_and_its_neighbours(atoms: Atoms) -> None:
    [piece] = pieces(crystal(atoms), 1, np.random.default_rng(0), lone_elements=())
    assert len(piece.atoms) == CLUSTER
    assert piece.atoms.info == {}
    assert not piece.atoms.pbc.any()
    assert not piece.atoms.cell.any()
    distances = piece.atoms.get_all_distances()
    nearest = 3.61 / 2**0.5
    # Nearest neighbours of one atom, the first: all at one distance from it.
    assert np.sort(distances, axis=1)[:, -1].min() == pytest.approx(nearest, abs=1e-6)


def test_refusals() -> None:
    data = labelled(["cluster"], n_trajectories=1, n_frames=1)
    with pytest.raises(BadInput, match="0 molecules are asked for"):
        pieces(data, 0, np.random.default_rng(0), lone_elements=())
    with pytest.raises(BadInput, match="3 molecules but 0 molecule charges"):
        pieces(replace(data, molecule_charges=((),)), 1, np.random.default_rng(0), lone_elements=())


def test_joined_adds_charges_and_changes_nothing() -> None:
    ion, other = Atoms("Li", info={"charge": 1, "name": "a"}), Atoms("CO", [[0, 0, 0], [1.1, 0, 0]])
    whole = joined([ion, other, ion], np.array([[0.0, 0, 0], [5.0, 0, 0], [0.0, 9.0, 0]]))
    assert whole.get_chemical_formula(mode="reduce") == "LiCOLi"
    assert whole.info == {"charge": 2}
    np.testing.assert_allclose(whole.positions[:, 0], [0.0, 5.0, 6.1, 0.0])
    assert not other.positions[0].any()
    assert ion.info == {"charge": 1, "name": "a"}


@given(seed=st.integers(0, 2**32 - 1), gap_A=st.floats(0.5, 4.0))
def test_in_contact_and_never_nearer_beyond(seed: int, gap_A: float) -> None:
    rng = np.random.default_rng(seed)
    fixed, moved = (rng.normal(scale=2.0, size=(n, 3)) for n in (7, 5))
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    shift_A = contact_shift_A(fixed, moved, direction, gap_A=gap_A)
    nearest = [
        np.linalg.norm(fixed[:, None] - moved[None] - (shift_A + more) * direction, axis=2).min()
        for more in np.linspace(0.0, 10.0, 200)
    ]
    assert min(nearest) >= gap_A - 1e-9
