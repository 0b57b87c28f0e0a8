"""The file format: round trip, and every way to damage a file ends in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlipbench.ace.file import read, write
from mlipbench.ace.potential import LinearAce
from mlipbench.errors import BadInput


@pytest.fixture
def file(tmp_path: Path, potential: LinearAce) -> Path:
    write(tmp_path / "a.npz", potential, about={"data": "toy@1"})
    return tmp_path / "a.npz"


def rewrite(file: Path, header: dict[str, Any] | None = None, **arrays: Any) -> None:
    with np.load(file) as old:
        content = dict(old)
    known = json.loads(content["header"].tobytes())
    text = json.dumps({**known, **(header or {})}).encode()
    content |= {"header": np.frombuffer(text, dtype=np.uint8), **arrays}
    np.savez(file, **content)


def test_a_round_trip_is_exact(file: Path, potential: LinearAce, crystal: Atoms) -> None:
    again = read(file)
    assert again.basis == potential.basis
    assert np.array_equal(again.weights, potential.weights)
    assert again.evaluate(crystal).energy == potential.evaluate(crystal).energy


def test_the_same_potential_gives_the_same_bytes(file: Path, potential: LinearAce) -> None:
    write(file.with_name("b.npz"), potential, about={"data": "toy@1"})
    assert file.read_bytes() == file.with_name("b.npz").read_bytes()


def test_a_rewritten_file_is_read_when_nothing_changed(file: Path) -> None:
    rewrite(file)
    read(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"header": {"version": 2}}, "has version 2 of the ACE format and this mlipbench reads version 1"),
        ({"header": {"format": "other"}}, "is no ACE file"),
        ({"header": {"basis": {"cutoff_A": 4.0}}}, "needs a basis with exactly"),
        ({"header": {"functions_sha256": "0"}}, "another order of basis functions"),
        ({"weights": np.zeros((3, 5))}, r"weights has shape \(3, 5\)"),
        ({"e0_eV": np.zeros(2)}, r"e0_eV has shape \(2,\)"),
        ({"wall_reach_A": np.zeros(3)}, r"wall_reach_A has shape \(3,\)"),
        ({"e0_eV": np.array([0.0, np.inf, 0.0])}, "not finite"),
        ({"e0_eV": np.zeros(3, dtype=np.float32)}, "float64 is needed"),
        ({"e0_eV": np.array([None] * 3, dtype=object)}, "damaged"),
        ({"header": None, "weights": np.array("text")}, "float64 is needed"),
    ],
)
def test_a_changed_file_is_refused(file: Path, change: dict[str, Any], says: str) -> None:
    rewrite(file, **change)
    with pytest.raises(BadInput, match=says):
        read(file)


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


def test_a_file_without_a_header_is_refused(file: Path) -> None:
    np.savez(file, weights=np.zeros(3))
    with pytest.raises(BadInput, match="damaged or no ACE file"):
        read(file)
