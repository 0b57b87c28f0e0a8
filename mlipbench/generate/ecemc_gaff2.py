"""How was `ecemc_gaff2` made: the frames of `ecemc_gfn1`, and frames of GAFF2's own liquid, labelled with GAFF2?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Int
from mlipbench.data import manifest
from mlipbench.generate.ecemc_gfn1 import DECIMALS_A, settle
from mlipbench.generate.gaff2_dynamics import Stretch, run
from mlipbench.generate.gaff2_labels import METHOD, record
from mlipbench.generate.publish import Publication, write_frames, write_manifest
from mlipbench.generate.sampling import molecule_numbers
from mlipbench.generate.splits import uid
from mlipbench.models.gaff2 import CUTOFF_A, SWITCH_A
from mlipbench.physics.cells import Float

if TYPE_CHECKING:
    from ase import Atoms

BASE_SEED: Final = 20261127  # not that of ecemc_gaff2_md, whose liquid fitted models are judged by
SOURCE: Final = "ecemc_gfn1"
COMPOSITION: Final[Mapping[str, int]] = {"EC": 4, "EMC": 8}
STATES: Final = ((300.0, 1000.0), (375.0, 1000.0), (450.0, 1000.0), (600.0, 5000.0))  # K, bar
DURATION_PS, DROPPED_PS, GAP_PS = 60.0, 20.0, 5.0
SCALES: Final = (0.95, 1.08)  # of the distances between molecules
PUBLICATION: Final = Publication(
    name="ecemc_gaff2",
    version="1.0.0",
    title="EC and EMC from the molecule to the liquid, GAFF2",
    about="The molecules, clusters and periodic liquids of ecemc_gfn1 (all but its isolated atoms, which a force "
    "field for molecules does not know), frames of GAFF2's own liquid of 12 molecules at constant pressure "
    "(liquid_12_npt), and some of these with their molecules moved together or apart (liquid_12_scaled), labelled with "
    "GAFF2 and AM1-BCC charges in double precision. A teacher that is cheap enough to simulate for nanoseconds: what a "
    "potential learns here can be judged by ecemc_gaff2_md. Computed data, not an experiment. Vacuum labels are "
    "included.",
    level_of_theory=METHOD,
    citation=(
        "GAFF2 as distributed with AmberTools, after J. Wang et al., J. Comput. Chem. 25, 1157 (2004), "
        "https://doi.org/10.1002/jcc.20035",
        "AM1-BCC charges: A. Jakalian et al., J. Comput. Chem. 23, 1623 (2002), https://doi.org/10.1002/jcc.10128",
        "OpenMM: P. Eastman et al., J. Phys. Chem. B 128, 109 (2024), https://doi.org/10.1021/acs.jpcb.3c06662",
    ),
    splits_about={
        "train": "whole trajectories for training: those of ecemc_gfn1's train, and the first replica of each state",
        "valid": "whole other trajectories, for choosing when to stop",
        "test": "whole other trajectories, never seen in training",
        "train_quick": "ecemc_gfn1's train_quick, three constant-pressure frames of each state and half of the scaled",
        "valid_quick": "about 20 frames of valid",
        "control": "frames between those of train_quick in the same trajectories, held out of train, as in ecemc_gfn1",
        "hotter": "extrapolation: molecules, pairs and liquids of three molecules at 900 K; train has up to 600 K",
        "larger_clusters": "extrapolation: clusters of five and six molecules; train has up to four",
        "composition": "extrapolation: liquids of pure EC and of pure EMC; the liquids in train are 1:2",
        "density": "liquids at 0.75 and 1.35 g/cm3, as in ecemc_gfn1; less of an extrapolation here, for the scaled "
        "liquids in train reach from 0.72 to 1.28",
    },
    facts={
        "lennard_jones_cutoff_A": CUTOFF_A,
        "lennard_jones_switch_A": SWITCH_A,
        "dispersion_correction": False,
        "ewald_tolerance": 1e-6,
        "platform": "Reference (double precision)",
    },
    packages=("openmm", "ase", "numpy", "packmol"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One trajectory to label.

    Attributes:
        name: of the trajectory.
        frames: with molecules whole.
        molecules: of each frame, shape (n_atoms,).
        about: what each frame's record says beside its labels.
    """

    name: str
    frames: tuple[Atoms, ...]
    molecules: tuple[Int, ...]
    about: tuple[Mapping[str, Any], ...]


