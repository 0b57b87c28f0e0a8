"""Is a finished job whole, found again, and safe from what comes after?"""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.core.metric import Metric, MetricValue, Samples
from mlipbench.core.result import Failed, Measured, Provenance, Result
from mlipbench.core.view import Axis, Bars, Parity
from mlipbench.errors import BadInput
from mlipbench.store import Store, consistent, slug

METRIC = Metric(name="m", title="M", unit="eV", better="lower", good=0.0, bad=1.0, says="mean")
SAMPLES = Samples(
    units=("a", "b"), unit_of_row=np.array([0, 1]), rows=np.array([[1.0, 2.0], [3.0, 4.0]]), reducer="mean"
)
PROVENANCE = Provenance(
    started="2026-01-01T00:00:00+00:00", seconds=1.0, cpu_seconds=1.0, peak_memory_MB=1.0, host="h", hardware="c",
    device="cpu", python="3.11", packages={"numpy": "2"}, mlipbench="0", seed=0,
)  # fmt: skip
RESULT = Result(
    job_id="j1", kind="evaluate", row="row", model="model", model_key="k", checkpoint_sha256="w1", metrics=(METRIC,),
    parameters={"max_frames": 3}, provenance=PROVENANCE,
    outcome=Measured(values=(MetricValue(metric="m", value=0.5, stderr=0.1, low=0.3, high=0.7, n=2, samples=SAMPLES),)),
)  # fmt: skip
VIEWS = (
    Parity(title="p", axis=Axis(quantity="q"), reference=np.arange(3.0), predicted=np.ones(3), group=("a", "b", "c")),
    Bars(title="b", axis=Axis(quantity="q", unit="eV", log=True), labels=("x",), values=np.ones(1), low=np.zeros(1), high=np.ones(1)),  # noqa: E501
)  # fmt: skip


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(RESULT, observation={"energy": np.array([1.5, -2.0])}, views=VIEWS, log="hello")
    found = store.find("model", "row", "j1")
    assert found is not None
    (value,) = found.result.outcome.values
    assert value.samples is not None
    np.testing.assert_array_equal(value.samples.rows, SAMPLES.rows)
    assert replace(value, samples=None) == replace(RESULT.outcome.values[0], samples=None)
    assert replace(found.result, outcome=RESULT.outcome) == RESULT
    np.testing.assert_array_equal(found.observation()["energy"], [1.5, -2.0])
    parity, bars = found.views()
    assert parity.group == ("a", "b", "c")
    assert bars.axis == Axis(quantity="q", unit="eV", log=True)
    np.testing.assert_array_equal(parity.reference, [0.0, 1.0, 2.0])
    assert (found.folder / "log.txt").read_text(encoding="utf-8") == "hello"


def test_a_second_write_replaces_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(RESULT)
    store.write(replace(RESULT, outcome=Failed(reason="NaN")))
    (found,) = store.all()
    assert found.result.outcome == Failed(reason="NaN")
    assert [path.name for path in (tmp_path / "model" / "row").iterdir()] == ["j1"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_leaves_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = Store(tmp_path)
    store.write(RESULT)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("mlipbench.store.np.savez", refuse)
    with pytest.raises(BadInput, match=r"cannot be written: (the disk is full|it is read-only)\. Everything finished"):
        store.write(replace(RESULT, job_id="j2"), observation={"x": np.ones(1)})
    monkeypatch.undo()
    assert [one.result.job_id for one in store.all()] == ["j1"]
    assert [path.name for path in (tmp_path / "model" / "row").iterdir()] == ["j1"], "nothing half written stays"


def test_a_store_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be written"), Store(tmp_path / "file").lock():
        pass


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        Store(tmp_path).lock(),
        pytest.raises(BadInput, match=r"is in use by another run \(process \d+ on .*\)\. Wait"),
        Store(tmp_path).lock(),
    ):
        pass
    with Store(tmp_path).lock():
        pass


def test_the_lock_sweeps_up_after_a_killed_run(tmp_path: Path) -> None:
    half = tmp_path / "model" / "row" / ".writing-abc"
    half.mkdir(parents=True)
    (half / "result.json").write_text("{", encoding="utf-8")
    assert list(Store(tmp_path).all()) == []
    with Store(tmp_path).lock():
        assert not half.exists()


def test_a_kill_in_the_middle_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    stored = Store(tmp_path).write(RESULT)
    stored.folder.rename(stored.folder.with_name(".aside-j1"))
    with Store(tmp_path).lock():
        assert [one.result.job_id for one in Store(tmp_path).all()] == ["j1"]
    Store(tmp_path).write(replace(RESULT, outcome=Failed(reason="newer")))
    shutil.copytree(stored.folder, stored.folder.with_name(".aside-j1"))
    with Store(tmp_path).lock():
        assert [path.name for path in stored.folder.parent.iterdir()] == ["j1"]


def test_damaged_views_are_named(tmp_path: Path) -> None:
    stored = Store(tmp_path).write(RESULT, observation={"x": np.ones(1)}, views=VIEWS)
    for name in ("views.npz", "observation.npz"):
        (stored.folder / name).write_bytes(b"PK")
    with pytest.raises(BadInput, match=r"is damaged"):
        stored.views()
    with pytest.raises(BadInput, match=r"is damaged"):
        stored.observation()


@pytest.mark.parametrize("spoil", ["cut", "edit", "future", "samples"])
def test_a_damaged_record_is_named(tmp_path: Path, spoil: str) -> None:
    stored = Store(tmp_path).write(RESULT)
    path = stored.folder / "result.json"
    text = path.read_text(encoding="utf-8")
    record = json.loads(text)
    if spoil == "cut":
        path.write_text(text[:100], encoding="utf-8")
    elif spoil == "edit":
        path.write_text(json.dumps({**record, "extra": 1}), encoding="utf-8")
    elif spoil == "future":
        path.write_text(json.dumps({**record, "schema": 99}), encoding="utf-8")
    else:
        (stored.folder / "samples.npz").write_bytes(b"PK")
    with pytest.raises(BadInput, match=r"result\.json"):
        list(Store(tmp_path).all())


def test_stores_merge_by_copying(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    one.write(RESULT)
    two.write(replace(RESULT, model="other"))
    shutil.copytree(two.root, one.root, dirs_exist_ok=True)
    assert {found.result.model for found in one.all()} == {"model", "other"}


def test_two_weights_under_one_id_are_refused() -> None:
    other = replace(RESULT, row="second", checkpoint_sha256="w2")
    with pytest.raises(BadInput, match="mixes two trainings of model under one id k: rows 'row' and 'second'"):
        consistent([RESULT, other])
    consistent([RESULT, replace(other, model="another")])


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_never_become_other_paths(one: str, other: str) -> None:
    for name in (one, other):
        assert "/" not in slug(name)
        assert not slug(name).startswith(".")
        assert len(slug(name)) < 120
    assert (slug(one) == slug(other)) == (one == other)
