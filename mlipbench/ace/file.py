"""A linear ACE as one npz file without pickles: a JSON header and a few arrays; docs/ace.md describes the format."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.lib import format as npy
from scipy.linalg.lapack import dtpttr, dtrttp

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.posterior import MAX_MEMBERS, Noise, Uncertainty
from mlipbench.ace.potential import LinearAce
from mlipbench.ace.rows import Weights
from mlipbench.core.model import Float
from mlipbench.errors import BadInput, unknown
from mlipbench.files import toml

FORMAT: Final = "mlipbench linear ACE"
VERSION: Final = 2
UNITS: Final = {"energy": "eV", "length": "Å"}
ARRAYS: Final = ("e0_eV", "weights", "wall_reach_A")
KNOWN: Final = ("header", *ARRAYS, "members", "factor")
HEADER: Final = ("about", "arrays", "basis", "format", "functions_sha256", "row_weights", "sigma", "units", "version")
MAX_HEADER_BYTES: Final = 2**20
LAST_ELEMENT: Final = 118

_T = TypeVar("_T")
# All that zipfile and numpy raise when bytes are not what they should be.
_DAMAGE: Final = (
    OSError, ValueError, EOFError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, OverflowError,
    MemoryError, SyntaxError, TokenError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AceFile:
    """What is in a file.

    Attributes:
        potential: the ACE.
        uncertainty: how sure it is; None when the file does not say.
        about: plain JSON that travels along.
    """

    potential: LinearAce
    uncertainty: Uncertainty | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def write(
    path: Path,
    potential: LinearAce,
    *,
    uncertainty: Uncertainty | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a potential; the same potential gives the same bytes.

    Args:
        path: of the file; its folder exists.
        potential: what to write.
        uncertainty: how sure it is, when that is known.
        about: plain JSON that travels along, such as the data it was fitted to.
    """
    arrays = {name: np.asarray(getattr(potential, name)) for name in ARRAYS}
    if uncertainty is not None:
        arrays["members"] = uncertainty.members
        if uncertainty.factor is not None:
            arrays["factor"] = dtrttp(np.asfortranarray(uncertainty.factor))[0]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "units": UNITS,
        "basis": asdict(potential.basis),
        "functions_sha256": functions(potential.basis).fingerprint,
        "sigma": None if uncertainty is None else uncertainty.noise.sigma,
        "row_weights": None if uncertainty is None else asdict(uncertainty.noise.weights),
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        "about": dict(about or {}),
    }
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    content = {"header": np.frombuffer(text, dtype=np.uint8), **arrays}
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in content.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # the same on every system
            kind = "|u1" if name == "header" else "<f8"
            with archive.open(entry, "w", force_zip64=True) as stream:
                npy.write_array(stream, np.ascontiguousarray(array, dtype=kind), version=(1, 0), allow_pickle=False)


def read(path: Path) -> AceFile:
    """Read a potential and what its file knows of its uncertainty.

    Raises:
        BadInput: the file is missing, damaged, of another version, or its arrays do not fit its basis.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the ACE file {path} cannot be read: {error.strerror}. Check the path.") from error
    return parse(content, name=str(path))


def parse(content: bytes, *, name: str) -> AceFile:
    """Return what is in the bytes of a file; no array is made before its declared shape fits the basis.

    Args:
        content: the whole file.
        name: of the file, for messages.

    Raises:
        BadInput: as `read`.
    """
    names, entries = _unpack(content, name)
    header = _header(entries["header"], name)
    _check_names(names, header, name)
    basis = _basis(header, name)
    arrays = {key: _array(key, entry, basis, name) for key, entry in entries.items() if key != "header"}
    _check_shapes(arrays, header, name)
    try:
        potential = LinearAce(basis=basis, **{key: arrays[key] for key in ARRAYS})
        uncertainty = _uncertainty(potential, arrays, header)
    except BadInput as error:
        raise BadInput(f"{name} does not fit its own basis: {error}") from error
    return AceFile(potential=potential, uncertainty=uncertainty, about=header["about"])


class _Entry(NamedTuple):
    """One array as it lies in the file: what it declares, and its bytes."""

    shape: tuple[int, ...]
    is_fortran: bool
    kind: np.dtype[Any]
    data: bytes


def _unpack(content: bytes, name: str) -> tuple[list[str], dict[str, _Entry]]:
    """Return the names of all entries, and those we know."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [entry.filename.removesuffix(".npy") for entry in archive.infolist()]
            return names, {key: _entry(archive, key, name) for key in KNOWN if key == "header" or key in names}
    except _DAMAGE as error:
        raise BadInput(f"{name} is damaged or no ACE file: {type(error).__name__}: {error}.") from error


