"""How was `ecemc_scans` made: rigid molecules of EC and EMC moved together and apart, at three levels of theory?"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Int
from mlipbench.data import manifest
from mlipbench.generate import gaff2_labels
from mlipbench.generate.ecemc_gaff2 import PUBLICATION as GAFF2
from mlipbench.generate.ecemc_gfn1 import DECIMALS_A, labelled
from mlipbench.generate.ecemc_gfn1 import PUBLICATION as GFN1
from mlipbench.generate.publish import Publication, write_frames, write_manifest
from mlipbench.generate.splits import uid
from mlipbench.physics.scans import centres, contact_shift_A, scaled_rigidly
from mlipbench.units import density_g_per_cm3

if TYPE_CHECKING:
    from ase import Atoms

SOURCE: Final = "ecemc_gfn1"
BASE_SEED: Final = 20261129
# Trajectories of the source whose last frames are scanned; their molecules are as warm as they were sampled.
VOLUMES: Final = {
    "mix6-0": "liquid_2EC+4EMC-1.05-300K-0",
    "mix6-1": "liquid_2EC+4EMC-1.20-300K-1",
    "mix6-gfn1": "liquid_6_gfn1md-300K-0",
    "ec6": "liquid_6EC-1.20-300K-0",
    "emc6": "liquid_6EMC-0.98-300K-0",
}
AFFINE: Final = ("mix6-gfn1", "ec6", "emc6")
CLUSTERS: Final = {
    "cluster4-0": "cluster_4-300K-0",
    "cluster4-1": "cluster_4-300K-1",
    "cluster3-gfn1": "cluster_3_gfn1md-300K-0",
}
PAIRS: Final = {  # two sampled pairs each
    "EC-EC": ("cluster_2-300K-1", "cluster_2-500K-1"),
    "EC-EMC": ("cluster_2-300K-0", "cluster_2-500K-3"),
    "EMC-EMC": ("cluster_2-300K-2", "cluster_2-500K-2"),
}
# Two further curves of each pair: other molecules, sampled alone, turned at random.
MOLECULES: Final = {
    "EC-EC": (("molecule_EC-300K-0", "molecule_EC-300K-1"), ("molecule_EC-300K-2", "molecule_EC-300K-3")),
    "EC-EMC": (("molecule_EC-300K-4", "molecule_EMC-300K-0"), ("molecule_EC-300K-5", "molecule_EMC-300K-1")),
    "EMC-EMC": (("molecule_EMC-300K-2", "molecule_EMC-300K-3"), ("molecule_EMC-300K-4", "molecule_EMC-300K-5")),
}
DENSITIES_G_CM3: Final = (
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.94, 1.0, 1.06, 1.12, 1.18, 1.25, 1.33, 1.42, 1.52, 1.63, 1.75, 1.9,
    2.1, 2.3, 2.5,
)  # fmt: skip
AFFINE_SCALES: Final = (0.94, 0.955, 0.97, 0.985, 1.0, 1.015, 1.03, 1.045, 1.06)
CLUSTER_SCALES: Final = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.8, 2.2, 3.0)
CONTACT_A: Final = 1.5
BEYOND_CONTACT_A: Final = (
    0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.0, 2.5, 3.2, 4.2, 5.5, 7.5, 10.0,
)  # fmt: skip
Labeller = Callable[["Atoms", Int], dict[str, Any]]
LEVELS: Final[dict[str, tuple[str, Publication]]] = {
    "gfn1": ("GFN1-xTB", GFN1),
    "gfn2": ("GFN2-xTB", GFN1),
    "gaff2": (gaff2_labels.METHOD, GAFF2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Frames along one coordinate, before they are labelled.

    Attributes:
        name: unique; the independent unit of its frames.
        kind: config_type of its frames.
        split: that they belong to.
        frames: with `info["scale"]`, and `info["density_g_cm3"]` in a cell; molecules whole.
        molecule: shape (n_atoms,), molecule number of each atom, from 0.
    """

    name: str
    kind: str
    split: str
    frames: tuple[Atoms, ...]
    molecule: Int


