"""How do labelled frames become a data set on disk?"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.generate.labels import ACCURACY, ELECTRONIC_TEMPERATURE_K, METHOD
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
SPLITS_ABOUT = {
    "train": "whole trajectories for training, less the frames in control",
    "valid": "whole other trajectories, for choosing when to stop",
    "test": "whole other trajectories, never seen in training",
    "train_quick": "about 200 frames of train, at most 4500 atoms, all kinds",
    "valid_quick": "about 20 frames of valid",
    "control": "frames between those of train_quick in the same trajectories, held out of train: "
    "what a split by frames instead of trajectories would have tested on",
    "hotter": "extrapolation: molecules, pairs and liquids of three molecules at 900 K",
    "larger_clusters": "extrapolation: clusters of five and six molecules; train has up to four",
    "composition": "extrapolation: liquids of pure EC and of pure EMC; the liquids in train are 1:2",
    "density": "extrapolation: liquids at 0.75 and 1.35 g/cm3; train has 0.9 to 1.2",
    "isolated_atoms": "one H, C and O atom each: closed shell, Fermi smearing at 300 K as GFN1-xTB gives it, "
    "not the spin-polarised ground state",
}
CITATION = (
    "S. Grimme, C. Bannwarth, P. Shushkov, GFN1-xTB, J. Chem. Theory Comput. 13, 1989 (2017), "
    "https://doi.org/10.1021/acs.jctc.7b00118",
    "tblite, light-weight tight-binding framework, https://github.com/tblite/tblite",
    "GAFF2 as distributed with AmberTools, after J. Wang et al., J. Comput. Chem. 25, 1157 (2004), "
    "https://doi.org/10.1002/jcc.20035 (sampling only)",
)
ABOUT = (
    "Ethylene carbonate (EC) and ethyl methyl carbonate (EMC): single molecules, clusters of 2 to 6 and periodic "
    "liquids of 3, 6 and 12 molecules. Sampled with GAFF2 Langevin dynamics and, where config_type ends in _gfn1md, "
    "with short GFN1-xTB Langevin dynamics (hydrogen 3 u, 2 fs); every frame labelled with GFN1-xTB. Computed data, "
    "not an experiment: GFN1-xTB's liquid is not the liquid in a bottle. Vacuum labels are included: energy_intra and "
    "forces_intra are those of each molecule alone at the same geometry."
)
PACKAGES = ("tblite", "openmm", "ase", "numpy", "packmol")


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
    for key in ("uid", "trajectory", "config_type", "composition", "temperature_K", "density_g_cm3"):
        if frame.get(key) is not None:
            atoms.info[key] = frame[key]
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
    file: Path, frames: Sequence[Mapping[str, Any]], *, failed: Sequence[Mapping[str, str]], base_seed: int
) -> None:
    """Write `dataset.toml` beside the frames that `write_frames` wrote.

    Args:
        file: the manifest.
        frames: as given to `write_frames`.
        failed: uid and reason of each frame or trajectory whose electronic structure did not converge.
        base_seed: all others derive from it.
    """
    data = file.with_name("frames.xyz.gz")
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("", _head()),
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
        (
            "[generated]",
            {
                "command": "mlipbench data generate ecemc_gfn1",
                "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
                "base_seed": base_seed,
                "electronic_temperature_K": ELECTRONIC_TEMPERATURE_K,
                "electronic_state": "closed shell; isolated atoms too",
                "accuracy": ACCURACY,
                "n_failed": len(failed),
            },
        ),
        ("[generated.versions]", _versions()),
        *[("[[generated.failed]]", failure) for failure in failed],
        ("[splits_about]", SPLITS_ABOUT),
    ]
    write_toml(file, tables)


def _head() -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "ecemc_gfn1",
        "version": "1.0.0",
        "title": "EC and EMC from the molecule to the liquid, GFN1-xTB",
        "about": ABOUT,
        "level_of_theory": METHOD,
        "licence": "MIT",
        "citation": list(CITATION),
        "elements": ["H", "C", "O"],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _rounded(values: Any, decimals: int) -> Any:
    return np.round(np.array(values, dtype=np.float64), decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
