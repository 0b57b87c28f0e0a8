"""How fast is it, beside what? Side by side in one run, one thread each, medians and ratios.

`python -m mlipbench.speed` prints a table and writes `reports/speed.json`. Absolute times depend on the machine and
on what else runs there; the ratios are what is compared with the bars.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from mlipbench.benchmarks.frames import spread_out
from mlipbench.core.benchmark import no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Model, ModelSpec
from mlipbench.core.suite import ModelEntry
from mlipbench.data.suites import read_suite
from mlipbench.engine import plan as planning
from mlipbench.engine import schedule
from mlipbench.engine.executors import executor
from mlipbench.engine.run import perform
from mlipbench.files.places import default_store
from mlipbench.models import load
from mlipbench.models.entries import read_model
from mlipbench.store import Store

REPORT: Final = Path("reports") / "speed.json"
SCHEMA: Final = 1
REPEATS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two things timed in turn.

    Attributes:
        name: what is compared.
        ours: median of ours, in `unit`.
        peer: median of the other, in `unit`.
        ratio: what the bar is about.
        bar: as in ">= 1.6"; empty when there is none.
        unit: of both.
        threads: of each process.
        device: "cpu" or "cuda".
        host: machine name.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    bar: str
    unit: str
    threads: int = 1
    device: str = "cpu"
    host: str = platform.node()

    @property
    def is_met(self) -> bool:
        """Is the ratio on the right side of its bar?"""
        if not self.bar:
            return True
        sign, number = self.bar.split()
        return self.ratio >= float(number) if sign == ">=" else self.ratio <= float(number)


def in_turn(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of two calls, run in turn after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(REPEATS + 1):
        for call, kept in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            call()
            if number:
                kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def workers(entry: ModelEntry) -> Comparison:
    """Time the evaluation jobs of the electrolyte suite on two Dask workers and on one."""
    suite = read_suite("electrolyte")
    rows = [replace(row, seeds=(0, 1, 2, 3)) for row in suite.rows if row.benchmark == "energy_force_stress"]
    plan = planning.make(replace(suite, rows=tuple(rows)), [entry], tier="quick", device="cpu")
    # A remembered answer would take no time.
    plan = replace(plan, jobs=tuple(replace(job, remember=False) for job in plan.jobs))
    with tempfile.TemporaryDirectory() as folder, _dask(folder, 2) as two, _dask(folder, 1) as one:

        def farm(place: Any) -> Callable[[], None]:
            return lambda: _run_all(plan, Path(folder), place)

        ours, peer = in_turn(farm(two), farm(one))
    return Comparison(
        name=f"{len(plan.jobs)} evaluation jobs of {entry.spec.name}: two Dask workers, one worker",
        ours=ours, peer=peer, ratio=peer / ours, bar=">= 1.6", unit="s",
    )  # fmt: skip


@contextmanager
def _dask(folder: str, n_workers: int) -> Iterator[Any]:
    """Open a local cluster whose workers write into a folder."""
    with executor("local", Store(Path(folder) / f"workers-{n_workers}"), workers=n_workers) as place:
        yield place


def _run_all(plan: planning.Plan, folder: Path, place: Any) -> None:
    """Run every job of a plan anew."""
    store = Store(folder / f"workers-{place.slots}")
    schedule.run(plan, store, place, lambda _, __: None, fresh=True)


def overhead(entry: ModelEntry, *, max_frames: int) -> Comparison:
    """Time a whole evaluation job and a bare loop over the model's own ASE calculator on the same frames."""
    suite = read_suite("electrolyte")
    rows = tuple(replace(row, parameters={"max_frames": max_frames}) for row in suite.rows if row.name == "errors-test")
    plan = planning.make(replace(suite, rows=rows), [entry], tier="quick", device="cpu")
    job = next(job for job in plan.jobs if job.kind == "evaluate")
    # Through the ASE door the harness asks frame by frame as the bare loop does: the rest is overhead.
    model = load(entry.spec, device="cpu")
    data = plan.data[job.data].split(job.split)
    data = data.take(spread_out(data, max_frames).tolist())
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = in_turn(lambda: _job(job, model, Path(folder)), lambda: _bare(model, data))
    return Comparison(
        name=f"one evaluation job of {entry.spec.name}, {len(data)} frames: harness, bare calculator loop",
        ours=ours, peer=peer, ratio=ours / peer, bar="<= 1.05", unit="s",
    )  # fmt: skip


def _job(job: planning.Job, model: Model, folder: Path) -> None:
    """Run a whole job, frame by frame and with nothing remembered."""
    from mlipbench.models.ase import AseModel

    perform(job, Store(folder), no_progress, model=AseModel(spec=model.spec, bare=model.calculator()))


def _bare(model: Model, data: Dataset) -> None:
    """Do what a user's own script would do."""
    calculator = model.calculator()
    for frame in data.frames:
        atoms = frame.copy()
        atoms.calc = calculator
        atoms.get_potential_energy()
        atoms.get_forces()
        if atoms.pbc.all():
            atoms.get_stress()


def inference(entries: dict[str, ModelSpec]) -> Iterator[Comparison]:
    """Time the prediction of the test frames by each model, in batches where it can, beside the first."""
    suite = read_suite("electrolyte")
    row = next(row for row in suite.rows if row.name == "errors-test")
    models = {name: load(spec, device="cpu") for name, spec in entries.items()}
    plan = planning.make(replace(suite, rows=(row,)), [read_model("gaff2")], tier="quick", device="cpu")
    frames = plan.data[row.data].split(row.split).frames
    n_atoms = sum(len(frame) for frame in frames)
    first, *others = models
    for name in others:
        ours, peer = in_turn(partial(models[name].predict, frames), partial(models[first].predict, frames))
        yield Comparison(
            name=f"prediction of {len(frames)} test frames: {name}, {first}",
            ours=n_atoms / ours, peer=n_atoms / peer, ratio=peer / ours, bar="", unit="atoms/s",
        )  # fmt: skip


def trained(names: list[str]) -> dict[str, ModelSpec]:
    """Return the specs of trained recipes, from the usual store where they are, else trained now."""
    store = Store(default_store())
    empty = replace(read_suite("electrolyte"), rows=())
    plan = planning.make(empty, [read_model(name) for name in names], tier="quick", device="cpu")
    with store.lock(), executor("serial", store, workers=1) as place:
        standing = schedule.run(plan, store, place, lambda _, news: _say(news), fresh=False)
    return {job.model.name: planning.trained_spec(job, stored) for job, stored in standing.ended}


def main() -> int:
    """Time everything, print it, write it, and return 0 when every bar is met."""
    specs = trained(["mace-ci", "ace-medium"])
    gaff = read_model("gaff2")
    mace = ModelEntry(spec=specs["mace-ci"])
    # Not GAFF2: OpenMM's reference platform uses a second thread for its Fourier transforms.
    found = [workers(mace), overhead(gaff, max_frames=40), overhead(mace, max_frames=160)]
    found += inference({"mace-ci": specs["mace-ci"], "ace-medium": specs["ace-medium"]})
    for one in found:
        met = "" if not one.bar else f"  bar {one.bar}: {'met' if one.is_met else 'MISSED'}"
        _say(f"{one.name}: {one.ours:.4g} and {one.peer:.4g} {one.unit}, ratio {one.ratio:.3f}{met}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    record = {"schema": SCHEMA, "comparisons": [asdict(one) for one in found]}
    REPORT.write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    _say(f"written to {REPORT}")
    return 0 if all(one.is_met for one in found) else 1


def _say(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
