"""Which files make a data set, and what do their labels mean?"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.data.collections import TABLE, collection
from mlipbench.errors import BadInput, unknown
from mlipbench.files import toml
from mlipbench.files.hashes import canonical_id, sha256_of
from mlipbench.files.places import shared_folder

MANIFEST = "dataset.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What the labels are called in the files; None: find out, or absent.

    Attributes:
        energy: in eV, in a frame's info.
        forces: in eV/Å, an array over atoms.
        stress: in eV/Å^3, in a frame's info.
        config_type: kind of a frame.
        trajectory: the independent unit of a frame.
        splits: comma-separated names.
        uid: unique name of a frame.
        molecule: molecule number of each atom.
        molecule_charges: charge of each molecule of a frame.
        energy_intra: vacuum label, in a frame's info.
        forces_intra: vacuum label, an array over atoms.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    config_type: str | None = None
    trajectory: str | None = None
    splits: str | None = None
    uid: str | None = None
    molecule: str | None = None
    molecule_charges: str | None = None
    energy_intra: str | None = None
    forces_intra: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units the files use; we convert to eV and Å on reading."""

    energy: str = "eV"
    forces: str = "eV/Å"
    stress: str = "eV/Å^3"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of structures.

    Attributes:
        path: relative to the manifest.
        sha256: refused when it differs; None: not checked.
        split: all its frames belong to this split; None: see `Keys.splits`.
        n_frames: for the reader of the manifest; checked when given.
        n_atoms: likewise.
    """

    path: str
    sha256: str | None = None
    split: str | None = None
    n_frames: int | None = None
    n_atoms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observables:
    """A file with what the reference's own dynamics gave: arrays of numpy's, called "state/name".

    Attributes:
        path: relative to the manifest, ending in `.npz`; plain numbers only.
        sha256: refused when it differs.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A data set on paper; `docs/data.md` shows one of ten lines.

    Attributes:
        name: as results call it.
        version: moves whenever a label, a frame or a split moves.
        level_of_theory: of the labels.
        files: where the frames are; none for a collection.
        collection: name in `data.collections.TABLE`, of what an installed package brings along, instead of files.
        title: for people.
        about: one paragraph.
        licence: SPDX name.
        citation: one text each.
        elements: chemical symbols; refused when the files hold others; empty: not checked.
        keys: names of the labels.
        units: of the labels.
        allow_duplicates: accept a structure that occurs twice.
        make_vacuum_labels: the command that adds vacuum labels.
        generated: how the data came about, free text and numbers.
        splits_about: one sentence per split.
        observables: files with what the reference's own dynamics gave.
    """

    name: str
    level_of_theory: str
    files: tuple[File, ...] = ()
    collection: str = ""
    version: str = "1"
    title: str = ""
    about: str = ""
    licence: str = "unknown"
    citation: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    keys: Keys = field(default_factory=Keys)
    units: Units = field(default_factory=Units)
    allow_duplicates: bool = False
    make_vacuum_labels: str = ""
    generated: Mapping[str, Any] = field(default_factory=dict)
    splits_about: Mapping[str, str] = field(default_factory=dict)
    observables: tuple[Observables, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A manifest, the folder it speaks of, and the hash of everything.

    Attributes:
        manifest: as read, or made for a bare structure file.
        folder: the files' paths are relative to it.
        sha256: of the manifest's content and every file, or the collection's content.
    """

    manifest: Manifest
    folder: Path
    sha256: str


def names() -> list[str]:
    """Return the names of the data sets that come with this installation; a part of a family is "family/part"."""
    root = shared_folder("reference_data")
    found = (path for depth in ("*", "*/*") for path in root.glob(f"{depth}/{MANIFEST}"))
    return sorted(path.parent.relative_to(root).as_posix() for path in found)


