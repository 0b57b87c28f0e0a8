"""What do the frames of a file say, and can it be trusted?

Anything ASE reads is welcome: extended XYZ (also gzipped), ASE databases, trajectories. The names of the labels are
found out when the manifest does not give them, and every frame is checked before anything is measured on it.
"""

from __future__ import annotations

import gzip
import io
import sqlite3
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import Float, Int
from mlipbench.data.collections import collection
from mlipbench.data.keys import Labels, check_given, find_labels
from mlipbench.data.lint import check_frames
from mlipbench.data.manifest import File, Source
from mlipbench.data.units import GUESSED, blocks, is_guessed
from mlipbench.errors import BadInput
from mlipbench.units import ANGSTROM_PER_BOHR, EV_PER_HARTREE, EV_PER_KJ_PER_MOL, GPA_PER_EV_PER_CUBIC_ANGSTROM

if TYPE_CHECKING:
    from ase import Atoms

# Units a manifest may name, as factors to eV, eV/Å and eV/Å^3.
FACTORS: Final[Mapping[str, Mapping[str, float]]] = {
    "energy": {
        "eV": 1.0,
        "Hartree": EV_PER_HARTREE,
        "kJ/mol": EV_PER_KJ_PER_MOL,
        "kcal/mol": 4.184 * EV_PER_KJ_PER_MOL,
    },
    "forces": {
        "eV/Å": 1.0,
        "Hartree/Bohr": EV_PER_HARTREE / ANGSTROM_PER_BOHR,
        "kJ/mol/Å": EV_PER_KJ_PER_MOL,
        "kcal/mol/Å": 4.184 * EV_PER_KJ_PER_MOL,
    },
    "stress": {"eV/Å^3": 1.0, "GPa": 1.0 / GPA_PER_EV_PER_CUBIC_ANGSTROM},
}

# What ASE's readers raise on a damaged or strange file; XML's ParseError is a SyntaxError.
DAMAGED: Final = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError,
    RuntimeError, SyntaxError, ImportError, StopIteration, sqlite3.Error, struct.error, zlib.error,
)  # fmt: skip
# Of a frame's info: what a model must know, the state it was sampled at, and its place on a scan.
KEPT: Final = ("charge", "spin", "temperature_K", "pressure_bar", "density_g_cm3", "scale")


@dataclass(frozen=True, slots=True)
class _Read:
    """One file's frames with the place to complain about."""

    path: Path
    file: File
    frames: list[Atoms]

    def where(self, number: int) -> str:
        return f"{self.path}, frame {number} ({self.frames[number].get_chemical_formula()})"


def read_frames(origin: Source) -> Dataset:
    """Read all files of a data set.

    Raises:
        BadInput: a file or a frame cannot be used; the sentence names it.
    """
    manifest = origin.manifest
    read = [_read_file(origin.folder / file.path, file) for file in manifest.files]
    atoms = [frame for one in read for frame in one.frames]
    where = [one.where(number) for one in read for number in range(len(one.frames))]
    labels = find_labels(atoms, manifest.keys, where=str(read[0].path))
    check_given(atoms, manifest.keys, where=str(read[0].path))
    frames = [_bare(frame) for frame in atoms]
    energy = _factor(origin, "energy") * np.array([
        _scalar(labels.energy_of(a), w) for a, w in zip(atoms, where, strict=True)
    ])
    forces = [_factor(origin, "forces") * _forces(labels, a, w) for a, w in zip(atoms, where, strict=True)]
    stress = [_stress(labels, a, w) for a, w in zip(atoms, where, strict=True)]
    check_frames(frames, energy, forces, where, allow_duplicates=manifest.allow_duplicates)
    has_stress = np.array([one is not None for one in stress])
    config_type = _texts(atoms, manifest.keys.config_type or "config_type", ["" for _ in atoms])
    trajectory = _trajectories(atoms, manifest.keys.trajectory or "trajectory", config_type)
    remark = labels.remark + (f"; {GUESSED}" if any(is_guessed(name) for name in trajectory) else "")
    return Dataset(
        spec=_spec(origin, frames, remark),
        frames=tuple(frames),
        uid=_texts(atoms, manifest.keys.uid or "uid", [f"{i}" for i in range(len(atoms))]),
        energy=energy,
        forces=np.concatenate(forces),
        stress=_factor(origin, "stress") * np.array([np.zeros((3, 3)) if one is None else one for one in stress]),
        has_stress=has_stress,
        trajectory=trajectory,
        config_type=config_type,
        splits=_splits(read, manifest.keys.splits or "splits"),
        **_optional(
            labels, atoms, where, energy_factor=_factor(origin, "energy"), force_factor=_factor(origin, "forces")
        ),
    )  # fmt: skip


