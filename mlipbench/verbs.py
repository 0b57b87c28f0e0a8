"""What the verbs of the command line do; each returns an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from mlipbench import benchmarks, generate
from mlipbench.core.result import Measured
from mlipbench.core.suite import TIERS, ModelEntry, Suite, Tier
from mlipbench.data import manifest
from mlipbench.data.lint import remarks
from mlipbench.data.suites import check_decisions, read_suite, suite_names, with_data
from mlipbench.engine import plan as planning
from mlipbench.engine import progress, schedule
from mlipbench.engine.executors import executor
from mlipbench.engine.run import attempt
from mlipbench.engine.select import belonging
from mlipbench.errors import BadInput, MlipbenchError, ModelFailure, NotApplicable
from mlipbench.files.places import default_store, shared_folder
from mlipbench.generate.vacuum import add_vacuum_labels
from mlipbench.models import load
from mlipbench.models.entries import model_names, read_model
from mlipbench.report import gate, page, table
from mlipbench.store import Store, consistent

GOOD, CANNOT_TELL, BAD_INPUT = 0, 2, 3


def run(given: Namespace) -> int:
    """Run a suite on models, write the leaderboard, print its head and where it lies."""
    suite, device, tier = _suite(given), _device(given.device), _tier(given)
    texts = given.model or list(suite.models)
    if not texts:
        raise BadInput(f"suite {suite.name} names no models of its own; give one with --model. {_model_hint()}")
    plan = planning.make(suite, [read_model(text) for text in texts], tier=tier, device=device)
    if all(job.kind == "train" for job in plan.jobs):
        raise BadInput(f"suite {suite.name} has no rows in tier {tier}. Tiers: {', '.join(TIERS)}.")
    standing = _execute(given, plan)
    consistent([stored.result for _, stored in standing.ended])
    _write_page(given, suite, tier, plan.model_keys)
    return _ended(standing)


def _ended(standing: schedule.Standing) -> int:
    """Say what went wrong, and return the exit code of a run."""
    broken = schedule.broken(standing)
    for reason in dict.fromkeys(outcome.reason for _, outcome in broken):
        rows = [job.label for job, outcome in broken if outcome.reason == reason]
        _say(f"not run: {', '.join(rows)}: {reason}")
    if any(outcome.is_input for _, outcome in broken):
        return BAD_INPUT
    if broken:
        _say("log.txt in the folders of these jobs says more")
        return CANNOT_TELL
    ended = [(job.kind, stored.result.outcome) for job, stored in standing.ended]
    if not any(kind == "evaluate" and isinstance(outcome, Measured) for kind, outcome in ended):
        _say("nothing was measured; the reasons stand above and on the page")
        return CANNOT_TELL
    return GOOD


def train(given: Namespace) -> int:
    """Train one recipe and say where the weights are."""
    entry = read_model(given.model)
    if entry.recipe is None:
        raise BadInput(f"model {entry.spec.name} has no recipe; it is ready. Models with recipes: {_recipes()}.")
    empty = Suite(name="train", version="1", about="", rows=())
    plan = planning.make(empty, [entry], tier=_tier(given), device=_device(given.device))
    standing = _execute(given, plan)
    ((_, stored),) = standing.ended
    if isinstance(stored.result.outcome, Measured):
        _say(f"weights: {stored.folder / str(planning.trained_spec(plan.jobs[0], stored).checkpoint)}")
        return GOOD
    return _ended(standing)


def score(given: Namespace) -> int:
    """Score again what was observed, where a formula moved."""
    suite = _suite(given)
    store = Store(_store(given))
    with store.lock():
        found = [one for one in belonging(store, suite, _tier(given), {}) if one.result.kind == "evaluate"]
        n_scored = sum(schedule.is_stale(stored) for stored in found)
        for stored in found:
            schedule.scored(stored, _data_of(suite, stored.result.row), store)
    _say(f"{suite.name}: {len(found)} results, {n_scored} scored again")
    return GOOD


def report(given: Namespace) -> int:
    """Write the leaderboard of what is stored."""
    _write_page(given, _suite(given), _tier(given), {})
    return GOOD


def judge(given: Namespace) -> int:
    """Compare a candidate with limits and with a baseline."""
    suite, tier = _suite(given), _tier(given)
    name, keys = _candidate(given.candidate, suite, tier)
    results = [one.result for one in belonging(Store(_store(given)), suite, tier, keys)]
    usual = Path("reports") / "baseline" / f"{suite.name}.json"
    path = usual if given.baseline is None else given.baseline
    if given.accept_failed and not given.write_baseline:
        raise BadInput("--accept-failed goes with --write-baseline: it says why a model that fails checks is one.")
    if given.write_baseline:
        gate.write_baseline(
            results, _in_tier(suite, tier), path, models=[name], tier=tier, accept_failed=given.accept_failed
        )
        _say(f"baseline of {name} in suite {suite.name} written to {path}")
        return GOOD
    if given.baseline is not None and not path.is_file():
        raise BadInput(f"--baseline {path}: there is no such file. Make one with --write-baseline.")
    baseline = gate.read_baseline(path) if path.is_file() else None
    verdicts = gate.gate(results, suite, name, baseline, against=given.against or "", tier=tier)
    if given.json is not None:
        _write_verdicts(given.json, gate.as_json(verdicts))
    console = _console()
    if any(verdict.status != "pass" for verdict in verdicts.verdicts):
        console.print(gate.shown(verdicts))
    else:
        console.print(" ".join([verdicts.says, verdicts.sensitivity]).strip(), markup=False)
    return verdicts.exit_code


def _write_verdicts(path: Path, text: str) -> None:
    """Write the verdicts for programs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page.replace_whole(path, text)
    except OSError as error:
        raise BadInput(f"--json {path}: the verdicts cannot be written ({error.strerror or error}).") from error