def find(data: str) -> Path:
    """Return the manifest or structure file that a name or path stands for.

    A name goes before a path that is spelt alike; "./family/part" is always a path.

    Raises:
        BadInput: there is none, or it is the name of a family of data sets.
    """
    known = names()
    if data in known:
        return shared_folder("reference_data") / data / MANIFEST
    parts = [name for name in known if name.startswith(f"{data}/")]
    if parts:
        raise BadInput(f"{data} is not one data set but several. Give one of them: {', '.join(parts)}.")
    path = Path(data)
    family, slash, _ = data.partition("/")
    is_part = any(name.startswith(f"{family}/") for name in known) and not path.exists()
    if "." not in data and (not slash or is_part):
        raise unknown("data set", data, known)
    if path.is_dir():
        path /= MANIFEST
    if not path.is_file():
        raise BadInput(f"{data}: there is no such file. Give a data set's name ({', '.join(known)}), manifest or file.")
    return path.resolve()


def source(data: str) -> Source:
    """Read a manifest, and hash all it names; a bare structure file becomes a data set of its own.

    Args:
        data: a name from `reference_data/`, a manifest, a folder with one, or a file that ASE reads.

    Raises:
        BadInput: a file is missing, misspelt or not the one the manifest names.
    """
    path = find(data)
    if path.suffix == ".toml":
        manifest = toml.build(Manifest, toml.read(path), where=str(path))
        _check_origin(manifest, where=str(path))
    else:
        manifest = Manifest(name=path.name, level_of_theory="unknown", files=(File(path=path.name),))
    hashes = [_checked_hash(path, file) for file in manifest.files]
    hashes += [_checked_hash(path, file) for file in manifest.observables]
    content: dict[str, Any] = {"manifest": sha256_of(path) if path.suffix == ".toml" else "", "files": hashes}
    if manifest.collection:
        content["collection"] = collection(manifest.collection).content_sha256
    return Source(manifest=manifest, folder=path.parent, sha256=canonical_id(content))


def _check_origin(manifest: Manifest, *, where: str) -> None:
    """Refuse a manifest that names no frames, or names them twice."""
    if not manifest.collection:
        if not manifest.files:
            raise BadInput(f"{where}: 'files' is empty; name at least one, as in [[files]] path = \"frames.xyz\".")
        return
    if manifest.collection not in TABLE:
        raise unknown("collection", manifest.collection, TABLE, where=where)
    if manifest.files or manifest.observables:
        raise BadInput(
            f"{where}: 'collection' brings frames and observables along; remove it, or 'files' and 'observables'."
        )


def _checked_hash(manifest: Path, file: File | Observables) -> str:
    """Return a file's sha256, and refuse another one than the manifest names."""
    path = manifest.parent / file.path
    found = sha256_of(path)
    if file.sha256 is not None and found != file.sha256:
        raise BadInput(
            f"{path} is not the file its manifest names: sha256 {found[:12]}… instead of {file.sha256[:12]}…; "
            "it was edited or cut short. Restore it, or update sha256 and version in the manifest."
        )
    return found


def load(origin: Source) -> Dataset:
    """Read, check and convert every frame of a data set.

    Raises:
        BadInput: a frame is unreadable or its labels are missing, not finite or contradictory.
    """
    from mlipbench.data.readers import read_collection, read_frames

    data = read_collection(origin) if origin.manifest.collection else read_frames(origin)
    extra = sorted(set(data.spec.elements) - set(origin.manifest.elements or data.spec.elements))
    if extra:
        raise BadInput(
            f"{origin.folder}: the files hold {', '.join(extra)}, which 'elements' of the manifest does not list."
        )
    observables = {**data.observables, **_observables(origin)}
    return replace(data, spec=replace(data.spec, sha256=origin.sha256), observables=observables)


def _observables(origin: Source) -> dict[str, Float]:
    """Return the arrays of the reference's own dynamics; nothing in the files is executed."""
    found: dict[str, Float] = {}
    for file in origin.manifest.observables:
        path = origin.folder / file.path
        for name, array in _arrays(path).items():
            if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
                raise BadInput(f"{path}: '{name}' must hold finite numbers only.")
            if name in found:
                raise BadInput(f"{path}: '{name}' stands in another file of the observables already.")
            found[name] = array.astype(np.float64)
    return found


def _arrays(path: Path) -> dict[str, Any]:
    try:
        # Not np.load of the path: it leaves a damaged file open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is no file of plain arrays: {error}. Write it with numpy.savez.") from error
