"""How was `malonaldehyde_gfn2` made: the way of a hydrogen atom from one oxygen of malonaldehyde to the other?

    O=C–C=C–O–H   →   H–O–C=C–C=O

The product is the reactant's mirror image with its atoms renamed, so that both ends have the same energy and the saddle
between them is its own mirror image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.model import Float, Model, ModelSpec
from mlipbench.generate.labels import ELECTRONIC_TEMPERATURE_K, calculator
from mlipbench.generate.publish import Publication, write_frames, write_manifest
from mlipbench.generate.splits import uid
from mlipbench.models.ase import AseModel
from mlipbench.physics.vibrations import central_hessian, displaced, superposition, vibrations
from mlipbench.simulate.reaction_path import climbing_path

if TYPE_CHECKING:
    from ase import Atoms

METHOD: Final = "GFN2-xTB"
ACCURACY: Final = 0.01  # tblite's own scale; smaller is tighter
TRAJECTORY: Final = "malonaldehyde"
KIND: Final = "hydrogen_transfer"
SPLIT: Final = "path"
OBSERVABLES: Final = "observables.npz"
N_IMAGES: Final = 11  # odd, so that one is the mirror image of itself
END_FORCE_EV_A: Final = 1e-4
PATH_FORCE_EV_A: Final = 2e-3
MOST_STEPS: Final = 1000
STEP_A: Final = 0.005
DECIMALS_A: Final = 6
SYMBOLS: Final = ("O", "C", "C", "C", "O", "H", "H", "H", "H")
MIRRORED: Final = (4, 3, 2, 1, 0, 5, 8, 7, 6)  # which atom is whose mirror image
# Roughly the six-membered ring that the hydrogen bond closes, in a plane, Å; the fifth and sixth atom are O–H.
DRAWN: Final = (
    (-1.25, -0.65), (-1.20, 0.60), (0.00, 1.30), (1.20, 0.60), (1.25, -0.75),
    (0.35, -1.10), (-2.15, 1.15), (0.00, 2.38), (2.15, 1.10),
)  # fmt: skip
PUBLICATION: Final = Publication(
    name="malonaldehyde_gfn2",
    version="1.0.0",
    title="Hydrogen transfer in malonaldehyde: a path of GFN2-xTB",
    about="The hydrogen atom of cis-enol malonaldehyde (3-hydroxypropenal) moves from one oxygen to the other: eleven "
    "images of a climbing-image nudged elastic band from minimum to minimum, labelled with GFN2-xTB. Computed data, "
    "not an experiment. The barrier is that of the potential energy, for classical nuclei: without zero-point energy "
    "and without the tunnelling by which hydrogen really gets across.",
    level_of_theory=METHOD,
    citation=(
        "C. Bannwarth, S. Ehlert, S. Grimme, GFN2-xTB, J. Chem. Theory Comput. 15, 1652 (2019), "
        "https://doi.org/10.1021/acs.jctc.8b01176",
        "tblite, light-weight tight-binding framework, https://github.com/tblite/tblite",
    ),
    splits_about={SPLIT: "the whole path, in order: reactant first, product last"},
    facts={
        "electronic_temperature_K": ELECTRONIC_TEMPERATURE_K,
        "electronic_state": "closed shell",
        "accuracy": ACCURACY,
        "ends_relaxed_to_eV_A": END_FORCE_EV_A,
        "path_relaxed_to_eV_A": PATH_FORCE_EV_A,
        "hessian_step_A": STEP_A,
    },
    packages=("tblite", "ase", "numpy"),
    observables=OBSERVABLES,
)


def generate(out: Path, *, scratch: Path, report: Callable[[str], None]) -> None:
    """Find the path and its vibrations, or read what is in `scratch` already, and write `out`.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: tblite is not installed.
        CalculationFailed: no path was found, its ends are no minima, or its highest image is no saddle.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    path = _kept(scratch / "path.json", path_of_images, report)
    images = _as_atoms(path["positions"])
    saddle = int(np.argmax(path["energy"]))
    waves = _kept(scratch / "vibrations.json", lambda: wavenumbers(images, saddle), report)
    publish(out, path, waves)


def model() -> Model:
    """Return GFN2-xTB with tight settings.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: tblite is not installed.
    """
    spec = ModelSpec(name="gfn2", kind="ase", level_of_theory=METHOD)
    return AseModel(spec=spec, bare=calculator(method=METHOD, accuracy=ACCURACY))


def reactant() -> Atoms:
    """Return malonaldehyde at its minimum, in the plane z = 0.

    Raises:
        CalculationFailed: it did not come to rest, or the electronic structure did not converge (ASE's exception).
    """
    from ase import Atoms
    from ase.calculators.calculator import CalculationFailed
    from ase.optimize import BFGS

    atoms = Atoms(SYMBOLS, [(*place, 0.0) for place in DRAWN])
    atoms.calc = calculator(method=METHOD, accuracy=ACCURACY)
    if not BFGS(atoms, logfile=None).run(fmax=END_FORCE_EV_A, steps=MOST_STEPS):
        raise CalculationFailed(f"malonaldehyde did not come to rest in {MOST_STEPS} steps")
    atoms.calc = None
    atoms.positions -= atoms.positions.mean(axis=0)
    atoms.positions[:, 2] = 0.0
    return atoms


