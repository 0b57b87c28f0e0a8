"""How was `ecemc_gfn1` made: EC and EMC from a single molecule to the liquid, labelled with GFN1-xTB?"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.core.model import Int
from mlipbench.generate.labels import ACCURACY, ELECTRONIC_TEMPERATURE_K, METHOD, label
from mlipbench.generate.publish import Publication, write_frames, write_manifest
from mlipbench.generate.sampling import Protocol, gaff2_frames, gfn1_frames, molecule_numbers, pack
from mlipbench.generate.splits import Planned, assign, uid

if TYPE_CHECKING:
    from ase import Atoms

BASE_SEED = 20261122
DECIMALS_A = 6
PUBLICATION = Publication(
    name="ecemc_gfn1",
    version="1.0.0",
    title="EC and EMC from the molecule to the liquid, GFN1-xTB",
    about="Ethylene carbonate (EC) and ethyl methyl carbonate (EMC): single molecules, clusters of 2 to 6 and periodic "
    "liquids of 3, 6 and 12 molecules. Sampled with GAFF2 Langevin dynamics and, where config_type ends in _gfn1md, "
    "with short GFN1-xTB Langevin dynamics (hydrogen 3 u, 2 fs); every frame labelled with GFN1-xTB. Computed data, "
    "not an experiment: GFN1-xTB's liquid is not the liquid in a bottle. Vacuum labels are included: energy_intra and "
    "forces_intra are those of each molecule alone at the same geometry.",
    level_of_theory=METHOD,
    citation=(
        "S. Grimme, C. Bannwarth, P. Shushkov, GFN1-xTB, J. Chem. Theory Comput. 13, 1989 (2017), "
        "https://doi.org/10.1021/acs.jctc.7b00118",
        "tblite, light-weight tight-binding framework, https://github.com/tblite/tblite",
        "GAFF2 as distributed with AmberTools, after J. Wang et al., J. Comput. Chem. 25, 1157 (2004), "
        "https://doi.org/10.1002/jcc.20035 (sampling only)",
    ),
    splits_about={
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
    },
    facts={
        "electronic_temperature_K": ELECTRONIC_TEMPERATURE_K,
        "electronic_state": "closed shell; isolated atoms too",
        "accuracy": ACCURACY,
    },
    packages=("tblite", "openmm", "ase", "numpy", "packmol"),
)
CLUSTERS: Mapping[int, tuple[tuple[int, int], ...]] = {
    2: ((1, 1), (2, 0), (0, 2), (1, 1)),
    3: ((1, 2), (2, 1), (1, 2), (0, 3)),
    4: ((1, 3), (2, 2), (1, 3), (3, 1)),
    5: ((2, 3), (1, 4), (3, 2)),
    6: ((2, 4), (3, 3), (2, 4)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One independent piece of sampling: own packing, own velocities, own noise.

    Attributes:
        name: unique.
        kind: config_type of its frames.
        family: see `splits.Planned`.
        composition: molecules, EC first.
        protocol: the dynamics whose frames are kept.
        level: "gaff2" or "gfn1", whose dynamics they are.
        density_g_cm3: None for what has no cell.
        held_out: name of the extrapolation split; empty for the ordinary.
    """

    name: str
    kind: str
    family: str
    composition: Mapping[str, int]
    protocol: Protocol
    level: str = "gaff2"
    density_g_cm3: float | None = None
    held_out: str = ""

    def seed(self, purpose: str) -> int:
        """Return a seed that depends on nothing but the base seed, this name and the purpose."""
        digest = hashlib.sha256(f"{BASE_SEED}:{self.name}:{purpose}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % 2**31

    @property
    def planned(self) -> Planned:
        """What the split needs to know."""
        return Planned(
            name=self.name,
            kind=self.kind,
            family=self.family,
            n_frames=self.protocol.n_frames,
            held_out=self.held_out,
        )


def generate(out: Path, *, scratch: Path, report: Callable[[str], None], only: int | None = None) -> None:
    """Sample, label and write `out`/frames.xyz.gz and `out`/dataset.toml.

    Args:
        out: folder of the data set.
        scratch: folder with one file per finished trajectory; what is there already is not made again.
        report: called with one line per trajectory.
        only: take this many trajectories, evenly spread over the plan; None takes all.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: openmm, packmol or tblite is not installed.
    """
    everything = plan()
    chosen = everything if only is None else everything[:: max(1, len(everything) // only)][:only]
    scratch.mkdir(parents=True, exist_ok=True)
    for number, trajectory in enumerate(chosen, 1):
        file = scratch / f"{trajectory.name}.json"
        if not file.exists():
            made = run(trajectory)
            _write_whole(file, json.dumps(made, allow_nan=False))
            report(f"{number}/{len(chosen)} {trajectory.name}: {len(made['frames'])} frames, {made['cpu_s']:.0f} CPU s")
    made = {t.name: json.loads((scratch / f"{t.name}.json").read_text("utf-8")) for t in chosen}
    splits = assign([trajectory.planned for trajectory in everything])
    frames = [frame for t in chosen for frame in made[t.name]["frames"]] + [isolated_atom(s) for s in "HCO"]
    for frame in frames:
        frame["splits"] = splits.get(frame["uid"], ("isolated_atoms",))
    out.mkdir(parents=True, exist_ok=True)
    write_frames(out / "frames.xyz.gz", frames)
    failed = [failure for t in chosen for failure in made[t.name]["failed"]]
    write_manifest(out / "dataset.toml", PUBLICATION, frames, failed=failed, base_seed=BASE_SEED)


def plan() -> tuple[Trajectory, ...]:
    """Return every trajectory; within a family the replicas are the outer loop, so that dealing mixes conditions."""
    made = (*_molecules(), *_clusters(), *_liquids(), *_hotter(), *_other_liquids(), *_xtb_dynamics())
    return tuple(made)


def run(trajectory: Trajectory) -> dict[str, Any]:
    """Sample and label one trajectory; return its frames and what failed, as plain JSON values.

    Raises:
        BadInput: OMP_NUM_THREADS is not 1.
        NotApplicable: openmm, packmol or tblite is not installed.
    """
    from ase.calculators.calculator import CalculationFailed

    started = time.process_time()
    frames, failed = [], []
    _, molecule = molecule_numbers(trajectory.composition)
    try:
        sampled = _sample(trajectory)
    except CalculationFailed as error:
        sampled, failed = [], [{"uid": trajectory.name, "reason": f"dynamics stopped: {error}"}]
    for number, atoms in enumerate(sampled):
        settle(atoms, molecule)
        name = uid(trajectory.name, number)
        try:
            frames.append(labelled(atoms, molecule) | _describe(trajectory, name))
        except CalculationFailed as error:
            failed.append({"uid": name, "reason": str(error)})
    return {"frames": frames, "failed": failed, "cpu_s": round(time.process_time() - started, 2)}


def isolated_atom(symbol: str) -> dict[str, Any]:
    """Return the labelled frame of one atom: closed shell, as GFN1-xTB at 300 K electronic temperature gives it."""
    from ase import Atoms

    name = f"isolated_atom-{symbol}"
    frame = labelled(Atoms(symbol, np.zeros((1, 3))), np.zeros(1, dtype=np.int64))
    return frame | {"uid": uid(name, 0), "trajectory": name, "config_type": "isolated_atom", "composition": symbol}


def _sample(trajectory: Trajectory) -> list[Atoms]:
    start = pack(trajectory.composition, density_g_cm3=trajectory.density_g_cm3, seed=trajectory.seed("packing"))
    if trajectory.level == "gaff2":
        return gaff2_frames(start, trajectory.composition, trajectory.protocol, seed=trajectory.seed("gaff2"))
    warm = _gaff2(trajectory.protocol.temperature_K, gap_ps=1.0, n_frames=1, periodic=bool(start.pbc.any()))
    (begin,) = gaff2_frames(start, trajectory.composition, warm, seed=trajectory.seed("gaff2"))
    return gfn1_frames(begin, trajectory.protocol, seed=trajectory.seed("gfn1"))


def settle(atoms: Atoms, molecule: Int) -> None:
    """Move each molecule as a whole into the cell and round: labels belong to the positions that are stored."""
    if atoms.pbc.any():
        masses = atoms.get_masses()
        for number in range(int(molecule.max()) + 1):
            own = molecule == number
            centre = masses[own] @ atoms.positions[own] / masses[own].sum()
            atoms.positions[own] -= np.floor(np.linalg.solve(atoms.cell.array.T, centre)) @ atoms.cell.array
    atoms.positions[:] = np.round(atoms.positions, DECIMALS_A)


def labelled(atoms: Atoms, molecule: Int, *, method: str = METHOD) -> dict[str, Any]:
    """Return a frame with its labels as plain JSON values."""
    made = label(atoms, molecule, method=method)
    return {
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist() if atoms.pbc.any() else None,
        "molecule": molecule.tolist(),
        "energy": made.energy,
        "forces": made.forces.tolist(),
        "stress": None if made.stress is None else made.stress.tolist(),
        "energy_intra": made.energy_intra,
        "forces_intra": made.forces_intra.tolist(),
    }


def _describe(trajectory: Trajectory, name: str) -> dict[str, Any]:
    return {
        "uid": name,
        "trajectory": trajectory.name,
        "config_type": trajectory.kind,
        "composition": ":".join(f"{m}({n})" for m, n in trajectory.composition.items() if n),
        "temperature_K": trajectory.protocol.temperature_K,
        "density_g_cm3": trajectory.density_g_cm3,
    }


def _write_whole(file: Path, text: str) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _mix(n_ec: int, n_emc: int) -> dict[str, int]:
    return {name: n for name, n in (("EC", n_ec), ("EMC", n_emc)) if n}


def _gaff2(temperature_K: float, *, gap_ps: float, n_frames: int, periodic: bool) -> Protocol:
    return Protocol(
        temperature_K=temperature_K,
        equilibration_ps=4.0 if periodic else 20.0,
        gap_ps=gap_ps,
        n_frames=n_frames,
        timestep_fs=1.0 if periodic and temperature_K < 900.0 else 0.5,
        friction_per_ps=2.0,
    )


def _molecules() -> Iterator[Trajectory]:
    for replica, name, temperature_K in product(range(6), ("EC", "EMC"), (300.0, 600.0)):
        yield Trajectory(
            name=f"molecule_{name}-{temperature_K:.0f}K-{replica}",
            kind=f"molecule_{name}",
            family="molecule",
            composition={name: 1},
            protocol=_gaff2(temperature_K, gap_ps=10.0, n_frames=10, periodic=False),
        )


def _clusters() -> Iterator[Trajectory]:
    for replica, n, temperature_K in product(range(4), CLUSTERS, (300.0, 500.0)):
        if replica < len(CLUSTERS[n]):
            larger = n > 4
            yield Trajectory(
                name=f"cluster_{n}-{temperature_K:.0f}K-{replica}",
                kind=f"cluster_{n}",
                family="cluster",
                composition=_mix(*CLUSTERS[n][replica]),
                protocol=_gaff2(temperature_K, gap_ps=10.0, n_frames=3 if larger else 6, periodic=False),
                held_out="larger_clusters" if larger else "",
            )


def _liquids() -> Iterator[Trajectory]:
    sizes = {3: 4, 6: 3, 12: 2}  # molecules: frames
    for replica, n, density, temperature_K in product(range(2), sizes, (0.9, 1.05, 1.2), (300.0, 500.0)):
        yield _liquid(n, _mix(n // 3, 2 * n // 3), density, temperature_K, replica, n_frames=sizes[n])


def _liquid(
    n: int,
    composition: Mapping[str, int],
    density: float,
    temperature_K: float,
    replica: int,
    *,
    n_frames: int,
    held_out: str = "",
) -> Trajectory:
    mix = "+".join(f"{count}{name}" for name, count in composition.items())
    return Trajectory(
        name=f"liquid_{mix}-{density:.2f}-{temperature_K:.0f}K-{replica}",
        kind=f"liquid_{n}",
        family="liquid",
        composition=composition,
        protocol=_gaff2(temperature_K, gap_ps=3.0, n_frames=n_frames, periodic=True),
        density_g_cm3=density,
        held_out=held_out,
    )


def _xtb_dynamics() -> Iterator[Trajectory]:
    # kind, composition, replicas, density, equilibration_ps, gap_ps, frames: as long as a core affords
    rows: Sequence[tuple[str, dict[str, int], int, float | None, float, float, int]] = (
        ("molecule_EC", _mix(1, 0), 4, None, 1.0, 0.5, 4),
        ("molecule_EMC", _mix(0, 1), 4, None, 1.0, 0.5, 4),
        ("cluster_2", _mix(1, 1), 4, None, 0.4, 0.2, 3),
        ("cluster_3", _mix(1, 2), 3, None, 0.4, 0.2, 3),
        ("liquid_3", _mix(1, 2), 4, 1.05, 0.3, 0.1, 3),
        ("liquid_6", _mix(2, 4), 2, 1.05, 0.2, 0.08, 2),
    )
    for kind, composition, replicas, density, equilibration_ps, gap_ps, n_frames in rows:
        for replica in range(replicas):
            temperature_K = (300.0, 500.0, 500.0, 300.0)[replica]
            yield Trajectory(
                name=f"{kind}_gfn1md-{temperature_K:.0f}K-{replica}",
                kind=f"{kind}_gfn1md",
                family="gfn1md",
                composition=composition,
                protocol=Protocol(
                    temperature_K=temperature_K,
                    equilibration_ps=equilibration_ps,
                    gap_ps=gap_ps,
                    n_frames=n_frames,
                    timestep_fs=2.0,
                    friction_per_ps=20.0,
                ),
                level="gfn1",
                density_g_cm3=density,
            )


def _hotter() -> Iterator[Trajectory]:
    for replica, name in product(range(3), ("EC", "EMC")):
        protocol = _gaff2(900.0, gap_ps=10.0, n_frames=4, periodic=False)
        kind, family = f"molecule_{name}", "molecule"
        yield Trajectory(
            name=f"{kind}-900K-{replica}",
            kind=kind,
            family=family,
            composition={name: 1},
            protocol=protocol,
            held_out="hotter",
        )
    for replica in range(3):
        protocol = _gaff2(900.0, gap_ps=10.0, n_frames=4, periodic=False)
        yield Trajectory(
            name=f"cluster_2-900K-{replica}",
            kind="cluster_2",
            family="cluster",
            composition=_mix(1, 1),
            protocol=protocol,
            held_out="hotter",
        )
        yield _liquid(3, _mix(1, 2), 1.05, 900.0, replica, n_frames=4, held_out="hotter")


def _other_liquids() -> Iterator[Trajectory]:
    for replica, n in product(range(2), (3, 6)):
        yield _liquid(n, _mix(n, 0), 1.2, 300.0, replica, n_frames=3, held_out="composition")
        yield _liquid(n, _mix(0, n), 0.98, 300.0, replica, n_frames=3, held_out="composition")
    for replica, n, density in product(range(3), (3, 6), (0.75, 1.35)):
        if n == 3 or replica < 2:
            composition = _mix(n // 3, 2 * n // 3)
            yield _liquid(n, composition, density, 300.0, replica, n_frames=3 if n == 3 else 2, held_out="density")