def read_collection(origin: Source) -> Dataset:
    """Return the frames of a collection, without labels, and its observables.

    Raises:
        BadInput: a frame cannot be used; the sentence names it.
    """
    manifest, found = origin.manifest, collection(origin.manifest.collection)
    frames = [_bare(frame) for frame in found.frames]
    n_atoms = [len(frame) for frame in frames]
    energy, forces = np.zeros(len(frames)), np.zeros((sum(n_atoms), 3))
    where = [f"{origin.folder}, {uid}" for uid in found.uid]
    per_frame = np.split(forces, np.cumsum(n_atoms)[:-1])
    check_frames(frames, energy, per_frame, where, allow_duplicates=manifest.allow_duplicates)
    spec = _spec(origin, frames, "no energies and forces: reference values are observables")
    return Dataset(
        spec=replace(spec, labelled=False), frames=tuple(frames), uid=found.uid, energy=energy, forces=forces,
        stress=np.zeros((len(frames), 3, 3)), has_stress=np.zeros(len(frames), dtype=bool),
        trajectory=found.trajectory, config_type=found.config_type, molecule=found.molecule,
        observables=found.observables,
    )  # fmt: skip


def _read_file(path: Path, file: File) -> _Read:
    """Read one file and check the number of frames and atoms it should have."""
    from ase.io import ParseError, read
    from ase.io.formats import UnknownFileTypeError

    try:
        # ASE seeks in what it reads, and seeking in a gzip stream begins again each time.
        zipped = path.name.endswith((".xyz.gz", ".extxyz.gz"))
        text = io.StringIO(gzip.decompress(path.read_bytes()).decode()) if zipped else None
        frames = read(path, index=":") if text is None else read(text, index=":", format="extxyz")
    except (*DAMAGED, ParseError, UnknownFileTypeError) as error:
        raise BadInput(
            f"{path} cannot be read as structures ({type(error).__name__}: {error}). It may be cut short or of a "
            "format that ASE does not know; write it as extended XYZ."
        ) from error
    if not frames:
        raise BadInput(f"{path} holds no frames.")
    n_atoms = sum(len(frame) for frame in frames)
    for what, found, wanted in (("frames", len(frames), file.n_frames), ("atoms", n_atoms, file.n_atoms)):
        if wanted is not None and found != wanted:
            raise BadInput(
                f"{path} holds {found} {what}; its manifest says {wanted}. Restore the file or correct the manifest."
            )
    return _Read(path, file, frames)


def _bare(frame: Atoms) -> Atoms:
    """Keep the structure and what decides its energy, and nothing that gives the labels away."""
    from ase import Atoms

    info = {key: frame.info[key] for key in KEPT if key in frame.info}
    return Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc, info=info)


def _factor(origin: Source, what: str) -> float:
    """Return the factor from the manifest's unit to ours."""
    unit = getattr(origin.manifest.units, what)
    if unit not in FACTORS[what]:
        raise BadInput(f"{origin.folder}: unit '{unit}' of {what} is unknown. Allowed: {', '.join(FACTORS[what])}.")
    return FACTORS[what][unit]


def _scalar(value: Any, where: str) -> float:
    """Return an energy as a number."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: the energy {value!r} is not a number.") from error


def _forces(labels: Labels, frame: Atoms, where: str) -> Float:
    """Return a frame's forces, shape (n_atoms, 3)."""
    forces = labels.forces_of(frame)
    if forces is None:
        raise BadInput(
            f"{where}: no forces under '{labels.forces}'. Add them, or remove the frame; other frames have them."
        )
    forces = np.asarray(forces, dtype=np.float64)
    if forces.shape != (len(frame), 3):
        raise BadInput(f"{where}: forces have shape {forces.shape}; ({len(frame)}, 3) is needed.")
    return forces


