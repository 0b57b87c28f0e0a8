"""Where do finished jobs lie? One folder each, written whole or not at all.

`<root>/<model>/<row>/<job id>/` holds `result.json`, `log.txt`, and where there are any `observation.npz`,
`samples.npz`, `views.json` with `views.npz`, and a trained model's files. Stores merge by copying.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlipbench.core.metric import Samples
from mlipbench.core.result import SCHEMA, Measured, Result
from mlipbench.core.view import Axis, Bars, Lines, Parity, View
from mlipbench.errors import BadInput
from mlipbench.files.toml import build

RESULT: Final = "result.json"
ASIDE: Final = ".aside-"
VIEWS: Final = {"Parity": Parity, "Bars": Bars, "Lines": Lines}
NO_ROOM: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "it is read-only",
    errno.EACCES: "there is no permission to write",
    errno.EPERM: "there is no permission to write",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A finished job on disk; what is large is read when asked for."""

    folder: Path
    result: Result

    def observation(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `observe` left."""
        with _whole(self.folder):
            return _arrays(self.folder / "observation.npz")

    def views(self) -> tuple[View, ...]:
        """Return what to show."""
        if not (self.folder / "views.json").is_file():
            return ()
        with _whole(self.folder):
            arrays = _arrays(self.folder / "views.npz")
            records = json.loads((self.folder / "views.json").read_text("utf-8"))
            return tuple(_view({**record, "number": n}, arrays) for n, record in enumerate(records))


@dataclass(frozen=True, slots=True)
class Store:
    """Finished jobs under one folder."""

    root: Path

    def folder(self, model: str, row: str, job_id: str) -> Path:
        """Return the folder of a job, whether it exists or not; names never become paths unchecked."""
        return self.root / slug(model) / slug(row) / slug(job_id)

    def find(self, model: str, row: str, job_id: str) -> Stored | None:
        """Return a finished job, or None."""
        folder = self.folder(model, row, job_id)
        return Stored(folder, read_result(folder / RESULT)) if (folder / RESULT).is_file() else None

    def all(self) -> Iterator[Stored]:
        """Yield every finished job, in the order of their paths."""
        for path in sorted(self.root.glob(f"*/*/*/{RESULT}")):
            if not path.parent.name.startswith("."):
                yield Stored(path.parent, read_result(path))

    def write(
        self,
        result: Result,
        *,
        observation: Mapping[str, NDArray[Any]] | None = None,
        views: Sequence[View] = (),
        log: str = "",
        files: Sequence[Path] = (),
    ) -> Stored:
        """Write a finished job whole: into a temporary folder, synced, then renamed; an older one is replaced.

        Args:
            result: the record.
            observation: what `observe` returned.
            views: what to show.
            log: what the job printed.
            files: a trained model's files, copied in.

        Raises:
            BadInput: the store cannot be written; nothing that was finished is touched.
        """
        target = self.folder(result.model, result.row, result.job_id)
        with self.writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
            try:
                _write_files(scratch, result, observation, views, log, files)
                _replace(scratch, target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return Stored(target, result)

    @contextmanager
    def writing(self, *, but: type[OSError] | None = None) -> Iterator[None]:
        """Turn what a disk can answer into one sentence, except for one kind of error."""
        try:
            yield
        except OSError as error:
            if but is not None and isinstance(error, but):
                raise
            why = NO_ROOM.get(error.errno or 0, error.strerror or str(error))
            raise BadInput(
                f"the store {self.root} cannot be written: {why}. Everything finished so far is kept; "
                "make room or choose another folder with --store, and run again."
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second run off this store; a killed run leaves no lock behind.

        Raises:
            BadInput: another run holds it, or the folder cannot be made.
        """
        import fcntl

        with self.writing():
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".lock").open("a+", encoding="utf-8")
        with file:
            try:
                with self.writing(but=BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise BadInput(
                    f"the store {self.root} is in use by another run ({file.read().strip() or 'unknown process'}). "
                    "Wait until it ends, or choose another folder with --store."
                ) from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            file.flush()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what killed runs left half written, and put back what they had put aside."""
        for folder in (*self.root.glob("*/*/.writing-*"), *self.root.glob(".work-*")):
            shutil.rmtree(folder, ignore_errors=True)
        for aside in self.root.glob(f"*/*/{ASIDE}*"):
            target = aside.with_name(aside.name.removeprefix(ASIDE))
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.rename(target)


def slug(name: str) -> str:
    """Return a name that is safe as one part of a path; different names stay different.

    >>> slug("mace-ci"), slug("../etc")
    ('mace-ci', 'x.._etc-f7f9121f')
    """
    safe = re.sub(r"[^A-Za-z0-9._+=@-]", "_", name)[:80]
    if safe == name and not safe.startswith("."):
        return safe
    import hashlib

    return f"x{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _replace(scratch: Path, target: Path) -> None:
    """Put a finished folder in its place.

    Between the two renames of a replacement the old one is aside; `Store.lock` puts it back after a kill.
    """
    aside = target.with_name(f"{ASIDE}{target.name}")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        scratch.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    _sync(target.parent)


def _write_files(
    folder: Path,
    result: Result,
    observation: Mapping[str, NDArray[Any]] | None,
    views: Sequence[View],
    log: str,
    files: Sequence[Path],
) -> None:
    """Fill a folder and sync it; `result.json` comes last."""
    for file in files:
        shutil.copyfile(file, folder / file.name)
    if observation:
        np.savez(folder / "observation.npz", allow_pickle=False, **dict(observation))
    if views:
        records, arrays = _view_records(views)
        np.savez(folder / "views.npz", allow_pickle=False, **arrays)
        (folder / "views.json").write_text(json.dumps(records, allow_nan=False), encoding="utf-8")
    record, samples = _result_record(result)
    if samples:
        np.savez(folder / "samples.npz", allow_pickle=False, **samples)
    (folder / "log.txt").write_text(log, encoding="utf-8")
    (folder / RESULT).write_text(json.dumps(record, indent=1, allow_nan=False, default=list), encoding="utf-8")
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _result_record(result: Result) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a result as JSON values, and its samples as arrays beside it."""
    arrays: dict[str, NDArray[Any]] = {}
    if not isinstance(result.outcome, Measured):
        return asdict(result), arrays
    bare = tuple(replace(value, samples=None) for value in result.outcome.values)
    record = asdict(replace(result, outcome=replace(result.outcome, values=bare)))
    for number, (value, entry) in enumerate(zip(result.outcome.values, record["outcome"]["values"], strict=True)):
        if value.samples is not None:
            entry["samples"] = {"number": number, "units": list(value.samples.units), "reducer": value.samples.reducer}
            arrays[f"rows_{number}"] = value.samples.rows
            arrays[f"unit_{number}"] = value.samples.unit_of_row
    return record, arrays


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file leads to into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(
            f"{path} is damaged ({type(error).__name__}): it was edited or cut short. "
            "Remove its folder and run again: only that job is repeated."
        ) from error


def read_result(path: Path) -> Result:
    """Read one record, its samples included.

    Raises:
        BadInput: it was edited, cut short, or written by a later version.
    """
    with _whole(path):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] > SCHEMA:
            raise BadInput(f"{path}: schema {record['schema']}; this version reads up to {SCHEMA}. Update mlipbench.")
        samples = _samples(path.parent / "samples.npz", record)
        result = build(Result, record, where=str(path))
    if not isinstance(result.outcome, Measured):
        return result
    values = tuple(replace(value, samples=samples.get(number)) for number, value in enumerate(result.outcome.values))
    return replace(result, outcome=replace(result.outcome, values=values))


