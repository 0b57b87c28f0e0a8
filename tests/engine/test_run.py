"""Does every job end as the right kind of record, in either executor, and after any death?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import recipe

from mlipbench.core.result import Broken, Failed, Measured, Skipped
from mlipbench.core.suite import ModelEntry
from mlipbench.data.suites import read_suite
from mlipbench.engine import plan as planning
from mlipbench.engine import schedule
from mlipbench.engine.child import SLOW_MALLOC, _how_it_ended, environment
from mlipbench.engine.executors import NANNY_ENVIRONMENT, Dask, Serial, executor
from mlipbench.engine.messages import Ended, Moved, event_from_json, event_to_json, job_from_json, job_to_json
from mlipbench.engine.select import belonging
from mlipbench.errors import BadInput
from mlipbench.models.entries import read_model
from mlipbench.store import Store, Stored

TOY = "mlipbench.models.toy:"


def toys(*names: str) -> list[ModelEntry]:
    return [read_model(TOY + name) for name in names]


def silent(_: schedule.Standing, __: str) -> None:
    return


def run(suite: Path, store: Store, models: list[ModelEntry], kind: str = "serial") -> dict[str, Stored]:
    plan = planning.make(read_suite(str(suite)), models, tier="quick", device="cpu")
    with store.lock(), executor(kind, store, workers=2) as place:
        standing = schedule.run(plan, store, place, silent, fresh=False)
    return {job.label: stored for job, stored in standing.ended}


def test_each_misbehaviour_has_its_outcome(tiny_suite: Path, tmp_path: Path) -> None:
    names = ("Springs", "AlwaysRaises", "ReturnsNaN", "MutatesAtoms", "CopperOnly", "Crashes", "WrongShape")
    found = run(tiny_suite, Store(tmp_path / "store"), toys(*names))
    outcome = {name: found[f"{name} · errors"].result.outcome for name in names}
    assert isinstance(outcome["Springs"], Measured)
    values = {value.metric: value for value in outcome["Springs"].values if not value.part}
    assert values["force_rmse"].value < 1e-4, "springs reproduce their own labels up to the file's digits"
    assert isinstance(outcome["CopperOnly"], Skipped)
    for name, words in {
        "AlwaysRaises": "frame 0", "ReturnsNaN": "not finite", "MutatesAtoms": "changed the positions",
        "Crashes": "was ended by SIG", "WrongShape": "shape",
    }.items():  # fmt: skip
        assert isinstance(outcome[name], Failed), name
        assert words in outcome[name].reason


def test_a_factory_that_raises_or_makes_no_calculator(tiny_suite: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(
        "class Odd(Exception):\n    pass\n"
        "def raises():\n    raise Odd('no licence')\n"
        "def exits():\n    raise SystemExit(7)\n"
        "def nothing():\n    return 3\n", encoding="utf-8",
    )  # fmt: skip
    found = run(
        tiny_suite, Store(tmp_path / "store"), [read_model(f"{file}:{x}") for x in ("raises", "exits", "nothing")]
    )
    outcome = {name: found[f"m-{name} · errors"].result.outcome for name in ("raises", "exits", "nothing")}
    assert isinstance(outcome["raises"], Failed)
    assert "Odd: no licence" in outcome["raises"].reason
    assert isinstance(outcome["exits"], Failed)
    assert "exit code 7" in outcome["exits"].reason
    assert isinstance(outcome["nothing"], Broken)
    assert outcome["nothing"].is_input


def test_a_calculator_that_hangs_is_stopped_and_the_rest_goes_on(tiny_suite: Path, tmp_path: Path) -> None:
    text = tiny_suite.read_text(encoding="utf-8").replace("time_limit_s = 60.0", "time_limit_s = 4.0")
    tiny_suite.write_text(text[: text.rindex("[[rows]]")], encoding="utf-8")
    found = run(tiny_suite, Store(tmp_path / "store"), toys("Hangs", "Springs"))
    assert found["Hangs · errors"].result.outcome == Failed(reason="ran past its time limit of 4 s and was stopped")
    assert isinstance(found["Springs · errors"].result.outcome, Measured)


def test_what_a_calculator_starts_cannot_hold_us_up(tiny_suite: Path, tmp_path: Path) -> None:
    """A program it starts finds an empty input, and its own children die with it at the time limit."""
    (tmp_path / "m.py").write_text(
        "import os, subprocess, time\nfrom mlipbench.models.toy import Springs\n"
        "class Reads(Springs):\n"
        "    def calculate(self, *a, **k):\n        subprocess.run(['cat'], check=True)\n        super().calculate(*a, **k)\n"  # noqa: E501
        "class Forks(Springs):\n"
        "    def calculate(self, *a, **k):\n"
        "        if os.fork() == 0:\n            time.sleep(30)\n"
        "        time.sleep(30)\n", encoding="utf-8",
    )  # fmt: skip
    tiny_suite.write_text(tiny_suite.read_text("utf-8").replace("time_limit_s = 60.0", "time_limit_s = 3.0"), "utf-8")
    began = time.monotonic()
    found = run(
        tiny_suite, Store(tmp_path / "store"), [read_model(f"{tmp_path / 'm.py'}:{x}") for x in ("Reads", "Forks")]
    )
    assert isinstance(found["m-Reads · errors"].result.outcome, Measured)
    assert isinstance(found["m-Forks · errors"].result.outcome, Failed)
    assert time.monotonic() - began < 25.0
    assert not _children_of_dead_runs(str(tmp_path / "store"))


def test_files_of_the_working_folder_do_not_stand_in_for_modules(
    tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ase.py").write_text("raise RuntimeError('a stranger')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert isinstance(
        run(tiny_suite, Store(tmp_path / "store"), toys("Springs"))["Springs · errors"].result.outcome, Measured
    )


def test_a_run_that_is_interrupted_blames_no_model() -> None:
    assert isinstance(_how_it_ended(-signal.SIGINT), Broken)
    assert isinstance(_how_it_ended(-signal.SIGTERM), Broken)
    assert isinstance(_how_it_ended(-signal.SIGSEGV), Failed)


def test_a_job_under_way_when_we_close_leaves_no_record(tiny_suite: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (job, _) = planning.make(read_suite(str(tiny_suite)), toys("Hangs"), tier="quick", device="cpu").jobs
    place = Serial(store)
    place.submit(job)
    time.sleep(3.0)
    place.close()
    time.sleep(0.5)
    assert list(store.all()) == []


def test_a_worker_whose_task_is_cancelled_is_lost_not_awaited_for_ever(tiny_suite: Path) -> None:
    class Future:
        status = "cancelled"

    class Client:
        def subscribe_topic(self, *_: object) -> None:
            return

    (job, _) = planning.make(read_suite(str(tiny_suite)), toys("Springs"), tier="quick", device="cpu").jobs
    place = Dask(Store(Path(os.devnull)), Client())
    place._ended(job, Future())
    assert place.next_event() == Ended(job_id=job.id, lost="the Dask worker was lost: cancelled")


def test_an_evaluation_of_other_weights_is_repeated(tiny: Path, tiny_suite: Path, tmp_path: Path) -> None:
    """As after a run with --fresh that was killed between a training and its evaluations."""
    store, entry = Store(tmp_path / "store"), read_model(recipe(tiny, tmp_path))
    first = run(tiny_suite, store, [entry])
    assert all(isinstance(one.result.outcome, Measured) for one in first.values())
    training = first["tiny-ace · train"]
    assert training.result.training is not None
    spec = replace(training.result.training.spec, checkpoint_sha256="f" * 64)
    changed = replace(
        training.result, checkpoint_sha256="f" * 64, training=replace(training.result.training, spec=spec)
    )
    plan = planning.make(read_suite(str(tiny_suite)), [entry], tier="quick", device="cpu")
    assert len(schedule._at_start(plan, store, fresh=False).waiting) == 0
    store.write(changed, files=[training.folder / "ace.npz"])
    assert {job.row for job in schedule._at_start(plan, store, fresh=False).waiting} == {"errors", "rigid"}


def test_a_second_run_repeats_nothing(tiny_suite: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = run(tiny_suite, store, toys("Springs"))
    times = {label: (one.folder / "result.json").stat().st_mtime_ns for label, one in first.items()}
    second = run(tiny_suite, store, toys("Springs"))
    assert {label: (one.folder / "result.json").stat().st_mtime_ns for label, one in second.items()} == times


def test_a_changed_parameter_frame_or_seed_is_another_job(tiny: Path, tiny_suite: Path) -> None:
    def ids() -> set[str]:
        plan = planning.make(read_suite(str(tiny_suite)), toys("Springs"), tier="quick", device="cpu")
        return {job.id for job in plan.jobs}

    before, text = ids(), tiny_suite.read_text(encoding="utf-8")
    tiny_suite.write_text(text.replace('split = "test"', 'split = "train"', 1), encoding="utf-8")
    assert len(ids() - before) == 1
    tiny_suite.write_text(text.replace('split = "test"', 'split = "test"\nseeds = [1]', 1), encoding="utf-8")
    assert len(ids() - before) == 1
    tiny_suite.write_text(text.replace("about =", 'about = "x" #'), encoding="utf-8")
    assert ids() == before, "prose decides nothing"
    with (tiny / "frames.xyz").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert not ids() & before


def test_dask_and_serial_agree_to_the_last_bit(tiny_suite: Path, tmp_path: Path) -> None:
    serial = run(tiny_suite, Store(tmp_path / "a"), toys("Springs", "ReturnsNaN"))
    dask = run(tiny_suite, Store(tmp_path / "b"), toys("Springs", "ReturnsNaN"), kind="local")
    assert serial.keys() == dask.keys()
    for label, one in serial.items():
        other = dask[label]
        assert one.result.job_id == other.result.job_id
        assert _numbers(one) == _numbers(other)
        if isinstance(one.result.outcome, Measured):
            for name, array in one.observation().items():
                np.testing.assert_array_equal(array, other.observation()[name])


def _numbers(stored: Stored) -> object:
    outcome = stored.result.outcome
    return [replace(v, samples=None) for v in outcome.values] if isinstance(outcome, Measured) else outcome


def test_sigkill_loses_no_finished_job_and_changes_no_number(tiny: Path, tiny_suite: Path, tmp_path: Path) -> None:
    """Kill the whole run after its first job; the next run keeps that one and ends like an undisturbed run."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom mlipbench.models.toy import Springs\n"
        "class Slow(Springs):\n"
        "    def calculate(self, *a, **k):\n        time.sleep(0.15)\n        super().calculate(*a, **k)\n",
        encoding="utf-8",
    )
    text = tiny_suite.read_text(encoding="utf-8")
    rows = text[text.index("[[rows]]") :]
    tiny_suite.write_text(
        text + rows.replace('"errors"', '"more"').replace('"rigid"', '"most"').replace('"test"', '"train"'), "utf-8"
    )
    store, model = Store(tmp_path / "killed"), f"{tmp_path / 'slow.py'}:Slow"
    command = [sys.executable, "-m", "mlipbench", "run", str(tiny_suite), "--model", model, "--executor", "serial"]
    command += ["--store", str(store.root), "--out", str(tmp_path / "site")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60.0
    while not _records(store) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)  # the parent alone: its child must notice
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in _records(store)}
    assert 1 <= len(kept) < 4
    time.sleep(1.0)
    resumed = run(tiny_suite, store, [read_model(model)])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    undisturbed = run(tiny_suite, Store(tmp_path / "whole"), [read_model(model)])
    assert len(resumed) == 4
    assert {label: _numbers(one) for label, one in resumed.items()} == {
        label: _numbers(one) for label, one in undisturbed.items()
    }
    assert not _children_of_dead_runs(str(store.root))


