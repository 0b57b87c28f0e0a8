"""A linear ACE as one npz file without pickles: a JSON header and three arrays; docs/ace.md describes the format."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.potential import LinearAce
from mlipbench.core.model import Float
from mlipbench.errors import BadInput

FORMAT: Final = "mlipbench linear ACE"
VERSION: Final = 1
ARRAYS: Final = ("e0_eV", "weights", "wall_reach_A")


def write(path: Path, potential: LinearAce, *, about: Mapping[str, Any] | None = None) -> None:
    """Write a potential; the same potential gives the same bytes.

    Args:
        path: of the file; its folder exists.
        potential: what to write.
        about: plain JSON that travels along, such as the data it was fitted to.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "basis": asdict(potential.basis),
        "functions_sha256": functions(potential.basis).fingerprint,
        "about": dict(about or {}),
    }
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    arrays = {name: getattr(potential, name) for name in ARRAYS}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, header=np.frombuffer(text, dtype=np.uint8), **arrays)


def read(path: Path) -> LinearAce:
    """Read a potential.

    Raises:
        BadInput: the file is missing, damaged, of a later version, or its arrays do not fit its basis.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the ACE file {path} cannot be read: {error.strerror}. Check the path.") from error
    return parse(content, name=str(path))


def parse(content: bytes, *, name: str) -> LinearAce:
    """Return the potential in the bytes of a file.

    Args:
        content: the whole file.
        name: of the file, for messages.

    Raises:
        BadInput: as `read`.
    """
    arrays, header = _unpack(content, name)
    if header.get("format") != FORMAT:
        raise BadInput(f"{name} is no ACE file: its header names the format {header.get('format')!r}, not '{FORMAT}'.")
    version = header.get("version")
    if version != VERSION:
        raise BadInput(
            f"{name} has version {version!r} of the ACE format and this mlipbench reads version {VERSION}; "
            "read it with the mlipbench that wrote it, or train the model again."
        )
    basis = _basis(header.get("basis"), name)
    if header.get("functions_sha256") != functions(basis).fingerprint:
        raise BadInput(f"{name} was written for another order of basis functions; train the model again.")
    try:
        return LinearAce(basis=basis, **arrays)
    except BadInput as error:
        raise BadInput(f"{name} does not fit its own basis: {error}") from error


def _unpack(content: bytes, name: str) -> tuple[dict[str, Float], dict[str, Any]]:
    """Return the arrays and the header."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes().decode())
            arrays = {key: file[key] for key in ARRAYS}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise BadInput(f"{name} is damaged or no ACE file: {type(error).__name__}: {error}.") from error
    if not isinstance(header, dict):
        raise BadInput(f"{name} is damaged: its header is no table.")
    for key, array in arrays.items():
        if array.dtype != np.float64:
            raise BadInput(f"{name}: {key} has type {array.dtype}; float64 is needed.")
    return arrays, header


def _basis(given: Any, name: str) -> Basis:
    """Return the basis that a header names."""
    wanted = {field.name for field in fields(Basis)}
    if not isinstance(given, dict) or set(given) != wanted:
        raise BadInput(f"{name}: its header needs a basis with exactly {', '.join(sorted(wanted))}.")
    try:
        return Basis(
            numbers=tuple(int(number) for number in given["numbers"]),
            cutoff_A=float(given["cutoff_A"]),
            degrees=tuple(float(degree) for degree in given["degrees"]),
            l_max=int(given["l_max"]),
            l_weight=float(given["l_weight"]),
            decay=float(given["decay"]),
            envelope=int(given["envelope"]),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}: its basis cannot be read: {error}.") from error
