"""Does our CHGNet answer as CHGNet does, with the units and signs of everything else here?"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("chgnet")

import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlipbench.core.model import Float, ModelSpec, OtherPrecision, Predictions, SiteEnergies
from mlipbench.errors import BadInput, MissingPackage, ModelFailure, NotApplicable
from mlipbench.models import chgnet as ours
from mlipbench.models import load as load_any
from mlipbench.models.chgnet import UNTRAINED, VERSIONS, ChgnetModel, _quiet, load
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import DOUBLE, SINGLE, check_model
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM


def make(**options: object) -> ChgnetModel:
    return load(ModelSpec(name="chgnet", kind="chgnet", options=options), device="cpu")


@pytest.fixture(scope="module")
def model() -> ChgnetModel:
    return make()


@pytest.fixture(scope="module")
def double(model: ChgnetModel) -> ChgnetModel:
    return model.in_precision("float64")


def crystals() -> list[Atoms]:
    rng = np.random.default_rng(0)
    made = [bulk("Si", "diamond", a=5.3), bulk("NaCl", "rocksalt", a=5.5)]
    for atoms in made:
        atoms.rattle(0.05, rng=rng)
    return made


def slab() -> Atoms:
    atoms = bulk("Si", "diamond", a=5.4, cubic=True)
    atoms.rattle(0.05, rng=np.random.default_rng(1))
    atoms.pbc = (True, True, False)
    return atoms


def test_it_keeps_the_contract(model: ChgnetModel, double: ChgnetModel) -> None:
    check_model(model, small_frames(), tolerance=SINGLE)
    check_model(double, small_frames(), tolerance=DOUBLE)


def test_the_table_finds_it(model: ChgnetModel) -> None:
    assert isinstance(load_any(ModelSpec(name="c", kind="chgnet"), device="cpu"), ChgnetModel)
    assert isinstance(model, SiteEnergies) and isinstance(model, OtherPrecision)
    assert model.spec.identity.startswith("chgnet 0.4.2 0.3.0 sha256:d14ab7c0f093efe6")


# --- as the package answers -----------------------------------------------------------------------------------------


def apart(said: Predictions, frames: list[Atoms], network: object) -> tuple[float, float, float]:
    """Return how far our answers lie from those of the package: eV per atom, eV/Å, GPa."""
    from pymatgen.io.ase import AseAtomsAdaptor

    worst = np.zeros(3)
    for k, atoms in enumerate(frames):
        with _quiet():
            theirs = network.predict_structure(AseAtomsAdaptor.get_structure(atoms))  # type: ignore[attr-defined]
        stress = GPA_PER_EV_PER_CUBIC_ANGSTROM * said.stress[k]
        off = (
            abs(said.energy[k] / len(atoms) - float(theirs["e"])),
            np.abs(said.forces[said.offsets[k] : said.offsets[k + 1]] - theirs["f"]).max(),
            np.abs(stress - 0.5 * (theirs["s"] + theirs["s"].T)).max(),
        )
        worst = np.maximum(worst, off)
    return float(worst[0]), float(worst[1]), float(worst[2])


WRONG: dict[str, Callable[[Predictions], Predictions]] = {
    "energy per atom": lambda said: replace(said, energy=said.energy / said.n_atoms),
    "forces uphill": lambda said: replace(said, forces=-said.forces),
    "pressure for stress": lambda said: replace(said, stress=-said.stress),
    "stress in GPa": lambda said: replace(said, stress=GPA_PER_EV_PER_CUBIC_ANGSTROM * said.stress),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_it_answers_as_its_package_does(version: str) -> None:
    from chgnet.model import CHGNet

    with _quiet():
        package = CHGNet.load(model_name=version, use_device="cpu", verbose=False)
    frames = crystals()
    said = make(version=version).predict(frames)

    def agrees(answer: Predictions) -> bool:
        return bool((np.array(apart(answer, frames, package)) < (5e-6, 5e-5, 5e-3)).all())

    assert agrees(said)
    for name, wrong in WRONG.items():
        assert not agrees(wrong(said)), name


def test_only_tensors_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], torch.load
    monkeypatch.setattr(torch, "load", lambda file, **given: asked.append((file, given)) or real(file, **given))
    make()
    ((file, given),) = asked
    assert given["weights_only"] is True
    assert file.parts[-4:-1] == ("chgnet", "pretrained", "0.3.0")


# --- slopes, in double precision ------------------------------------------------------------------------------------


def worst_slope(model: ChgnetModel, atoms: Atoms, forces: Float) -> float:
    """Return how far forces are off the slope of the energy along three random ways, eV/Å."""
    rng, step, off = np.random.default_rng(2), 1e-4, []
    for _ in range(3):
        way = rng.normal(size=atoms.positions.shape)
        way /= np.linalg.norm(way)
        moved = [atoms.copy(), atoms.copy()]
        for frame, sign in zip(moved, (1.0, -1.0), strict=True):
            frame.positions += sign * step * way
        up, down = model.predict(moved).energy
        off.append(abs((forces * way).sum() + (up - down) / (2 * step)))
    return float(max(off))


@pytest.mark.parametrize("atoms", [crystals()[1], slab(), molecule("CH3OH")], ids=["crystal", "slab", "molecule"])
def test_forces_are_slopes_of_the_energy(double: ChgnetModel, atoms: Atoms) -> None:
    atoms.positions += 40.0  # far from the origin
    forces = double.predict([atoms]).forces
    assert worst_slope(double, atoms, forces) < 1e-5
    assert worst_slope(double, atoms, 1.01 * forces) > 1e-4


def strained(atoms: Atoms, strain: Float) -> Atoms:
    frame = atoms.copy()
    frame.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return frame


@pytest.mark.parametrize("left_handed", [False, True])
def test_stress_is_the_slope_along_a_strain(double: ChgnetModel, left_handed: bool) -> None:
    atoms = crystals()[0]
    if left_handed:
        atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    assert (np.linalg.det(atoms.cell.array) < 0) == left_handed
    step, slope = 1e-4, np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5 * step
        strain[j, i] += 0.5 * step
        up, down = double.predict([strained(atoms, strain), strained(atoms, -strain)]).energy
        slope[i, j] = (up - down) / (2 * step) / atoms.get_volume()
    told = double.predict([atoms]).stress[0]
    assert np.abs(told).max() > 1e-2
    assert np.abs(told - slope).max() < 1e-6


def test_single_precision_differs_by_round_off(model: ChgnetModel, double: ChgnetModel) -> None:
    frames = [*crystals(), slab(), molecule("CH3OH")]
    single, better = model.predict(frames), double.predict(frames)
    energy = np.abs(single.energy - better.energy) / single.n_atoms
    forces = np.abs(single.forces - better.forces).max()
    assert 0.0 < energy.max() < 2e-6 and 0.0 < forces < 1e-4
    assert np.abs(single.stress - better.stress).max() < 1e-6
    again = double.in_precision("float32").predict(frames)
    assert np.array_equal(again.energy, single.energy)
    assert make(dtype="float64").predict(frames).energy == pytest.approx(better.energy, abs=1e-10)


def test_torch_stays_as_it_was(double: ChgnetModel) -> None:
    before = torch.get_default_dtype(), torch.get_num_threads()
    make(dtype="float64").predict([molecule("H2O")])
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before


# --- vacuum, lone atoms and company ---------------------------------------------------------------------------------


def test_vacuum_hides_images(double: ChgnetModel) -> None:
    free, boxed, seen = molecule("CH3OH"), molecule("CH3OH"), molecule("CH3OH")
    for frame, edge in ((boxed, 40.0), (seen, 7.0)):
        frame.set_cell([edge] * 3)
        frame.pbc = True
    said = double.predict([free, boxed, seen])
    assert said.energy[1] == pytest.approx(said.energy[0], abs=1e-9)
    assert abs(said.energy[2] - said.energy[0]) > 1e-3
    assert said.has_stress.tolist() == [False, True, True]
    thin, tall = slab(), slab()
    tall.set_cell([5.4, 5.4, 35.0])
    tall.pbc = True
    both = double.predict([thin, tall])
    assert both.energy[1] == pytest.approx(both.energy[0], abs=1e-9)
    assert both.has_stress.tolist() == [False, True]


def test_place_makes_no_difference(model: ChgnetModel) -> None:
    for atoms, move in (
        (molecule("CH3OH"), [300.0, -2000.0, 5.0]), (slab(), [540.0, 0.0, 5000.0]), (crystals()[1], [5500.0, 0.0, 0.0])
    ):  # fmt: skip
        far = atoms.copy()
        far.positions += move
        said = model.predict([atoms, far])
        assert said.energy[1] == pytest.approx(said.energy[0], abs=5e-6)
        assert np.abs(said.forces[len(atoms) :] - said.forces[: len(atoms)]).max() < 5e-5


@pytest.mark.parametrize("version", VERSIONS)
def test_company_makes_no_difference(version: str) -> None:
    """Frames with angles and without are asked apart: together, 0.2.0 makes 0.17 eV of it."""
    model = make(version=version, dtype="float64")
    frames = [molecule("H2O"), molecule("H2"), *crystals(), Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]]), Atoms("O")]
    alone = [model.predict([frame]).energy[0] for frame in frames]
    assert model.predict(frames).energy == pytest.approx(alone, abs=1e-9)
    graphs = [model._graph(frame, where="") for frame in frames[:2]]
    mixed = model._ask(graphs, task="e", where="")[1]["site_energies"].sum()
    assert (abs(mixed - alone[1]) > 0.1) == (version == "0.2.0")


def test_batches_are_bounded(model: ChgnetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [*crystals(), molecule("H2O"), *crystals()]
    whole = model.predict(frames)
    sizes: list[int] = []
    real = ChgnetModel._ask

    def counted(self: ChgnetModel, graphs: list[object], **given: str) -> list[dict[str, object]]:
        sizes.append(len(graphs))
        return real(self, graphs, **given)

    monkeypatch.setattr(ChgnetModel, "_ask", counted)
    monkeypatch.setattr(ours, "BATCH_ATOMS", {"cpu": 4})
    assert model.predict(frames).energy == pytest.approx(whole.energy, abs=1e-5)
    assert sizes == [2, 1, 2]


def test_lone_atoms_are_what_is_left_at_the_cutoff(double: ChgnetModel) -> None:
    def pair(distance_A: float) -> Atoms:
        return Atoms("OO", [[0, 0, 0], [distance_A, 0, 0]])

    said = double.predict([Atoms("O"), Atoms("O", cell=[20] * 3, pbc=True), pair(5.999), pair(6.001), pair(30.0)])
    lone = said.energy[0]
    assert said.energy[1:] == pytest.approx([lone, 2 * lone, 2 * lone, 2 * lone], abs=1e-9)
    assert abs(double.predict([pair(5.0)]).energy[0] - 2 * lone) > 0.01
    assert np.abs(said.forces).max() < 1e-6
    with_water = molecule("H2O") + Atoms("O", [[20.0, 0, 0]])
    parts = double.predict([molecule("H2O"), with_water])
    assert parts.energy[1] == pytest.approx(parts.energy[0] + lone, abs=1e-9)
    assert not parts.forces[-1].any()


def test_site_energies_add_up(double: ChgnetModel) -> None:
    frames = [Atoms("O"), molecule("H2O"), crystals()[0]]
    sites = np.split(double.site_energies(frames), [1, 4])
    assert [part.sum() for part in sites] == pytest.approx(double.predict(frames).energy, abs=1e-9)


# --- elements and refusals ------------------------------------------------------------------------------------------


def test_untrained_elements_are_those_that_training_left_alone() -> None:
    """Fine-tuning 0.3.0 into r2scan changed the embedding of each element that was in the data, and no other."""
    from ase.data import chemical_symbols

    first, then = (make(version=v).network.atom_embedding.embedding.weight.detach() for v in ("0.3.0", "r2scan"))
    untouched = [chemical_symbols[z] for z in 1 + np.flatnonzero((first == then).all(dim=1).numpy())]
    assert sorted(untouched) == sorted(UNTRAINED["r2scan"])
    # numbers drawn from N(0, 1) have a length of 8 ± 0.7 in 64 dimensions; training 0.3.0 made all others longer
    length = {chemical_symbols[z + 1]: float(first[z].norm()) for z in range(94)}
    shortest = sorted(length, key=length.__getitem__)[: len(UNTRAINED["0.3.0"])]
    assert sorted(shortest) == sorted(UNTRAINED["0.3.0"])
    assert max(length[symbol] for symbol in shortest) < 9.5 < sorted(length.values())[len(shortest)]


@pytest.mark.parametrize(("version", "n", "lacks"), [("0.3.0", 89, "Po"), ("0.2.0", 89, "Ra"), ("r2scan", 88, "Yb")])
def test_elements(version: str, n: int, lacks: str) -> None:
    model = make(version=version)
    assert model.spec.elements is not None and len(model.spec.elements) == n
    for symbol in (lacks, "Cm"):
        with pytest.raises(NotApplicable, match=f"frame 1: CHGNet does not cover {symbol}$"):
            model.predict([Atoms("O"), Atoms([symbol, "O"], [[0, 0, 0], [2, 0, 0]])])


def test_a_spec_may_allow_fewer_elements_but_no_more() -> None:
    spec = ModelSpec(name="c", kind="chgnet", elements=("H", "O", "Po"))
    assert load(spec, device="cpu").spec.elements == ("H", "O")


def test_what_it_refuses(model: ChgnetModel) -> None:
    lost = molecule("H2O")
    lost.positions[1, 2] = np.nan
    with pytest.raises(BadInput, match="frame 1: atom 1 has a position that is not finite"):
        model.predict([molecule("H2O"), lost])
    with pytest.raises(ModelFailure, match=r"frame 0: the atoms or their cell span 4\.\de\+09 cubes of 6\.0 Å"):
        model.predict([Atoms("H2", [[0, 0, 0], [1e4, 1e4, 1e4]])])
    with pytest.raises(BadInput, match=r"frame 0: the cell .* has no volume"):
        model.predict([Atoms("H", pbc=True)])
    with pytest.raises(ModelFailure, match="not finite in frame 0"):
        model.predict([Atoms("H2", np.zeros((2, 3)))])


def test_wrong_options() -> None:
    for options, says in (
        ({"version": "0.3"}, r"unknown version of CHGNet '0\.3'\. Did you mean '0\.3\.0'"),
        ({"dtype": "float46"}, "unknown dtype 'float46'. Did you mean 'float64'"),
        ({"versions": "0.3.0"}, "unknown option 'versions'. Did you mean 'version'"),
    ):
        with pytest.raises(BadInput, match=says):
            make(**options)
    with pytest.raises(BadInput, match="unknown device 'gpu'"):
        load(ModelSpec(name="c", kind="chgnet"), device="gpu")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chgnet.model", None)
    with pytest.raises(MissingPackage, match=r"chgnet is not installed.*mlipbench\[chgnet\]"):
        make()


def test_it_is_quiet_and_leaves_others_their_warnings(model: ChgnetModel, capfd: pytest.CaptureFixture[str]) -> None:
    before = list(warnings.filters)
    model.predict([molecule("H2O"), Atoms("O"), *crystals()])
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="of another"):
        warnings.warn("of another", UserWarning, stacklevel=1)


def test_silicon_and_salt(model: ChgnetModel) -> None:
    """Lattice constants and bulk moduli as measured once with the package itself: 5.472 Å, 71 GPa; 5.688 Å, 24 GPa."""
    from mlipbench.physics.eos import fit

    for name, structure, a, modulus in (("Si", "diamond", 5.472, 71.0), ("NaCl", "rocksalt", 5.688, 24.4)):
        edges = a * (1.0 + np.linspace(-0.04, 0.04, 9))
        frames = [bulk(name, structure, a=edge) for edge in edges]
        curve = fit(edges**3 / 8, model.predict(frames).energy / 2).curve
        assert curve is not None
        assert (8 * curve.volume_A3) ** (1 / 3) == pytest.approx(a, abs=0.006)
        assert curve.modulus_eV_per_A3 * GPA_PER_EV_PER_CUBIC_ANGSTROM == pytest.approx(modulus, rel=0.06)