def _entry(archive: zipfile.ZipFile, key: str, name: str) -> _Entry:
    """Return one entry, which must hold its bytes as they are, so that it is no larger than the file."""
    entry = archive.getinfo(f"{key}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise BadInput(f"{name}: {key} is compressed; an ACE file holds its arrays as they are (numpy.savez).")
    with archive.open(entry) as stream:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError(f"{key} is of another npy version than 1.0")
        return _Entry(*npy.read_array_header_1_0(stream), stream.read())


def _header(entry: _Entry, name: str) -> dict[str, Any]:
    """Return the header of a file of this format and version."""
    if len(entry.data) > MAX_HEADER_BYTES:
        raise BadInput(f"{name} is no ACE file: its header is longer than {MAX_HEADER_BYTES} bytes.")
    try:
        header = json.loads(entry.data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} is damaged or no ACE file: its header is no JSON: {error}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadInput(f"{name} is no ACE file: its header does not name the format '{FORMAT}'.")
    version = header.get("version")
    if version != VERSION:
        is_later = isinstance(version, int) and version > VERSION
        raise BadInput(
            f"{name} has version {version!r} of the ACE format and this mlipbench reads version {VERSION}; "
            + ("update mlipbench." if is_later else "train the model again.")
        )
    if set(header) != set(HEADER) or header["units"] != UNITS or not isinstance(header["about"], dict):
        raise BadInput(f"{name}: its header needs exactly {', '.join(HEADER)}, with about a table and units {UNITS}.")
    return header


def _no_constant(given: str) -> NoReturn:
    raise ValueError(f"{given} is no number of JSON")


def _check_names(names: list[str], header: Mapping[str, Any], name: str) -> None:
    """Refuse arrays that are strange, there twice, or missing."""
    for key in names:
        if key not in KNOWN:
            raise unknown("array", key, KNOWN, where=name)
        if names.count(key) > 1:
            raise BadInput(f"{name} holds the array '{key}' {names.count(key)} times; once is allowed.")
    for key in ARRAYS:
        if key not in names:
            raise BadInput(f"{name}: the array '{key}' is missing.")
    has_members = "members" in names
    if has_members != (header["sigma"] is not None) or has_members != (header["row_weights"] is not None):
        raise BadInput(f"{name}: members, and sigma and row_weights in the header, stand together or not at all.")
    if "factor" in names and not has_members:
        raise BadInput(f"{name}: a factor without members is not allowed.")


def _check_shapes(arrays: Mapping[str, Float], header: Mapping[str, Any], name: str) -> None:
    """Refuse arrays other than the header lists: a damaged directory of the archive can hide one."""
    found = {key: list(array.shape) for key, array in arrays.items()}
    if found != header["arrays"]:
        raise BadInput(
            f"{name} is damaged: its header lists the arrays {header['arrays']} with their shapes, "
            f"and it holds {found}."
        )


def _basis(header: Mapping[str, Any], name: str) -> Basis:
    """Return the basis that a header names, when its functions are still in the same order."""
    basis = _build(Basis, header["basis"], what="basis", name=name)
    if basis.numbers[-1] > LAST_ELEMENT:
        raise BadInput(f"{name}: its basis names element {basis.numbers[-1]}; {LAST_ELEMENT} is the last one.")
    if header["functions_sha256"] != functions(basis).fingerprint:
        raise BadInput(f"{name} was written for another order of basis functions; train the model again.")
    return basis


def _build(kind: type[_T], given: Any, *, what: str, name: str) -> _T:
    """Return a dataclass of plain values that are all there."""
    wanted = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(given, dict) or set(given) != wanted:
        raise BadInput(f"{name}: its header needs a {what} with exactly {', '.join(sorted(wanted))}.")
    try:
        return toml.build(kind, given, where=what)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def _array(key: str, entry: _Entry, basis: Basis, name: str) -> Float:
    """Return one array, after what it declares was compared with what the basis needs."""
    if entry.kind != np.dtype("<f8") or (entry.is_fortran and len(entry.shape) > 1):
        raise BadInput(f"{name}: {key} has type {entry.kind}, or its columns come first; float64 by rows is needed.")
    n_elements, n_functions = len(basis.numbers), functions(basis).n_functions
    n_columns = n_elements * n_functions
    n_members = min(max(entry.shape[0], 1), MAX_MEMBERS) if entry.shape else 1
    wanted = {
        "e0_eV": (n_elements,),
        "weights": (n_elements, n_functions),
        "wall_reach_A": (n_elements, n_elements),
        "members": (n_members, n_elements, n_functions),
        "factor": (n_columns * (n_columns + 1) // 2,),
    }[key]
    if entry.shape != wanted:
        raise BadInput(f"{name} does not fit its own basis: {key} has shape {entry.shape}; {wanted} is needed.")
    if len(entry.data) != 8 * prod(wanted):
        raise BadInput(f"{name} is damaged or no ACE file: {key} has {len(entry.data)} bytes, not {8 * prod(wanted)}.")
    # A copy, since compiled loops would be compiled again for arrays that cannot be written to.
    array = np.frombuffer(entry.data, dtype="<f8").reshape(wanted).astype(np.float64)
    if not np.isfinite(array).all():
        raise BadInput(f"{name}: {key} holds a number that is not finite.")
    return array


def _uncertainty(potential: LinearAce, arrays: Mapping[str, Float], header: Mapping[str, Any]) -> Uncertainty | None:
    """Return how sure the potential is."""
    if "members" not in arrays:
        return None
    weights = _build(Weights, header["row_weights"], what="row_weights", name="ACE noise")
    noise = toml.build(Noise, {"sigma": header["sigma"], "weights": weights}, where="ACE noise")
    factor = dtpttr(potential.weights.size, arrays["factor"])[0] if "factor" in arrays else None
    return Uncertainty(members=arrays["members"], noise=noise, factor=factor)
