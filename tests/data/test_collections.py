"""What ASE brings along arrives as it was published, and becomes a data set by one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlipbench.core.dataset import Dataset
from mlipbench.data import manifest
from mlipbench.data.collections import TABLE, collection, dbh24, delta_codes, s22x5
from mlipbench.data.lint import remarks
from mlipbench.data.suites import read_suite
from mlipbench.errors import BadInput
from mlipbench.files.hashes import canonical_id, sha256_of

EV_PER_KCAL_PER_MOL = 0.0433641
MANIFEST = 'schema = 1\nname = "{name}"\nlevel_of_theory = "best"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def made(folder: Path, text: str) -> Path:
    (folder / "dataset.toml").write_text(MANIFEST.format(name=folder.name) + text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", TABLE)
def test_each_is_whole(name: str) -> None:
    found = collection(name)
    n = len(found.frames)
    assert len(set(found.uid)) == len(found.uid) == len(found.trajectory) == len(found.config_type) == n
    for frame in found.frames:
        assert not frame.get_initial_magnetic_moments().any()
        assert not frame.get_initial_charges().any()
        assert set(frame.info) <= {"charge", "spin"}
    assert all(np.isfinite(array).all() and array.dtype == np.float64 for array in found.observables.values())
    assert found.molecule is None or len(found.molecule) == sum(len(frame) for frame in found.frames)
    with pytest.raises(ValueError, match="read-only"):
        next(iter(found.observables.values()))[0] = 0.0


def test_s22x5_has_its_dimers_classes_and_distances() -> None:
    found = s22x5()
    assert len(found.frames) == 110
    assert len(set(found.trajectory)) == 22
    kinds = dict(zip(found.trajectory, found.config_type, strict=True))
    assert [list(kinds.values()).count(kind) for kind in ("hydrogen_bonded", "dispersion", "mixed")] == [7, 8, 7]
    assert kinds["Water_dimer"] == "hydrogen_bonded"
    assert kinds["Benzene_dimer_parallel_displaced"] == "dispersion"
    assert kinds["Benzene_dimer_T-shaped"] == "mixed"
    assert np.unique(found.observables["relative_distance"]).tolist() == [0.9, 1.0, 1.2, 1.5, 2.0]
    assert (np.bincount([found.trajectory.index(name) for name in found.trajectory]) > 0).sum() == 22


@pytest.mark.parametrize(
    ("dimer", "kcal_per_mol"), [("Water_dimer", -5.02), ("Methane_dimer", -0.53), ("Benzene_dimer_T-shaped", -2.71)]
)
def test_s22x5_has_the_published_energies(dimer: str, kcal_per_mol: float) -> None:
    """At the distance of S22: table II of Takatani et al. (2010)."""
    found = s22x5()
    energy = dict(zip(found.uid, found.observables["interaction_energy_eV"].tolist(), strict=True))
    assert energy[f"{dimer}_1.0"] == pytest.approx(kcal_per_mol * EV_PER_KCAL_PER_MOL, abs=3e-4)
    assert energy[f"{dimer}_2.0"] > energy[f"{dimer}_1.5"] > energy[f"{dimer}_1.2"] > energy[f"{dimer}_1.0"]


def test_s22x5_pulls_frozen_monomers_apart() -> None:
    found = s22x5()
    assert found.molecule is not None
    parts = np.split(found.molecule, np.cumsum([len(frame) for frame in found.frames])[:-1])
    for first in range(0, 110, 5):
        own = [found.frames[first + k] for k in range(5)]
        for side in (0, 1):
            inside = [frame[parts[first] == side].get_all_distances() for frame in own]
            assert max(np.abs(one - inside[1]).max() for one in inside) < 5e-3
        apart = [frame.get_all_distances()[np.ix_(parts[first] == 0, parts[first] == 1)].mean() for frame in own]
        assert (np.diff(apart) > 0.0).all()


def test_dbh24_conserves_atoms_charge_and_electrons() -> None:
    found = dbh24()
    states, reactants = (found.observables[name].astype(int) for name in ("transition_state", "reactants"))
    assert len(found.frames) == 38
    assert states.shape == (24,)
    for state, own in zip(states, reactants, strict=True):
        parts = [found.frames[k] for k in own if k >= 0]
        whole = found.frames[state]
        assert sorted(whole.numbers) == sorted(number for part in parts for number in part.numbers)
        assert whole.info["charge"] == sum(part.info["charge"] for part in parts)
    for frame in found.frames:
        n_electrons = int(frame.numbers.sum()) - frame.info["charge"]
        assert (n_electrons - (frame.info["spin"] - 1)) % 2 == 0, frame
    spin = {uid: frame.info["spin"] for uid, frame in zip(found.uid, found.frames, strict=True)}
    assert [spin[f"dbh24_{name}"] for name in ("H", "O", "N2", "CH3", "tst_H_OH__O_H2")] == [2, 3, 1, 2, 3]


def test_dbh24_has_the_published_barriers() -> None:
    """Table 1 of Zheng et al. (2009), kcal/mol."""
    found = dbh24()
    kcal_per_mol = found.observables["barrier_eV"] / EV_PER_KCAL_PER_MOL
    by_hand = [17.13, 82.47, 18.0, 18.0, 6.75, 60.0, 13.41, 13.41, 3.44, 29.42, -2.44, 17.66, 14.36, 10.61, 1.72, 41.75]
    np.testing.assert_allclose(kcal_per_mol[:16], by_hand, atol=1e-3)
    np.testing.assert_allclose(kcal_per_mol[16:], [48.07, 32.82, 6.7, 19.6, 10.7, 13.1, 3.6, 17.3], atol=1e-3)


def test_dbh24_says_which_barriers_are_the_same() -> None:
    found = dbh24()
    repeats = found.observables["repeats"].astype(int)
    assert {int(k): int(repeats[k]) for k in np.flatnonzero(repeats >= 0)} == {3: 2, 7: 6}
    assert (found.observables["barrier_eV"][[3, 7]] == found.observables["barrier_eV"][[2, 6]]).all()
    states = found.observables["transition_state"].astype(int)
    assert [found.trajectory[k] for k in states[::6]] == ["HAT 1", "NS 1", "UA 1", "HT 1"]
    assert [found.config_type[k] for k in states[::6]] == [
        "heavy_atom_transfer", "nucleophilic_substitution", "unimolecular_or_association", "hydrogen_transfer",
    ]  # fmt: skip
    charged = {found.trajectory[k] for k in states if found.frames[k].info["charge"]}
    assert charged == {"NS 1", "NS 2", "NS 3"}


def test_delta_codes_are_71_elements_near_their_reference() -> None:
    found = delta_codes()
    assert len(found.frames) == 71
    for uid, frame in zip(found.uid, found.frames, strict=True):
        assert set(frame.symbols) == {uid}
        assert frame.pbc.all()
    volume = np.array([frame.get_volume() / len(frame) for frame in found.frames])
    assert np.abs(volume / found.observables["volume_A3"] - 1.0).max() < 0.04
    silicon = found.uid.index("Si")
    names = ("volume_A3", "bulk_modulus_GPa", "bulk_modulus_derivative")
    assert [found.observables[name][silicon] for name in names] == [20.453, 88.545, 4.31]


def _another_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    from ase.data import s22

    monkeypatch.setitem(s22.data["Water_dimer"], "interaction energy CC", -0.3)


def _another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from ase.data import s22

    places = [list(place) for place in s22.data["Water_dimer"]["positions 0.9"]]
    places[0][0] += 1e-4
    monkeypatch.setitem(s22.data["Water_dimer"], "positions 0.9", places)


@pytest.mark.parametrize("change", [_another_energy, _another_place])
def test_the_hash_moves_with_the_content(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = s22x5().content_sha256
    assert s22x5().content_sha256 == before
    change(monkeypatch)
    assert s22x5().content_sha256 != before


@pytest.mark.parametrize(
    ("name", "begins"),
    [("s22x5", "2ca77de1540690c2"), ("dbh24", "57645700e27569b3"), ("delta_codes", "b35744b460fa94f9")],
)
def test_the_content_is_the_one_our_numbers_are_from(name: str, begins: str) -> None:
    """When this fails, ASE holds other structures or numbers: raise the version in reference_data/<name>."""
    assert collection(name).content_sha256[:16] == begins


def load(name: str) -> Dataset:
    return manifest.load(manifest.source(name))


@pytest.mark.parametrize("name", TABLE)
def test_each_is_a_data_set_without_labels(name: str) -> None:
    data, found = load(name), collection(name)
    assert not data.spec.labelled
    assert not data.energy.any()
    assert not data.forces.any()
    assert not data.has_stress.any()
    assert data.forces.shape == (int(data.n_atoms.sum()), 3)
    assert set(data.observables) == set(found.observables)
    assert [frame.info for frame in data.frames] == [frame.info for frame in found.frames]
    assert (Path(manifest.find(name)).parent / "README.md").is_file()
    assert data.spec.citation
    assert remarks(data)


def test_frames_are_copies_that_may_be_moved() -> None:
    data = load("s22x5")
    data.frames[0].positions += 1.0
    assert np.abs(load("s22x5").frames[0].positions - data.frames[0].positions).min() > 0.9


def test_labelled_data_say_so(tiny: Path) -> None:
    assert load(str(tiny)).spec.labelled


def test_one_line_makes_a_data_set(folder: Path) -> None:
    source = manifest.source(str(made(folder, 'collection = "dbh24"\nallow_duplicates = true\n')))
    assert len(manifest.load(source)) == 38
    other = manifest.source(str(made(folder, 'collection = "s22x5"\n')))
    assert other.sha256 != source.sha256


def test_the_hash_holds_the_manifest_and_the_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = manifest.source(str(made(folder, 'collection = "s22x5"\n'))).sha256
    assert manifest.source(str(made(folder, 'collection = "s22x5"\nabout = "mine"\n'))).sha256 != before
    made(folder, 'collection = "s22x5"\n')
    _another_energy(monkeypatch)
    monkeypatch.setattr(manifest, "collection", lambda name: TABLE[name]())
    assert manifest.source(str(folder)).sha256 != before


def test_hashes_of_files_are_what_they_were(tiny: Path) -> None:
    content = {"manifest": sha256_of(tiny / "dataset.toml"), "files": [sha256_of(tiny / "frames.xyz")]}
    assert manifest.source(str(tiny)).sha256 == canonical_id(content)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('collection = "s22x6"\n', r"dataset\.toml: unknown collection 's22x6'\. Did you mean 's22x5'\? Known: dbh24"),
        ('collection = "s22x5"\n[[files]]\npath = "a.xyz"\n', r"'collection' brings frames and observables along"),
        (
            f'collection = "s22x5"\n[[observables]]\npath = "a.npz"\nsha256 = "{"0" * 64}"\n',
            r"'collection' brings frames and observables along",
        ),
        ("", r"'files' is empty; name at least one"),
        ('colection = "s22x5"\n', r"unknown key 'colection'\. Did you mean 'collection'"),
        ('collection = "s22x5"\nelements = ["H", "C", "O"]\n', r"hold N, which 'elements'"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        load(str(made(folder, text)))


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reference data with a set and a family of two."""
    root = tmp_path / "reference_data"
    for name in ("single", "family/one", "family/two", "family/two/deeper"):
        (root / name).mkdir(parents=True, exist_ok=True)
        made(root / name, 'collection = "s22x5"\n')
    monkeypatch.setattr(manifest, "shared_folder", lambda name: tmp_path / name)
    return root