def generate(level: str, out: Path, *, scratch: Path, report: Callable[[str], None]) -> None:
    """Label all scans at one level, or those that are not in `scratch` yet, and write `out`.

    Args:
        level: a key of `LEVELS`.
        out: folder of the data set.
        scratch: folder with one file per finished scan.
        report: called with one line per scan.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: tblite or openmm is not installed.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    source = manifest.load(manifest.source(SOURCE))
    scans = tuple(plan(source))
    made = []
    for number, scan in enumerate(scans, 1):
        file = scratch / f"{level}-{scan.name}.json"
        if not file.exists():
            started = time.process_time()
            records = labels(scan, labeller(level))
            part = file.with_suffix(".part")
            part.write_text(json.dumps(records, allow_nan=False), encoding="utf-8")
            part.replace(file)
            report(f"{number}/{len(scans)} {scan.name}: {time.process_time() - started:.0f} CPU s")
        made.append(json.loads(file.read_text("utf-8")))
    frames = [frame for one in made for frame in one["frames"]]
    out.mkdir(parents=True, exist_ok=True)
    write_frames(out / "frames.xyz.gz", frames)
    failed = [failure for one in made for failure in one["failed"]]
    write_manifest(out / "dataset.toml", publication(level, source), frames, failed=failed, base_seed=BASE_SEED)


generate_gfn1 = partial(generate, "gfn1")
generate_gfn2 = partial(generate, "gfn2")
generate_gaff2 = partial(generate, "gaff2")


def plan(source: Dataset) -> Iterator[Scan]:
    """Give every scan; the same frames at every level."""
    for name, trajectory in VOLUMES.items():
        yield volume_scan(name, *_last(source, trajectory))
    for name in AFFINE:
        yield affine_scan(name, *_last(source, VOLUMES[name]))
    for name, trajectory in CLUSTERS.items():
        yield cluster_scan(name, *_last(source, trajectory))
    for pair, trajectories in PAIRS.items():
        for number, trajectory in enumerate(trajectories):
            yield binding_curve(pair, number, *_last(source, trajectory))
        for number, names in enumerate(MOLECULES[pair], len(trajectories)):
            yield binding_curve(pair, number, *turned([_last(source, name)[0] for name in names], f"{pair}-{number}"))


def volume_scan(name: str, atoms: Atoms, molecule: Int) -> Scan:
    """Return rigid molecules at all densities; cell and centres are scaled alike."""
    mass_u = atoms.get_masses().sum()
    start = density_g_per_cm3(mass_u, atoms.get_volume())
    frames = tuple(rigid(atoms, molecule, (start / density) ** (1 / 3)) for density in DENSITIES_G_CM3)
    return Scan(name=f"volume-{name}", kind="volume", split="volume", frames=frames, molecule=molecule)


def affine_scan(name: str, atoms: Atoms, molecule: Int) -> Scan:
    """Return the unfrozen variant: all atoms are scaled with the cell, as far as bonds bear it."""
    frames = []
    for scale in AFFINE_SCALES:
        frame = atoms.copy()
        frame.set_cell(atoms.cell.array * scale, scale_atoms=False)
        frame.positions = atoms.positions * scale
        frames.append(_told(frame, scale))
    return Scan(name=f"affine-{name}", kind="affine", split="affine", frames=tuple(frames), molecule=molecule)


def cluster_scan(name: str, atoms: Atoms, molecule: Int) -> Scan:
    """Return rigid molecules without a cell, their centres scaled about that of all."""
    centred = atoms.copy()
    centred.positions -= centred.get_center_of_mass()
    frames = tuple(rigid(centred, molecule, scale) for scale in CLUSTER_SCALES)
    return Scan(name=name, kind="cluster", split="cluster", frames=frames, molecule=molecule)


def binding_curve(pair: str, number: int, atoms: Atoms, molecule: Int) -> Scan:
    """Return two rigid molecules on the line through their centres, from contact outward."""
    fixed, moved = (atoms.positions[molecule == k] for k in (0, 1))
    middle = centres(atoms.positions, atoms.get_masses(), molecule)
    line = middle[1] - middle[0]
    direction = line / np.linalg.norm(line)
    contact_A = contact_shift_A(fixed, moved, direction, gap_A=CONTACT_A, may_approach=True)
    frames = []
    for beyond_A in BEYOND_CONTACT_A:
        frame = atoms.copy()
        frame.positions[molecule == 1] += (contact_A + beyond_A) * direction
        frames.append(_told(frame, float(np.linalg.norm(line + (contact_A + beyond_A) * direction))))
    return Scan(
        name=f"binding-{pair}-{number}", kind=f"binding_{pair}", split="binding", frames=tuple(frames),
        molecule=molecule,
    )  # fmt: skip


def turned(molecules: Sequence[Atoms], name: str) -> tuple[Atoms, Int]:
    """Return molecules in a row along x, each turned at random about its centre, and the molecule of each atom."""
    digest = hashlib.sha256(f"{BASE_SEED}:{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    parts = []
    for number, atoms in enumerate(molecules):
        orthogonal, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        turn = orthogonal * np.sign(np.diag(upper))
        turn = turn * np.sign(np.linalg.det(turn))
        part = atoms.copy()
        part.positions = (atoms.positions - atoms.get_center_of_mass()) @ turn.T + [10.0 * number, 0.0, 0.0]
        parts.append(part)
    whole = parts[0] + parts[1]
    return whole, np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def rigid(atoms: Atoms, molecule: Int, scale: float) -> Atoms:
    """Return a frame with the centres of its molecules, and its cell if any, scaled about the origin."""
    frame = atoms.copy()
    frame.set_cell(atoms.cell.array * scale, scale_atoms=False)
    frame.positions = scaled_rigidly(atoms.positions, atoms.get_masses(), molecule, scale)
    return _told(frame, scale)


def labeller(level: str) -> Labeller:
    """Return what labels a frame whose molecules are whole."""
    return gaff2_labels.record if level == "gaff2" else partial(labelled, method=LEVELS[level][0])


def labels(scan: Scan, label: Labeller) -> dict[str, list[dict[str, Any]]]:
    """Return the labelled frames of a scan as plain JSON values, and those whose electronic structure failed."""
    from ase.calculators.calculator import CalculationFailed

    frames, failed = [], []
    for number, atoms in enumerate(scan.frames):
        name = uid(scan.name, number)
        try:
            record = label(atoms, scan.molecule)
        except CalculationFailed as error:
            failed.append({"uid": name, "reason": str(error)})
            continue
        frames.append(record | atoms.info | {
            "uid": name, "trajectory": scan.name, "config_type": scan.kind, "splits": [scan.split],
            "composition": atoms.get_chemical_formula(),
        })  # fmt: skip
    return {"frames": frames, "failed": failed}


def publication(level: str, source: Dataset) -> Publication:
    """Return what the manifest of a level says."""
    method, like = LEVELS[level]
    return Publication(
        name=f"ecemc_scans/{level}",
        version="1.0.0",
        title=f"EC and EMC moved together and apart, {method}",
        about="Liquids of six molecules from 0.1 to 2.5 g/cm3 and clusters with rigid molecules (only their centres, "
        "and the cell, are scaled); liquids with all atoms scaled, as far as bonds bear it; pairs pulled apart from "
        f"contact. Molecules are as warm as {SOURCE} sampled them. The same frames at GFN1, GFN2 and GAFF2 level. "
        "Computed data, not an experiment. energy_intra and forces_intra are those of each molecule alone: what is "
        "left when molecules are far from each other.",
        level_of_theory=method,
        citation=like.citation,
        splits_about={
            "volume": "rigid molecules in a cell; scale is that of lengths, 1 the sampled box",
            "affine": "all atoms scaled with the cell",
            "cluster": "rigid molecules without a cell; scale is that of the centres' distances",
            "binding": "two rigid molecules; scale is the distance of their centres in Å",
        },
        facts={
            **{key: value for key, value in like.facts.items() if key != "source"},
            "source": f"{SOURCE} {source.spec.version}, last frames of its trajectories",
        },
        packages=like.packages,
    )  # fmt: skip


def _told(frame: Atoms, scale: float) -> Atoms:
    """Round what labels belong to, and say where on the scan a frame is."""
    frame.positions[:] = np.round(frame.positions, DECIMALS_A)
    frame.info = {"scale": round(float(scale), 6)}
    if frame.pbc.any():
        density = density_g_per_cm3(float(frame.get_masses().sum()), float(frame.get_volume()))
        frame.info["density_g_cm3"] = round(density, 6)
    return frame


def _last(source: Dataset, trajectory: str) -> tuple[Atoms, Int]:
    """Return the last frame of a trajectory, with whole molecules, and the molecule number of each atom."""
    frame = max(i for i, name in enumerate(source.trajectory) if name == trajectory)
    assert source.molecule is not None  # noqa: S101, the source has molecules
    atoms = source.frames[frame].copy()
    atoms.info = {}
    return atoms, source.molecule[source.offsets[frame] : source.offsets[frame + 1]]
