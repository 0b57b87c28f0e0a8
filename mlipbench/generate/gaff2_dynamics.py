"""How does the GAFF2 teacher move: Langevin dynamics in OpenMM with the Hamiltonian of the labels, and resumable?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlipbench.generate.sampling import molecule_numbers, pack
from mlipbench.models.gaff2.dynamics import Simulation

SETTLING_PS: Final = 40.0
SPECTRUM_PS: Final = 20.0
SPECTRUM_INTERVAL_FS: Final = 4.0
SAVED_EVERY_PS: Final = 25.0  # at most so much is done twice after an interruption


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One replica of one state: own packing, own velocities, own noise.

    Attributes:
        name: unique; its files are called so.
        composition: molecules, EC first.
        temperature_K: of the thermostat.
        pressure_bar: of the barostat; None for a constant cell.
        density_g_cm3: of the packed start, and of a constant cell.
        seed: of everything.
        duration_ps: all of it, the approach to equilibrium included.
        every_ps: between two entries of the density.
        frame_every_ps: between two frames.
        friction_per_ps: of the thermostat.
        timestep_fs: with hydrogen atoms of 3 u.
    """

    name: str
    composition: Mapping[str, int]
    temperature_K: float
    pressure_bar: float | None
    density_g_cm3: float
    seed: int
    duration_ps: float
    every_ps: float = 0.1
    frame_every_ps: float = 1.0
    friction_per_ps: float = 1.0
    timestep_fs: float = 2.0


def run(stretch: Stretch, scratch: Path) -> Path:
    """Run a replica to its end, or on from where it was interrupted, and return its file.

    Args:
        stretch: what to run.
        scratch: holds `<name>.npz` when it is finished, and `<name>.part.npz` with `<name>.chk` before.

    Returns:
        The file, with `density` (n,), g/cm³; `positions` (n_frames, n_atoms, 3), Å, molecules whole, not wrapped;
        `edge` (n_frames,), Å; `potential` (n_frames,), eV.

    Raises:
        NotApplicable: OpenMM or packmol is not installed.
    """
    done = scratch / f"{stretch.name}.npz"
    if done.exists():
        return done
    part, checkpoint = scratch / f"{stretch.name}.part.npz", scratch / f"{stretch.name}.chk"
    names, _ = molecule_numbers(stretch.composition)
    start = pack(stretch.composition, density_g_cm3=stretch.density_g_cm3, seed=stretch.seed)
    simulation = Simulation(
        names=names, temperature_K=stretch.temperature_K, pressure_bar=stretch.pressure_bar,
        timestep_fs=stretch.timestep_fs, friction_per_ps=stretch.friction_per_ps, seed=stretch.seed,
        edge_A=float(start.cell.array[0, 0]),
    )  # fmt: skip
    seen: dict[str, list[Any]] = {"density": [], "positions": [], "edge": [], "potential": []}
    if part.exists() and checkpoint.exists():
        simulation.restore(checkpoint.read_bytes())
        with np.load(part) as old:
            seen = {name: list(old[name]) for name in seen}
    else:
        simulation.begin(start.positions)
    n = round(stretch.duration_ps / stretch.every_ps)
    per_frame = round(stretch.frame_every_ps / stretch.every_ps)
    per_save = round(SAVED_EVERY_PS / stretch.every_ps)
    for k in range(len(seen["density"]) + 1, n + 1):
        simulation.step(stretch.every_ps)
        seen["density"].append(simulation.density_g_cm3())
        if k % per_frame == 0:
            positions, edge_A, potential_eV = simulation.state()
            seen["positions"].append(positions.astype(np.float32))
            seen["edge"].append(edge_A)
            seen["potential"].append(potential_eV)
        if k % per_save == 0 and k < n:
            _save(part, seen)
            _replace(checkpoint, simulation.checkpoint())
    _save(done, seen)
    part.unlink(missing_ok=True)
    checkpoint.unlink(missing_ok=True)
    return done


def run_constant_volume(stretch: Stretch, scratch: Path) -> Path:
    """Run a replica in a cell that stays, for what moves in it, and return its file; begins again when interrupted.

    The first `SETTLING_PS` are left out. Velocities are kept `SPECTRUM_INTERVAL_FS` apart for `SPECTRUM_PS` more.

    Args:
        stretch: what to run; `every_ps` is between two pressures.
        scratch: gets `<name>.npz`.

    Returns:
        The file, with `pressure` (n,), bar; `positions` (n_frames, n_atoms, 3), Å, and `edge`, `potential` (n_frames,),
        as `run`; `velocities` (n_fast, n_atoms, 3), Å/fs.

    Raises:
        NotApplicable: OpenMM or packmol is not installed.
    """
    done = scratch / f"{stretch.name}.npz"
    if done.exists():
        return done
    names, _ = molecule_numbers(stretch.composition)
    start = pack(stretch.composition, density_g_cm3=stretch.density_g_cm3, seed=stretch.seed)
    simulation = Simulation(
        names=names, temperature_K=stretch.temperature_K, pressure_bar=None, timestep_fs=stretch.timestep_fs,
        friction_per_ps=stretch.friction_per_ps, seed=stretch.seed, edge_A=float(start.cell.array[0, 0]),
    )  # fmt: skip
    simulation.begin(start.positions)
    simulation.step(SETTLING_PS)
    seen: dict[str, list[Any]] = {"pressure": [], "positions": [], "edge": [], "potential": [], "velocities": []}
    per_frame = round(stretch.frame_every_ps / stretch.every_ps)
    for k in range(round(stretch.duration_ps / stretch.every_ps)):
        seen["pressure"].append(simulation.measured_pressure_bar())
        if k % per_frame == 0:
            positions, edge_A, potential_eV = simulation.state()
            seen["positions"].append(positions.astype(np.float32))
            seen["edge"].append(edge_A)
            seen["potential"].append(potential_eV)
        simulation.step(stretch.every_ps)
    for _ in range(round(1e3 * SPECTRUM_PS / SPECTRUM_INTERVAL_FS)):
        seen["velocities"].append(simulation.velocities().astype(np.float32))
        simulation.step(1e-3 * SPECTRUM_INTERVAL_FS)
    _save(done, seen)
    return done


def _save(file: Path, seen: Mapping[str, list[Any]]) -> None:
    temporary = file.with_suffix(".writing.npz")
    np.savez(temporary, **{name: np.array(values) for name, values in seen.items()})  # type: ignore[arg-type]
    temporary.replace(file)


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_suffix(".writing")
    temporary.write_bytes(content)
    temporary.replace(file)
