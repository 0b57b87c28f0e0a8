"""How was `ecemc_gaff2_md` made: density and structure of the GAFF2 teacher's own liquid, with error bars?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from mlipbench.generate.ecemc_gaff2 import PUBLICATION as ECEMC_GAFF2
from mlipbench.generate.ecemc_gfn1 import DECIMALS_A, settle
from mlipbench.generate.gaff2_dynamics import SPECTRUM_INTERVAL_FS, Stretch, run, run_constant_volume
from mlipbench.generate.gaff2_labels import METHOD, record
from mlipbench.generate.publish import Publication, write_frames, write_manifest
from mlipbench.generate.sampling import molecule_numbers
from mlipbench.generate.splits import uid
from mlipbench.models.gaff2 import CUTOFF_A, NAMES, SWITCH_A, template
from mlipbench.models.gaff2.dynamics import EWALD_TOLERANCE, HYDROGEN_MASS_U, moving_system
from mlipbench.physics.rdf import PairCounts, count_pairs
from mlipbench.physics.spectrum import velocity_spectrum
from mlipbench.physics.timeseries import mean_over_replicas, statistical_inefficiency
from mlipbench.physics.transport import centres, diffusion, displacement_of_kinds

BASE_SEED: Final = 20261126
OBSERVABLES: Final = "observables.npz"
DROPPED_PS: Final = 50.0  # of every replica at constant pressure: the approach from the packed start
SERIES_PS: Final = 0.5
RDF_MAX_A: Final = 5.5  # less than half the narrowest box of twelve molecules
RDF_BIN_A: Final = 0.05
CENTRE_BIN_A: Final = 0.05  # of distances between centres of molecules, which are counted up to half the narrowest box
SPECTRUM_PIECE_PS: Final = 4.0
SPECTRUM_MAX_PER_CM, SPECTRUM_BIN_PER_CM = 3600.0, 20.0
# Shown beside the densities; no error refers to them.
CONTEXT: Final[Mapping[str, Mapping[str, float]]] = {
    "mix12-300K-1bar": {
        "experiment, 25 °C, x(EC) = 0.34": 1.0948,
        "MACE on PBE-D3, 298 K, EC:EMC 3:7": 1.0408,
        "GAP, 300 K, EC:EMC 3:7": 1.0670,
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One thermodynamic state and how long it is simulated.

    Attributes:
        name: unique.
        composition: molecules, EC first.
        temperature_K: of the thermostat.
        pressure_bar: of the barostat; None for a constant cell.
        starts_g_cm3: density of the packed start of each replica, below and above the mean.
        duration_ps: of each replica.
        friction_per_ps: of the thermostat.
        every_ps: between two entries of the density.
        frame_every_ps: between two frames.
    """

    name: str
    composition: Mapping[str, int]
    temperature_K: float
    pressure_bar: float | None
    starts_g_cm3: tuple[float, ...]
    duration_ps: float
    friction_per_ps: float = 1.0
    every_ps: float = 0.1
    frame_every_ps: float = 1.0


