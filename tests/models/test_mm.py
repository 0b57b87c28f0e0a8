"""Does the GAFF2 row answer with one Hamiltonian, whatever the order and wrapping of the atoms?"""

import numpy as np
import pytest

pytest.importorskip("openmm")

from ase import Atoms

from mlipbench.core.model import Model, ModelSpec
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.models.gaff2 import compose, one_molecule, openmm, template
from mlipbench.models.gaff2.evaluate import _lower_triangular, _reduced
from mlipbench.models.mm import GaffModel, load
from mlipbench.units import EV_PER_KJ_PER_MOL


@pytest.fixture(scope="module")
def model() -> GaffModel:
    return load(ModelSpec(name="gaff2", kind="mm", options={"ewald_tolerance": 1e-5}), device="cpu")


def molecule(name: str, *, seed: int = 0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Atoms:
    known = template(name)
    noise = np.random.default_rng(seed).normal(0.0, 0.03, known.positions.shape)
    return Atoms(known.symbols, known.positions + noise + np.array(shift))


def liquid(*, triclinic: bool = False) -> Atoms:
    """Return EC and EMC in a cell smaller than two cutoffs."""
    atoms = molecule("EC", seed=1) + molecule("EMC", seed=2, shift=(0.3, 0.2, 4.2))
    cell = [[9.6, 0.0, 0.0], [1.3, 7.2, 0.0], [-2.1, 1.9, 8.3]] if triclinic else [9.6, 7.0, 8.3]
    atoms.set_cell(cell)
    atoms.set_pbc(True)
    return atoms


def test_it_is_a_model(model: GaffModel) -> None:
    assert isinstance(model, Model)
    assert model.spec.elements == ("H", "C", "O")


@pytest.mark.parametrize("name", ["EC", "EMC"])
def test_one_molecule_has_the_energy_of_the_shipped_system(model: GaffModel, name: str) -> None:
    atoms = molecule(name)
    mm = openmm()
    platform = mm.Platform.getPlatformByName("Reference")
    context = mm.Context(one_molecule(name), mm.VerletIntegrator(0.001), platform)
    context.setPositions(atoms.positions / 10.0)
    wanted = context.getState(getEnergy=True).getPotentialEnergy()._value * EV_PER_KJ_PER_MOL
    assert model.predict([atoms]).energy[0] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", ["EC", "EMC"])
def test_the_shipped_molecules_are_neutral(name: str) -> None:
    system = compose([name])
    (nonbonded,) = [force for force in system.getForces() if type(force).__name__ == "NonbondedForce"]
    charges = [nonbonded.getParticleParameters(i)[0]._value for i in range(nonbonded.getNumParticles())]
    assert sum(charges) == pytest.approx(0.0, abs=1e-12)


def test_far_molecules_add_up(model: GaffModel) -> None:
    near, far = molecule("EC"), molecule("EMC")
    far.positions += [1e5, 0.0, 0.0]
    both = model.predict([near + far, near, far])
    assert both.energy[0] == pytest.approx(both.energy[1] + both.energy[2], abs=1e-8)


@pytest.mark.parametrize("triclinic", [False, True])
def test_forces_are_minus_the_gradient(model: GaffModel, *, triclinic: bool) -> None:
    atoms, step = liquid(triclinic=triclinic), 1e-4
    forces = model.predict([atoms]).forces
    for i, axis in ((0, 0), (6, 1), (14, 2), (21, 0)):
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[i, axis] += step
        moved[1].positions[i, axis] -= step
        up, down = model.predict(moved).energy
        assert -(up - down) / (2 * step) == pytest.approx(forces[i, axis], abs=2e-6)
        assert abs(-(up - down) / (2 * step) - 1.001 * forces[i, axis] - 1e-4) > 2e-6  # the check has teeth


@pytest.mark.parametrize("triclinic", [False, True])
def test_stress_is_the_strain_derivative(model: GaffModel, *, triclinic: bool) -> None:
    atoms, step = liquid(triclinic=triclinic), 3e-4
    stress = model.predict([atoms]).stress[0]
    assert np.array_equal(stress, stress.T)
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] += step / 2  # the symmetric strain: not the one the model uses itself
        strain[j, i] += step / 2
        strained = []
        for sign in (1.0, -1.0):
            frame = atoms.copy()
            frame.set_cell(atoms.cell.array @ (np.eye(3) + sign * strain), scale_atoms=True)
            strained.append(frame)
        up, down = model.predict(strained).energy
        assert (up - down) / (2 * step) / atoms.get_volume() == pytest.approx(stress[i, j], abs=3e-6)


