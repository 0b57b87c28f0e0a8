"""Energies, forces and stresses: derivatives, symmetries, limits, and wrong variants that the same checks catch."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.kernels import design, repulsion
from mlipbench.ace.neighbours import neighbours
from mlipbench.ace.potential import LinearAce, species_of
from mlipbench.ace.tables import pair_tables, product_tables
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


def slope(energy: Callable[[float], float], h: float = 2e-4) -> float:
    """Fourth-order central difference."""
    return (energy(-2 * h) - 8 * energy(-h) + 8 * energy(h) - energy(2 * h)) / (12 * h)


def force_error(potential: LinearAce, frame: Atoms, factor: float = 1.0) -> float:
    forces = factor * potential.evaluate(frame).forces
    worst = 0.0
    for atom in range(len(frame)):
        for axis in range(3):

            def energy(x: float, atom: int = atom, axis: int = axis) -> float:
                moved = frame.copy()
                moved.positions[atom, axis] += x
                return potential.evaluate(moved).energy

            worst = max(worst, abs(slope(energy) + forces[atom, axis]))
    return worst


def stress_error(potential: LinearAce, frame: Atoms, factor: float = 1.0) -> float:
    stress = potential.evaluate(frame).stress
    assert stress is not None
    worst = 0.0
    for a in range(3):
        for b in range(3):

            def energy(x: float, a: int = a, b: int = b) -> float:
                strain = np.eye(3)
                strain[a, b] += x
                moved = frame.copy()
                moved.set_cell(frame.cell.array @ strain.T, scale_atoms=True)
                return potential.evaluate(moved).energy

            worst = max(worst, abs(slope(energy) / frame.get_volume() - factor * stress[a, b]))
    return worst


def without_one_harmonic(potential: LinearAce) -> LinearAce:
    """A potential that is not invariant: one monomial of the harmonics is wrong."""
    broken = copy(potential)
    coefficients = potential._pairs.coefficients.copy()
    coefficients[-1] *= 1.5
    object.__setattr__(broken, "_pairs", potential._pairs._replace(coefficients=coefficients))
    return broken


def test_forces_are_the_derivative_of_the_energy(potential: LinearAce, ethanol: Atoms, crystal: Atoms) -> None:
    for frame in (ethanol, crystal):
        assert np.abs(potential.evaluate(frame).forces).max() > 0.1
        assert force_error(potential, frame) < 1e-7
    assert force_error(potential, ethanol, factor=-1.0) > 0.1
    assert force_error(potential, ethanol, factor=1.001) > 1e-5


def test_stress_is_the_derivative_under_strain(potential: LinearAce, crystal: Atoms) -> None:
    assert stress_error(potential, crystal) < 1e-7
    assert stress_error(potential, crystal, factor=-1.0) > 1e-4


def test_design_rows_times_weights_are_the_prediction(potential: LinearAce, crystal: Atoms) -> None:
    basis, n = potential.basis, len(crystal)
    pairs, columns = neighbours(crystal, basis.cutoff_A), potential.weights.size
    energy, forces, virial = np.zeros(columns), np.zeros((3 * n, columns)), np.zeros((6, columns))
    species = species_of(crystal, basis.numbers)
    tables = pair_tables(basis), product_tables(basis)
    design(*tables, pairs.start, pairs.index, pairs.vector, species, energy, forces, virial)
    bare = replace(potential, e0_eV=np.zeros(3), wall_reach_A=np.zeros((3, 3)))
    found, w = bare.evaluate(crystal), potential.weights.reshape(-1)
    assert energy @ w == pytest.approx(found.energy, abs=1e-10)
    assert np.abs((forces @ w).reshape(-1, 3) - found.forces).max() < 1e-10
    assert np.abs(virial @ w - found.virial[VOIGT]).max() < 1e-10


def test_energy_keeps_under_rotation_reflection_translation_and_relabelling(
    potential: LinearAce, ethanol: Atoms
) -> None:
    known, rng = potential.evaluate(ethanol), np.random.default_rng(3)
    turn = Rotation.random(rng=rng).as_matrix()
    for matrix in (turn, -turn, np.diag([1.0, 1.0, -1.0])):
        moved = ethanol.copy()
        moved.positions = ethanol.positions @ matrix.T + 17.0
        found = potential.evaluate(moved)
        assert found.energy == pytest.approx(known.energy, abs=1e-10)
        assert np.abs(found.forces - known.forces @ matrix.T).max() < 1e-10
    order = rng.permutation(len(ethanol))
    found = potential.evaluate(ethanol[order])
    assert np.abs(found.forces - known.forces[order]).max() < 1e-10
    assert np.abs(found.site_energies - known.site_energies[order]).max() < 1e-10
    broken, moved = without_one_harmonic(potential), ethanol.copy()
    moved.positions = ethanol.positions @ turn.T
    assert abs(broken.evaluate(moved).energy - broken.evaluate(ethanol).energy) > 1e-5


def test_forces_and_torques_vanish_in_sum(potential: LinearAce, ethanol: Atoms) -> None:
    forces = potential.evaluate(ethanol).forces
    assert np.abs(forces.sum(axis=0)).max() < 1e-11
    assert np.abs(np.cross(ethanol.positions, forces).sum(axis=0)).max() < 1e-10


def test_a_cell_smaller_than_the_cutoff_equals_its_supercell(potential: LinearAce, crystal: Atoms) -> None:
    known, large = potential.evaluate(crystal), potential.evaluate(crystal.repeat((3, 2, 2)))
    assert large.energy == pytest.approx(12 * known.energy, abs=1e-9)
    assert np.abs(large.forces - np.tile(known.forces, (12, 1))).max() < 1e-10
    assert large.stress is not None and known.stress is not None
    assert np.abs(large.stress - known.stress).max() < 1e-11
    wrapped = crystal.copy()
    wrapped.positions += crystal.cell.array[0] * 3 - crystal.cell.array[2]
    assert potential.evaluate(wrapped).energy == pytest.approx(known.energy, abs=1e-10)


def test_distant_molecules_add_up(potential: LinearAce, ethanol: Atoms) -> None:
    other = ethanol.copy()
    other.positions += [60.0, 0.0, 0.0]
    assert potential.evaluate(ethanol + other).energy == pytest.approx(
        2 * potential.evaluate(ethanol).energy, abs=1e-10
    )


def test_a_lone_atom_has_its_e0_and_no_force(potential: LinearAce) -> None:
    for frame in (Atoms("C"), Atoms("C", cell=[20, 20, 20], pbc=True)):
        found = potential.evaluate(frame)
        assert found.energy == -2.0
        assert not found.forces.any()
    assert potential.evaluate(Atoms()).energy == 0.0


@pytest.mark.parametrize(("envelope", "ratio"), [(3, 4.0), (4, 8.0), (2, 2.0)])
def test_the_force_ends_smoothly_at_the_cutoff(potential: LinearAce, envelope: int, ratio: float) -> None:
    """With a factor (1 - r²/rc²)^p the force ends like δ^(p - 1): p = 2, which `Basis` refuses, has a kink."""
    changed = copy(potential)
    object.__setattr__(changed, "_pairs", potential._pairs._replace(envelopes=np.array([envelope, envelope])))

    def force(below: float) -> float:
        frame = Atoms("OC", [[0, 0, 0], [0, 0, potential.basis.cutoff_A - below]])
        return float(changed.evaluate(frame).forces[1, 2])

    assert force(2e-4) / force(1e-4) == pytest.approx(ratio, rel=1e-2)
    assert force(-1e-9) == 0.0


def test_a_list_with_a_skin_changes_nothing(potential: LinearAce, crystal: Atoms) -> None:
    wide = neighbours(crystal, potential.basis.cutoff_A + 0.7)
    known, found = potential.evaluate(crystal), potential.evaluate(crystal, wide)
    assert found.energy == pytest.approx(known.energy, abs=1e-11)
    assert np.abs(found.forces - known.forces).max() < 1e-11


def test_the_wall_is_the_screened_coulomb_repulsion_and_ends_smoothly() -> None:
    # Close to the nuclei the bare Coulomb energy e² Z Z' / (4 π ε0 r) is left, with e²/(4 π ε0) = 14.3996 eV Å.
    energy, _ = repulsion(1e-6, 1.0, 8.0, 1.0)
    assert energy * 1e-6 == pytest.approx(14.399645 * 8, rel=1e-4)
    assert repulsion(1.0, 1.0, 8.0, 1.0) == (0.0, 0.0)
    for r in (0.3, 0.9, 0.999):
        numeric = slope(lambda x, r=r: repulsion(r + x, 1.0, 8.0, 1.0)[0], h=1e-5)  # type: ignore[misc]
        assert repulsion(r, 1.0, 8.0, 1.0)[1] == pytest.approx(numeric, rel=1e-6, abs=1e-8)
    assert abs(repulsion(1 - 1e-4, 1.0, 8.0, 1.0)[1]) < 1e-5


def test_close_atoms_repel_and_overlapping_ones_are_refused(potential: LinearAce) -> None:
    near = potential.evaluate(Atoms("OH", [[0, 0, 0], [0, 0, 0.1]]))
    assert near.forces[1, 2] > 100.0
    with pytest.raises(ModelFailure, match="apart"):
        potential.evaluate(Atoms("OH", [[0, 0, 0], [0, 0, 0]]))


def test_an_element_outside_the_basis_is_named(potential: LinearAce) -> None:
    with pytest.raises(NotApplicable, match=r"does not cover Li, F; it covers H, C, O"):
        potential.evaluate(Atoms("LiFH", [[0, 0, 0], [0, 0, 2], [0, 2, 0]]))


def test_frames_are_not_changed(potential: LinearAce, ethanol: Atoms) -> None:
    before = ethanol.copy()
    potential.evaluate(ethanol)
    assert ethanol == before


def test_wrong_arrays_are_refused(potential: LinearAce) -> None:
    basis, n = potential.basis, functions(potential.basis).n_functions
    with pytest.raises(BadInput, match=rf"weights has shape \(3, 4\); this basis needs \(3, {n}\)"):
        replace(potential, weights=np.zeros((3, 4)))
    with pytest.raises(BadInput, match="not finite"):
        replace(potential, e0_eV=np.array([0.0, np.nan, 0.0]))
    with pytest.raises(BadInput, match="within the cutoff"):
        replace(potential, wall_reach_A=np.full((3, 3), basis.cutoff_A + 1.0))


def test_orders_can_be_left_out(crystal: Atoms) -> None:
    basis = Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(3.0,))
    weights = np.random.default_rng(0).normal(size=(3, functions(basis).n_functions))
    pairs_only = LinearAce(basis=basis, e0_eV=np.zeros(3), weights=weights, wall_reach_A=np.zeros((3, 3)))
    assert functions(basis).order_counts == (12, 0, 0, 0)
    assert force_error(pairs_only, crystal) < 1e-7