_MIX: Final = {"EC": 4, "EMC": 8}
# At 1 bar a box this small, with Lennard-Jones cut at 5.5 Å, is near boiling at 400 K; 1 kbar keeps it a liquid.
STATES: Final = (
    State(name="mix12-375K-1kbar", composition=_MIX, temperature_K=375.0, pressure_bar=1000.0,
          starts_g_cm3=(0.90, 1.10, 0.95, 1.05), duration_ps=550.0),
    State(name="mix12-300K-1kbar", composition=_MIX, temperature_K=300.0, pressure_bar=1000.0,
          starts_g_cm3=(0.95, 1.15, 1.00, 1.10), duration_ps=550.0),
    State(name="mix12-450K-1kbar", composition=_MIX, temperature_K=450.0, pressure_bar=1000.0,
          starts_g_cm3=(0.80, 1.00, 0.85, 0.95), duration_ps=550.0),
    State(name="ec16-375K-1kbar", composition={"EC": 16}, temperature_K=375.0, pressure_bar=1000.0,
          starts_g_cm3=(1.05, 1.25), duration_ps=550.0),
    State(name="emc12-375K-1kbar", composition={"EMC": 12}, temperature_K=375.0, pressure_bar=1000.0,
          starts_g_cm3=(0.85, 1.05), duration_ps=550.0),
    State(name="mix48-375K-1kbar", composition={"EC": 16, "EMC": 32}, temperature_K=375.0, pressure_bar=1000.0,
          starts_g_cm3=(0.95, 1.05), duration_ps=275.0),
    State(name="mix12-300K-1bar", composition=_MIX, temperature_K=300.0, pressure_bar=1.0,
          starts_g_cm3=(0.90, 1.05), duration_ps=400.0),
    State(name="mix12-375K-5kbar", composition=_MIX, temperature_K=375.0, pressure_bar=5000.0,
          starts_g_cm3=(1.10, 1.20), duration_ps=300.0),
    # Near the mean density of the first state; a weak thermostat, so that motion is the liquid's own.
    State(name="mix12-375K-nvt", composition=_MIX, temperature_K=375.0, pressure_bar=None,
          starts_g_cm3=(0.988,) * 4, duration_ps=200.0, friction_per_ps=0.1, every_ps=0.05, frame_every_ps=0.25),
)  # fmt: skip


def _about(state: State) -> str:
    held = "constant volume" if state.pressure_bar is None else f"{state.pressure_bar:.0f} bar"
    molecules = " and ".join(f"{n} {name}" for name, n in state.composition.items())
    n = len(state.starts_g_cm3)
    return f"{molecules} at {state.temperature_K:.0f} K and {held}: two frames of each of {n} replicas to start from"


PUBLICATION: Final = Publication(
    name="ecemc_gaff2_md",
    version="1.1.0",
    title="What GAFF2's own liquid does: densities, structure, pressure, diffusion and vibrations of EC and EMC",
    about="Frames of GAFF2's own liquids of EC and EMC at several temperatures, pressures, compositions and sizes, to "
    "start dynamics from, labelled with GAFF2 in double precision, and what nanoseconds of this dynamics gave: "
    "densities and pair counts at constant pressure; pressures, diffusion coefficients and velocity spectra at "
    "constant volume. A potential that learned ecemc_gaff2 must reproduce them. Same cutoff and switch as the labels; "
    "OpenMM's CPU platform in single precision, hydrogen 3 u, 2 fs. Computed data, not an experiment.",
    level_of_theory=METHOD,
    citation=ECEMC_GAFF2.citation,
    splits_about={state.name: _about(state) for state in STATES},
    facts={**ECEMC_GAFF2.facts, "dynamics_ewald_tolerance": EWALD_TOLERANCE, "hydrogen_mass_u": HYDROGEN_MASS_U},
    packages=("openmm", "ase", "numpy", "scipy", "packmol"),
    observables=OBSERVABLES,
)


def stretches() -> tuple[Stretch, ...]:
    """Return every replica of every state, the first replicas of all states first."""
    found = [
        (replica, order, Stretch(
            name=f"{state.name}-{replica}", composition=state.composition, temperature_K=state.temperature_K,
            pressure_bar=state.pressure_bar, density_g_cm3=density, seed=seed_of(f"{state.name}-{replica}"),
            duration_ps=state.duration_ps, every_ps=state.every_ps, frame_every_ps=state.frame_every_ps,
            friction_per_ps=state.friction_per_ps,
        ))
        for order, state in enumerate(STATES)
        for replica, density in enumerate(state.starts_g_cm3)
    ]  # fmt: skip
    return tuple(one for _, _, one in sorted(found, key=lambda entry: entry[:2]))