def listing(given: Namespace) -> int:
    """Say what there is."""
    console = Console()
    for title, lines in (
        ("suites", [(name, read_suite(name).about) for name in suite_names()]),
        ("models", [(name, read_model(name).about) for name in model_names()]),
        ("benchmarks", [(name, benchmarks.benchmark(name).about.question) for name in benchmarks.TABLE]),
        ("data sets", [(name, manifest.source(name).manifest.title) for name in manifest.names()]),
        ("data sets to generate", [(name, "mlipbench data generate " + name) for name in generate.TABLE]),
    ):
        console.print(f"[bold]{title}[/bold]")
        for name, about in lines:
            console.print(f"  {name:<22}{about}", markup=False, highlight=False, soft_wrap=True)
    return GOOD


def check(given: Namespace) -> int:
    """Validate names and files without running anything."""
    for text in given.what:
        kind, said = _checked(text)
        Console().print(f"{text}: {kind}, {said}", markup=False, highlight=False, soft_wrap=True)
    return GOOD


def _checked(text: str) -> tuple[str, str]:
    """Validate one thing, whatever it is."""
    path = Path(text)
    content = path.read_text(encoding="utf-8", errors="replace") if path.suffix == ".toml" and path.is_file() else ""
    if text in suite_names() or "[[rows]]" in content:
        suite = read_suite(text)
        for row in suite.rows:
            for tier in row.tiers:
                planning.instance(row, tier, where=f"suite {suite.name}")
            manifest.load(manifest.source(row.data)).split(row.split)
        for model in suite.models:
            read_model(model)
        return "suite", f"{len(suite.rows)} rows are well"
    if (
        text in manifest.names()
        or "[[files]]" in content
        or "\ncollection = " in content
        or (path.is_file() and path.suffix not in (".toml", ".py", ".npz", ".model", ".pt"))
    ):
        data = manifest.load(manifest.source(text))
        return (
            "data set",
            f"{len(data)} frames, {int(data.n_atoms.sum())} atoms, splits: {', '.join(data.splits) or 'none'}",
        )
    entry = read_model(text)
    return "model", f"kind {entry.spec.kind}" + (f", trained by {entry.recipe.trainer}" if entry.recipe else ", ready")


