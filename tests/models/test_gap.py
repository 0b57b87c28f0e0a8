"""A GAP file as a model: what it refuses to unpack, a pair potential known on paper, and what quippy does not check."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import atomic_numbers

from mlipbench.core.model import Float, Model, ModelSpec, SiteEnergies
from mlipbench.errors import BadInput, MissingPackage, ModelFailure, NotApplicable
from mlipbench.models import gap_file
from mlipbench.models.gap import GapModel, in_box, load
from mlipbench.models.gap_file import XML, GapFile, parse, write
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import check_model

ELEMENTS = ("H", "C", "O")
E0_EV = {"H": -3.0, "C": -7.0, "O": -11.0}
CUTOFF_A, FADES_A = 3.0, 1.0
# pair → (strength in eV, where it is strongest in Å): one Gaussian of width 1 Å each.
PAIRS = {
    ("H", "H"): (0.3, 0.9), ("H", "C"): (-0.7, 1.2), ("H", "O"): (0.5, 1.4),
    ("C", "C"): (1.1, 1.6), ("C", "O"): (-0.4, 1.3), ("O", "O"): (0.8, 1.8),
}  # fmt: skip
ENERGIES = "".join(f'<e0 Z="{z}" value="{E0_EV.get(symbol, 0.0)}"/>' for symbol, z in atomic_numbers.items() if z)


def pair_files() -> dict[str, bytes]:
    """Return a GAP of pair terms with one sparse point each, as gap_fit would write it."""
    files, terms = {}, []
    for k, ((first, second), (strength, place)) in enumerate(PAIRS.items(), start=1):
        files[f"{XML}.sparseX.GAP_{k}"] = f"{place:.20e}\n".encode()
        terms.append(
            f'<gpCoordinates label="GAP_{k}" dimensions="1" signal_variance="1.0" signal_mean="0.0" sparsified="T" '
            f'n_permutations="1" covariance_type="1" n_sparseX="1" sparseX_filename="{XML}.sparseX.GAP_{k}">'
            f"<theta> 1.0 </theta><descriptor>distance_2b Z1={atomic_numbers[first]} Z2={atomic_numbers[second]} "
            f"cutoff={CUTOFF_A} cutoff_transition_width={FADES_A}</descriptor>"
            f'<permutation i="1">1 </permutation><sparseX i="1" alpha="{strength}" sparseCutoff="1.0"/></gpCoordinates>'
        )
    text = (
        '<GAP_><Potential label="GAP_" init_args="IP GAP label=GAP_"/><GAP_params label="GAP_" gap_version="1">'
        f'<GAP_data do_core="F">{ENERGIES}</GAP_data><gpSparse label="GAP_" n_coordinate="{len(terms)}" fitted="T">'
        f"{''.join(terms)}</gpSparse></GAP_params></GAP_>"
    )
    return {XML: text.replace("><", ">\n<").encode(), **files}


def pair_gap() -> GapFile:
    return GapFile(elements=ELEMENTS, cutoff_A=CUTOFF_A, about={"by": "hand"}, files=pair_files())


def pair_energy(distance_A: float, first: str, second: str) -> float:
    """Return the energy of a pair, which counts from both of its ends."""
    strength, place = PAIRS.get((first, second)) or PAIRS[second, first]
    fade = min(max((distance_A - CUTOFF_A + FADES_A) / FADES_A, 0.0), 1.0)
    return float(strength * np.exp(-0.5 * (distance_A - place) ** 2) * (1 + np.cos(np.pi * fade)))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = tmp_path_factory.mktemp("gap") / "pairs.gap"
    write(path, pair_gap())
    return ModelSpec(
        name="pairs", kind="gap", checkpoint=str(path), checkpoint_sha256=sha256(path.read_bytes()).hexdigest()
    )


@pytest.fixture(scope="module")
def model(spec: ModelSpec) -> GapModel:
    pytest.importorskip("quippy")
    return load(spec, device="cpu")


# ---- the file ------------------------------------------------------------------------------------------------------


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def members(tmp_path: Path) -> dict[str, bytes]:
    """Return what a sound file holds."""
    write(tmp_path / "sound.gap", pair_gap())
    with zipfile.ZipFile(tmp_path / "sound.gap") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.gap", pair_gap())
    assert parse((tmp_path / "a.gap").read_bytes(), name="a") == pair_gap()


def test_the_same_potential_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.gap", pair_gap())
    write(tmp_path / "b.gap", replace(pair_gap(), files=dict(reversed(pair_files().items()))))
    assert (tmp_path / "a.gap").read_bytes() == (tmp_path / "b.gap").read_bytes()


@pytest.mark.parametrize(
    "name", ["../gap.xml", "/etc/passwd", "gap.xml.sparseX.a/b", "gap.xml.sparseX.", "..", "gap.xml/x", "run.py"]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="holds a file"):
        parse(zipped({**members(tmp_path), name: b"1.0\n"}), name="bad.gap")


def changed(sound: dict[str, bytes], change: str) -> dict[str, bytes]:
    """Return the members of a file with its XML or sparse points spoiled."""
    text, points = sound[XML].decode(), dict(sound)
    points[f"{XML}.sparseX.GAP_1"] = {"points are words": b"one\n", "points are many": b"1.0 2.0\n"}.get(
        change, b"1.0\n"
    )
    points[XML] = {
        "another file": text.replace('"gap.xml.sparseX.GAP_1"', '"/etc/hostname"'),
        "an entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + text,
        "cut short": text[:-20],
        "a word for a number": text.replace('alpha="0.3"', 'alpha="abc"'),
        "no number": text.replace('alpha="0.3"', 'alpha="nan"'),
        "no count": text.replace('n_sparseX="1"', ""),
    }.get(change, text).encode()
    return points


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("another file", "names the sparse points"),
        ("an entity", "declares a document type"),
        ("cut short", "gap.xml is damaged: ExpatError"),
        ("a word for a number", "gap.xml is damaged: ValueError: could not convert string to float: 'abc'"),
        ("no number", "alpha of sparseX is not finite"),
        ("no count", "gap.xml is damaged: KeyError: 'n_sparseX'"),
        ("points are words", "holds what is no number"),
        ("points are many", "GAP_1 holds 2 numbers; 1 finite ones are needed"),
    ],
)
def test_what_would_end_quippy_or_read_another_file_is_refused(tmp_path: Path, change: str, says: str) -> None:
    sound = members(tmp_path)
    parse(zipped(changed(sound, "nothing")), name="sound.gap")
    with pytest.raises(BadInput, match=says):
        parse(zipped(changed(sound, change)), name="bad.gap")


HEADERS = {
    "does not name the format": '{"format": "zip"}',
    "has version 2": '{"format": "mlipbench GAP", "version": 2}',
    "chemical symbols": '{"format": "mlipbench GAP", "version": 1, "elements": ["Xy"], "cutoff_A": 3.0}',
    "positive number": '{"format": "mlipbench GAP", "version": 1, "elements": ["H"], "cutoff_A": -3.0}',
    "damaged or no GAP file": "{",
}


@pytest.mark.parametrize("says", HEADERS)
def test_a_wrong_header_is_refused(tmp_path: Path, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        parse(zipped({**members(tmp_path), "gap.json": HEADERS[says].encode()}), name="bad.gap")


def test_what_is_not_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = members(tmp_path)
    whole = zipped(sound)
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        with pytest.raises(BadInput, match="damaged or no GAP file"):
            parse(content, name="bad.gap")
    for name, says in (("gap.json", "KeyError"), (XML, "xml is missing"), (f"{XML}.sparseX.GAP_2", "holds others")):
        with pytest.raises(BadInput, match=says):
            parse(zipped({key: value for key, value in sound.items() if key != name}), name="bad.gap")
    monkeypatch.setattr(gap_file, "LARGEST_BYTES", 1000)
    with pytest.raises(BadInput, match="larger than 1000 bytes"):
        parse(whole, name="bad.gap")


def test_a_wrong_spec_is_refused(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not the one"):
        load(replace(spec, checkpoint_sha256="0" * 64), device="cpu")
    with pytest.raises(BadInput, match="needs a checkpoint"):
        load(replace(spec, checkpoint=None), device="cpu")
    with pytest.raises(BadInput, match="cannot be read"):
        load(replace(spec, checkpoint=str(tmp_path / "none.gap")), device="cpu")
    with pytest.raises(BadInput, match="unknown option 'dtype'"):
        load(replace(spec, options={"dtype": "float32"}), device="cpu")


def test_without_quippy_the_package_is_named(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "quippy", None)
    monkeypatch.setitem(sys.modules, "quippy.potential", None)
    with pytest.raises(MissingPackage, match=r"quippy is not installed, and a GAP model needs it: .*mlipbench\[gap\]"):
        load(spec, device="cpu")


# ---- the box -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, False), (True, True, False), (True, True, True)])
def test_images_stand_apart_where_a_frame_does_not_repeat(pbc: tuple[bool, bool, bool]) -> None:
    frame = Atoms("OHH", [[0, 0, 0], [0.9, 0, 0], [0, 40.0, 0.5]], cell=[[4, 0, 0], [1, 5, 0], [0, 0.5, 6]], pbc=pbc)
    frame.positions += 300.0
    before = frame.copy()
    boxed = in_box(frame, CUTOFF_A)
    assert frame == before
    assert boxed.pbc.all()
    assert np.array_equal(boxed.cell[list(pbc)], frame.cell[list(pbc)])
    np.testing.assert_allclose(boxed.positions - boxed.positions[0], frame.positions - frame.positions[0], atol=1e-10)
    lattice = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    foreign = lattice[(lattice[:, ~np.array(pbc)] != 0).any(axis=1)] @ boxed.cell.array
    apart = boxed.positions[:, None, None] - boxed.positions[None, :, None] + foreign
    assert np.linalg.norm(apart, axis=-1).min(initial=np.inf) > CUTOFF_A


def test_frames_without_an_answer_are_refused_before_quippy_sees_them() -> None:
    with pytest.raises(ModelFailure, match=r"atoms 0 and 1 are 0.0e\+00 Å apart"):
        in_box(Atoms("H2", np.zeros((2, 3))), CUTOFF_A)
    with pytest.raises(BadInput, match="atom 1 has a position that is not finite"):
        in_box(Atoms("H2", [[0, 0, 0], [0, np.nan, 1]]), CUTOFF_A)
    with pytest.raises(BadInput, match="span no volume"):
        in_box(Atoms("H", cell=[5, 5, 0], pbc=True), CUTOFF_A)
    with pytest.raises(ModelFailure, match=r"cubes of 3\.0 Å"):
        in_box(Atoms("H2", [[0, 0, 0], [1e5, 1e5, 1e5]]), CUTOFF_A)


# ---- the model -----------------------------------------------------------------------------------------------------


def test_a_pair_has_the_energy_known_on_paper(model: GapModel) -> None:
    for first, second in PAIRS:
        for distance in (0.8, 1.7, 2.4, 2.9, 3.1):
            pair = Atoms([first, second], [[0, 0, 0], [distance, 0, 0]])
            found, step = model.predict([pair]), 1e-5
            wanted = E0_EV[first] + E0_EV[second] + pair_energy(distance, first, second)
            assert found.energy[0] == pytest.approx(wanted, abs=1e-10)
            slope = pair_energy(distance + step, first, second) - pair_energy(distance - step, first, second)
            assert found.forces[1, 0] == pytest.approx(-slope / (2 * step), abs=1e-7)
    assert model.predict([Atoms(symbol) for symbol in ELEMENTS]).energy.tolist() == list(E0_EV.values())


def test_it_keeps_the_contract(model: GapModel) -> None:
    assert isinstance(model, Model)
    assert isinstance(model, SiteEnergies)
    assert model.spec.elements == ELEMENTS
    check_model(model, small_frames(ELEMENTS))


def test_no_frames_and_no_atoms_have_answers(model: GapModel) -> None:
    assert model.predict([]).forces.shape == (0, 3)
    assert model.site_energies([]).shape == (0,)
    assert model.predict([Atoms(), Atoms(cell=[3, 3, 3], pbc=True)]).has_stress.tolist() == [False, True]


def check_stress(energy: Callable[[Atoms], float], stress: Callable[[Atoms], Float]) -> None:
    """The stress is the derivative of the energy by strain over the volume."""
    frame = Atoms(
        "CHO", [[0, 0, 0], [1.0, 0.2, 0.1], [0.3, 1.2, 0.9]], cell=[[3.1, 0, 0], [0.4, 3.2, 0], [0.2, 0.7, 3.5]]
    )
    frame.pbc = True
    found, step = stress(frame), 1e-5
    for i, j in np.ndindex(3, 3):
        ends = []
        for sign in (-1, 1):
            strain = np.eye(3)
            strain[i, j] += 0.5 * sign * step
            strain[j, i] += 0.5 * sign * step
            moved = frame.copy()
            moved.set_cell(frame.cell.array @ strain, scale_atoms=True)
            ends.append(energy(moved))
        slope = (ends[1] - ends[0]) / (2 * step * frame.get_volume())
        assert abs(found[i, j] - slope) < 1e-7, (i, j)


WRONG_STRESS: dict[str, Callable[[Float], Float]] = {
    "sign": lambda stress: -stress,
    "order of the last three": lambda stress: stress[np.ix_([2, 1, 0], [2, 1, 0])],
    "twice the shear": lambda stress: stress * (2.0 - np.eye(3)),
}


def test_the_stress_is_the_slope_by_strain(model: GapModel) -> None:
    check_stress(lambda frame: float(model.predict([frame]).energy[0]), lambda frame: model.predict([frame]).stress[0])


@pytest.mark.parametrize("name", WRONG_STRESS)
def test_the_check_of_the_stress_has_teeth(model: GapModel, name: str) -> None:
    with pytest.raises(AssertionError):
        check_stress(
            lambda frame: float(model.predict([frame]).energy[0]),
            lambda frame: WRONG_STRESS[name](model.predict([frame]).stress[0]),
        )


def test_the_calculator_agrees_with_the_model(model: GapModel) -> None:
    frame = small_frames(ELEMENTS)[4]
    found = model.predict([frame])
    frame.calc = model.calculator()
    assert frame.get_potential_energy(force_consistent=True) == found.energy[0]
    assert np.array_equal(frame.get_potential_energies(), model.site_energies([frame]))
    before = frame.get_potential_energy()
    frame.positions[0, 0] += 0.1
    assert frame.get_potential_energy() != before
    free = molecule("H2O")
    free.calc = model.calculator()
    with pytest.raises(PropertyNotImplementedError):
        free.get_stress()


def test_what_quippy_would_answer_anyway_is_refused(model: GapModel) -> None:
    """Quippy gives an unknown element 0 eV and a position that is no number a finite energy."""
    bare, lithium, lost = model.potential, Atoms("Li", cell=[9, 9, 9], pbc=True), in_box(molecule("H2O"), CUTOFF_A)
    bare.reset()
    bare.calculate(lithium, ["energy", "forces"])
    assert bare.results["energy"] == 0.0
    lost.positions[1, 0] = np.nan
    bare.reset()
    bare.calculate(lost, ["energy", "forces"])
    assert np.isfinite(bare.results["energy"])
    frames = [molecule("H2O"), lithium]
    with pytest.raises(NotApplicable, match=r"frame 1: the GAP does not cover Li; it covers H, C, O"):
        model.predict(frames)
    with pytest.raises(BadInput, match="frame 0: atom 1 has a position"):
        model.predict([lost])
    with pytest.raises(ModelFailure, match="frame 0: atoms 0 and 1 are"):
        model.site_energies([Atoms("H2", np.zeros((2, 3)))])


@pytest.mark.parametrize(
    ("old", "new"),
    [("Potential", "Potentially"), ("GAP_params", "GAP_parameters"), ("IP GAP", "IP PAG"), ("distance_2b", "far")],
)
def test_a_potential_that_quippy_cannot_make_is_refused(spec: ModelSpec, tmp_path: Path, old: str, new: str) -> None:
    pytest.importorskip("quippy")
    files = pair_files()
    text = files[XML].decode().replace(old, new)
    write(tmp_path / "bad.gap", replace(pair_gap(), files={**files, XML: text.encode()}))
    with pytest.raises(BadInput, match="quippy cannot read the potential"):
        load(replace(spec, checkpoint=str(tmp_path / "bad.gap"), checkpoint_sha256=None), device="cpu")
