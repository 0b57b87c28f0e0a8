"""How was `ecemc_frequencies` made: GFN1-xTB's harmonic vibrations of EC and EMC?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.model import Float
from mlipbench.errors import missing_package
from mlipbench.generate.ecemc_gfn1 import PUBLICATION as ECEMC_GFN1
from mlipbench.generate.ecemc_gfn1 import labelled, settle
from mlipbench.generate.labels import calculator
from mlipbench.generate.parametrise import SMILES
from mlipbench.generate.publish import Publication, write_frames, write_manifest
from mlipbench.models.gaff2 import template
from mlipbench.physics.vibrations import central_hessian, displaced, vibrations

if TYPE_CHECKING:
    from ase import Atoms

BASE_SEED: Final = 20261130
SPLIT: Final = "minima"
OBSERVABLES: Final = "observables.npz"
ACCURACY: Final = 0.01  # tblite's own scale, ten times tighter than the labels of other sets
FORCE_EV_A: Final = 1e-4
MOST_STEPS: Final = 2000
STEP_A: Final = 0.005
N_EMBEDDED: Final = 60
MOST_CONFORMERS: Final = 3
SAME_KCAL_PER_MOL: Final = 0.05  # conformers nearer in MMFF's energy are one, or mirror images
PUBLICATION: Final = Publication(
    name="ecemc_frequencies",
    version="1.0.0",
    title="How EC and EMC vibrate: harmonic frequencies of GFN1-xTB",
    about="Ethylene carbonate (EC) and two conformers of ethyl methyl carbonate (EMC), each alone in vacuum at a "
    "minimum of GFN1-xTB, and there its Hessian, harmonic wavenumbers and modes. Computed GFN1-xTB harmonic "
    "frequencies, not an experiment: neither anharmonic nor those of the molecules in a bottle.",
    level_of_theory=ECEMC_GFN1.level_of_theory,
    citation=ECEMC_GFN1.citation[:2],
    splits_about={SPLIT: "every molecule, at a minimum of its energy"},
    facts={
        **ECEMC_GFN1.facts,
        "electronic_state": "closed shell",
        "hessian_accuracy": ACCURACY,
        "hessian_step_A": STEP_A,
        "relaxed_to_eV_A": FORCE_EV_A,
    },
    packages=("tblite", "rdkit", "ase", "numpy"),
    observables=OBSERVABLES,
)


def generate(out: Path, *, scratch: Path, report: Callable[[str], None]) -> None:
    """Relax each molecule and take its Hessian, or read what is in `scratch` already, and write `out`.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: tblite or rdkit is not installed.
    """
    from ase.calculators.calculator import CalculationFailed

    scratch.mkdir(parents=True, exist_ok=True)
    records, failed = [], []
    for name, atoms in starts():
        file, began = scratch / f"{name}.json", time.process_time()
        if not file.exists():
            try:
                record = measured(name, atoms)
            except CalculationFailed as error:
                failed.append({"uid": name, "reason": str(error)})
                continue
            part = file.with_suffix(".part")
            part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
            part.replace(file)
            report(f"{name}: {time.process_time() - began:.1f} CPU s")
        records.append(json.loads(file.read_text("utf-8")))
    publish(out, records, failed=failed)


def starts() -> Iterator[tuple[str, Atoms]]:
    """Give a geometry to relax for each molecule: EC, and the lowest conformers of EMC in the order of MMFF's energy.

    Raises:
        NotApplicable: rdkit is not installed.
    """
    from ase import Atoms

    known = template("EC")
    yield "EC", Atoms(known.symbols, known.positions)
    for number, (symbols, positions) in enumerate(conformers(SMILES["EMC"])):
        yield f"EMC-{number}", Atoms(symbols, positions)


def conformers(smiles: str) -> list[tuple[list[str], Float]]:
    """Return symbols and positions (Å) of the lowest distinct minima of MMFF that distance geometry finds.

    Raises:
        NotApplicable: rdkit is not installed.
    """
    try:
        from rdkit import Chem
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError as error:
        raise missing_package("rdkit", extra="generate", needed_for="finding conformers") from error
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    # Preferences from crystals would leave conformers out.
    rdDistGeom.EmbedMultipleConfs(
        molecule, N_EMBEDDED, randomSeed=BASE_SEED, useExpTorsionAnglePrefs=False, useBasicKnowledge=False
    )
    done = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=5000)
    energies = np.array([np.inf if failed else energy for failed, energy in done])
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    found: list[tuple[list[str], Float]] = []
    last = -np.inf
    for number in np.argsort(energies, kind="stable").tolist():
        if len(found) == MOST_CONFORMERS or not np.isfinite(energies[number]):
            break
        if energies[number] - last > SAME_KCAL_PER_MOL:
            found.append((symbols, np.array(molecule.GetConformer(number).GetPositions())))
            last = energies[number]
    return found


def measured(name: str, start: Atoms) -> dict[str, Any]:
    """Return the labelled frame of a molecule at its minimum, and its Hessian, as plain JSON values.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: tblite is not installed.
        CalculationFailed: no minimum was found, or the electronic structure did not converge (ASE's exception).
    """
    from ase.calculators.calculator import CalculationFailed

    atoms = relaxed(start)
    settle(atoms, np.zeros(len(atoms), dtype=np.int64))
    matrix = hessian(atoms)
    lowest = float(vibrations(matrix, atoms.positions, atoms.get_masses()).wavenumbers_per_cm[0])
    if lowest < 0.0:
        raise CalculationFailed(f"{name} came to rest where it is no minimum: {lowest:.1f} cm⁻¹")
    kind = name.partition("-")[0]
    frame = labelled(atoms, np.zeros(len(atoms), dtype=np.int64)) | {
        "uid": name, "trajectory": kind, "config_type": f"molecule_{kind}", "splits": [SPLIT],
        "composition": f"{kind}(1)",
    }  # fmt: skip
    return {"frame": frame, "hessian": matrix.tolist()}


def relaxed(start: Atoms) -> Atoms:
    """Return a molecule at rest.

    Raises:
        CalculationFailed: it did not come to rest, or the electronic structure did not converge (ASE's exception).
    """
    from ase.calculators.calculator import CalculationFailed
    from ase.optimize import BFGS

    atoms = start.copy()
    atoms.calc = calculator(accuracy=ACCURACY)
    if not BFGS(atoms, logfile=None).run(fmax=FORCE_EV_A, steps=MOST_STEPS):
        raise CalculationFailed(f"{start.get_chemical_formula()} did not come to rest in {MOST_STEPS} steps")
    atoms.calc = None
    return atoms


def hessian(atoms: Atoms, *, step_A: float = STEP_A) -> Float:
    """Return the symmetrised central differences of the forces, shape (3 n_atoms, 3 n_atoms), eV/Å^2."""
    moved = atoms.copy()
    moved.calc = calculator(accuracy=ACCURACY)
    forces = []
    for positions in displaced(atoms.positions, step_A):
        moved.positions = positions
        forces.append(moved.get_forces())
    found = central_hessian(np.array(forces), step_A)
    return np.asarray(0.5 * (found + found.T))


def publish(out: Path, records: Sequence[Mapping[str, Any]], *, failed: Sequence[Mapping[str, str]] = ()) -> None:
    """Write frames, manifest and observables; the observables are called "uid/what"."""
    from ase import Atoms

    arrays: dict[str, Any] = {}
    for record in records:
        frame, matrix = record["frame"], np.array(record["hessian"])
        atoms = Atoms(frame["symbols"], frame["positions"])
        found = vibrations(matrix, atoms.positions, atoms.get_masses())
        arrays[f"{frame['uid']}/hessian"] = matrix
        arrays[f"{frame['uid']}/wavenumbers"] = found.wavenumbers_per_cm
        arrays[f"{frame['uid']}/modes"] = found.modes
    out.mkdir(parents=True, exist_ok=True)
    frames = [record["frame"] for record in records]
    write_frames(out / "frames.xyz.gz", frames)
    np.savez_compressed(out / OBSERVABLES, **arrays)
    write_manifest(out / "dataset.toml", PUBLICATION, frames, failed=failed, base_seed=BASE_SEED)
