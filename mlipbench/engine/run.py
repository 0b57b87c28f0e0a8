"""What becomes of one job? The only place that catches everything, and it decides whose fault it was."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from mlipbench.core.benchmark import About, Benchmark, Context, Observation, expected
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import REFERENCE, Model, ModelSpec, Progress, Trained
from mlipbench.core.result import Broken, Failed, Measured, Outcome, Result, Skipped, Training
from mlipbench.core.view import View
from mlipbench.data import manifest
from mlipbench.engine.ask import asked
from mlipbench.engine.plan import Job
from mlipbench.engine.provenance import Clock
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.files.hashes import sha256_of
from mlipbench.files.toml import build
from mlipbench.store import Store, Stored

T = TypeVar("T")
SCRATCH = ".dynamics"  # in the store, next to the models' folders: what takes long and can be gone on with


def attempt(call: Callable[[], T]) -> T | Exception:
    """Return what a call returns, or the exception it raised."""
    try:
        return call()
    except Exception as error:  # ruff: ignore[blind-except]  the one broad catch: a job must end as a record, whatever happens in it
        return error


def perform(
    job: Job,
    store: Store,
    progress: Progress,
    *,
    log: Callable[[], str] = lambda: "",
    folder: Path | None = None,
    model: Model | None = None,
) -> Stored:
    """Run a job and write its record; an exception becomes an outcome.

    Args:
        job: what to do.
        store: where the record goes.
        progress: called with done, total and a remark.
        log: returns what was printed so far, for the record.
        folder: for a training's files; None for one of the system's.
        model: asked instead of the job's own and always anew; for timing what is not the model.

    Raises:
        BadInput: the store cannot be written.
    """
    clock = Clock.start()
    with tempfile.TemporaryDirectory(prefix="mlipbench-", dir=folder) as scratch:
        if job.kind == "train":
            return _train(job, store, progress, Path(scratch), clock, log)
        return _evaluate(job, store, progress, clock, log, model)


def outcome_of(error: Exception) -> Outcome:
    """Say whose fault an exception is."""
    if isinstance(error, ModelFailure):
        return Failed(reason=str(error))
    if isinstance(error, NotApplicable):
        return Skipped(reason=str(error), missing_package=getattr(error, "package", ""))
    if isinstance(error, BadInput):
        return Broken(reason=str(error), is_input=True)
    return Broken(reason=f"{type(error).__name__}: {error}")


def lost(job: Job, store: Store, outcome: Outcome, clock: Clock, *, log: str = "") -> Stored:
    """Write the record of a job whose process is gone."""
    return store.write(_record(job, outcome, clock), log=log)


def _train(job: Job, store: Store, progress: Progress, scratch: Path, clock: Clock, log: Callable[[], str]) -> Stored:
    """Train a recipe and keep its files."""
    made = attempt(lambda: _trained(job, progress, scratch))
    if isinstance(made, Exception):
        return store.write(_record(job, outcome_of(made), clock), log=log() + _traceback(made))
    trained, data = made
    file = scratch / trained.checkpoint
    spec = replace(
        job.model, kind=trained.kind, elements=trained.elements, checkpoint=file.name,
        checkpoint_sha256=sha256_of(file), options={**trained.options, **job.model.options},
    )  # fmt: skip
    training = Training(
        spec=spec, recipe=asdict(job.recipe) if job.recipe else {}, data=data, notes=trained.notes,
        facts=trained.facts, history=trained.history,
    )  # fmt: skip
    result = replace(
        _record(job, Measured(values=()), clock), training=training, checkpoint_sha256=spec.checkpoint_sha256 or ""
    )
    files = [path for path in sorted(scratch.iterdir()) if path.is_file()]
    return store.write(result, log=log(), files=files)


def _trained(job: Job, progress: Progress, scratch: Path) -> tuple[Trained, dict[str, Any]]:
    """Call the trainer on the splits the recipe names."""
    from mlipbench.training import trainer

    if job.recipe is None:
        raise BadInput(f"{job.label}: a training job without a recipe.")
    data = _dataset(job.data, job.data_sha256)
    train, valid = data.split(job.recipe.train), data.split(job.recipe.valid)
    trained = trainer(job.recipe.trainer)(
        train, valid, options=job.recipe.options, seed=job.seed, device=job.device, out=scratch, progress=progress
    )
    facts = {
        "name": data.spec.name, "version": data.spec.version, "sha256": data.spec.sha256,
        "level_of_theory": data.spec.level_of_theory,
        "train": job.recipe.train, "train_frames": len(train), "train_atoms": int(train.n_atoms.sum()),
        "valid": job.recipe.valid, "valid_frames": len(valid), "valid_atoms": int(valid.n_atoms.sum()),
    }  # fmt: skip
    return trained, facts


def _evaluate(
    job: Job, store: Store, progress: Progress, clock: Clock, log: Callable[[], str], given: Model | None
) -> Stored:
    """Observe, score and show."""
    from mlipbench.benchmarks import benchmark

    made: Benchmark = build(benchmark(job.benchmark), job.parameters, where=job.label)

    def measure() -> tuple[Observation, Outcome, tuple[View, ...]]:
        data = _dataset(job.data, job.data_sha256).split(job.split)
        _refuse_unlabelled(made.about, data)
        model = _model(job, data) if given is None else asked(given, attempt, remember=False)
        scratch = store.root / SCRATCH / job.device.replace(":", "-") if given is None else None
        seen = made.observe(model, data, Context(seed=job.seed, device=job.device, progress=progress, scratch=scratch))
        return seen, _scored(made, seen, data), made.views(seen, data)

    done = attempt(measure)
    if isinstance(done, Exception):
        record = _record(job, outcome_of(done), clock, about=made.about)
        return store.write(record, log=log() + _traceback(done))
    seen, outcome, views = done
    return store.write(_record(job, outcome, clock, about=made.about), observation=seen, views=views, log=log())


def _scored(made: Benchmark, seen: Observation, data: Dataset) -> Measured:
    """Turn what was seen into numbers, and note which ones the data allow."""
    return Measured(values=made.score(seen, data), expected=expected(made, data))


def _refuse_unlabelled(about: About, data: Dataset) -> None:
    """Refuse to compare with energies and forces that are not there.

    Raises:
        NotApplicable: the benchmark needs them, and the data set has none.
    """
    if "labels" in about.needs and not data.spec.labelled:
        raise NotApplicable(
            f"data set {data.spec.name} has no energies and forces of frames, which {about.name} compares with; its"
            " reference values are for a benchmark of their own"
        )


def _model(job: Job, data: Dataset) -> Model:
    """Return the job's model, guarded; it remembers its answers unless they are to be timed.

    No model sees the data it is measured on, but for the references that answer with what stands there.
    """
    import json

    from mlipbench.models.reference import FromLabels

    bare = _loaded(json.dumps(asdict(job.model), sort_keys=True), job.device)
    if job.model.kind == REFERENCE and isinstance(bare, FromLabels):
        bare = bare.knowing(data)
    return asked(bare, attempt, remember=job.remember and not job.alone)


@lru_cache(maxsize=2)
def _loaded(spec_json: str, device: str) -> Model:
    """Load a model once per process."""
    import json

    from mlipbench.models import load

    spec = build(ModelSpec, json.loads(spec_json), where="model")
    found = attempt(lambda: load(spec, device=device))
    if not isinstance(found, Exception):
        return found
    if isinstance(found, (ModelFailure, NotApplicable, BadInput)):
        raise found
    raise ModelFailure(f"loading {spec.name} raised {type(found).__name__}: {found}") from found


@lru_cache(maxsize=4)
def _dataset(name: str, sha256: str) -> Dataset:
    """Read a data set once per process, and refuse another one than was planned."""
    origin = manifest.source(name)
    if origin.sha256 != sha256:
        raise BadInput(f"data set {name} changed while the run was under way; run again.")
    return manifest.load(origin)


def _traceback(error: Exception) -> str:
    """Return a traceback for the log."""
    return "\n" + "".join(traceback.format_exception(error))


def _record(job: Job, outcome: Outcome, clock: Clock, *, about: About | None = None) -> Result:
    """Fill a record with all that is known about a job."""
    if about is None and job.benchmark:
        from mlipbench.benchmarks import benchmark

        about = benchmark(job.benchmark).about
    data = attempt(lambda: _dataset(job.data, job.data_sha256))
    spec = None if isinstance(data, Exception) else data.spec
    result = Result(
        job_id=job.id, kind=job.kind, row=job.row, model=job.model.name, model_key=job.model_key,
        checkpoint_sha256=job.model.checkpoint_sha256 or "", parameters=job.parameters,
        dataset=f"{spec.name}@{spec.version}" if spec else job.data, data_sha256=job.data_sha256, split=job.split,
        level_of_theory=spec.level_of_theory if spec else "", outcome=outcome,
        provenance=clock.stop(device=job.device, seed=job.seed), spec=job.model,
        training_seed=job.training_seed, training_form=job.training_form,
    )  # fmt: skip
    if about is None:
        return result
    return replace(
        result, benchmark=about.name, title=about.title, question=about.question, grade=about.grade,
        source=about.source, observe_version=about.observe_version, score_version=about.score_version,
        metrics=about.metrics,
    )  # fmt: skip


def rescore(stored: Stored, data_name: str, store: Store) -> Stored:
    """Score and show again from what was observed, after a formula moved; the model is not asked.

    Raises:
        BadInput: the data are not the ones that were measured on.
    """
    from mlipbench.benchmarks import benchmark

    old = stored.result
    made: Benchmark = build(benchmark(old.benchmark), old.parameters, where=str(stored.folder))
    data = _dataset(data_name, old.data_sha256).split(old.split)
    seen = stored.observation()
    outcome = _scored(made, seen, data)
    result = replace(old, outcome=outcome, score_version=made.about.score_version, metrics=made.about.metrics)
    log = (stored.folder / "log.txt").read_text(encoding="utf-8")
    return store.write(result, observation=seen, views=made.views(seen, data), log=log)