def test_the_order_of_atoms_does_not_matter(model: GaffModel) -> None:
    atoms = liquid(triclinic=True)
    order = np.random.default_rng(3).permutation(len(atoms))
    plain, shuffled = model.predict([atoms]), model.predict([atoms[order]])
    assert shuffled.energy[0] == pytest.approx(plain.energy[0], abs=1e-9)
    np.testing.assert_allclose(shuffled.forces, plain.forces[order], atol=1e-9)
    np.testing.assert_allclose(shuffled.stress, plain.stress, atol=1e-9)
    assert np.abs(shuffled.forces - plain.forces).max() > 0.1  # unpermuted forces would be noticed


def test_wrapping_does_not_matter(model: GaffModel) -> None:
    atoms = liquid(triclinic=True)
    wrapped = atoms.copy()
    wrapped.positions += [3.0, 2.0, 1.0]
    wrapped.wrap()
    plain, other = model.predict([atoms]), model.predict([wrapped])
    assert np.abs(np.ptp(wrapped.positions, axis=0) - np.ptp(atoms.positions, axis=0)).max() > 1.0
    assert other.energy[0] == pytest.approx(plain.energy[0], abs=1e-5)  # the Ewald mesh does not move along
    np.testing.assert_allclose(other.forces, plain.forces, atol=1e-4)


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 2)])
def test_a_supercell_has_the_same_energy_per_image(model: GaffModel, repeats: tuple[int, int, int]) -> None:
    atoms = liquid(triclinic=True)
    one, many = model.predict([atoms]), model.predict([atoms.repeat(repeats)])
    images = int(np.prod(repeats))
    assert many.energy[0] / images == pytest.approx(one.energy[0], abs=1e-5)
    np.testing.assert_allclose(many.forces[: len(atoms)], one.forces, atol=2e-4)
    np.testing.assert_allclose(many.stress, one.stress, atol=1e-6)


def test_rotation_and_choice_of_lattice_vectors_do_not_matter(model: GaffModel) -> None:
    atoms = liquid(triclinic=True)
    other = atoms.copy()
    other.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 1, 1]]) @ atoms.cell.array)
    angle = 0.7
    turn = np.array([[np.cos(angle), np.sin(angle), 0.0], [-np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    other.set_cell(other.cell.array @ turn)
    other.positions = atoms.positions @ turn
    plain, turned = model.predict([atoms]), model.predict([other])
    assert turned.energy[0] == pytest.approx(plain.energy[0], abs=1e-5)
    np.testing.assert_allclose(turned.forces, plain.forces @ turn, atol=1e-4)
    np.testing.assert_allclose(turned.stress[0], turn.T @ plain.stress[0] @ turn, atol=2e-6)


def test_the_two_parts_are_the_energy_openmm_gives_for_a_whole_supercell(model: GaffModel) -> None:
    """OpenMM with charges and Lennard-Jones in one supercell, put together without our evaluator."""
    atoms = liquid().repeat(2)
    mm = openmm()
    system = compose(["EC", "EMC"] * 8)
    (nonbonded,) = [force for force in system.getForces() if type(force).__name__ == "NonbondedForce"]
    nonbonded.setNonbondedMethod(mm.NonbondedForce.PME)
    nonbonded.setCutoffDistance(0.55)
    nonbonded.setUseSwitchingFunction(True)
    nonbonded.setSwitchingDistance(0.5)
    nonbonded.setUseDispersionCorrection(False)
    nonbonded.setEwaldErrorTolerance(1e-5)
    system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10.0))
    platform = mm.Platform.getPlatformByName("Reference")
    context = mm.Context(system, mm.VerletIntegrator(0.001), platform)
    context.setPositions(atoms.positions / 10.0)
    state = context.getState(getEnergy=True, getForces=True)
    ours = model.predict([liquid()])
    wanted = state.getPotentialEnergy()._value * EV_PER_KJ_PER_MOL
    assert ours.energy[0] == pytest.approx(wanted / 8, abs=2e-5)
    forces = state.getForces(asNumpy=True)._value[:25] * EV_PER_KJ_PER_MOL / 10.0
    np.testing.assert_allclose(ours.forces, forces, atol=1e-4)


def test_an_unknown_molecule_is_refused_by_name(model: GaffModel) -> None:
    water = Atoms("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    with pytest.raises(NotApplicable, match=r"frame 1: the molecule H2O .* knows EC, EMC"):
        model.predict([molecule("EC"), water])


def test_an_isomer_is_refused(model: GaffModel) -> None:
    """Dimethyl ether's formula is ethanol's; here EC's atoms without one bond."""
    broken = molecule("EC")
    broken.positions[4] += [9.0, 0.0, 0.0]  # the carbonyl oxygen flies away
    with pytest.raises(NotApplicable, match="C3H4O2"):
        model.predict([broken])


def test_a_slab_is_refused(model: GaffModel) -> None:
    slab = liquid()
    slab.set_pbc([True, True, False])
    with pytest.raises(NotApplicable, match="all three or none"):
        model.predict([slab])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cutof_A": 5.0}, "Did you mean 'cutoff_A'"), ({"switch_A": 6.0}, "switch_A < cutoff_A")],
)
def test_wrong_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(ModelSpec(name="x", kind="mm", options=options), device="cpu")


def test_the_calculator_agrees_with_predict(model: GaffModel) -> None:
    atoms = liquid()
    wanted = model.predict([atoms])
    atoms.calc = model.calculator()
    assert atoms.get_potential_energy() == wanted.energy[0]
    np.testing.assert_array_equal(atoms.get_forces(), wanted.forces)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), wanted.stress[0], atol=1e-15)