def seed_of(name: str) -> int:
    """Return a seed that depends on nothing but the base seed and this name."""
    digest = hashlib.sha256(f"{BASE_SEED}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2**31


def generate(out: Path, *, scratch: Path, report: Callable[[str], None]) -> None:
    """Run every replica, one process a core, and write `out`.

    Raises:
        NotApplicable: openmm or packmol is not installed.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(simulated, stretch, scratch): stretch for stretch in stretches()}
        for number, finished in enumerate(as_completed(waiting), 1):
            finished.result()
            report(f"{number}/{len(waiting)} {waiting[finished].name}")
    publish(out, scratch=scratch)


def simulated(stretch: Stretch, scratch: Path) -> Path:
    """Run a replica, at constant pressure or at constant volume."""
    return (run_constant_volume if stretch.pressure_bar is None else run)(stretch, scratch)


def publish(out: Path, *, scratch: Path) -> None:
    """Write frames to start from and what the dynamics gave, from finished replicas in `scratch`."""
    records: list[dict[str, Any]] = []
    observables: dict[str, Any] = {}
    for state in STATES:
        names = [f"{state.name}-{replica}" for replica in range(len(state.starts_g_cm3))]
        files = [dict(np.load(scratch / f"{name}.npz")) for name in names]
        for name, file in zip(names, files, strict=True):
            file["name"] = np.array(name)
            records += starts(state, file)
        found = facts(state)
        found |= constant_volume(state, files) if state.pressure_bar is None else constant_pressure(state, files)
        observables |= {f"{state.name}/{key}": value for key, value in found.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_frames(out / "frames.xyz.gz", records)
    np.savez_compressed(out / OBSERVABLES, **observables)
    write_manifest(out / "dataset.toml", PUBLICATION, records, base_seed=BASE_SEED)


def starts(state: State, file: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return two labelled frames of a replica, from the middle and the end."""
    from ase import Atoms

    names, molecule = molecule_numbers(state.composition)
    symbols = [symbol for name in names for symbol in template(name).symbols]
    made = []
    for number, k in enumerate((len(file["positions"]) // 2, len(file["positions"]) - 1)):
        edge = round(float(file["edge"][k]), DECIMALS_A)
        atoms = Atoms(symbols, file["positions"][k].astype(np.float64), cell=np.eye(3) * edge, pbc=True)
        settle(atoms, molecule)
        replica = str(file["name"])
        made.append(
            record(atoms, molecule)
            | {
                "uid": uid(replica, number), "trajectory": replica, "config_type": state.name, "splits": [state.name],
                "composition": ":".join(f"{name}({n})" for name, n in state.composition.items()),
                "temperature_K": state.temperature_K, "pressure_bar": state.pressure_bar,
            }
        )  # fmt: skip
    return made


def facts(state: State) -> dict[str, Any]:
    """Return what a state is; there is no pressure in a constant cell."""
    found = {
        "temperature_K": np.array(state.temperature_K),
        "n_molecules": np.array([state.composition.get(name, 0) for name in NAMES], dtype=np.float64),
    }
    return found if state.pressure_bar is None else found | {"pressure_bar": np.array(state.pressure_bar)}


def constant_pressure(state: State, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return densities and pair counts of the replicas of a state.

    The mean, its errors and the cost of an independent sample are those of `mean_over_replicas` on the series, for the
    reader: benchmarks take the series.
    """
    dropped = round(DROPPED_PS / state.every_ps)
    every = round(SERIES_PS / state.every_ps)
    series = np.array([file["density"][dropped::every] for file in files], dtype=np.float32)
    mean = mean_over_replicas(list(series.astype(np.float64)))
    found: dict[str, Any] = {
        "density_series": series,
        "density_every_ps": np.array(SERIES_PS),
        "density_mean": np.array(mean.mean),
        "density_stderr": np.array(mean.stderr),
        "density_interval": np.array([mean.low, mean.high]),
        "density_inefficiency_ps": np.array(SERIES_PS * mean.inefficiency),
    }
    if state.name in CONTEXT:
        found |= {f"context/{name}": np.array(value) for name, value in CONTEXT[state.name].items()}
    pairs = pair_counts(state.composition, files, round(DROPPED_PS / state.frame_every_ps))
    return found | pairs | {"rdf_every_ps": np.array(state.frame_every_ps)}


def constant_volume(state: State, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return pressures, diffusion coefficients, spectra and pair counts of the replicas of a state."""
    names, molecule = molecule_numbers(state.composition)
    system = moving_system(names, edge_A=float(files[0]["edge"][0]), cutoff_A=CUTOFF_A, switch_A=SWITCH_A)
    masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])
    kinds = np.array([list(state.composition).index(name) for name in names])  # in the order of their formulas
    displacements = np.array([
        displacement_of_kinds(centres(file["positions"], masses, molecule), kinds) for file in files
    ])
    times = state.frame_every_ps * np.arange(displacements.shape[-1], dtype=np.float64)
    per_piece = round(1e3 * SPECTRUM_PIECE_PS / SPECTRUM_INTERVAL_FS)
    edges = np.arange(0.0, SPECTRUM_MAX_PER_CM + 1.0, SPECTRUM_BIN_PER_CM)
    spectra = [
        velocity_spectrum(
            file["velocities"][first : first + per_piece].astype(np.float64), masses,
            interval_fs=SPECTRUM_INTERVAL_FS, edges_per_cm=edges,
        )
        for file in files
        for first in range(0, len(file["velocities"]) - per_piece + 1, per_piece)
    ]  # fmt: skip
    return {
        "pressure_series": np.array([file["pressure"] for file in files], dtype=np.float32),
        "pressure_every_ps": np.array(state.every_ps),
        "diffusion": np.array([diffusion(one[0], times).value_cm2_s for one in displacements]),
        "displacement": displacements.astype(np.float32),
        "displacement_times": times,
        "spectrum": np.array(spectra),
        "spectrum_edges": edges,
        "spectrum_piece_ps": np.array(SPECTRUM_PIECE_PS),
        **pair_counts(state.composition, files, 0),
        "rdf_every_ps": np.array(state.frame_every_ps),
    }


def pair_counts(
    composition: Mapping[str, int], files: Sequence[Mapping[str, Any]], dropped: int, *, r_max_A: float = RDF_MAX_A
) -> dict[str, Any]:
    """Return pair counts of elements, and of the centres of mass of molecules (`centre_rdf`).

    Args:
        composition: molecules, EC first.
        files: of each replica, "positions" (n_frames, n_atoms, 3), Å, "edge" (n_frames,), Å, "potential" (n_frames,).
        dropped: frames left out at the start.
        r_max_A: of the distances between elements.
    """
    names, molecule = molecule_numbers(composition)
    symbols = [symbol for name in names for symbol in template(name).symbols]
    kinds = np.array(["HCO".index(symbol) for symbol in symbols])  # in the order of atomic numbers
    masses = atomic_masses[[chemical_symbols.index(symbol) for symbol in symbols]]
    centre_kinds = np.array([list(composition).index(name) for name in names])
    half_A = 0.5 * min(float(file["edge"][dropped:].min()) for file in files)
    n_bins = int(half_A / CENTRE_BIN_A)
    atoms, middles = [], []
    for file in files:
        cells = file["edge"][dropped:, None, None] * np.eye(3)
        where = file["positions"][dropped:]
        atoms.append(count_pairs(where, cells, kinds, molecule, r_max_A=r_max_A, n_bins=round(r_max_A / RDF_BIN_A)))
        middles.append(
            count_pairs(
                centres(where, masses, molecule), cells, centre_kinds, np.arange(len(names)),
                r_max_A=n_bins * CENTRE_BIN_A, n_bins=n_bins,
            )
        )  # fmt: skip
    inefficiency = [statistical_inefficiency(file["potential"][dropped:]) for file in files]
    return {
        **_named("rdf", atoms), "rdf_inefficiency": np.array(inefficiency), **_named("centre_rdf", middles),
    }  # fmt: skip


def _named(name: str, counts: Sequence[PairCounts]) -> dict[str, Any]:
    return {
        f"{name}_edges": counts[0].edges_A,
        f"{name}_counts": np.array([one.counts for one in counts]),
        f"{name}_density": np.array([one.density for one in counts]),
        f"{name}_n_frames": np.array([one.n_frames for one in counts]),
        f"{name}_n_kind": counts[0].n_kind,
    }
