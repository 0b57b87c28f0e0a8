"""How was `ecemc_gfn1_md` made: structure and pressure of GFN1-xTB's own liquid, for a few picoseconds?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.core.model import Float, ModelSpec
from mlipbench.data import manifest
from mlipbench.generate.ecemc_gaff2_md import OBSERVABLES, pair_counts
from mlipbench.generate.ecemc_gfn1 import PUBLICATION as ECEMC_GFN1
from mlipbench.generate.ecemc_gfn1 import labelled, settle
from mlipbench.generate.publish import Publication, write_frames, write_manifest
from mlipbench.generate.sampling import molecule_numbers
from mlipbench.generate.splits import uid
from mlipbench.models import load
from mlipbench.physics.masses import repartitioned
from mlipbench.physics.molecules import find_bonds
from mlipbench.simulate.driver import run

if TYPE_CHECKING:
    from ase import Atoms

BASE_SEED: Final = 20261128
STATE: Final = "mix6-400K-nvt"
COMPOSITION: Final[Mapping[str, int]] = {"EC": 2, "EMC": 4}
TEMPERATURE_K: Final = 400.0
STARTS: Final = ("liquid_6_gfn1md-300K-0", "liquid_6_gfn1md-500K-1")  # 1.05 g/cm³, GFN1-xTB's own geometries
N_STEPS: Final = 700
TIMESTEP_FS: Final = 2.0
SAMPLE_EVERY: Final = 5
DROPPED_PS: Final = 0.2
FRICTION_PER_PS: Final = 2.0
RDF_MAX_A: Final = 4.85  # less than half the box
PUBLICATION: Final = Publication(
    name="ecemc_gfn1_md",
    version="1.1.0",
    title="What GFN1-xTB's own liquid does: structure and pressure of six molecules of EC and EMC",
    about="Frames of GFN1-xTB's own liquid of 2 EC and 4 EMC at 400 K and 1.05 g/cm3, and the pair counts and "
    "pressures of two replicas of 1.4 ps each: the quantum version of ecemc_gaff2_md, at the length that a core "
    "affords. Hydrogen 3 u, 2 fs, Langevin 2/ps, our own integrators on tblite. Computed data, not an experiment.",
    level_of_theory=ECEMC_GFN1.level_of_theory,
    citation=ECEMC_GFN1.citation[:2],
    splits_about={STATE: "2 EC and 4 EMC at 400 K and constant volume: two frames of each of 2 replicas to start from"},
    facts={**ECEMC_GFN1.facts, "dynamics_accuracy": 1.0, "hydrogen_mass_u": 3.0},
    packages=ECEMC_GFN1.packages,
    observables=OBSERVABLES,
)


def generate(out: Path, *, scratch: Path, report: Callable[[str], None]) -> None:
    """Run both replicas, or on from where they were interrupted, and write `out`.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: tblite is not installed.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    tracks = []
    for number, name in enumerate(STARTS):
        replica = start(name, number)
        tracks.append((replica, simulated(replica, scratch)))
        report(f"{number + 1}/{len(STARTS)} {replica.name}")
    publish(out, tracks)


def start(name: str, number: int) -> Replica:
    """Return a replica that starts from the last frame of a trajectory of `ecemc_gfn1`."""
    from ase.data import covalent_radii

    data = manifest.load(manifest.source("ecemc_gfn1"))
    atoms = data.frames[max(i for i, other in enumerate(data.trajectory) if other == name)].copy()
    atoms.info = {}
    _, molecule = molecule_numbers(COMPOSITION)
    bonds = find_bonds(atoms.positions, atoms.cell.array, atoms.pbc, radii=covalent_radii[atoms.numbers])
    masses = repartitioned(atoms.get_masses(), atoms.numbers, bonds, hydrogen_mass_u=3.0)
    digest = hashlib.sha256(f"{BASE_SEED}:{number}".encode()).digest()
    return Replica(
        name=f"{STATE}-{number}", atoms=atoms, seed=int.from_bytes(digest[:4], "big"), temperature_K=TEMPERATURE_K,
        timestep_fs=TIMESTEP_FS, masses_u=masses, group=molecule,
    )  # fmt: skip


def simulated(replica: Replica, scratch: Path, *, n_steps: int = N_STEPS) -> Track:
    """Run one replica."""
    arguments = {"method": PUBLICATION.level_of_theory, "verbosity": 0, "accuracy": 1.0}
    spec = ModelSpec(name="gfn1", kind="ase", options={"factory": "tblite.ase:TBLite", "arguments": arguments})
    plan = Schedule(
        n_steps=n_steps, friction_per_ps=FRICTION_PER_PS, sample_every=SAMPLE_EVERY, frame_every=SAMPLE_EVERY
    )
    (track,) = run(load(spec, device="cpu"), [replica], plan, progress=no_progress, scratch=scratch)
    return track


def publish(out: Path, tracks: list[tuple[Replica, Track]]) -> None:
    """Write frames to start from and what the dynamics gave."""
    records = [one for replica, track in tracks for one in _starts(replica.atoms, track)]
    first = tracks[0][1]
    kept = first.time_ps >= DROPPED_PS
    files = [
        {
            "positions": track.positions, "edge": track.cells[:, 0, 0],
            "potential": np.interp(track.frame_time_ps, track.time_ps, track.potential_eV),
        }
        for _, track in tracks
    ]  # fmt: skip
    dropped = int((first.frame_time_ps < DROPPED_PS).sum())
    found: dict[str, Float] = {
        "temperature_K": np.array(TEMPERATURE_K),
        "pressure_series": np.array([track.pressure_bar[kept] for _, track in tracks]),
        "pressure_every_ps": np.array(1e-3 * TIMESTEP_FS * SAMPLE_EVERY),
        **pair_counts(COMPOSITION, files, dropped, r_max_A=RDF_MAX_A),
        "rdf_every_ps": np.array(1e-3 * TIMESTEP_FS * SAMPLE_EVERY),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_frames(out / "frames.xyz.gz", records)
    arrays: dict[str, Any] = {f"{STATE}/{key}": value for key, value in found.items()}
    np.savez_compressed(out / OBSERVABLES, **arrays)
    write_manifest(out / "dataset.toml", PUBLICATION, records, base_seed=BASE_SEED)


def _starts(atoms: Atoms, track: Track) -> list[dict[str, Any]]:
    """Return two labelled frames of a replica, from the middle and the end."""
    _, molecule = molecule_numbers(COMPOSITION)
    made = []
    for number, k in enumerate((len(track.positions) // 2, len(track.positions) - 1)):
        frame = atoms.copy()
        frame.positions = track.positions[k].astype(np.float64)
        settle(frame, molecule)
        made.append(
            labelled(frame, molecule)
            | {
                "uid": uid(track.name, number), "trajectory": track.name, "config_type": STATE, "splits": [STATE],
                "composition": "EC(2):EMC(4)", "temperature_K": TEMPERATURE_K,
            }
        )  # fmt: skip
    return made
