"""What is kept of the replicas, on disk as it comes: pieces of the record, and a checkpoint to go on from.

A piece is written whole before the checkpoint that counts it; pieces that no checkpoint counts are written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.core.model import Float
from mlipbench.errors import BadInput
from mlipbench.simulate.state import State
from mlipbench.units import BAR_PER_EV_PER_CUBIC_ANGSTROM

SAMPLED: Final = ("time_ps", "potential_eV", "kinetic_eV", "pressure_bar", "volume_A3", "conserved_eV")
FRAMES: Final = ("frame_time_ps", "positions", "cells", "velocities")
CHECKPOINT: Final = "checkpoint.npz"
FINISHED: Final = "tracks.npz"


class Record:
    """The record of all replicas."""

    def __init__(self, replicas: Sequence[Replica], schedule: Schedule, folder: Path | None) -> None:
        """Start with nothing; `folder` keeps the pieces, or None for memory alone."""
        self._replicas, self._schedule, self._folder = replicas, schedule, folder
        self._pieces: list[dict[str, Any]] = [{name: [] for name in (*SAMPLED, *FRAMES)} for _ in replicas]
        self._written = 0
        self._fresh = [dict.fromkeys((*SAMPLED, *FRAMES), 0) for _ in replicas]
        self.failures: dict[int, str] = {}
        self.ended_ps = np.zeros(len(replicas))

    def note(self, state: State) -> None:
        """Keep what the schedule asks for at this step."""
        sampled = state.step % self._schedule.sample_every == 0
        framed = state.step % self._schedule.frame_every == 0
        self.ended_ps[state.alive] = 1e-3 * state.step * state.timestep_fs
        if not sampled and not framed:
            return
        kinetic, volume = state.kinetic_eV(), state.volume_A3()
        pressure = np.zeros_like(volume)
        if sampled and self._schedule.samples_pressure:
            pressure = np.nan_to_num(state.pressure() * BAR_PER_EV_PER_CUBIC_ANGSTROM)
        for k, i in enumerate(state.alive):
            piece, atoms = self._pieces[i], slice(state.offsets[k], state.offsets[k + 1])
            if sampled:
                now = (
                    self.ended_ps[i], state.energy[k], kinetic[k], pressure[k], volume[k],
                    state.energy[k] + kinetic[k] - state.added_eV[k],
                )  # fmt: skip
                for name, value in zip(SAMPLED, now, strict=True):
                    piece[name].append(value)
            if framed:
                piece["frame_time_ps"].append(self.ended_ps[i])
                piece["positions"].append(state.positions[atoms].astype(np.float32))
                piece["cells"].append(state.cells[k].copy())
                if self._schedule.keeps_velocities:
                    piece["velocities"].append(state.velocities[atoms].astype(np.float32))

    def fail(self, number: int, reason: str) -> None:
        """Note that a replica has left, and why."""
        self.failures[int(number)] = reason

    def save(self, state: State, memory: Mapping[str, Float]) -> None:
        """Write the new piece, then the checkpoint."""
        if self._folder is None:
            return
        piece = {}
        for i, kept in enumerate(self._pieces):
            for name, values in kept.items():
                piece[f"{name}-{i}"] = np.array(values[self._fresh[i][name] :])
                self._fresh[i][name] = len(values)
        _write(self._folder / f"piece-{self._written:06d}.npz", piece)
        self._written += 1
        _write(
            self._folder / CHECKPOINT,
            {f"state-{name}": value for name, value in state.arrays().items()}
            | {f"memory-{name}": value for name, value in memory.items()}
            | {f"failure-{i}": np.array(reason) for i, reason in self.failures.items()}
            | {"n_pieces": np.array(self._written), "ended_ps": self.ended_ps},
        )

    def resume(self, state: State) -> dict[str, Float] | None:
        """Go back to the last checkpoint and return the model's memory, or None when there is no checkpoint."""
        if self._folder is None or not (self._folder / CHECKPOINT).is_file():
            return None
        saved = _read(self._folder / CHECKPOINT)
        state.restore({name.removeprefix("state-"): saved[name] for name in saved if name.startswith("state-")})
        self.ended_ps = saved["ended_ps"]
        self.failures = {int(name.partition("-")[2]): str(saved[name]) for name in saved if name.startswith("failure-")}
        self._written = int(saved["n_pieces"])
        for number in range(self._written):
            for name, values in _read(self._folder / f"piece-{number:06d}.npz").items():
                what, _, i = name.partition("-")
                self._pieces[int(i)][what].extend(values)
        self._fresh = [{name: len(values) for name, values in kept.items()} for kept in self._pieces]
        return {name.removeprefix("memory-"): saved[name] for name in saved if name.startswith("memory-")}

    def tracks(self) -> tuple[Track, ...]:
        """Return what was kept of each replica."""
        return tuple(
            _track(one.name, len(one.atoms), kept, ended_ps=float(self.ended_ps[i]), failure=self.failures.get(i, ""))
            for i, (one, kept) in enumerate(zip(self._replicas, self._pieces, strict=True))
        )

    def finish(self) -> None:
        """Write the whole record, and remove pieces and checkpoint."""
        if self._folder is None:
            return
        keep(self._folder, self.tracks())
        for path in (*self._folder.glob("piece-*.npz"), self._folder / CHECKPOINT):
            path.unlink(missing_ok=True)


def keep(folder: Path, tracks: Sequence[Track]) -> None:
    """Write finished tracks, for `finished` to read."""
    whole: dict[str, Any] = {"ended_ps": np.array([track.ended_ps for track in tracks])}
    for i, track in enumerate(tracks):
        whole |= {f"{name}-{i}": getattr(track, name) for name in (*SAMPLED, *FRAMES)}
        whole[f"failure-{i}"] = np.array(track.failure)
    _write(folder / FINISHED, whole)


def finished(replicas: Sequence[Replica], folder: Path | None) -> tuple[Track, ...] | None:
    """Return the whole record when it was written before."""
    if folder is None or not (folder / FINISHED).is_file():
        return None
    whole = _read(folder / FINISHED)
    return tuple(
        _track(
            one.name, len(one.atoms), {name: whole[f"{name}-{i}"] for name in (*SAMPLED, *FRAMES)},
            ended_ps=float(whole["ended_ps"][i]), failure=str(whole[f"failure-{i}"]),
        )
        for i, one in enumerate(replicas)
    )  # fmt: skip


def _track(name: str, n_atoms: int, kept: Mapping[str, Any], *, ended_ps: float, failure: str) -> Track:
    return Track(
        name=name,
        **{key: np.array(kept[key], dtype=np.float64) for key in (*SAMPLED, "frame_time_ps")},
        positions=np.array(kept["positions"], dtype=np.float32).reshape(-1, n_atoms, 3),
        cells=np.array(kept["cells"], dtype=np.float64).reshape(-1, 3, 3),
        velocities=np.array(kept["velocities"], dtype=np.float32).reshape(-1, n_atoms, 3),
        ended_ps=ended_ps,
        failure=failure,
    )


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a file whole: an interruption leaves the old one."""
    import os

    temporary = path.with_name(f".{path.name}")
    with _on_disk(path), temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any]:
    # Opened here, since numpy leaves a damaged file open.
    with _on_disk(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    """Turn what a disk can answer into one sentence."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{path} cannot be used: {error.strerror or error}. Check the folder given by --store."
        ) from error
    except (ValueError, EOFError, BadZipFile) as error:
        raise BadInput(f"{path} is damaged: {error}. Remove its folder and run again.") from error