def data(given: Namespace) -> int:
    """Make or check a data set."""
    if given.data_verb == "lint":
        found = manifest.load(manifest.source(given.name))
        _say(
            f"{found.spec.name}: {len(found)} frames, "
            f"{int(found.n_atoms.sum())} atoms, {', '.join(found.spec.elements)}"
        )
        _say(f"- {found.spec.labels}")
        for remark in remarks(found):
            _say(f"- {remark}")
        return GOOD
    if given.data_verb == "vacuum":
        return _vacuum(given)
    make = generate.generator(given.name)
    out = given.out or shared_folder("reference_data") / given.name
    scratch = given.scratch or Path("reports") / "scratch" / given.name
    try:
        make(out, scratch=scratch, report=_say)
    except NotApplicable as error:
        raise BadInput(str(error)) from error
    _say(f"{given.name} written to {out}")
    return GOOD


def _vacuum(given: Namespace) -> int:
    """Add vacuum labels to a data set."""
    reference = read_model(given.reference)
    if reference.recipe is not None:
        raise BadInput(
            f"--reference {given.reference} is a recipe; the reference must be ready, and have made the labels."
        )
    found = manifest.load(manifest.source(given.name))
    try:
        add_vacuum_labels(found, load(reference.spec, device="cpu"), out=given.out, report=_say)
    except (NotApplicable, ModelFailure) as error:
        raise BadInput(f"no vacuum labels for {found.spec.name}: {error}") from error
    _say(f"{found.spec.name} with vacuum labels written to {given.out / 'dataset.toml'}")
    return GOOD


def _execute(given: Namespace, plan: planning.Plan) -> schedule.Standing:
    """Run a plan's jobs with progress."""
    store = Store(_store(given))
    console = Console(stderr=True)
    with store.lock():
        todo = [job for job in plan.jobs if given.fresh or planning.finished(job, store) is None]
        _say(
            f"{plan.suite.name}, tier {plan.tier}: {len(plan.jobs)} jobs, {len(plan.jobs) - len(todo)} finished before"
        )
        workers = min(_workers(given), max(1, len(todo)))
        kind = given.executor if todo else "serial"  # nothing to do needs no cluster
        with executor(kind, store, workers=workers) as place, progress.shown(console, place.slots) as watch:
            return schedule.run(plan, store, place, watch, fresh=given.fresh)


def _write_page(given: Namespace, suite: Suite, tier: Tier, keys: Mapping[str, tuple[str, ...]]) -> None:
    """Write the leaderboard of a suite, print its head, and say where it lies."""
    stored = belonging(Store(_store(given)), suite, tier, keys)
    if not stored:
        raise BadInput(
            f"the store {_store(given)} holds nothing of suite {suite.name}, tier {tier}. "
            f"Run it first: mlipbench run {suite.name}"
        )
    shown = {one.result.model for one in stored}
    entries = {name: read_model(name) for name in model_names() if name in shown}
    written = page.write(stored, suite, out=given.out, tier=tier, entries=entries)
    console = _console()
    board = table.leaderboard([one.result for one in stored], suite, tier=tier)
    console.print(table.head(board, width=console.width), crop=False)
    for model in board.models:
        failed = [check for check in board.checks[model] if check.state == "failed"]
        for check in failed:
            if check.decides:
                _say(f"check failed: {model}, {check.row}: {check.says}")
        known = [check.title for check in failed if not check.decides]
        if known:
            _say(f"good to know: {model} fails what does not decide: {', '.join(known)}")
    _say(f"leaderboard: {written}")