def generate(out: Path, *, scratch: Path, report: Callable[[str], None]) -> None:
    """Label all frames and write `out`/frames.xyz.gz and `out`/dataset.toml.

    Args:
        out: folder of the data set.
        scratch: folder with one file per finished trajectory; what is there already is not made again.
        report: called with one line per trajectory.

    Raises:
        NotApplicable: openmm or packmol is not installed.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    for piece in (*pieces_of(manifest.load(manifest.source(SOURCE))), *own_liquid(scratch)):
        file = scratch / f"{piece.name}.json"
        if not file.exists():
            made = [
                record(atoms, molecule) | dict(about)
                for atoms, molecule, about in zip(piece.frames, piece.molecules, piece.about, strict=True)
            ]
            temporary = file.with_suffix(".part")
            temporary.write_text(json.dumps(made, allow_nan=False), encoding="utf-8")
            temporary.replace(file)
            report(f"{piece.name}: {len(made)} frames")
        records += json.loads(file.read_text("utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    write_frames(out / "frames.xyz.gz", records)
    write_manifest(out / "dataset.toml", PUBLICATION, records, base_seed=BASE_SEED)


def pieces_of(data: Dataset) -> Iterator[Piece]:
    """Give the trajectories of another data set, isolated atoms left out; splits and names stay."""
    splits: dict[int, list[str]] = {}
    for name, chosen in data.splits.items():
        for i in chosen:
            splits.setdefault(i, []).append(name)
    offsets = data.offsets
    if data.molecule is None:
        return
    for name in dict.fromkeys(data.trajectory):
        own = [i for i, other in enumerate(data.trajectory) if other == name and len(data.frames[i]) > 1]
        if not own:
            continue
        yield Piece(
            name=name,
            frames=tuple(data.frames[i] for i in own),
            molecules=tuple(data.molecule[offsets[i] : offsets[i + 1]] for i in own),
            about=tuple(
                {
                    "uid": data.uid[i], "trajectory": name, "config_type": data.config_type[i],
                    "splits": splits.get(i, []),
                    **{key: data.frames[i].info[key] for key in ("temperature_K", "density_g_cm3")
                       if key in data.frames[i].info},
                }
                for i in own
            ),
        )  # fmt: skip


def own_liquid(scratch: Path) -> Iterator[Piece]:
    """Run GAFF2's own liquid and give its frames, and some with their molecules moved together or apart."""
    from ase import Atoms

    names, molecule = molecule_numbers(COMPOSITION)
    del names
    for number, (temperature_K, pressure_bar) in enumerate(STATES):
        for replica in range(2):
            name = f"liquid_12_npt-{temperature_K:.0f}K-{pressure_bar:.0f}bar-{replica}"
            stretch = Stretch(
                name=name, composition=COMPOSITION, temperature_K=temperature_K, pressure_bar=pressure_bar,
                density_g_cm3=0.95, seed=seed_of(name), duration_ps=DURATION_PS,
            )  # fmt: skip
            with np.load(run(stretch, scratch)) as found:
                first, gap = round(DROPPED_PS / stretch.frame_every_ps), round(GAP_PS / stretch.frame_every_ps)
                chosen = range(first + gap - 1, len(found["positions"]), gap)
                symbols = _symbols()
                frames = [
                    Atoms(
                        symbols, found["positions"][i].astype(np.float64), cell=np.eye(3) * found["edge"][i], pbc=True
                    )
                    for i in chosen
                ]
            home = "train" if replica == 0 else ("valid", "test")[number % 2]
            about = {"temperature_K": temperature_K, "pressure_bar": pressure_bar, "composition": "EC(4):EMC(8)"}
            quick = {0, 3, 7} if home == "train" else {3}
            yield _piece(name, "liquid_12_npt", frames, molecule, home, quick if home != "test" else set(), about)
            if replica == 0:
                scaled = [scaled_by(frames[2 * k + 1], molecule, SCALES[k % 2]) for k in range(4)]
                yield _piece(f"{name}-scaled", "liquid_12_scaled", scaled, molecule, home, {0, 1}, about)


def _piece(
    name: str, kind: str, frames: list[Atoms], molecule: Int, home: str, quick: set[int], about: Mapping[str, Any]
) -> Piece:
    for frame in frames:
        frame.cell.array[:] = np.round(frame.cell.array, DECIMALS_A)
        settle(frame, molecule)
    return Piece(
        name=name,
        frames=tuple(frames),
        molecules=(molecule,) * len(frames),
        about=tuple(
            {
                "uid": uid(name, k), "trajectory": name, "config_type": kind,
                "splits": [home, f"{home}_quick"] if k in quick else [home], **about,
            }
            for k in range(len(frames))
        ),
    )  # fmt: skip


def scaled_by(atoms: Atoms, molecule: Int, factor: float) -> Atoms:
    """Return a copy with the cell and the centres of molecules scaled; molecules stay rigid."""
    made, masses = atoms.copy(), atoms.get_masses()
    made.set_cell(atoms.cell.array * factor)
    for number in range(int(molecule.max()) + 1):
        own = molecule == number
        centre: Float = masses[own] @ atoms.positions[own] / masses[own].sum()
        made.positions[own] += (factor - 1.0) * centre
    return made


def _symbols() -> list[str]:
    from mlipbench.models.gaff2 import template

    return [symbol for name, count in COMPOSITION.items() for _ in range(count) for symbol in template(name).symbols]


def seed_of(name: str) -> int:
    """Return a seed that depends on nothing but the base seed and this name."""
    digest = hashlib.sha256(f"{BASE_SEED}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2**31