def test_a_part_of_a_family_has_a_name(family: Path) -> None:
    assert manifest.names() == ["family/one", "family/two", "single"]
    assert manifest.find("family/one") == family / "family" / "one" / "dataset.toml"
    assert manifest.find("single") == family / "single" / "dataset.toml"
    assert load("family/two").spec.name == "two"


def test_a_family_is_no_data_set(family: Path) -> None:
    with pytest.raises(
        BadInput, match=r"family is not one data set but several\. Give one of them: family/one, family/two\."
    ):
        manifest.find("family")


@pytest.mark.parametrize("name", ["family/three", "familia", "family/two/deeper/still"])
def test_a_part_that_is_not_there(family: Path, name: str) -> None:
    with pytest.raises(BadInput, match=rf"unknown data set '{name}'.* Known: family/one, family/two, single"):
        manifest.find(name)


def test_a_path_that_looks_like_a_name(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "here" / "family" / "three"
    mine.mkdir(parents=True)
    made(mine, 'collection = "dbh24"\n')
    monkeypatch.chdir(tmp_path / "here")
    assert manifest.find("family/three") == mine / "dataset.toml"
    assert manifest.find("./family/three") == mine / "dataset.toml"
    with pytest.raises(BadInput, match=r"other/three: there is no such file"):
        manifest.find("other/three")


def test_a_suite_may_name_a_part(family: Path, tmp_path: Path) -> None:
    row = '[[rows]]\nname = "a"\nbenchmark = "symmetry"\ndata = "{data}"\n'
    suite = tmp_path / "suite.toml"
    text = 'schema = 1\nversion = "1"\nabout = ""\n'
    suite.write_text(text + row.format(data="family/one"), encoding="utf-8")
    assert read_suite(str(suite)).rows[0].data == "family/one"
    suite.write_text(text + row.format(data="reference_data/family/one"), encoding="utf-8")
    assert read_suite(str(suite)).rows[0].data == str(family / "family" / "one")
