"""What does a farm of workers gain, and what does the harness cost?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlipbench.benchmarks.frames import spread_out
from mlipbench.core.benchmark import no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Model
from mlipbench.core.suite import ModelEntry
from mlipbench.data.suites import read_suite
from mlipbench.engine import plan as planning
from mlipbench.engine import schedule
from mlipbench.engine.executors import executor
from mlipbench.engine.run import perform
from mlipbench.errors import NotApplicable
from mlipbench.models import load
from mlipbench.models.entries import read_model
from mlipbench.speed.comparison import Absent, Comparison, Found, in_turn
from mlipbench.speed.settings import Settings
from mlipbench.store import Store


def farm(settings: Settings) -> Iterator[Found]:
    """Time jobs on workers, and whole jobs beside bare loops."""
    try:
        mace = ModelEntry(spec=settings.spec("mace-ci"))
    except NotApplicable as error:
        yield Absent(name="evaluation jobs of mace-ci: two Dask workers, one worker", reason=str(error), bar=">= 1.6")
    else:
        # Not GAFF2 on the workers: OpenMM's reference platform uses a second thread for its Fourier transforms.
        yield workers(mace)
        yield overhead(mace, max_frames=settings.farm_frames)
    yield overhead(read_model("gaff2"), max_frames=settings.farm_frames // 4)


def workers(entry: ModelEntry) -> Comparison:
    """Time the evaluation jobs of the electrolyte suite on two Dask workers and on one."""
    suite = read_suite("electrolyte")
    rows = [replace(row, seeds=(0, 1, 2, 3)) for row in suite.rows if row.benchmark == "energy_force_stress"]
    plan = planning.make(replace(suite, rows=tuple(rows)), [entry], tier="quick", device="cpu")
    # A remembered answer would take no time.
    plan = replace(plan, jobs=tuple(replace(job, remember=False) for job in plan.jobs))
    with tempfile.TemporaryDirectory() as folder, _dask(folder, 2) as two, _dask(folder, 1) as one:

        def jobs(place: Any) -> Callable[[], None]:
            return lambda: _run_all(plan, Path(folder), place)

        ours, peer = in_turn(jobs(two), jobs(one))
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
