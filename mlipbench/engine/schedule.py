"""Which job is next, and what waits for what?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mlipbench.core.result import Broken, Measured, Outcome
from mlipbench.engine.executors import Executor
from mlipbench.engine.messages import Event, Moved
from mlipbench.engine.plan import Job, Plan, finished, trained_spec
from mlipbench.engine.provenance import Clock
from mlipbench.engine.run import lost, rescore
from mlipbench.errors import BadInput
from mlipbench.store import Store, Stored


@dataclass(slots=True)
class Standing:
    """How a run stands; the progress display reads it.

    Attributes:
        jobs: all of the plan.
        waiting: not begun.
        running: begun, by id, with the last news of each.
        ended: finished in this run or before.
        kept: how many of them were finished before.
    """

    jobs: tuple[Job, ...]
    waiting: list[Job] = field(default_factory=list)
    running: dict[str, tuple[Job, Moved | None]] = field(default_factory=dict)
    ended: list[tuple[Job, Stored]] = field(default_factory=list)
    kept: int = 0


Watch = Callable[[Standing, str], None]  # called when something changed, with a line of news or ""


def run(plan: Plan, store: Store, executor: Executor, watch: Watch, *, fresh: bool) -> Standing:
    """Run all jobs of a plan that are not finished, and return how they ended.

    Trainings and long jobs start first; jobs that want an idle machine come last, one at a time.

    Args:
        plan: what to do.
        store: where records are and go.
        executor: where jobs run.
        watch: is told of every change.
        fresh: run also what is finished.

    Raises:
        BadInput: the store cannot be written; what is finished stays.
    """
    standing = _at_start(plan, store, fresh=fresh)
    watch(standing, "")
    while standing.waiting or standing.running:
        _start(standing, store, executor, watch)
        if standing.running:
            _take(executor.next_event(), standing, store, watch)
    return standing


def _at_start(plan: Plan, store: Store, *, fresh: bool) -> Standing:
    """Sort what is done from what waits; a moved formula is applied to what was observed."""
    standing = Standing(jobs=plan.jobs)
    weights: dict[str, str] = {}
    for job in plan.jobs:  # trainings stand before what waits for them
        found = None if fresh else finished(job, store)
        if found is not None and job.kind == "train":
            weights[job.id] = found.result.checkpoint_sha256
        if found is None or (job.after and found.result.checkpoint_sha256 != weights.get(job.after)):  # other weights
            standing.waiting.append(job)
        else:
            standing.ended.append((job, scored(found, job.data, store)))
    standing.kept = len(standing.ended)
    order = {"train": 0, "evaluate": 1}
    models = list(dict.fromkeys(job.model.name for job in plan.jobs))
    # Long trainings first; then model by model and data set by data set, so that answers are shared.
    standing.waiting.sort(
        key=lambda job: (job.alone, order[job.kind], -job.expected_s if job.kind == "train" else 0.0,
                         models.index(job.model.name), job.data, job.split)
    )  # fmt: skip
    return standing


def is_stale(found: Stored) -> bool:
    """Was this scored with a formula that has moved since?"""
    from mlipbench.benchmarks import benchmark

    result = found.result
    if result.kind == "train" or not isinstance(result.outcome, Measured):
        return False
    return result.score_version != benchmark(result.benchmark).about.score_version


def scored(found: Stored, data_name: str, store: Store) -> Stored:
    """Return a finished job, scored with the formula of today."""
    return rescore(found, data_name, store) if is_stale(found) else found


def _start(standing: Standing, store: Store, executor: Executor, watch: Watch) -> None:
    """Fill the free slots with jobs that may begin."""
    for job in _by_model(standing):
        if len(standing.running) >= executor.slots:
            return
        if job.alone and (standing.running or any(not other.alone for other in standing.waiting)):
            continue
        if any(other.alone for other, _ in standing.running.values()):
            return
        ready = _ready(job, standing)
        if ready is None:
            continue
        standing.waiting.remove(job)
        if isinstance(ready, Job):
            standing.running[job.id] = (job, None)
            executor.submit(ready)
            watch(standing, "")
        else:
            _end(job, lost(job, store, ready, Clock.start()), standing, watch)


def _by_model(standing: Standing) -> list[Job]:
    """Return the waiting jobs, those of models that are not running first.

    Rows of one model share answers and trajectories: two of them side by side would both work for the same, or wait.
    """
    busy = {job.model.name for job, _ in standing.running.values()}
    return sorted(standing.waiting, key=lambda job: (job.alone, job.kind != "train", job.model.name in busy))


def _ready(job: Job, standing: Standing) -> Job | Outcome | None:
    """Return the job with its trained model, its outcome when there is none to wait for, or None to wait."""
    if not job.after:
        return job
    for other, stored in standing.ended:
        if other.kind == "train" and other.id == job.after and other.model.name == job.model.name:
            outcome = stored.result.outcome
            if isinstance(outcome, Measured):
                return replace(job, model=trained_spec(job, stored))
            return replace(outcome, reason=f"its training ended first: {outcome.reason}")
    return None


def _take(event: Event, standing: Standing, store: Store, watch: Watch) -> None:
    """Note one piece of news."""
    if event.job_id not in standing.running:
        return  # late news of a job that has ended
    job, _ = standing.running[event.job_id]
    if isinstance(event, Moved):
        standing.running[job.id] = (job, event)
        watch(standing, "")
        return
    if event.refused:
        raise BadInput(event.refused)
    del standing.running[job.id]
    if event.lost:
        _end(job, lost(job, store, Broken(reason=event.lost), Clock.start()), standing, watch)
        return
    stored = store.find(job.model.name, job.row, job.id)
    if stored is None:
        raise BadInput(f"{job.label} ended, but {store.folder(job.model.name, job.row, job.id)} holds no record; "
                       "the workers may not see this folder. Choose one on a shared disk with --store.")  # fmt: skip
    _end(job, stored, standing, watch)


def _end(job: Job, stored: Stored, standing: Standing, watch: Watch) -> None:
    """Put a job among the ended ones and say how it went."""
    standing.ended.append((job, stored))
    outcome = stored.result.outcome
    reason = "" if isinstance(outcome, Measured) else f": {outcome.reason}"
    watch(standing, f"{job.label}: {outcome.outcome}{reason} ({stored.result.provenance.seconds:.1f} s)")


def seconds_left(standing: Standing, slots: int) -> float:
    """Estimate the seconds left from what jobs were expected to take and what they took.

    The first guess is a job's `expected_s`; it is scaled by how wrong the finished jobs of this run were, and a job
    that reports how far it is counts only its rest.
    """
    done = standing.ended[standing.kept :]
    expected = sum(job.expected_s for job, _ in done)
    taken = sum(stored.result.provenance.seconds for _, stored in done)
    scale = taken / expected if expected > 0.0 and taken > 0.0 else 1.0
    rest = sum(job.expected_s for job in standing.waiting)
    for job, news in standing.running.values():
        share = news.done / news.total if news is not None and news.total > 0 else 0.0
        rest += job.expected_s * (1.0 - min(1.0, share))
    return rest * scale / max(1, slots)


def broken(standing: Standing) -> list[tuple[Job, Broken]]:
    """Return the jobs that no model is to blame for."""
    return [(job, one.result.outcome) for job, one in standing.ended if isinstance(one.result.outcome, Broken)]