def _records(store: Store) -> list[Path]:
    """What is finished, without what is being written."""
    return [path for path in store.root.glob("*/*/*/result.json") if not path.parent.name.startswith(".")]


def _children_of_dead_runs(root: str) -> list[str]:
    found = subprocess.run(["/bin/ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in found if "mlipbench.engine.child" in line and root in line]


def test_a_formula_that_moved_is_applied_without_the_model(
    tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlipbench.benchmarks.energy_force_stress import EnergyForceStress

    store = Store(tmp_path / "store")
    before = run(tiny_suite, store, toys("Springs"))["Springs · errors"].result
    assert isinstance(before.outcome, Measured)
    first = before.outcome.values[0]
    moved = replace(first, value=12.5)
    monkeypatch.setattr(EnergyForceStress, "about", replace(EnergyForceStress.about, score_version=99))
    monkeypatch.setattr(EnergyForceStress, "score", lambda *_: (moved,))
    plan = planning.make(read_suite(str(tiny_suite)), toys("Springs"), tier="quick", device="cpu")
    standing = schedule.run(plan, store, _NoExecutor(), silent, fresh=False)
    after = next(stored.result for job, stored in standing.ended if job.row == "errors")
    assert after.score_version == 99
    assert after.provenance == before.provenance
    assert isinstance(after.outcome, Measured)
    assert [value.value for value in after.outcome.values] == [12.5]


class _NoExecutor(Serial):
    def __init__(self) -> None:
        pass

    def submit(self, job: planning.Job) -> None:
        raise AssertionError(job)


def test_a_training_that_fails_fails_what_waits_for_it(tiny: Path, tiny_suite: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        f'schema = 1\n[spec]\nname = "bad"\nkind = "ace"\n[recipe]\ntrainer = "ace"\ndata = "{tiny}"\n'
        'train = "train"\nvalid = "test"\n[recipe.options]\nno_such_option = 1\n', encoding="utf-8",
    )  # fmt: skip
    found = run(tiny_suite, Store(tmp_path / "store"), [read_model(str(tmp_path / "bad.toml"))])
    assert isinstance(found["bad · train"].result.outcome, Broken)
    assert "no_such_option" in found["bad · train"].result.outcome.reason
    assert "its training ended first" in found["bad · errors"].result.outcome.reason


def test_a_broken_job_runs_again(tiny_suite: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = run(tiny_suite, store, toys("Springs"))["Springs · errors"]
    store.write(replace(first.result, outcome=Broken(reason="worker lost")))
    assert isinstance(run(tiny_suite, store, toys("Springs"))["Springs · errors"].result.outcome, Measured)


def test_the_leaderboard_shows_one_form_of_a_model_never_a_mixture(tiny_suite: Path, tmp_path: Path) -> None:
    store, suite = Store(tmp_path / "store"), read_suite(str(tiny_suite))
    file = tmp_path / "m.py"
    for version in ("1.0", "2.0"):
        file.write_text(
            f"from mlipbench.models.toy import Springs\ndef model():\n    return Springs(stiffness_eV_per_A2={version})\n",  # noqa: E501
            "utf-8",
        )
        run(tiny_suite, store, [read_model(f"{file}:model")])
        time.sleep(1.1)
    found = belonging(store, suite, "quick", {})
    assert len(list(store.all())) == 4
    assert len(found) == 2
    assert len({one.result.model_key for one in found}) == 1
    errors = next(one.result.outcome for one in found if one.result.row == "errors")
    assert next(v.value for v in errors.values if v.metric == "force_rmse" and not v.part) > 1.0, "the newest counts"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("rigid_body_forces", "rigid_body_forcse"), r"row 'rigid': unknown benchmark 'rigid_body_forcse'\. Did you mean 'rigid_body_forces'"),  # noqa: E501
        (('split = "test"', 'split = "tst"'), r"unknown split 'tst'\. Did you mean 'test'"),
        (('metric = "force_rmse"', 'metric = "force_rsme"'), r"row 'errors', limits: unknown metric 'force_rsme'"),
        (("time_limit_s = 60.0", "parameters = { max_frame = 3 }"), r"row 'errors'.*unknown key 'max_frame'\. Did you mean 'max_frames'"),  # noqa: E501
        (("time_limit_s = 60.0", 'parameters = { max_frames = "x" }'), r"row 'errors'.*max_frames = 'x' does not fit"),
        (("time_limit_s = 60.0", "time_limit_s = -1.0"), r"time_limit_s = -1 must be positive"),
        (('name = "rigid"', 'name = "errors"'), "two rows are called 'errors'"),
        (('version = "1"', 'version = "1"\ntraining_seeds = 0'), "training_seeds = 0, and it must be 1 or more"),
        (('version = "1"', 'version = "1"\ntraining_seeds = 2.5'), r"training_seeds = 2\.5 does not fit"),
        (('version = "1"', 'version = "1"\ntraining_seed = 3'), "unknown key 'training_seed'. Did you mean 'training_seeds'"),  # noqa: E501
        (('version = "1"', 'version = "1"\nfailures = "wrost"'), "unknown value of 'failures' 'wrost'. Did you mean 'worst'"),  # noqa: E501
        (('version = "1"', 'version = "1"\nerror_rate = 0.0'), "error_rate = 0 must lie between 0 and 0.5"),
        (('version = "1"', 'version = "1"\nerror_rate = 0.5'), "error_rate = 0.5 must lie between 0 and 0.5"),
        (('version = "1"', 'version = "1"\nerror_rate = nan'), "error_rate = nan must lie between 0 and 0.5"),
        (('version = "1"', 'version = "1"\nerror_rats = 0.01'), "unknown key 'error_rats'. Did you mean 'error_rate'"),
    ],
)  # fmt: skip
def test_a_misspelt_suite_is_refused_before_anything_runs(
    tiny_suite: Path, change: tuple[str, str], sentence: str
) -> None:
    tiny_suite.write_text(tiny_suite.read_text(encoding="utf-8").replace(*change, 1), encoding="utf-8")
    with pytest.raises(BadInput, match=sentence):
        planning.make(read_suite(str(tiny_suite)), toys("Springs"), tier="quick", device="cpu")


def test_two_models_of_one_name_are_refused(tiny_suite: Path) -> None:
    with pytest.raises(BadInput, match="two models are called 'Springs'"):
        planning.make(read_suite(str(tiny_suite)), toys("Springs", "Springs"), tier="quick", device="cpu")


def test_jobs_and_news_travel_as_one_line(tiny_suite: Path) -> None:
    plan = planning.make(read_suite(str(tiny_suite)), toys("Springs"), tier="quick", device="cpu")
    for job in plan.jobs:
        line = job_to_json(job)
        assert "\n" not in line
        again = job_from_json(line)
        assert replace(again, parameters={}) == replace(job, parameters={})
        assert job_to_json(again) == line
    for event in (
        Moved(job_id="a", done=1, total=2, remark="x\ny"),
        Ended(job_id="a", refused="no"),
        Ended(job_id="b"),
    ):
        assert "\n" not in event_to_json(event)
        assert event_from_json(event_to_json(event)) == event


def test_children_get_one_thread_and_plain_malloc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLOW_MALLOC:
        monkeypatch.setenv(name, "65536")
    found = environment()
    assert found["OMP_NUM_THREADS"] == "1"
    assert not set(SLOW_MALLOC) & set(found)


def test_workers_of_a_local_cluster_get_repaired_malloc_settings(tmp_path: Path) -> None:
    with executor("local", Store(tmp_path), workers=1), executor("local", Store(tmp_path), workers=1) as place:
        found = place._client.run(lambda: dict(os.environ))  # the second of two: a port in use must not matter
    (seen,) = found.values()
    assert {name: seen[name] for name in NANNY_ENVIRONMENT} == {k: str(v) for k, v in NANNY_ENVIRONMENT.items()}


def test_an_executor_that_is_none() -> None:
    with (
        pytest.raises(BadInput, match=r"unknown executor 'slurm'"),
        executor("slurm", Store(Path(os.devnull)), workers=1),
    ):
        pass


def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlipbench.engine.executors.CONNECT", "1s")
    with (
        pytest.raises(BadInput, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 "),
        executor("tcp://127.0.0.1:1", Store(Path(os.devnull)), workers=1),
    ):
        pass


def test_time_left_counts_what_was_learned(tiny_suite: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = planning.make(read_suite(str(tiny_suite)), toys("Springs"), tier="quick", device="cpu")
    first, second = plan.jobs
    stored = run(tiny_suite, store, toys("Springs"))[first.label]
    slow = Stored(
        stored.folder,
        replace(stored.result, provenance=replace(stored.result.provenance, seconds=4 * first.expected_s)),
    )
    standing = schedule.Standing(jobs=plan.jobs, waiting=[second], ended=[(first, slow)])
    assert schedule.seconds_left(standing, 1) == pytest.approx(4 * second.expected_s)
    standing = schedule.Standing(
        jobs=plan.jobs, running={second.id: (second, Moved(job_id=second.id, done=3, total=4))}
    )
    assert schedule.seconds_left(standing, 1) == pytest.approx(0.25 * second.expected_s)