def test_frames_are_not_changed(model: GaffModel) -> None:
    atoms = liquid()
    before = atoms.copy()
    model.predict([atoms])
    assert atoms == before


def test_a_turned_cell_is_the_same_cell() -> None:
    cell = np.random.default_rng(5).normal(size=(3, 3)) * 5.0
    lower, rotation = _lower_triangular(cell)
    np.testing.assert_allclose(cell @ rotation, lower, atol=1e-12)
    np.testing.assert_allclose(np.triu(lower, 1), 0.0, atol=1e-12)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    reduced = _reduced(np.tril(lower))
    whole = reduced @ np.linalg.inv(np.tril(lower))
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)  # integer combinations, volume kept:
    assert abs(np.linalg.det(reduced)) == pytest.approx(abs(np.linalg.det(cell)))
    assert (np.abs(reduced[1:, 0]) <= reduced[0, 0] / 2 + 1e-12).all()


def test_a_batch_answers_as_predict_does(model: GaffModel) -> None:
    """Molecules cut by the cell, atoms in another order, a cluster, and atoms that have moved on since."""
    cut = liquid()
    order = np.random.default_rng(0).permutation(len(cut))
    cut = cut[order]
    cut.wrap()
    frames = [liquid(), cut]
    batch = model.batch(frames)
    rng = np.random.default_rng(1)
    moved = [frame.copy() for frame in frames]
    for frame in moved:
        frame.positions += 0.05 * rng.standard_normal((len(frame), 3))
        frame.set_cell(frame.cell.array * 1.01)
    positions = np.concatenate([frame.positions for frame in moved])
    cells = np.array([frame.cell.array for frame in moved])
    found, wanted = batch.evaluate(positions, cells, with_virial=True), model.predict(moved)
    np.testing.assert_allclose(found.energy, wanted.energy, atol=1e-9)
    np.testing.assert_allclose(found.forces, wanted.forces, atol=1e-9)
    assert found.virial is not None
    volumes = np.abs(np.linalg.det(cells))[:, None, None]
    np.testing.assert_allclose(found.virial / volumes, wanted.stress, atol=1e-9)
    batch.keep(np.array([1]))
    alone = batch.evaluate(moved[1].positions, cells[1:], with_virial=False)
    np.testing.assert_allclose(alone.energy, wanted.energy[1:], atol=1e-9)
    assert alone.virial is None


def test_squeezed_molecules_are_told_apart_by_their_names(model: GaffModel) -> None:
    """Two molecules that touch as if bonded are strangers by their distances, and known by their names."""
    atoms = molecule("EC") + molecule("EMC", seed=1, shift=(0.0, 0.0, 2.0))
    with pytest.raises(NotApplicable, match="is not in this GAFF2 force field"):
        model.predict([atoms])
    named = atoms.copy()
    n_first = len(template("EC").symbols)
    named.set_array("molecule", np.array([7] * n_first + [3] * (len(atoms) - n_first)))
    said = model.predict([named])
    apart = named.copy()
    apart.positions[n_first:] += [0.0, 0.0, 60.0]
    unnamed = apart.copy()
    del unnamed.arrays["molecule"]
    both = model.predict([apart, unnamed])
    assert both.energy[0] == pytest.approx(both.energy[1], abs=1e-12)
    assert said.energy[0] > both.energy[0] + 1.0