def _samples(path: Path, record: dict[str, Any]) -> dict[int, Samples]:
    """Take the samples' descriptions out of a record and join them with their arrays."""
    described = {
        number: value.pop("samples")
        for number, value in enumerate(record["outcome"].get("values", ()))
        if value.get("samples") is not None
    }
    if not described:
        return {}
    arrays = _arrays(path)
    return {
        number: Samples(
            units=tuple(entry["units"]), reducer=entry["reducer"],
            rows=arrays[f"rows_{number}"], unit_of_row=arrays[f"unit_{number}"],
        )
        for number, entry in described.items()
    }  # fmt: skip


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read plain arrays; a pickled object is refused."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _view_records(views: Sequence[View]) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Return views as JSON values, and their arrays beside them."""
    records, arrays = [], {}
    for number, view in enumerate(views):
        record: dict[str, Any] = {"view": type(view).__name__}
        for field in fields(view):
            value = getattr(view, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"{number}_{field.name}"] = value
            else:
                record[field.name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        records.append(record)
    return records, arrays


def _view(record: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> View:
    """Make a view again from its record and arrays."""
    number = record.pop("number")
    kind = VIEWS[record.pop("view")]
    values: dict[str, Any] = {}
    for field in fields(kind):
        value = record.get(field.name)
        if isinstance(value, dict):
            value = Axis(**value)
        elif isinstance(value, list):
            value = tuple(value)
        values[field.name] = arrays[f"{number}_{field.name}"] if field.name not in record else value
    return kind(**values)  # type: ignore[no-any-return]


def consistent(results: Sequence[Result]) -> None:
    """Refuse results that mix two trainings under one id, as after merging two stores.

    Raises:
        BadInput: two results of one model and id were answered by different weights.
    """
    weights: dict[tuple[str, str], Result] = {}
    for result in results:
        if not result.checkpoint_sha256:
            continue
        first = weights.setdefault((result.model, result.model_key), result)
        if first.checkpoint_sha256 != result.checkpoint_sha256:
            raise BadInput(
                f"the store mixes two trainings of {result.model} under one id {result.model_key}: rows '{first.row}' "
                f"and '{result.row}' were answered by different weights ({first.checkpoint_sha256[:8]}…, "
                f"{result.checkpoint_sha256[:8]}…). Run the suite again to measure the newer one, or keep "
                "the folders of one training only."
            )
