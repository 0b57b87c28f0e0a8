"""Where do jobs run: here, one after the other, or on Dask's workers?"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from mlipbench.engine.child import Child
from mlipbench.engine.messages import Ended, Event, event_from_json, event_to_json, job_from_json, job_to_json
from mlipbench.engine.plan import Job
from mlipbench.engine.run import attempt
from mlipbench.errors import BadInput, unknown
from mlipbench.store import Store

TOPIC: Final = "mlipbench"
CONNECT: Final = "15s"
KNOWN: Final = ("serial", "local", "tcp://host:port")
# The nanny's own default turns off glibc's dynamic mmap threshold, and every large tensor is then page-faulted anew.
NANNY_ENVIRONMENT: Final = {
    "MALLOC_TRIM_THRESHOLD_": 268435456,
    "MALLOC_MMAP_THRESHOLD_": 33554432,
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
}


class Executor(Protocol):
    """Takes jobs up to its number of slots, and tells how they fare; the records go to the store."""

    @property
    def slots(self) -> int:
        """How many jobs may be under way."""

    def submit(self, job: Job) -> None:
        """Start a job; returns at once."""

    def next_event(self) -> Event:
        """Wait for news."""

    def close(self) -> None:
        """Stop everything."""


class Serial:
    """One child process, reused."""

    def __init__(self, store: Store) -> None:
        """Nothing starts yet."""
        self._child = Child(store)
        self._events: queue.Queue[Event] = queue.Queue()

    @property
    def slots(self) -> int:
        """One at a time."""
        return 1

    def submit(self, job: Job) -> None:
        """Run a job in the child, watched by a thread."""
        threading.Thread(target=_run_in, args=(self._child, job, self._events.put), daemon=True).start()

    def next_event(self) -> Event:
        """Wait for news."""
        return self._events.get()

    def close(self) -> None:
        """Stop the child."""
        self._child.close()


class Dask:
    """Dask's workers, each with one child process: the same jobs, time limits and records as `Serial`."""

    def __init__(self, store: Store, client: Any, *, cluster: Any = None) -> None:
        """Use a connected `distributed.Client`; a cluster of our own is closed with it."""
        self._root = str(store.root.resolve())
        self._run = uuid.uuid4().hex  # workers may outlive us, and another run may send them the same job
        self._client = client
        self._cluster = cluster
        self._events: queue.Queue[Event] = queue.Queue()
        self._futures: dict[str, Any] = {}
        client.subscribe_topic(TOPIC, lambda event: self._events.put(event_from_json(event[1])))

    @property
    def slots(self) -> int:
        """One job per worker thread."""
        return max(1, sum(int(n) for n in self._client.nthreads().values()))

    def submit(self, job: Job) -> None:
        """Send a job to a free worker."""
        key = f"{job.label}-{job.id}-{uuid.uuid4().hex[:8]}"
        future = self._client.submit(_on_worker, job_to_json(job), self._root, self._run, pure=False, key=key)
        self._futures[job.id] = future
        future.add_done_callback(lambda done: self._ended(job, done))

    def _ended(self, job: Job, future: Any) -> None:
        """Pass on how a task ended; a lost worker is our fault, not the model's."""
        if future.status == "finished":
            self._events.put(event_from_json(future.result()))
        else:
            why = future.exception() if future.status == "error" else future.status
            self._events.put(Ended(job_id=job.id, lost=f"the Dask worker was lost: {why}"))
        self._futures.pop(job.id, None)

    def next_event(self) -> Event:
        """Wait for news."""
        return self._events.get()

    def close(self) -> None:
        """Leave the scheduler; stop it if it is ours."""
        with contextlib.suppress(TimeoutError, OSError):
            self._client.close()
            if self._cluster is not None:
                self._cluster.close()


def _run_in(child: Child, job: Job, report: Callable[[Event], None]) -> None:
    """Run a job so that it ends with news, whatever happens."""
    ended = attempt(lambda: child.run(job, report))
    if isinstance(ended, Exception):
        report(Ended(job_id=job.id, lost=f"{type(ended).__name__}: {ended}"))


_mine = threading.local()  # each thread of a worker has a child of its own


def _on_worker(job_json: str, root: str, run: str) -> str:
    """Run a job in this thread's child process, which lives as long as the run; return how it ended."""
    from distributed import get_worker

    if getattr(_mine, "run", None) != run:
        if getattr(_mine, "child", None) is not None:
            _mine.child.close()
        _mine.child, _mine.run = Child(Store(Path(root))), run
    ends: list[Event] = []
    worker = get_worker()

    def report(event: Event) -> None:
        if isinstance(event, Ended):
            ends.append(event)
        else:
            worker.log_event(TOPIC, event_to_json(event))

    _run_in(_mine.child, job_from_json(job_json), report)
    return event_to_json(ends[-1])


def local_cluster(workers: int) -> Any:
    """Start Dask workers on this machine: one thread each, spawned, on the loopback address alone."""
    import dask
    from distributed import LocalCluster

    dask.config.set({
        "distributed.nanny.pre-spawn-environ": NANNY_ENVIRONMENT,
        "distributed.comm.timeouts.connect": "60s",
    })
    with _interrupts_ignored():
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Any free port: a second cluster on the machine must find one too.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # what matters reaches us as events
        )


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes started here ignore an interrupt from the keyboard, which is for us alone; we stop them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def executor(kind: str, store: Store, *, workers: int) -> Iterator[Executor]:
    """Open an executor, and close it whatever happens.

    Args:
        kind: "serial", "local", or the address of a Dask scheduler that sees the same files.
        store: where records go.
        workers: of a local cluster.

    Raises:
        BadInput: the kind is unknown, or no scheduler answers.
    """
    made = _make(kind, store, workers)
    try:
        yield made
    finally:
        made.close()


def _make(kind: str, store: Store, workers: int) -> Executor:
    if kind == "serial":
        return Serial(store)
    if kind != "local" and "://" not in kind:
        raise unknown("executor", kind, KNOWN)
    from distributed import Client

    if kind == "local":
        cluster = local_cluster(workers)
        return Dask(store, Client(cluster), cluster=cluster)
    try:
        return Dask(store, Client(kind, timeout=CONNECT))
    except (OSError, TimeoutError, ValueError) as error:
        raise BadInput(f"no Dask scheduler answers at {kind} ({error}). Start one, or use --executor local.") from error
