"""What would each molecule feel alone? Vacuum labels for data that came without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Int, Model
from mlipbench.errors import BadInput
from mlipbench.files.hashes import sha256_of
from mlipbench.generate.writing import write_toml, write_zipped
from mlipbench.physics.molecules import find_molecules, split_by_molecule

if TYPE_CHECKING:
    from ase import Atoms

# The reference must be what made the labels; a density fitted anew differs by far less.
AGREES_EV_A: Final = 0.01
N_CHECKED: Final = 5


def add_vacuum_labels(data: Dataset, reference: Model, *, out: Path, report: Callable[[str], None]) -> None:
    """Evaluate every molecule alone at its geometry and write the data set with these labels into `out`.

    Args:
        data: the labelled frames.
        reference: what made the labels; a few frames are asked to make sure.
        out: folder of the new data set: frames.xyz.gz and dataset.toml.
        report: called with one line now and then.

    Raises:
        BadInput: the reference does not reproduce the data's forces.
        NotApplicable: a molecule is bonded to its own image, or the reference does not cover an element.
        ModelFailure: the reference failed.

    Source: the vacuum definition of intra- and intermolecular forces, `docs/metrics.md`.
    """
    _check(data, reference)
    written = []
    offsets = data.offsets
    for number, frame in enumerate(data.frames):
        rows = slice(offsets[number], offsets[number + 1])
        molecule = None if data.molecule is None else data.molecule[rows]
        charges = None if data.molecule_charges is None else data.molecule_charges[number]
        molecule, energy, forces = _alone(frame, molecule, charges, reference)
        written.append(_labelled(data, number, molecule, energy, forces))
        if number % 50 == 0:
            report(f"{number + 1}/{len(data)} frames")
    out.mkdir(parents=True, exist_ok=True)
    write_zipped(out / "frames.xyz.gz", written)
    _write_manifest(out, data)


def _check(data: Dataset, reference: Model) -> None:
    """Refuse a reference that did not make these labels."""
    chosen = np.unique(np.linspace(0, len(data) - 1, N_CHECKED).astype(int)).tolist()
    some = data.take(chosen)
    wrong = float(np.abs(reference.predict(some.frames).forces - some.forces).max())
    if wrong > AGREES_EV_A:
        raise BadInput(
            f"{reference.spec.name} does not reproduce the forces of data set {data.spec.name}: they differ by up to "
            f"{wrong:.3g} eV/Å, {AGREES_EV_A:g} is allowed. Vacuum labels must come from what made the labels "
            f"({data.spec.level_of_theory})."
        )


def _alone(
    frame: Atoms, molecule: Int | None, charges: tuple[int, ...] | None, reference: Model
) -> tuple[Int, float, Float]:
    """Return a frame's molecule numbers, and the energy and forces of its molecules alone."""
    from ase import Atoms
    from ase.data import covalent_radii

    cell, radii = np.asarray(frame.cell), covalent_radii[frame.numbers]
    if molecule is None:
        molecule = find_molecules(frame.positions, cell, frame.pbc, radii=radii)
    parts = split_by_molecule(frame.positions, cell, frame.pbc, molecule, radii=radii)
    alone = [Atoms(frame.numbers[part.atoms], part.positions) for part in parts]
    for atoms, charge in zip(alone, charges or [0] * len(alone), strict=True):
        if charge:
            atoms.info["charge"] = charge
    said = reference.predict(alone)
    forces = np.empty((len(frame), 3))
    for part, first, last in zip(parts, said.offsets[:-1], said.offsets[1:], strict=True):
        forces[part.atoms] = said.forces[first:last]
    return molecule, float(said.energy.sum()), forces


def _labelled(data: Dataset, number: int, molecule: Int, energy: float, forces: Float) -> Atoms:
    """Return a frame with all labels under our own names."""
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = data.frames[number].copy()
    rows = slice(data.offsets[number], data.offsets[number + 1])
    atoms.arrays["molecule"] = molecule
    atoms.arrays["forces_intra"] = forces
    texts = {
        "uid": data.uid[number], "trajectory": data.trajectory[number], "config_type": data.config_type[number],
        "splits": ",".join(name for name, frames in data.splits.items() if number in frames),
    }  # fmt: skip
    # An empty text cannot be written to extended XYZ.
    atoms.info |= {key: text for key, text in texts.items() if text} | {"energy_intra": energy}
    if data.molecule_charges is not None:
        atoms.info["molecule_charges"] = np.array(data.molecule_charges[number])
    stress: dict[str, Any] = {"stress": data.stress[number]} if data.has_stress[number] else {}
    atoms.calc = SinglePointCalculator(atoms, energy=data.energy[number], forces=data.forces[rows], **stress)
    return atoms


def _write_manifest(out: Path, data: Dataset) -> None:
    """Write the manifest beside the frames."""
    spec = data.spec
    head = {
        "schema": 1, "name": Path(spec.name).name.split(".")[0], "version": spec.version,
        "level_of_theory": spec.level_of_theory, "licence": spec.licence, "citation": list(spec.citation),
        "about": spec.about, "elements": list(spec.elements),
    }  # fmt: skip
    files = {
        "path": "frames.xyz.gz", "sha256": sha256_of(out / "frames.xyz.gz"),
        "n_frames": len(data), "n_atoms": int(data.n_atoms.sum()),
    }  # fmt: skip
    write_toml(out / "dataset.toml", [("", head), ("[[files]]", files)])
