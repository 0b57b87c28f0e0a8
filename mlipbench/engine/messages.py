"""How jobs and news travel between processes: plain JSON, one line each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from mlipbench.engine.plan import Job
from mlipbench.files.toml import build


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A running job came further."""

    job_id: str
    done: int
    total: int
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job's record is in the store, unless one of the texts says why not.

    Attributes:
        job_id: of the job.
        refused: why the store could not be written; the run cannot go on.
        lost: how the worker was lost; only this job is broken.
    """

    job_id: str
    refused: str = ""
    lost: str = ""


Event: TypeAlias = Moved | Ended


def job_to_json(job: Job) -> str:
    """Return a job as one line."""
    return json.dumps(asdict(job), allow_nan=False)


def job_from_json(line: str) -> Job:
    """Return the job of a line."""
    return build(Job, json.loads(line), where="job")


def event_to_json(event: Event) -> str:
    """Return an event as one line."""
    return json.dumps({"kind": type(event).__name__.lower(), **asdict(event)}, allow_nan=False)


def event_from_json(line: str) -> Event:
    """Return the event of a line."""
    record: dict[str, Any] = json.loads(line)
    return Moved(**record) if record.pop("kind") == "moved" else Ended(**record)
