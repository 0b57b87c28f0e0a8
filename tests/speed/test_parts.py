"""What the comparisons are made of: the same work on both sides, and counts that can be done by hand."""

import importlib.util
import sys

import numpy as np
import pytest

from mlipbench.ace.basis import Basis, functions
from mlipbench.errors import NotApplicable
from mlipbench.speed import __main__ as speed
from mlipbench.speed import ace_jax, growth
from mlipbench.speed.box import mover, random_potential
from mlipbench.speed.fitting import about, design_rows
from mlipbench.speed.floor import flop_per_atom
from mlipbench.speed.settings import Settings

SETTINGS = Settings(n_calls=1, train_frames=6, test_frames=4, is_whole=False)
SMALL = Basis(numbers=(1, 6, 8), cutoff_A=3.0, degrees=(4.0, 2.0), l_max=1)


def test_rows_times_coefficients_are_the_prediction():
    potential = random_potential(SMALL)
    frame = SETTINGS.train.frames[0]
    room = np.full((9 + 3 * len(frame), potential.weights.size), np.nan)
    found = design_rows(SMALL, frame, room) @ potential.weights.ravel()
    told = potential.evaluate(frame)
    assert found[0] == pytest.approx(told.energy, abs=1e-10)
    np.testing.assert_allclose(found[1 : 1 + 3 * len(frame)].reshape(-1, 3), told.forces, atol=1e-10)
    np.testing.assert_allclose(found[-6:], told.virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], atol=1e-10)


def test_everybody_moves_the_same_way():
    first, second = SETTINGS.box.copy(), SETTINGS.box.copy()
    for move, atoms in ((mover(SETTINGS), first), (mover(SETTINGS), second)):
        move(atoms)
        move(atoms)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert np.std(first.positions - SETTINGS.box.positions) == pytest.approx(2**0.5 * SETTINGS.step_A, rel=0.1)


def test_the_box_is_a_liquid_of_160_atoms():
    assert len(SETTINGS.box) == 160
    assert SETTINGS.box.pbc.all()


def test_flop_grow_with_neighbours_and_monomials_as_counted():
    pairs, monomials = flop_per_atom(SMALL, 10.0)
    assert flop_per_atom(SMALL, 20.0) == (2.0 * pairs, monomials)
    assert monomials == 4 * len(functions(SMALL).monomials)


@pytest.mark.parametrize("degree", [5, 6, 8])
def test_our_products_are_a_part_of_those_of_ace_jax_at_an_offset_of_one(degree):
    """Counted by the rule of ace-jax: Σ (n / n_elements + 1.5 l) ≤ degree, n over radial numbers and elements."""
    n_elements = len(SETTINGS.numbers)
    part = functions(ace_jax.equal_basis(SETTINGS, degree, offset=1.0)).order_counts
    even = functions(ace_jax.equal_basis(SETTINGS, degree, offset=ace_jax.mean_offset(SETTINGS))).order_counts
    theirs_of_one = degree * n_elements  # n / n_elements ≤ degree
    theirs_of_two = sum(
        1
        for l in range(degree)  # noqa: E741
        for i in range(1, theirs_of_one + 1)
        for j in range(i, theirs_of_one + 1)
        if (i + j) / n_elements + 3.0 * l <= degree + 1e-9
    )
    assert part[0] == even[0] == theirs_of_one
    assert part[1] <= even[1] <= theirs_of_two
    assert even[1] > 0.8 * theirs_of_two


def test_ace_jax_that_is_not_there_is_named():
    if importlib.util.find_spec("ace_jax"):
        pytest.skip("ace-jax is installed")
    with pytest.raises(NotApplicable, match="ace-jax is not installed: pip install"):
        ace_jax.ask(Settings(ace_jax_python=sys.executable), 5, is_fitted=False, is_timed=True)


def test_the_fastest_way_of_each_kind_is_taken():
    paths = [
        {"name": "ASE calculator, skin of 1 Å", "cpu_s": 3.0},
        {"name": "ASE calculator, fresh neighbour list", "cpu_s": 5.0},
        {"name": "ASE calculator, tabulated radials, fresh neighbour list", "cpu_s": 2.0},
        {"name": "C++ kernel of the LAMMPS export, neighbours given", "cpu_s": 1.0},
    ]
    answer = ace_jax.Answer(version="0", n_functions=1, order_counts=[], n_pair_functions=0, fit={}, paths=paths)
    assert answer.fastest(way="kernel")[1] == 1.0
    assert answer.fastest(way="fresh") == (paths[2]["name"], 2.0)
    assert answer.fastest(way="steps") == (paths[2]["name"], 2.0)
    without = ace_jax.Answer(version="0", n_functions=1, order_counts=[], n_pair_functions=0, fit={}, paths=paths[:3])
    with pytest.raises(NotApplicable, match="compiler"):
        without.fastest(way="kernel")


def test_about_so_many_atoms_are_taken():
    data = SETTINGS.data.split("train_quick")
    assert about(data, 4000).n_atoms.sum() == pytest.approx(4000, rel=0.1)
    assert about(data, 10**9).n_atoms.sum() == data.n_atoms.sum()


def test_synthetic_frames_hold_every_element_and_no_overlap():
    one = growth.synthetic((1, 6, 7), side=4, seed=0)
    assert set(one.frame.numbers.tolist()) == {1, 6, 7}
    distances = one.frame.get_all_distances(mic=True)
    assert distances[np.triu_indices(64, 1)].min() > 0.8


def test_growth_is_measured_for_every_stage():
    points = list(growth.by_elements(SETTINGS))
    assert [x for x, _ in points] == [1.0, 2.0]
    assert all(set(costs) == set(growth.UNITS) for _, costs in points)
    assert all(cost > 0 for _, costs in points for cost in costs.values())


def test_parts_can_be_chosen_and_the_files_are_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert speed.main(["floor", "--trial", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "floating-point floor" in out
    assert (tmp_path / "speed.json").is_file()
    assert (tmp_path / "speed.html").is_file()
    with pytest.raises(SystemExit):
        speed.main(["nonsense"])
