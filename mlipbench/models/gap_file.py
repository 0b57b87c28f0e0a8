"""A GAP as one zip file without pickles: a header in JSON, gap_fit's XML, and its sparse points.

The zip archive may come from anywhere: no name in it is used as a path before it is one of a potential's own names.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

import numpy as np

from mlipbench.errors import BadInput

FORMAT: Final = "mlipbench GAP"
VERSION: Final = 1
HEADER: Final = "gap.json"
XML: Final = "gap.xml"
# gap_fit names the file of each term's sparse points after the XML file; nothing else is unpacked.
SPARSE: Final = re.compile(r"gap\.xml\.sparseX\.\w{1,60}", re.ASCII)
NUMBERS: Final = {"e0": ("Z", "value"), "sparseX": ("alpha", "sparseCutoff")}  # attributes that quippy reads as such
LARGEST_BYTES: Final = 2 * 1024**3  # of all files together, unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class GapFile:
    """What a file holds.

    Attributes:
        elements: chemical symbols covered.
        cutoff_A: longest reach of its descriptors.
        about: plain JSON that travels along, such as options and versions.
        files: `gap.xml` and the files of sparse points, by name.
    """

    elements: tuple[str, ...]
    cutoff_A: float
    about: Mapping[str, Any]
    files: Mapping[str, bytes]


def write(path: Path, gap: GapFile) -> None:
    """Write a potential as one file; the same potential gives the same bytes.

    Raises:
        BadInput: a file has a name that would not be read again.
    """
    _check_files(gap.files, str(path))
    header = {
        "format": FORMAT, "version": VERSION, "elements": list(gap.elements), "cutoff_A": gap.cutoff_A,
        "about": dict(gap.about),
    }  # fmt: skip
    contents = {HEADER: json.dumps(header, sort_keys=True, allow_nan=False).encode(), **gap.files}
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(contents):
            # A ZipInfo of its own has a date of 1980 instead of now.
            archive.writestr(zipfile.ZipInfo(name), contents[name], compress_type=zipfile.ZIP_DEFLATED)


def parse(content: bytes, *, name: str) -> GapFile:
    """Return the potential in the bytes of a file.

    Args:
        content: the whole file.
        name: of the file, for messages.

    Raises:
        BadInput: it is no such file, is damaged, too large or of a later version, or names other files.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_names([entry.filename for entry in entries], name)
            if sum(entry.file_size for entry in entries) > LARGEST_BYTES:
                raise BadInput(f"{name}: unpacked it is larger than {LARGEST_BYTES} bytes, which is refused.")
            files = {entry.filename: archive.read(entry) for entry in entries}
        header = json.loads(files.pop(HEADER))
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile,
            zlib.error) as error:  # fmt: skip
        raise BadInput(f"{name} is damaged or no GAP file: {type(error).__name__}: {error}.") from error
    _check_files(files, name)
    return _from_header(header, files, name)


def _check_names(names: Sequence[str], where: str) -> None:
    """Refuse names that are not those of a potential's files: an archive may name any path."""
    for name in names:
        if name not in (HEADER, XML) and SPARSE.fullmatch(name) is None:
            raise BadInput(f"{where} holds a file '{name}'; only {HEADER}, {XML} and {XML}.sparseX.* belong there.")
    if len(set(names)) != len(names):
        raise BadInput(f"{where} holds a file twice.")


def _check_files(files: Mapping[str, bytes], where: str) -> None:
    """Refuse a potential that is not whole, or would read a file from elsewhere."""
    _check_names(list(files), where)
    if XML not in files:
        raise BadInput(f"{where} is damaged: {XML} is missing.")
    counts = _sparse_counts(files[XML], where)
    if set(counts) != set(files) - {XML}:
        raise BadInput(f"{where}: {XML} names the sparse points {sorted(counts)}, and the file holds others.")
    for name, count in counts.items():
        try:
            points = np.array(files[name].split(), dtype=np.float64)
        except ValueError as error:
            raise BadInput(f"{where}: {name} holds what is no number: {error}.") from error
        if len(points) != count or not np.isfinite(points).all():
            raise BadInput(f"{where}: {name} holds {len(points)} numbers; {count} finite ones are needed.")


def _sparse_counts(xml: bytes, where: str) -> dict[str, int]:
    """Return the files of sparse points that the XML names, with how many numbers each must hold.

    quippy ends the process at XML that it cannot read, so it is read here first.
    """
    counts: dict[str, int] = {}

    def refuse(*_: object) -> None:
        raise BadInput(f"{where}: {XML} declares a document type, which a potential has no use for.")

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "gpCoordinates":
            counts[attributes["sparseX_filename"]] = int(attributes["n_sparseX"]) * int(attributes["dimensions"])
        for name in NUMBERS.get(tag, ()):
            if not math.isfinite(float(attributes[name])):
                raise ValueError(f"{name} of {tag} is not finite")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    try:
        parser.Parse(xml, True)  # noqa: FBT003  expat takes no keywords
    except (expat.ExpatError, KeyError, ValueError) as error:
        raise BadInput(f"{where}: {XML} is damaged: {type(error).__name__}: {error}.") from error
    return counts


def _from_header(header: Any, files: Mapping[str, bytes], name: str) -> GapFile:
    """Return the potential with what its header says, checked."""
    from ase.data import atomic_numbers

    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadInput(f"{name} is no GAP file: its header does not name the format '{FORMAT}'.")
    if header.get("version") != VERSION:
        raise BadInput(
            f"{name} has version {header.get('version')!r} of the GAP format and this mlipbench reads version "
            f"{VERSION}; read it with the mlipbench that wrote it, or train the model again."
        )
    elements, cutoff_A = header.get("elements"), header.get("cutoff_A")
    if not isinstance(elements, list) or not elements or any(symbol not in atomic_numbers for symbol in elements):
        raise BadInput(f"{name}: its header needs a list of chemical symbols as 'elements'; it has {elements!r}.")
    if not isinstance(cutoff_A, float) or not 0.0 < cutoff_A < np.inf:
        raise BadInput(f"{name}: its header needs a positive number as 'cutoff_A'; it has {cutoff_A!r}.")
    about = header.get("about")
    return GapFile(
        elements=tuple(elements), cutoff_A=cutoff_A, about=about if isinstance(about, dict) else {}, files=files
    )
