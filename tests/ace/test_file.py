"""The file format: round trip, and every way to damage a file ends in one sentence."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.file import AceFile, parse, read, write
from mlipbench.ace.posterior import Noise, Posterior, Uncertainty
from mlipbench.ace.potential import LinearAce
from mlipbench.ace.rows import Weights
from mlipbench.errors import BadInput

TINY = Basis(numbers=(1, 8), cutoff_A=3.0, degrees=(3.0, 2.0), l_max=1, pair_cutoffs_A=((1, 1, 2.5),))


B = functions(TINY).n_functions
PACKED = 2 * B * (2 * B + 1) // 2


def tiny() -> tuple[LinearAce, Uncertainty]:
    rng = np.random.default_rng(0)
    potential = LinearAce(
        basis=TINY,
        e0_eV=np.array([-1.0, -2.0]),
        weights=rng.normal(size=(2, functions(TINY).n_functions)),
        wall_reach_A=np.full((2, 2), 1.0),
    )
    n = potential.weights.size
    noise = Noise(sigma=0.1, weights=Weights(energy=3.0, forces=0.1, stress=0.0))
    posterior = Posterior(potential=potential, factor=np.triu(rng.normal(size=(n, n))) + 5.0 * np.eye(n), noise=noise)
    return potential, Uncertainty(members=posterior.draw(3, seed=1), noise=noise, factor=posterior.factor)


@pytest.fixture
def file(tmp_path: Path, potential: LinearAce) -> Path:
    write(tmp_path / "a.npz", potential, about={"data": "toy@1"})
    return tmp_path / "a.npz"


@pytest.fixture
def full(tmp_path: Path) -> Path:
    potential, uncertainty = tiny()
    write(tmp_path / "full.npz", potential, uncertainty=uncertainty)
    return tmp_path / "full.npz"


def rewrite(file: Path, header: dict[str, Any] | None = None, without: tuple[str, ...] = (), **arrays: Any) -> None:
    with np.load(file) as old:
        content = dict(old)
    known = json.loads(content.pop("header").tobytes())
    content = {key: array for key, array in (content | arrays).items() if key not in without}
    known["arrays"] = {key: array.shape for key, array in content.items()}
    text = json.dumps({**known, **(header or {})}).encode()
    if "header" not in without:
        content["header"] = np.frombuffer(text, dtype=np.uint8)
    np.savez(file, **content)


def test_a_round_trip_is_exact(file: Path, potential: LinearAce, crystal: Atoms) -> None:
    again = read(file)
    assert again.potential.basis == potential.basis
    assert np.array_equal(again.potential.weights, potential.weights)
    assert again.potential.evaluate(crystal).energy == potential.evaluate(crystal).energy
    assert again.uncertainty is None
    assert again.about == {"data": "toy@1"}


def test_the_uncertainty_travels_along(full: Path) -> None:
    potential, uncertainty = tiny()
    again = read(full)
    assert again.potential.basis == TINY
    assert again.uncertainty is not None
    assert again.uncertainty.noise == uncertainty.noise
    assert np.array_equal(again.uncertainty.members, uncertainty.members)
    assert again.uncertainty.factor is not None
    assert uncertainty.factor is not None
    assert np.array_equal(again.uncertainty.factor, np.triu(uncertainty.factor))
    frame = Atoms("OH2", [[0, 0, 0], [0.9, 0.1, 0], [-0.2, 0.95, 0]])
    first, second = (
        Posterior(potential=potential, factor=known.factor, noise=known.noise).spread(frame)  # type: ignore[arg-type]
        for known in (uncertainty, again.uncertainty)
    )
    assert first.energy_std == second.energy_std


def test_members_stand_without_a_factor(tmp_path: Path) -> None:
    potential, known = tiny()
    write(tmp_path / "a.npz", potential, uncertainty=Uncertainty(members=known.members, noise=known.noise))
    again = read(tmp_path / "a.npz").uncertainty
    assert again is not None
    assert again.factor is None
    assert (tmp_path / "a.npz").stat().st_size < 20_000


def test_the_file_is_what_the_documentation_says(full: Path) -> None:
    n = 2 * functions(TINY).n_functions
    with np.load(full, allow_pickle=False) as content:
        header = json.loads(content["header"].tobytes())
        assert {key: array.shape for key, array in content.items() if key != "header"} == {
            "e0_eV": (2,),
            "weights": (2, n // 2),
            "wall_reach_A": (2, 2),
            "members": (3, 2, n // 2),
            "factor": (n * (n + 1) // 2,),
        }
        factor = tiny()[1].factor
        assert factor is not None
        # Column after column: entry i + j (j + 1) / 2 is that of row i ≤ column j.
        assert content["factor"][3 + 7 * 8 // 2] == factor[3, 7]
    assert header["basis"] == json.loads(json.dumps(asdict(TINY)))
    assert header["units"] == {"energy": "eV", "length": "Å"}
    assert header["arrays"] == {
        "e0_eV": [2], "weights": [2, n // 2], "wall_reach_A": [2, 2], "members": [3, 2, n // 2],
        "factor": [n * (n + 1) // 2],
    }  # fmt: skip
    assert header["sigma"] == 0.1
    assert header["row_weights"] == {"energy": 3.0, "forces": 0.1, "stress": 0.0}


def test_the_same_potential_gives_the_same_bytes(file: Path, full: Path, potential: LinearAce) -> None:
    write(file.with_name("b.npz"), potential, about={"data": "toy@1"})
    assert file.read_bytes() == file.with_name("b.npz").read_bytes()
    again = read(full)
    write(file.with_name("c.npz"), again.potential, uncertainty=again.uncertainty, about=again.about)
    assert full.read_bytes() == file.with_name("c.npz").read_bytes()


def test_another_process_at_another_time_writes_the_same_bytes(full: Path, tmp_path: Path) -> None:
    code = (
        "import time, zipfile; time.time = lambda: 2e9; time.localtime = lambda *x: time.gmtime(2e9)\n"
        "import sys; from pathlib import Path; from mlipbench.ace.file import read, write\n"
        "a = read(Path(sys.argv[1])); write(Path(sys.argv[2]), a.potential, uncertainty=a.uncertainty, about=a.about)"
    )
    subprocess.run([sys.executable, "-c", code, str(full), str(tmp_path / "later.npz")], check=True)
    assert full.read_bytes() == (tmp_path / "later.npz").read_bytes()


def test_a_rewritten_file_is_read_when_nothing_changed(file: Path, full: Path) -> None:
    for path in (file, full):
        rewrite(path)
        read(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"header": {"version": 3}}, "has version 3 of the ACE format and this mlipbench reads version 2; update"),
        ({"header": {"version": 1}}, "has version 1 of the ACE format .* train the model again"),
        ({"header": {"version": "2"}}, "has version '2'"),
        ({"header": {"format": "other"}}, "is no ACE file"),
        ({"header": {"units": {"energy": "Ry", "length": "Å"}}}, "with about a table and units"),
        ({"header": {"arrays": {"e0_eV": [3]}}}, "lists the arrays"),
        ({"header": {"arrays": 3}}, "lists the arrays 3"),
        ({"header": {"comment": "?"}}, "its header needs exactly"),
        ({"header": {"about": 3}}, "with about a table"),
        ({"header": {"basis": {"cutoff_A": 4.0}}}, "needs a basis with exactly"),
        ({"header": {"basis": [1]}}, "needs a basis with exactly"),
        ({"header": {"functions_sha256": "0"}}, "another order of basis functions"),
        ({"header": {"sigma": 0.1}}, "stand together or not at all"),
        ({"header": {"row_weights": asdict(Weights())}}, "stand together or not at all"),
        ({"members": np.zeros((2, 3, 4))}, "stand together or not at all"),
        ({"factor": np.zeros(3)}, "a factor without members"),
        ({"without": ("weights",)}, "the array 'weights' is missing"),
        ({"without": ("header",)}, "damaged or no ACE file"),
        ({"weight": np.zeros(3)}, "unknown array 'weight'. Did you mean 'weights'"),
        ({"weights": np.zeros((3, 5))}, r"weights has shape \(3, 5\)"),
        ({"e0_eV": np.zeros(2)}, r"e0_eV has shape \(2,\)"),
        ({"wall_reach_A": np.zeros(3)}, r"wall_reach_A has shape \(3,\)"),
        ({"wall_reach_A": np.asfortranarray(np.triu(np.ones((3, 3))))}, "float64 by rows"),
        ({"wall_reach_A": np.triu(np.ones((3, 3)))}, "does not fit its own basis: linear ACE: wall_reach_A"),
        ({"e0_eV": np.array([0.0, np.inf, 0.0])}, "not finite"),
        ({"e0_eV": np.zeros(3, dtype=np.float32)}, "float64 by rows"),
        ({"e0_eV": np.zeros(3, dtype=">f8")}, "float64 by rows"),
        ({"e0_eV": np.array([None] * 3, dtype=object)}, "float64 by rows"),
        ({"weights": np.array("text")}, "float64 by rows"),
    ],
)
def test_a_changed_file_is_refused(file: Path, change: dict[str, Any], says: str) -> None:
    rewrite(file, **change)
    with pytest.raises(BadInput, match=says):
        read(file)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("numbers", [8, 1], "numbers is"),
        ("numbers", [1, 999], r"numbers is \(1, 999\)"),
        ("numbers", "HO", "numbers = 'HO' does not fit"),
        ("l_max", 2.5, "l_max = 2.5 does not fit"),
        ("cutoff_A", None, "cutoff_A = None does not fit"),
        ("cutoff_A", 1e999, "its header is no JSON: Infinity"),
        ("pair_cutoffs_A", [[1, 1]], "pair_cutoffs_A"),
        ("pair_cutoffs_A", [[1, 6, 2.0]], "pair_cutoffs_A"),
        ("degrees", [3.0, 2.0, 1.0], "another order of basis functions"),
    ],
)
def test_a_changed_basis_is_refused(full: Path, key: str, value: Any, says: str) -> None:
    rewrite(full, header={"basis": {**json.loads(json.dumps(asdict(TINY))), key: value}})
    with pytest.raises(BadInput, match=says):
        read(full)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"members": np.zeros((0, 2, B))}, rf"members has shape \(0, 2, {B}\)"),
        ({"members": np.zeros((2, 3, 4))}, r"members has shape \(2, 3, 4\)"),
        ({"members": np.zeros(5)}, r"members has shape \(5,\)"),
        ({"members": np.zeros(())}, r"members has shape \(\)"),
        ({"factor": np.zeros(5)}, r"factor has shape \(5,\)"),
        ({"factor": np.zeros(PACKED)}, "singular"),
        ({"factor": np.full(PACKED, np.nan)}, "factor holds a number that is not finite"),
        ({"header": {"sigma": -1.0}}, "the sigma is -1.0"),
        ({"header": {"sigma": 10**400}}, "sigma"),
        ({"header": {"sigma": None}}, "stand together"),
        ({"header": {"row_weights": {"energy": 1.0}}}, "row_weights with exactly energy, forces, stress"),
        ({"header": {"row_weights": {"energy": -1.0, "forces": 1.0, "stress": 1.0}}}, "the energy weight is -1.0"),
        ({"without": ("members",)}, "stand together"),
    ],
)
def test_a_changed_uncertainty_is_refused(full: Path, change: dict[str, Any], says: str) -> None:
    rewrite(full, **change)
    with pytest.raises(BadInput, match=says):
        read(full)


def test_damaged_and_missing_files_are_refused(file: Path) -> None:
    content = file.read_bytes()
    for piece in (
        content[: len(content) // 2],
        content[:-10],
        b"",
        b"text",
        content[:2000] + b"\0" * 40 + content[2040:],
    ):
        file.write_bytes(piece)
        with pytest.raises(BadInput, match="damaged or no ACE file"):
            read(file)
    file.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        read(file)


def test_an_array_that_the_directory_has_lost_is_missed(full: Path) -> None:
    content = bytearray(full.read_bytes())
    members, factor = (
        content.rindex(b"PK\x01\x02", 0, content.rindex(name)) for name in (b"members.npy", b"factor.npy")
    )
    assert members < factor
    # The factor's entry is the last one; one byte makes it a comment on the entry before.
    content[members + 32] = content.rindex(b"PK\x05\x06") - factor
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert "factor.npy" not in archive.namelist()
        assert archive.testzip() is None
    with pytest.raises(BadInput, match=r"x is damaged: its header lists the arrays .*factor"):
        parse(bytes(content), name="x")


@pytest.mark.parametrize("value", [0, 1, 56, 255])
def test_no_byte_of_the_directory_can_hide_an_array(full: Path, value: int) -> None:
    content = full.read_bytes()
    for place in range(content.index(b"PK\x01\x02"), len(content)):
        changed = content[:place] + bytes([value]) + content[place + 1 :]
        try:
            found = parse(changed, name="x").uncertainty
        except BadInput:
            continue
        assert found is not None
        assert found.factor is not None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_its_bytes_ends_in_a_sentence_or_in_numbers(full: Path, data: st.DataObject) -> None:
    content = bytearray(full.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(parse(bytes(content), name="x"), AceFile)
    except BadInput as error:
        assert str(error).startswith("x")


def entry(shape: str, data: bytes = b"") -> bytes:
    """Return an npy of this shape with these bytes behind it."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def replaced(file: Path, key: str, content: bytes, *, kind: int = zipfile.ZIP_STORED, twice: bool = False) -> None:
    with zipfile.ZipFile(file) as archive:
        old = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in old.items():
            if name != f"{key}.npy" or twice:
                archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate") if twice else nothing():
            archive.writestr(f"{key}.npy", content, compress_type=kind)


def nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize(
    ("key", "content", "says"),
    [
        ("members", entry(f"(1000000000000, 2, {B})"), "has shape"),
        ("members", entry(f"(4000, 2, {B})"), f"has 0 bytes, not {64000 * B}"),
        ("weights", entry(f"(2, {B})", b"\0" * 8), f"has 8 bytes, not {16 * B}"),
        ("weights", entry(f"(2, {B})", b"\0" * 4000), f"has 4000 bytes, not {16 * B}"),
        ("weights", entry(f"(-2, {B})"), rf"has shape \(-2, {B}\)"),
        ("weights", entry("((((((("), "damaged"),
        ("weights", b"\x93NUMPY\x02\x00" + entry(f"(2, {B})")[8:], "another npy version"),
        ("header", entry("(3,)", b"{" * 2**21), "longer than"),
        ("header", entry("(3,)", b"[" * 2**17), "is no JSON"),
        ("header", entry("(3,)", b"[3]"), "does not name the format"),
    ],
)
def test_declared_shapes_cost_no_memory(full: Path, key: str, content: bytes, says: str) -> None:
    replaced(full, key, content)
    tracemalloc.start()
    with pytest.raises(BadInput, match=says):
        read(full)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20


def test_compressed_and_repeated_arrays_are_refused(full: Path) -> None:
    content = full.read_bytes()
    replaced(full, "weights", entry(f"(2, {B})", b"\0" * 16 * B), kind=zipfile.ZIP_DEFLATED)
    with pytest.raises(BadInput, match="weights is compressed"):
        read(full)
    full.write_bytes(content)
    replaced(full, "weights", entry(f"(2, {B})", b"\0" * 16 * B), twice=True)
    with pytest.raises(BadInput, match="holds the array 'weights' 2 times"):
        read(full)
