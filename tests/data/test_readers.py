"""Can a file of other people become a data set, and is a bad one refused in one sentence?"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MANIFEST, labelled

from mlipbench.core.dataset import Dataset
from mlipbench.data import manifest
from mlipbench.data.lint import remarks
from mlipbench.data.units import blocks, is_guessed
from mlipbench.errors import BadInput
from mlipbench.units import EV_PER_HARTREE, GPA_PER_EV_PER_CUBIC_ANGSTROM


def load(path: Path) -> Dataset:
    return manifest.load(manifest.source(str(path)))


def renamed(frames: list[Atoms], energy: str, forces: str) -> list[Atoms]:
    for atoms in frames:
        atoms.info[energy] = atoms.info.pop("REF_energy")
        atoms.arrays[forces] = atoms.arrays.pop("REF_forces")
        atoms.info.pop("REF_stress", None)
    return frames


def test_labels_arrive_as_they_were_written(tiny: Path) -> None:
    data = load(tiny)
    for number, atoms in enumerate(labelled()):
        assert data.energy[number] == pytest.approx(atoms.info["REF_energy"], abs=1e-12)
        rows = slice(data.offsets[number], data.offsets[number + 1])
        np.testing.assert_allclose(data.forces[rows], atoms.arrays["REF_forces"], atol=1e-8)
    assert data.has_stress.tolist() == [False, True] * 4
    assert data.spec.elements == ("H", "O")
    assert data.splits == {"train": (0, 1, 4, 5), "test": (2, 3, 6, 7)}
    assert data.trajectory[:4] == ("t0", "t1", "t2", "t3")
    assert data.molecule is not None
    assert data.frames[0].info == {}, "no label may reach a model"
    assert data.frames[0].calc is None


def test_a_split_keeps_arrays_and_frames_together(tiny: Path) -> None:
    data = load(tiny)
    test = data.split("test")
    assert len(test) == 4
    np.testing.assert_array_equal(
        test.forces[test.offsets[1] : test.offsets[2]], data.forces[data.offsets[3] : data.offsets[4]]
    )
    assert test.energy[1] == data.energy[3]
    with pytest.raises(
        BadInput, match=r"data set tiny: unknown split 'tset'\. Did you mean 'test'\? Known: all, test, train"
    ):
        data.split("tset")


@pytest.mark.parametrize(
    ("energy", "forces"),
    [("energy_xtb", "forces_xtb"), ("dft_energy", "dft_forces"), ("REF_energy", "REF_forces"), ("my_energy", "force")],
)
def test_names_of_labels_are_found_out(tmp_path: Path, energy: str, forces: str) -> None:
    path = tmp_path / "a.xyz"
    write(path, renamed(labelled(), energy, forces), format="extxyz")
    assert load(path).energy[0] == pytest.approx(labelled()[0].info["REF_energy"])


def test_plain_names_that_ase_moves_into_a_calculator(tmp_path: Path) -> None:
    frames = renamed(labelled(), "e", "f")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.info.pop("e"), forces=atoms.arrays.pop("f"))
    write(tmp_path / "a.xyz", frames, format="extxyz")
    with connect(tmp_path / "a.db") as database:
        for atoms in frames:
            database.write(atoms)
    first, second = load(tmp_path / "a.xyz"), load(tmp_path / "a.db")
    np.testing.assert_allclose(first.energy, second.energy)
    np.testing.assert_allclose(first.forces, second.forces, atol=1e-7)


def test_two_levels_in_one_file_must_be_told_apart(tmp_path: Path) -> None:
    frames = labelled()
    for atoms in frames:
        atoms.info["xtb_energy"], atoms.arrays["xtb_forces"] = 0.0, np.zeros((6, 3))
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    with pytest.raises(BadInput, match=r"several labels fit: .*Choose one in the manifest under \[keys\]"):
        load(tmp_path / "frames.xyz")
    (tmp_path / "dataset.toml").write_text(MANIFEST + '[keys]\nenergy = "xtb_energy"\n', encoding="utf-8")
    assert load(tmp_path).energy.tolist() == [0.0] * 8


def test_other_units_become_ours(tiny: Path) -> None:
    ours = load(tiny)
    (tiny / "dataset.toml").write_text(MANIFEST + '[units]\nenergy = "Hartree"\nstress = "GPa"\n', encoding="utf-8")
    theirs = load(tiny)
    np.testing.assert_allclose(theirs.energy, ours.energy * EV_PER_HARTREE)
    np.testing.assert_allclose(theirs.stress * GPA_PER_EV_PER_CUBIC_ANGSTROM, ours.stress)
    np.testing.assert_array_equal(theirs.forces, ours.forces)
    (tiny / "dataset.toml").write_text(MANIFEST + '[units]\nenergy = "Ry"\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"unit 'Ry' of energy is unknown\. Allowed: eV, Hartree"):
        load(tiny)


def _no_forces(frames: list[Atoms]) -> None:
    del frames[3].arrays["REF_forces"]


def _nan_energy(frames: list[Atoms]) -> None:
    frames[2].info["REF_energy"] = float("nan")


def _nan_force(frames: list[Atoms]) -> None:
    frames[2].arrays["REF_forces"][4, 1] = np.inf


def _duplicate(frames: list[Atoms]) -> None:
    frames[5].positions, frames[5].cell, frames[5].pbc = frames[1].positions, frames[1].cell, frames[1].pbc


def _flat_cell(frames: list[Atoms]) -> None:
    frames[0].pbc = True


def _strange_element(frames: list[Atoms]) -> None:
    frames[1].numbers = [0, 1, 1, 8, 1, 1]


def _words(frames: list[Atoms]) -> None:
    frames[1].info["REF_energy"] = "low"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_no_forces, r"frame 3 \(H4O2\): no forces under 'REF_forces'"),
        (_nan_energy, r"frame 2 \(H4O2\): the energy is nan; a label must be finite"),
        (_nan_force, r"frame 2 \(H4O2\): the force on atom 4 is not finite"),
        (_duplicate, r"frame 5 \(H4O2\): the same structure as .*frame 1 .*allow_duplicates = true"),
        (_flat_cell, r"frame 0 \(H4O2\): periodic .* but its cell is missing or flat"),
        (_strange_element, r"frame 1 \(.*\): unknown element with atomic number \[0\]"),
        (_words, r"frame 1 \(H4O2\): the energy 'low' is not a number"),
    ],
)
def test_a_bad_frame_is_refused_by_name(tmp_path: Path, spoil: Callable[[list[Atoms]], None], sentence: str) -> None:
    frames = labelled()
    spoil(frames)
    write(tmp_path / "a.xyz", frames, format="extxyz")
    with pytest.raises(BadInput, match=sentence):
        load(tmp_path / "a.xyz")


def test_duplicates_may_be_allowed(tmp_path: Path) -> None:
    frames = labelled()
    _duplicate(frames)
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    (tmp_path / "dataset.toml").write_text(MANIFEST.replace("[[files]]", "allow_duplicates = true\n[[files]]"), "utf-8")
    assert len(load(tmp_path)) == 8


def test_a_misspelt_name_under_keys_is_not_missed_silently(tiny: Path) -> None:
    (tiny / "dataset.toml").write_text(MANIFEST + '[keys]\ntrajectory = "trajectroy"\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"unknown name for trajectory under \[keys\] 'trajectroy'\. Did you mean 'traj"):
        load(tiny)


def test_a_stress_of_another_level_is_not_taken(tmp_path: Path) -> None:
    frames = labelled()
    for atoms in frames:
        if "REF_stress" in atoms.info:
            atoms.info["xtb_stress"] = atoms.info.pop("REF_stress")
    write(tmp_path / "a.xyz", frames, format="extxyz")
    assert not load(tmp_path / "a.xyz").has_stress.any()


@pytest.mark.parametrize("name", ["notes.txt", "a.db", "vasprun.xml"])
def test_a_file_that_holds_no_structures(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("nothing of the kind", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be read as structures"):
        load(tmp_path / name)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", labelled(), format="extxyz")
    whole = (tmp_path / "a.xyz").read_bytes()
    (tmp_path / "cut.xyz").write_bytes(whole[: int(0.45 * len(whole))])
    (tmp_path / "cut.xyz.gz").write_bytes(gzip.compress(whole)[:400])
    for name in ("cut.xyz", "cut.xyz.gz"):
        with pytest.raises(BadInput, match=r"cut\.xyz.* cannot be read as structures"):
            load(tmp_path / name)


def test_an_edited_file_is_refused(tiny: Path) -> None:
    text = MANIFEST + f'sha256 = "{"0" * 64}"\n'
    (tiny / "dataset.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"is not the file its manifest names: sha256 .* edited or cut short"):
        load(tiny)
    (tiny / "dataset.toml").write_text(MANIFEST + "n_frames = 9\n", encoding="utf-8")
    with pytest.raises(BadInput, match="holds 8 frames; its manifest says 9"):
        load(tiny)


def test_elements_of_the_manifest_are_checked(tiny: Path) -> None:
    (tiny / "dataset.toml").write_text(MANIFEST.replace("[[files]]", 'elements = ["H"]\n[[files]]'), encoding="utf-8")
    with pytest.raises(BadInput, match="the files hold O, which 'elements' of the manifest does not list"):
        load(tiny)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"unknown data set 'ecemc_gfn2x'"):
        manifest.find("ecemc_gfn2x")
    with pytest.raises(BadInput, match=r"nowhere/a\.xyz: there is no such file"):
        manifest.find("nowhere/a.xyz")


def test_files_may_be_splits(tmp_path: Path) -> None:
    frames = labelled()
    for atoms in frames:
        del atoms.info["splits"]
    write(tmp_path / "a.xyz", frames[:5], format="extxyz")
    write(tmp_path / "b.xyz", frames[5:], format="extxyz")
    text = 'schema = 1\nname = "two"\nlevel_of_theory = "springs"\n'
    text += "".join(
        f'[[files]]\npath = "{name}.xyz"\nsplit = "{split}"\n' for name, split in (("a", "train"), ("b", "test"))
    )
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
    assert load(tmp_path).splits == {"train": (0, 1, 2, 3, 4), "test": (5, 6, 7)}


def test_remarks_tell_what_flatters(tiny: Path) -> None:
    assert any("vacuum labels" in text for text in remarks(load(tiny)))
    text = (tiny / "frames.xyz").read_text(encoding="utf-8").replace("trajectory=t0", "trajectory=t3")
    (tiny / "frames.xyz").write_text(text, encoding="utf-8")
    assert any("Splits train and test share 1 trajectories" in text for text in remarks(load(tiny)))


def unnamed(tiny: Path) -> Dataset:
    """The same frames without the names of their trajectories."""
    path = tiny / "frames.xyz"
    path.write_text(re.sub(r" trajectory=\S+", "", path.read_text(encoding="utf-8")), encoding="utf-8")
    return load(tiny)


def test_unnamed_frames_are_grouped_by_kind_and_marked(tiny: Path) -> None:
    """Clusters and boxes take turns: four frames of each kind, a block each."""
    assert not any("guessed" in text for text in (*remarks(load(tiny)), load(tiny).spec.labels))
    data = unnamed(tiny)
    assert data.trajectory == tuple(f"frames {k}–{k}" for k in range(1, 9))
    assert "guessed" in data.spec.labels
    assert any("No trajectory names: frames of one kind are taken together in 8 guessed" in t for t in remarks(data))


def test_a_name_for_each_frame_is_no_guess(tiny: Path) -> None:
    path = tiny / "frames.xyz"
    numbers = iter(range(8))
    text = re.sub(r" trajectory=\S+", lambda _: f" trajectory=own{next(numbers)}", path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    data = load(tiny)
    assert len(set(data.trajectory)) == 8
    assert "guessed" not in data.spec.labels and not any("trajectory names" in text for text in remarks(data))


@given(lengths=st.lists(st.integers(1, 700), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_blocks_are_of_one_kind_and_consecutive(lengths: list[int]) -> None:
    kinds = [k for k, n in enumerate(lengths) for _ in range(n)]
    names = blocks(kinds)
    assert all(is_guessed(name) for name in names)
    assert [name for name, _ in groupby(names)] == list(dict.fromkeys(names)), "blocks are not consecutive"
    for kind, n_frames in enumerate(lengths):
        sizes = [len(list(own)) for _, own in groupby(n for n, k in zip(names, kinds, strict=True) if k == kind)]
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) <= 8
        assert len(lengths) >= 6 or len(sizes) >= min(4, n_frames)
        assert len(sizes) <= 4 or min(sizes) >= 80


def test_frames_that_take_turns_stay_with_their_kind() -> None:
    names = blocks([k % 2 for k in range(40)])
    assert len(set(names)) == 8
    assert names[0] == names[2] == "frames 1–9" and names[1] == "frames 2–10"


def test_splits_of_one_guessed_block_are_told(tiny: Path) -> None:
    frames = labelled(40)[::2]
    for number, atoms in enumerate(frames):
        del atoms.info["trajectory"]
        atoms.info["splits"] = ("train", "test")[number % 2]
    write(tiny / "frames.xyz", frames, format="extxyz")
    assert any("Splits train and test take frames from the same 4 guessed blocks" in t for t in remarks(load(tiny)))


OBSERVED = {"warm/density_series": np.arange(6, dtype=np.float32).reshape(2, 3), "warm/temperature_K": np.array(300)}


def observe(folder: Path, arrays: dict[str, np.ndarray] | None = None, *, name: str = "seen.npz") -> None:
    """Put what the reference's own dynamics gave beside a data set, and name it in the manifest."""
    np.savez(folder / name, allow_pickle=True, **(OBSERVED if arrays is None else arrays))
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest_file = folder / "dataset.toml"
    text = manifest_file.read_text(encoding="utf-8")
    manifest_file.write_text(text + f'[[observables]]\npath = "{name}"\nsha256 = "{digest}"\n', encoding="utf-8")


