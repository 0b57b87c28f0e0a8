"""Does our CHGNet answer as CHGNet does, with the units and signs of everything else here?"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("chgnet")

from ase import Atoms
from ase.build import bulk, molecule

from mlipbench.core.model import Model, ModelSpec, SiteEnergies
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.models.chgnet import ChgnetModel, _quiet, load
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM


@pytest.fixture(scope="module")
def model() -> ChgnetModel:
    return load(ModelSpec(name="chgnet", kind="chgnet"), device="cpu")


def crystals() -> list[Atoms]:
    rng = np.random.default_rng(0)
    made = [bulk("Si", "diamond", a=5.5), bulk("NaCl", "rocksalt", a=5.7)]
    for atoms in made:
        atoms.rattle(0.05, rng=rng)
    return made


def test_it_is_a_model(model: ChgnetModel) -> None:
    assert isinstance(model, Model) and isinstance(model, SiteEnergies)
    assert model.spec.elements is not None and len(model.spec.elements) == 94
    assert model.spec.identity.startswith("chgnet 0.3.0 ")


def test_it_answers_as_its_package_does(model: ChgnetModel) -> None:
    from pymatgen.io.ase import AseAtomsAdaptor

    frames = crystals()
    said = model.predict(frames)
    for k, atoms in enumerate(frames):
        with _quiet():
            theirs = model.network.predict_structure(AseAtomsAdaptor.get_structure(atoms))
        assert said.energy[k] / len(atoms) == pytest.approx(float(theirs["e"]), abs=5e-6)
        own = said.forces[said.offsets[k] : said.offsets[k + 1]]
        assert np.abs(own - theirs["f"]).max() < 5e-5
        stress = GPA_PER_EV_PER_CUBIC_ANGSTROM * said.stress[k]
        assert np.abs(stress - 0.5 * (theirs["s"] + theirs["s"].T)).max() < 5e-3


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 1)])
def test_stress_is_the_slope_of_the_energy(model: ChgnetModel, i: int, j: int) -> None:
    atoms = bulk("Si", "diamond", a=5.2, cubic=True)
    atoms.rattle(0.05, rng=np.random.default_rng(1))
    strain = np.zeros((3, 3))
    strain[i, j] += 0.5
    strain[j, i] += 0.5
    step, moved = 5e-3, []
    for sign in (1.0, -1.0):
        frame = atoms.copy()
        frame.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
        moved.append(frame)
    up, down = model.predict(moved).energy
    told = float((model.predict([atoms]).stress[0] * strain).sum())
    assert (up - down) / (2 * step) / atoms.get_volume() == pytest.approx(told, abs=2e-4)
    assert abs(told) > 1e-3


def test_forces_are_slopes_without_a_cell(model: ChgnetModel) -> None:
    atoms = molecule("CH3OH")
    atoms.positions += 40.0  # far from the origin
    way = np.random.default_rng(2).normal(size=atoms.positions.shape)
    moved = [atoms.copy(), atoms.copy()]
    for frame, sign in zip(moved, (1.0, -1.0), strict=True):
        frame.positions += sign * 5e-4 * way  # its surface is rough: with steps of 0.01 Å slopes are a fifth off
    up, down = model.predict(moved).energy
    said = model.predict([atoms])
    assert -(up - down) / 1e-3 == pytest.approx(float((said.forces * way).sum()), abs=5e-3)
    assert not said.has_stress[0]


def test_company_and_place_make_no_difference(model: ChgnetModel) -> None:
    water, far = molecule("H2O"), molecule("H2O")
    far.positions += 300.0
    together = model.predict([water, *crystals(), far, Atoms("O")])
    alone = model.predict([water])
    assert together.energy[0] == pytest.approx(alone.energy[0], abs=1e-5)
    assert together.energy[3] == pytest.approx(alone.energy[0], abs=1e-4)
    assert np.abs(together.forces[:3] - alone.forces).max() < 1e-4


def test_lone_atoms_have_an_energy_and_no_force(model: ChgnetModel) -> None:
    apart = Atoms("OO", [[0, 0, 0], [30.0, 0, 0]])
    said = model.predict([Atoms("O"), Atoms("O", cell=[20] * 3, pbc=True), apart])
    assert not said.forces.any()
    assert said.energy[1] == pytest.approx(said.energy[0], abs=1e-6)
    assert said.energy[2] == pytest.approx(2 * said.energy[0], abs=1e-5)
    sites = model.site_energies([Atoms("O"), molecule("H2O")])
    assert sites[1:].sum() == pytest.approx(model.predict([molecule("H2O")]).energy[0], abs=1e-6)


def test_the_calculator_says_the_same(model: ChgnetModel) -> None:
    atoms = crystals()[1]
    said = model.predict([atoms])
    atoms.calc = model.calculator()
    assert atoms.get_potential_energy() == pytest.approx(said.energy[0], abs=1e-6)
    assert np.abs(atoms.get_stress(voigt=False) - said.stress[0]).max() < 1e-7


def test_silicon_and_salt(model: ChgnetModel) -> None:
    """Lattice constants and bulk moduli as measured once with the package itself: 5.472 Å, 71 GPa; 5.688 Å, 24 GPa."""
    from mlipbench.physics.eos import fit

    for name, structure, a, modulus in (("Si", "diamond", 5.472, 71.0), ("NaCl", "rocksalt", 5.688, 24.0)):
        edges = a * (1.0 + np.linspace(-0.04, 0.04, 9))
        frames = [bulk(name, structure, a=edge) for edge in edges]
        curve = fit(edges**3 / 8, model.predict(frames).energy / 2).curve
        assert curve is not None
        assert (8 * curve.volume_A3) ** (1 / 3) == pytest.approx(a, abs=0.006)
        assert curve.modulus_eV_per_A3 * GPA_PER_EV_PER_CUBIC_ANGSTROM == pytest.approx(modulus, rel=0.06)


def test_what_it_refuses(model: ChgnetModel) -> None:
    with pytest.raises(NotApplicable, match="does not cover Cm"):
        model.predict([Atoms("Cm2", [[0, 0, 0], [2, 0, 0]])])
    with pytest.raises(BadInput, match=r"unknown version of CHGNet '0\.3'\. Did you mean '0\.3\.0'"):
        load(ModelSpec(name="c", kind="chgnet", options={"version": "0.3"}), device="cpu")
    with pytest.raises(BadInput, match="unknown option 'dtype'"):
        load(ModelSpec(name="c", kind="chgnet", options={"dtype": "float64"}), device="cpu")


def test_a_left_handed_cell_has_the_same_stress(model: ChgnetModel) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.3)
    other = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array[[1, 0, 2]], pbc=True)
    said = model.predict([atoms, other])
    assert said.stress[1] == pytest.approx(said.stress[0], abs=1e-5)
    assert np.abs(said.stress[0]).max() > 1e-2
