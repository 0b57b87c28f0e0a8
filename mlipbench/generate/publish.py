"""How do labelled frames become a data set on disk?"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.generate.writing import write_toml, write_zipped

if TYPE_CHECKING:
    from ase import Atoms

ENERGY_DECIMALS, FORCE_DECIMALS, STRESS_DECIMALS = 8, 6, 10
KEYS = {
    "energy": "energy",
    "forces": "forces",
    "stress": "stress",
    "config_type": "config_type",
    "trajectory": "trajectory",
    "splits": "splits",
    "uid": "uid",
    "molecule": "molecule",
    "molecule_charges": "molecule_charges",
    "energy_intra": "energy_intra",
    "forces_intra": "forces_intra",
}

TOLD = ("uid", "trajectory", "config_type", "composition", "temperature_K", "pressure_bar", "density_g_cm3", "scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What a manifest of ours says beside its files.

    Attributes:
        name: of the data set.
        version: moves whenever a label, a frame or a split moves.
        title: for people.
        about: one paragraph.
        level_of_theory: of the labels.
        citation: one text each.
        splits_about: one sentence per split.
        facts: how the labels were made.
        packages: whose versions are written down.
        observables: file with what the reference's own dynamics gave; empty for none.
    """

    name: str
    version: str
    title: str
    about: str
    level_of_theory: str
    citation: tuple[str, ...]
    splits_about: Mapping[str, str]
    facts: Mapping[str, Any]
    packages: tuple[str, ...]
    observables: str = ""


def write_frames(file: Path, frames: Sequence[Mapping[str, Any]]) -> None:
    """Write frames as gzipped extended XYZ, the same bytes for the same frames.

    Args:
        file: ends in `.xyz.gz`.
        frames: plain values: symbols, positions, cell or None, molecule, labels, uid and so on.
    """
    write_zipped(file, [to_atoms(frame) for frame in frames])


def to_atoms(frame: Mapping[str, Any]) -> Atoms:
    """Return the ASE structure whose extended XYZ carries all labels under the names in `KEYS`."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(frame["symbols"], frame["positions"], cell=frame["cell"], pbc=frame["cell"] is not None)
    molecule = np.array(frame["molecule"], dtype=np.int64)
    atoms.arrays["molecule"] = molecule
    atoms.arrays["forces_intra"] = _rounded(frame["forces_intra"], FORCE_DECIMALS)
    for key in TOLD:
        if frame.get(key) is not None:
            atoms.info[key] = frame[key]
    if frame["splits"]:  # an empty value would swallow the key that follows it in the file
        atoms.info["splits"] = ",".join(frame["splits"])
    atoms.info["molecule_charges"] = np.zeros(int(molecule.max()) + 1, dtype=np.int64)
    atoms.info["energy_intra"] = round(frame["energy_intra"], ENERGY_DECIMALS)
    stress = {} if frame["stress"] is None else {"stress": _rounded(frame["stress"], STRESS_DECIMALS)}
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=round(frame["energy"], ENERGY_DECIMALS),
        forces=_rounded(frame["forces"], FORCE_DECIMALS),
        **stress,
    )
    return atoms


def write_manifest(
    file: Path,
    what: Publication,
    frames: Sequence[Mapping[str, Any]],
    *,
    failed: Sequence[Mapping[str, str]] = (),
    base_seed: int,
) -> None:
    """Write `dataset.toml` beside the frames that `write_frames` wrote.

    Args:
        file: the manifest.
        what: is published.
        frames: as given to `write_frames`.
        failed: uid and reason of each frame or trajectory whose electronic structure did not converge.
        base_seed: all others derive from it.
    """
    data = file.with_name("frames.xyz.gz")
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("", _head(what)),
        ("[units]", {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3"}),
        ("[keys]", KEYS),
        (
            "[[files]]",
            {
                "path": data.name,
                "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
                "n_frames": len(frames),
                "n_atoms": sum(len(frame["symbols"]) for frame in frames),
            },
        ),
        *_observables(file, what),
        (
            "[generated]",
            {
                "command": f"mlipbench data generate {what.name}",
                "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
                "base_seed": base_seed,
                **what.facts,
                "n_failed": len(failed),
            },
        ),
        ("[generated.versions]", _versions(what.packages)),
        *[("[[generated.failed]]", failure) for failure in failed],
        ("[splits_about]", what.splits_about),
    ]
    write_toml(file, tables)


def _head(what: Publication) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": what.name,
        "version": what.version,
        "title": what.title,
        "about": what.about,
        "level_of_theory": what.level_of_theory,
        "licence": "MIT",
        "citation": list(what.citation),
        "elements": ["H", "C", "O"],
    }


def _observables(file: Path, what: Publication) -> list[tuple[str, Mapping[str, Any]]]:
    if not what.observables:
        return []
    content = file.with_name(what.observables).read_bytes()
    return [("[[observables]]", {"path": what.observables, "sha256": hashlib.sha256(content).hexdigest()})]


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _rounded(values: Any, decimals: int) -> Any:
    return np.round(np.array(values, dtype=np.float64), decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