def test_observables_come_with_every_part_of_the_data(tiny: Path) -> None:
    before = manifest.source(str(tiny)).sha256
    assert load(tiny).observables == {}
    observe(tiny)
    observe(tiny, {"cold/density_series": np.zeros(2)}, name="more.npz")
    data = load(tiny)
    assert manifest.source(str(tiny)).sha256 != before
    assert set(data.observables) == {*OBSERVED, "cold/density_series"}
    for part in (data, data.split("test"), data.take([0]).take([])):
        assert part.observables["warm/density_series"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert part.observables["warm/density_series"].dtype == np.float64
        assert float(part.observables["warm/temperature_K"]) == 300.0


def test_the_hash_moves_with_the_observables(tiny: Path) -> None:
    text = (tiny / "dataset.toml").read_text(encoding="utf-8")
    hashes = []
    for number in range(2):
        (tiny / "dataset.toml").write_text(text, encoding="utf-8")
        observe(tiny, {"warm/density_series": np.full(3, float(number))})
        hashes.append(manifest.source(str(tiny)).sha256)
    assert hashes[0] != hashes[1]


def test_other_observables_than_the_manifest_names_are_refused(tiny: Path) -> None:
    observe(tiny)
    np.savez(tiny / "seen.npz", **{"warm/density_series": np.ones(3)})
    with pytest.raises(BadInput, match=r"seen\.npz is not the file its manifest names: sha256 .* edited or cut short"):
        load(tiny)
    (tiny / "seen.npz").unlink()
    with pytest.raises(BadInput, match=r"seen\.npz cannot be read: No such file or directory"):
        load(tiny)


def test_observables_twice_are_refused(tiny: Path) -> None:
    observe(tiny)
    observe(tiny, name="more.npz")
    with pytest.raises(BadInput, match=r"more\.npz: 'warm/density_series' stands in another file"):
        load(tiny)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([1.0, np.nan]), r"'warm/density_series' must hold finite numbers only"),
        (np.array(["dense"]), r"'warm/density_series' must hold finite numbers only"),
        (np.array([{"a": 1}], dtype=object), r"is no file of plain arrays: Object arrays cannot be loaded"),
    ],
)
def test_observables_that_are_no_plain_numbers_are_refused(tiny: Path, array: np.ndarray, sentence: str) -> None:
    observe(tiny, {"warm/density_series": array})
    with pytest.raises(BadInput, match=sentence):
        load(tiny)


def test_observables_that_are_no_archive_are_refused(tiny: Path) -> None:
    observe(tiny)
    whole = (tiny / "seen.npz").read_bytes()
    text = (tiny / "dataset.toml").read_text(encoding="utf-8")
    for content in (b"nothing of the kind", b"", whole[: len(whole) // 2]):
        (tiny / "seen.npz").write_bytes(content)
        new = text.replace(hashlib.sha256(whole).hexdigest(), hashlib.sha256(content).hexdigest())
        (tiny / "dataset.toml").write_text(new, encoding="utf-8")
        with pytest.raises(BadInput, match=r"seen\.npz is no file of plain arrays"):
            load(tiny)


def test_the_hash_moves_with_the_frames(tiny: Path) -> None:
    before = manifest.source(str(tiny)).sha256
    with (tiny / "frames.xyz").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert manifest.source(str(tiny)).sha256 != before