def mirrored(atoms: Atoms) -> Atoms:
    """Return the mirror image, its atoms renamed to keep their order, laid on the original as well as it can be."""
    found = atoms.copy()
    image = atoms.positions[list(MIRRORED)] * [-1.0, 1.0, 1.0]
    found.positions = image @ superposition(image, atoms.positions, np.ones(len(atoms))).T
    return found


def path_of_images() -> dict[str, Any]:
    """Return positions, energies and forces of the images as plain JSON values.

    Raises:
        CalculationFailed: the path did not come to rest (ASE's exception).
    """
    from ase.calculators.calculator import CalculationFailed

    first = reactant()
    last = mirrored(first)
    shares = np.linspace(0.0, 1.0, N_IMAGES)
    guess = _as_atoms([(1.0 - share) * first.positions + share * last.positions for share in shares])
    asked = model()
    found = climbing_path(asked, guess, largest_force_eV_A=PATH_FORCE_EV_A, n_steps=MOST_STEPS)
    if not found.converged:
        raise CalculationFailed(f"the path did not come to rest: {found.largest_force_eV_A:.3g} eV/Å are left")
    positions = np.round([image.positions for image in found.images], DECIMALS_A)
    said = asked.predict(_as_atoms(positions))  # labels belong to the positions that are stored
    return {
        "positions": positions.tolist(),
        "energy": said.energy.tolist(),
        "forces": said.forces.reshape(positions.shape).tolist(),
        "n_steps": found.n_steps,
    }


def wavenumbers(images: Sequence[Atoms], saddle: int) -> dict[str, list[float]]:
    """Return harmonic wavenumbers in cm⁻¹ of reactant and saddle, ascending, an imaginary one as minus its size.

    Raises:
        CalculationFailed: the one is no minimum, or the other has not exactly one imaginary mode.
    """
    from ase.calculators.calculator import CalculationFailed

    found = {}
    for name, atoms, n_imaginary in (("reactant", images[0], 0), ("saddle", images[saddle], 1)):
        waves = vibrations(hessian(atoms), atoms.positions, atoms.get_masses()).wavenumbers_per_cm
        if (waves < 0.0).sum() != n_imaginary:
            raise CalculationFailed(f"the {name} has {(waves < 0.0).sum()} imaginary modes instead of {n_imaginary}")
        found[name] = waves.tolist()
    return found


def hessian(atoms: Atoms) -> Float:
    """Return the symmetrised central differences of the forces, shape (3 n_atoms, 3 n_atoms), eV/Å^2."""
    moved = _as_atoms(displaced(atoms.positions, STEP_A))
    forces = model().predict(moved).forces.reshape(len(moved), len(atoms), 3)
    found = central_hessian(forces, STEP_A)
    return np.asarray(0.5 * (found + found.T))


def publish(out: Path, path: Mapping[str, Any], waves: Mapping[str, Sequence[float]]) -> None:
    """Write frames, manifest and observables; the observables are called "trajectory/what"."""
    energy = np.array(path["energy"])
    frames = [
        {
            "symbols": list(SYMBOLS), "positions": positions, "cell": None, "molecule": [0] * len(SYMBOLS),
            "energy": path["energy"][k], "forces": path["forces"][k], "stress": None,
            "energy_intra": path["energy"][k], "forces_intra": path["forces"][k],
            "uid": uid(TRAJECTORY, k), "trajectory": TRAJECTORY, "config_type": KIND, "splits": [SPLIT],
        }
        for k, positions in enumerate(path["positions"])
    ]  # fmt: skip
    found = {
        "barrier_eV": energy.max() - energy[0],
        "reaction_energy_eV": energy[-1] - energy[0],
        "saddle": np.argmax(energy),
        "imaginary_wavenumber_per_cm": -waves["saddle"][0],
        "saddle_wavenumbers_per_cm": waves["saddle"],
        "reactant_wavenumbers_per_cm": waves["reactant"],
    }
    arrays: dict[str, Any] = {
        f"{TRAJECTORY}/{name}": np.array(value, dtype=np.float64) for name, value in found.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    write_frames(out / "frames.xyz.gz", frames)
    np.savez_compressed(out / OBSERVABLES, **arrays)
    write_manifest(out / "dataset.toml", PUBLICATION, frames, base_seed=0)


def _as_atoms(positions: Sequence[Any] | Float) -> list[Atoms]:
    from ase import Atoms

    return [Atoms(SYMBOLS, np.asarray(one)) for one in positions]


def _kept(file: Path, make: Callable[[], dict[str, Any]], report: Callable[[str], None]) -> dict[str, Any]:
    """Return what a file holds, or make it and keep it there, whole or not at all."""
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(make(), allow_nan=False), encoding="utf-8")
        part.replace(file)
        report(f"{file.stem} found")
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found
