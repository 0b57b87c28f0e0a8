"""How fast is the model on this machine, and how much memory does it take?"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import bars, value_of
from mlipbench.benchmarks.frames import spread_out
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, View
from mlipbench.errors import BadInput, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

RATTLE_A: Final = 0.01
BYTES_PER_MB: Final = 1e6
SAMPLING_INTERVAL_S: Final = 0.002
TOLERANCE: Final = 0.45  # two runs on one machine differ by up to a third

METRICS: Final = (
    *(
        Metric(
            name=f"{way}_atoms_per_{clock}second", title=f"{title}, {'CPU' if clock else 'wall'} time", unit="atom/s",
            better="higher", good=1e5, bad=1e2, log_scale=True, headline=way == "single" and not clock,
            role="merit" if way == "single" and not clock else "diagnostic", tolerance=TOLERANCE, lowest=0.0,
            says=f"atoms over {'processor' if clock else 'wall'} seconds of one call with energy, forces and stress of "
            f"{what}, rattled before each call; median over repeats, interval over repeats by Woodruff's method",
        )
        for way, title, what in (
            ("single", "One frame", "the largest frame, periodic if there is one"),
            ("batch", "Many frames", "frames evenly spaced over the data"),
        )
        for clock in ("", "cpu_")
    ),
    Metric(
        name="peak_memory", title="Peak memory", unit="MB", better="lower", good=300.0, bad=1e4, log_scale=True,
        role="diagnostic", tolerance=TOLERANCE, lowest=0.0,
        says="largest resident memory of the process, with Python and the model, during a call with the batch and with"
        " the single frame; no interval",
    ),
    Metric(
        name="memory_growth", title="Memory growth", unit="MB", better="lower", good=100.0, bad=1e4, log_scale=True,
        role="diagnostic", tolerance=TOLERANCE, lowest=0.0,
        says="largest resident memory of the process during a call with the batch and with the single frame, less that"
        " before the first call of this row; less than in a fresh process where other rows ran before; no interval",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Time single and batched calls; positions move a little each time, so that no cache can answer.

    Attributes:
        n_repeats: timed calls of each kind, after one that is not timed.
        batch_frames: frames in a batch.
    """

    about: ClassVar[About] = About(
        name="speed",
        title="Speed and memory",
        question="How fast is the model on this machine, and how much memory does it take?",
        metrics=METRICS,
        observe_version=1,
        score_version=2,
        source="wall and processor time of one process, as read from the operating system",
        grade="cost",
        needs=frozenset({"idle_machine"}),
        seconds=10.0,
    )

    n_repeats: int = 5
    batch_frames: int = 8

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Time the calls.

        Raises:
            BadInput: no repeats are asked for.
            NotApplicable: there are no frames.
            ModelFailure: the model is at fault.
        """
        if self.n_repeats < 1 or self.batch_frames < 1:
            raise BadInput("speed: n_repeats and batch_frames must be 1 or more")
        rng = context.rng()
        jobs = {
            "single": [data.frames[_largest(data)]],
            "batch": [data.frames[i] for i in spread_out(data, self.batch_frames)],
        }
        with PeakMemory() as memory:  # these calls also pay for all that is done only once
            for frames in jobs.values():
                model.predict(_rattled(frames, rng))
        seen: dict[str, Float] = {
            "peak_memory": np.array([memory.peak_MB]),
            "memory_growth": np.array([memory.growth_MB]),
        }
        for done, (way, frames) in enumerate(jobs.items()):
            context.progress(done, len(jobs), way)
            seen[f"{way}_n_atoms"] = np.array([float(sum(len(atoms) for atoms in frames))])
            seen[f"{way}_wall_and_cpu_s"] = np.array([_timed(model, frames, rng) for _ in range(self.n_repeats)])
        return seen

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what any frames allow."""
        return tuple(metric.name for metric in METRICS)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the medians over repeats."""
        definition = {metric.name: metric for metric in METRICS}
        found = []
        for way in ("single", "batch"):
            rates = seen[f"{way}_n_atoms"] / np.maximum(seen[f"{way}_wall_and_cpu_s"], 1e-9)
            repeats = np.array([f"repeat {k + 1:03d}" for k in range(len(rates))])
            for column, clock in enumerate(("", "cpu_")):
                metric = definition[f"{way}_atoms_per_{clock}second"]
                found.append(value_of(metric, rates[:, column : column + 1], repeats, "median"))
        for name in ("peak_memory", "memory_growth"):
            rows = np.column_stack([seen[name], [1.0]])
            found.append(value_of(definition[name], rows, np.array(["process"]), "mean"))
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the rates beside each other."""
        rates = [value for value in self.score(seen, data) if value.metric.endswith("second")]
        return (bars("Atoms per second", Axis(quantity="speed", unit="atom/s", log=True), rates),)


class PeakMemory:
    """Watches the resident memory of this process from a thread, as not every system can set its own peak back.

    Attributes:
        peak_MB: largest resident memory inside the `with` block.
        growth_MB: the same less that at its start.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.peak_MB = 0.0
        self.growth_MB = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        """Begin to watch."""
        self._before = _resident_bytes()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look once more, and stop."""
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLING_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self.peak_MB = max(self.peak_MB, _resident_bytes() / BYTES_PER_MB)
        self.growth_MB = max(0.0, self.peak_MB - self._before / BYTES_PER_MB)


def _resident_bytes() -> int:
    """Return what the process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _largest(data: Dataset) -> int:
    """Return the number of the largest periodic frame, or of the largest frame when none is periodic."""
    if not len(data):
        raise NotApplicable(f"data set {data.spec.name} has no frames here to time")
    return max(range(len(data)), key=lambda i: (bool(data.frames[i].pbc.any()), len(data.frames[i]), -i))


def _rattled(frames: Sequence[Atoms], rng: np.random.Generator) -> list[Atoms]:
    """Return copies with every atom moved a little."""
    moved = [atoms.copy() for atoms in frames]
    for atoms in moved:
        atoms.positions += rng.normal(scale=RATTLE_A, size=(len(atoms), 3))
    return moved


def _timed(model: Model, frames: Sequence[Atoms], rng: np.random.Generator) -> tuple[float, float]:
    """Return wall and processor seconds of one call."""
    moved = _rattled(frames, rng)
    wall, cpu = time.perf_counter(), time.process_time()
    model.predict(moved)
    return time.perf_counter() - wall, time.process_time() - cpu