def _console() -> Console:
    """Return standard output; a log is as wide as our tables."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, table.MIN_WIDTH))


def _in_tier(suite: Suite, tier: Tier) -> Suite:
    """Return the rows that run in a tier."""
    return replace(suite, rows=tuple(row for row in suite.rows if tier in row.tiers))


def _suite(given: Namespace) -> Suite:
    """Read the suite; `--training-seeds` goes over its own, `--data` under every row."""
    suite = read_suite(given.suite)
    if getattr(given, "training_seeds", None) is not None:
        suite = replace(suite, training_seeds=given.training_seeds)
        check_decisions(suite, where="--training-seeds")
    if getattr(given, "error_rate", None) is not None:
        suite = replace(suite, error_rate=given.error_rate)
        check_decisions(suite, where="--error-rate")
    if getattr(given, "failures", None) is not None:
        suite = replace(suite, failures=given.failures)
    if given.data is None:
        return suite
    found = manifest.load(manifest.source(given.data))
    _say(f"{found.spec.name}: {len(found)} frames, {found.spec.labels}")
    path = manifest.find(given.data)
    return with_data(suite, str(path), found.splits)


def _data_of(suite: Suite, row: str) -> str:
    return next(one.data for one in suite.rows if one.name == row)


def _candidate(text: str, suite: Suite, tier: Tier) -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """Return a candidate's name, and its key as it is now: what was measured on an older form of it does not count.

    A bare name may also stand for a model of which only the results are at hand.
    """
    try:
        entry = read_model(text)
    except BadInput:
        if any(sign in text for sign in "/:."):
            raise
        return text, {}
    return entry.spec.name, planning.make(suite, [entry], tier=tier, device="cpu").model_keys


def _recipes() -> str:
    entries: Sequence[ModelEntry] = [read_model(name) for name in model_names()]
    return ", ".join(entry.spec.name for entry in entries if entry.recipe is not None)


def _store(given: Namespace) -> Path:
    return default_store() if given.store is None else Path(given.store)


def _device(asked: str) -> str:
    """Return "cuda" where it was asked for or is there, without importing torch on machines that have no GPU.

    Raises:
        BadInput: it was asked for and is not there.
    """
    import importlib.util

    may_be = importlib.util.find_spec("torch") is not None and (asked == "cuda" or Path("/dev/nvidiactl").exists())
    is_there = False
    if may_be and asked != "cpu":
        import torch

        is_there = torch.cuda.is_available()
    if asked == "cuda" and not is_there:
        raise BadInput(
            "--device cuda: no CUDA device that torch can use was found. "
            "Use --device cpu, or install a CUDA build of torch."
        )
    return "cuda" if is_there else "cpu"


def _tier(given: Namespace) -> Tier:
    """Return the tier asked for; else quick, or standard on a machine with a GPU. The same for every verb."""
    asked: Tier | None = given.tier
    if asked is not None:
        return asked
    return "standard" if _device("auto") == "cuda" else "quick"


def _workers(given: Namespace) -> int:
    """Return the number of local workers: as asked, one for a GPU, else one per core that we may use."""
    if given.workers is not None:
        return int(given.workers)
    if _device(given.device) == "cuda":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _model_hint() -> str:
    return f"Known names: {', '.join(model_names())}; or a TOML file, a checkpoint, module:factory, file.py:factory."


def _say(text: str) -> None:
    """Tell a person; results go to files."""
    sys.stderr.write(f"{text}\n")


TABLE: Final[Mapping[str, Callable[[Namespace], int]]] = {
    "run": run, "train": train, "score": score, "report": report, "gate": judge, "list": listing, "check": check,
    "data": data,
}  # fmt: skip


def attempted(given: Namespace) -> int:
    """Run a verb; an error of ours is one sentence and exit code 3, one that nobody foresaw a traceback and 2."""
    code = attempt(lambda: TABLE[given.verb](given))
    if isinstance(code, MlipbenchError):
        _say(f"mlipbench {given.verb}: {code}")
        return BAD_INPUT
    if isinstance(code, Exception):
        _say("".join(traceback.format_exception(code)))
        _say(f"mlipbench {given.verb}: this should not have happened; what is finished is kept. Please report it.")
        return CANNOT_TELL
    return code