def _stress(labels: Labels, frame: Atoms, where: str) -> Float | None:
    """Return a periodic frame's stress as a symmetric matrix; None where there is none."""
    from ase.stress import voigt_6_to_full_3x3_stress

    stress = labels.stress_of(frame)
    if stress is None or not frame.pbc.all():
        return None
    stress = np.asarray(stress, dtype=np.float64)
    full = (
        voigt_6_to_full_3x3_stress(stress) if stress.size == 6 else stress.reshape(3, 3) if stress.size == 9 else None
    )
    if full is None or not np.isfinite(full).all():
        raise BadInput(
            f"{where}: the stress must be 6 (Voigt) or 9 finite numbers in ASE's sign; got {stress.tolist()}."
        )
    return np.asarray(full, dtype=np.float64)


def _texts(frames: Sequence[Atoms], key: str, otherwise: Sequence[str]) -> tuple[str, ...]:
    """Return one text per frame from its info, or the stand-in."""
    return tuple(str(frame.info.get(key, other)) for frame, other in zip(frames, otherwise, strict=True))


def _trajectories(frames: Sequence[Atoms], key: str, config_type: Sequence[str]) -> tuple[str, ...]:
    """Return the independent unit of each frame: its named trajectory, else a block of frames of its kind."""
    kinds = [
        (frame.get_chemical_formula(), tuple(frame.pbc.tolist()), kind)
        for frame, kind in zip(frames, config_type, strict=True)
    ]
    return _texts(frames, key, blocks(kinds))


def _splits(read: Sequence[_Read], key: str) -> dict[str, tuple[int, ...]]:
    """Return the frame numbers of every named split."""
    found: dict[str, list[int]] = {}
    number = 0
    for one in read:
        for frame in one.frames:
            names = [one.file.split] if one.file.split is not None else str(frame.info.get(key, "")).split(",")
            for name in names:
                if name.strip():
                    found.setdefault(name.strip(), []).append(number)
            number += 1
    return {name: tuple(numbers) for name, numbers in found.items()}


def _optional(
    labels: Labels, atoms: Sequence[Atoms], where: Sequence[str], *, energy_factor: float, force_factor: float
) -> dict[str, Any]:
    """Return molecules and vacuum labels where every frame has them."""
    keys = labels.keys
    out: dict[str, Any] = {}
    molecule = [frame.arrays.get(keys.molecule or "molecule") for frame in atoms]
    if all(one is not None for one in molecule):
        numbers: list[Int] = [np.asarray(one, dtype=np.int64) for one in molecule]
        # Any labels will do; inside they count from 0 in each frame.
        out["molecule"] = np.concatenate([np.unique(one, return_inverse=True)[1].astype(np.int64) for one in numbers])
    charges = [frame.info.get(keys.molecule_charges or "molecule_charges") for frame in atoms]
    if all(one is not None for one in charges):
        out["molecule_charges"] = tuple(tuple(int(q) for q in np.atleast_1d(one)) for one in charges)
    energy = [frame.info.get(keys.energy_intra or "energy_intra") for frame in atoms]
    forces = [frame.arrays.get(keys.forces_intra or "forces_intra") for frame in atoms]
    if all(one is not None for one in energy) and all(one is not None for one in forces):
        out["energy_intra"] = energy_factor * np.array([_scalar(e, w) for e, w in zip(energy, where, strict=True)])
        out["forces_intra"] = force_factor * np.concatenate([np.asarray(one, dtype=np.float64) for one in forces])
        bad = not (np.isfinite(out["energy_intra"]).all() and np.isfinite(out["forces_intra"]).all())
        if bad:
            raise BadInput(
                f"{where[0].split(', frame')[0]}: a vacuum label (energy_intra, forces_intra) is not finite."
            )
    return out


def _spec(origin: Source, frames: Sequence[Atoms], remark: str) -> DatasetSpec:
    """Return who made the labels and which elements occur."""
    manifest = origin.manifest
    symbols = {symbol for frame in frames for symbol in frame.get_chemical_symbols()}
    return DatasetSpec(
        name=manifest.name, version=manifest.version, level_of_theory=manifest.level_of_theory,
        licence=manifest.licence, citation=manifest.citation, elements=tuple(sorted(symbols)), sha256=origin.sha256,
        about=manifest.about, make_vacuum_labels=manifest.make_vacuum_labels,
        labels=remark,
    )  # fmt: skip
