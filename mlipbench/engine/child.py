"""A process of its own for jobs, so that a calculator that hangs or crashes cannot take us along.

The parent keeps one child and kills it, with all it started, at a job's time limit; the child ends by itself when its
parent is gone.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from mlipbench.core.result import Broken, Failed, Outcome
from mlipbench.engine.messages import Ended, Event, Moved, event_from_json, event_to_json, job_from_json, job_to_json
from mlipbench.engine.plan import Job
from mlipbench.engine.provenance import Clock
from mlipbench.engine.run import attempt, lost, perform
from mlipbench.errors import BadInput
from mlipbench.store import Store

THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Dask's nanny sets it; it makes every large tensor a fresh mapping and halves MACE's speed.
SLOW_MALLOC: Final = ("MALLOC_TRIM_THRESHOLD_",)
READY: Final = "ready"
START_LIMIT_S: Final = 120.0
LOG: Final = "log.txt"
LOG_CHARACTERS: Final = 100_000
# A person or a batch system ends a run with these; no model is to blame.
ASKED_TO_END: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def environment() -> dict[str, str]:
    """Return the environment of a child: one thread each, and glibc's own malloc settings."""
    found = {name: value for name, value in os.environ.items() if name not in SLOW_MALLOC}
    return {**found, **dict.fromkeys(THREADS, "1"), "PYTHONUNBUFFERED": "1"}


class Child:
    """Owns one process that runs job after job, and the folder where it works."""

    def __init__(self, store: Store) -> None:
        """Remember the store; the process starts with the first job."""
        self._store = store
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._listener: threading.Thread | None = None
        self._folder: Path | None = None
        self._is_closing = False

    def run(self, job: Job, report: Callable[[Event], None]) -> None:
        """Run a job; every end, also the process' own, leaves a record and reports `Ended` once."""
        clock = Clock.start()
        outcome = attempt(lambda: self._run(job, report))
        if outcome is None or self._is_closing:
            return
        log = self._log()
        self.stop()
        if isinstance(outcome, BadInput):
            report(Ended(job_id=job.id, refused=str(outcome)))
        elif isinstance(outcome, Exception):
            report(Ended(job_id=job.id, lost=f"the worker process was lost: {type(outcome).__name__}: {outcome}"))
        else:
            written = attempt(lambda: lost(job, self._store, outcome, clock, log=log))
            report(Ended(job_id=job.id, refused=str(written) if isinstance(written, Exception) else ""))

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
            if not line:
                return _how_it_ended(process.wait())
            event = event_from_json(line)
            report(event)
            if isinstance(event, Ended):
                return None

    def _started(self) -> subprocess.Popen[str] | None:
        """Return the running process, started now if there is none."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        with self._store.writing():
            self._store.root.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=".work-", dir=self._store.root)).resolve()
        self._lines = queue.Queue()
        # -P keeps files of the working folder from standing in for modules; a session of its own lets us end all of it.
        command = [sys.executable, "-P", "-m", "mlipbench.engine.child"]
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [*command, str(self._store.root.resolve()), str(self._folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=_listen, args=(_pipe(self._process.stdout), self._lines), daemon=True)
        self._listener.start()
        return self._process if self._line(time.monotonic() + START_LIMIT_S) == READY else None

    def _line(self, deadline: float) -> str | None:
        """Return the next line; empty when the process is gone, None when time is up."""
        try:
            return self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def _log(self) -> str:
        """Return what the job printed before its process was lost."""
        path = None if self._folder is None else self._folder / LOG
        if path is None or not path.is_file():
            return ""
        return path.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]

    def close(self) -> None:
        """Stop the process for good; a job under way leaves no record."""
        self._is_closing = True
        self.stop()

    def stop(self) -> None:
        """Stop the process and all it started; the next job starts another."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            with suppress(BrokenPipeError):
                _pipe(self._process.stdin).close()
            if self._listener is not None:
                self._listener.join(timeout=5.0)
                if not self._listener.is_alive():  # else a stranger holds the pipe, and closing it would wait for him
                    _pipe(self._process.stdout).close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self._folder = None


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise BrokenPipeError
    return pipe


def _listen(pipe: IO[str], lines: queue.Queue[str]) -> None:
    """Move lines from a pipe to a queue; an empty line says that it is closed."""
    for line in pipe:
        lines.put(line.rstrip("\n"))
    lines.put("")


def _how_it_ended(code: int) -> Outcome:
    """Say how a process ended in the middle of a job, and whose fault it is."""
    if code >= 0:
        return Failed(reason=f"the process ended with exit code {code} while the model was at work")
    ended = f"was ended by {signal.Signals(-code).name}"
    if -code in ASKED_TO_END:
        return Broken(reason=f"the worker process {ended}")
    hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return Failed(reason=f"the process {ended}{hint} while the model was at work")


# ---- inside the child ----------------------------------------------------------------------------------------------


def main(root: str, folder: str) -> None:
    """Read jobs from standard input, write events to standard output; what jobs print goes to their log."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    # Nothing but events may reach the parent, and programs that a calculator starts must find an empty input.
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    events.write(READY + "\n")
    for line in _jobs(jobs):
        _perform(
            job_from_json(line),
            Store(Path(root)),
            Path(folder),
            lambda event: events.write(event_to_json(event) + "\n"),
        )


def _jobs(pipe: IO[str]) -> Iterator[str]:
    """Yield jobs; a thread of its own notices when the parent is gone, also in the middle of a job."""
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in pipe:
            lines.put(line)
        os.killpg(os.getpgid(0), signal.SIGKILL)  # with all that calculators started

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield lines.get()


def _perform(job: Job, store: Store, folder: Path, report: Callable[[Event], object]) -> None:
    """Run one job with its output in a log."""

    def progress(done: int, total: int, remark: str) -> None:
        report(Moved(job_id=job.id, done=int(done), total=int(total), remark=remark))

    with _printed_to(folder / LOG) as log:
        done = attempt(lambda: perform(job, store, progress, log=log, folder=folder))
    if isinstance(done, BadInput):
        report(Ended(job_id=job.id, refused=str(done)))
    elif isinstance(done, Exception):
        report(Ended(job_id=job.id, lost=f"{type(done).__name__}: {done}"))
    else:
        report(Ended(job_id=job.id))


@contextmanager
def _printed_to(path: Path) -> Generator[Callable[[], str], None, None]:
    """Send file descriptors 1 and 2 to a file, so that compiled code's output is caught too."""
    saved = os.dup(1), os.dup(2)
    with path.open("w+", encoding="utf-8", errors="replace") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

        def log() -> str:
            sys.stdout.flush()
            sys.stderr.flush()
            return path.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]

        try:
            yield log
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)


if __name__ == "__main__":
    main(*sys.argv[1:])
