"""A process of its own for jobs, so that a calculator that hangs or crashes cannot take us along.

The parent keeps one child and kills it at a job's time limit; the child ends by itself when its parent is gone.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from mlipbench.core.result import Broken, Failed, Outcome
from mlipbench.engine.messages import Ended, Event, Moved, event_from_json, event_to_json, job_from_json, job_to_json
from mlipbench.engine.plan import Job
from mlipbench.engine.provenance import Clock
from mlipbench.engine.run import lost, perform
from mlipbench.errors import BadInput
from mlipbench.store import Store

THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Dask's nanny sets it; it makes every large tensor a fresh mapping and halves MACE's speed.
SLOW_MALLOC: Final = ("MALLOC_TRIM_THRESHOLD_",)
READY: Final = "ready"


def environment() -> dict[str, str]:
    """Return the environment of a child: one thread each, and glibc's own malloc settings."""
    found = {name: value for name, value in os.environ.items() if name not in SLOW_MALLOC}
    return {**found, **dict.fromkeys(THREADS, "1"), "PYTHONUNBUFFERED": "1"}


class Child:
    """Owns one process that runs job after job."""

    def __init__(self, store: Store) -> None:
        """Remember the store; the process starts with the first job."""
        self._store = store
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def run(self, job: Job, report: Callable[[Event], None]) -> None:
        """Run a job; every end, also the process' own, leaves a record and reports `Ended` once."""
        clock = Clock.start()
        try:
            outcome = self._run(job, report)
            if outcome is not None:
                self.close()
                lost(job, self._store, outcome, clock)
                report(Ended(job_id=job.id))
        except BadInput as error:
            self.close()
            report(Ended(job_id=job.id, refused=str(error)))

    def _run(self, job: Job, report: Callable[[Event], None]) -> Outcome | None:
        """Pass a job to the process; return an outcome only if the process did not live to write one."""
        process = self._started()
        if process is None:
            return Broken(reason="the worker process did not start; `python -m mlipbench.engine.child` shows why")
        deadline = time.monotonic() + job.time_limit_s
        try:
            _pipe(process.stdin).write(job_to_json(job) + "\n")
            _pipe(process.stdin).flush()
        except BrokenPipeError:
            return Broken(reason="the worker process ended before the job began")
        while True:
            line = self._line(deadline)
            if line is None:
                return Failed(reason=f"ran past its time limit of {job.time_limit_s:g} s and was stopped")
            if line == "":
                return Failed(reason=f"the process {_how_it_ended(process)} while the model was at work")
            event = event_from_json(line)
            report(event)
            if isinstance(event, Ended):
                return None

    def _started(self) -> subprocess.Popen[str] | None:
        """Return the running process, started now if there is none."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._lines = queue.Queue()
        command = [sys.executable, "-m", "mlipbench.engine.child", str(self._store.root.resolve())]
        self._process = subprocess.Popen(  # ruff: ignore[subprocess-without-shell-equals-true]  our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        threading.Thread(target=_listen, args=(_pipe(self._process.stdout), self._lines), daemon=True).start()
        return self._process if self._line(time.monotonic() + 120.0) == READY else None

    def _line(self, deadline: float) -> str | None:
        """Return the next line; empty when the process is gone, None when time is up."""
        try:
            return self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def close(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                _close(pipe)
        self._process = None


def _close(pipe: IO[str] | None) -> None:
    """Close a pipe whose other end may be gone."""
    try:
        _pipe(pipe).close()
    except BrokenPipeError:
        return


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise BrokenPipeError
    return pipe


def _listen(pipe: IO[str], lines: queue.Queue[str]) -> None:
    """Move lines from a pipe to a queue; an empty line says that it is closed."""
    try:
        for line in pipe:
            lines.put(line.rstrip("\n"))
    except ValueError:  # closed by us
        pass
    lines.put("")


def _how_it_ended(process: subprocess.Popen[str]) -> str:
    """Say how a process ended."""
    code = process.wait()
    if code < 0:
        hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-code).name}{hint}"
    return f"ended with exit code {code}"


# ---- inside the child ----------------------------------------------------------------------------------------------


def main(root: str) -> None:
    """Read jobs from standard input, write events to standard output; what jobs print goes to their log."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # nothing but events may reach the parent
    events.write(READY + "\n")
    store = Store(Path(root))

    def report(event: Event) -> None:
        events.write(event_to_json(event) + "\n")

    for line in _jobs():
        _perform(job_from_json(line), store, report)


def _jobs() -> Iterator[str]:
    """Yield jobs; a thread of its own notices when the parent is gone, also in the middle of a job."""
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield lines.get()


def _perform(job: Job, store: Store, report: Callable[[Event], None]) -> None:
    """Run one job with its output in a log."""

    def progress(done: int, total: int, remark: str) -> None:
        report(Moved(job_id=job.id, done=int(done), total=int(total), remark=remark))

    with _printed_to_file() as log:
        try:
            perform(job, store, progress, log=log)
            report(Ended(job_id=job.id))
        except BadInput as error:
            report(Ended(job_id=job.id, refused=str(error)))


@contextmanager
def _printed_to_file() -> Iterator[Callable[[], str]]:
    """Send file descriptors 1 and 2 to a file, so that compiled code's output is caught too."""
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

        def log() -> str:
            sys.stdout.flush()
            sys.stderr.flush()
            file.seek(0)
            return file.read()[-100_000:]

        try:
            yield log
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)


if __name__ == "__main__":
    main(sys.argv[1])
