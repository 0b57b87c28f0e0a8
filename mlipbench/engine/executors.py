"""Where do jobs run: here, one after the other, or on Dask's workers?"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from mlipbench.engine.child import Child
from mlipbench.engine.messages import Ended, Event, event_from_json, event_to_json, job_from_json, job_to_json
from mlipbench.engine.plan import Job
from mlipbench.errors import BadInput, unknown
from mlipbench.store import Store

TOPIC: Final = "mlipbench"
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
        threading.Thread(target=self._child.run, args=(job, self._events.put), daemon=True).start()

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
        future = self._client.submit(_on_worker, job_to_json(job), self._root, pure=False, key=f"{job.label}-{job.id}")
        self._futures[job.id] = future
        future.add_done_callback(lambda done: self._ended(job, done))

    def _ended(self, job: Job, future: Any) -> None:
        """Pass on how a task ended; a lost worker is our fault, not the model's."""
        if future.status == "finished":
            self._events.put(event_from_json(future.result()))
        elif future.status == "error":
            self._events.put(Ended(job_id=job.id, lost=f"the Dask worker was lost: {future.exception()}"))
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


_child: Child | None = None


def _on_worker(job_json: str, root: str) -> str:
    """Run a job in this worker's child process; return its end."""
    from distributed import get_worker

    global _child  # ruff: ignore[global-statement]  one child per worker process, kept between tasks
    store = Store(Path(root))
    if _child is None:
        _child = Child(store)
    ends: list[Event] = []
    worker = get_worker()

    def report(event: Event) -> None:
        ends.append(event) if isinstance(event, Ended) else worker.log_event(TOPIC, event_to_json(event))

    _child.run(job_from_json(job_json), report)
    return event_to_json(ends[-1])


def local_cluster(workers: int) -> Any:
    """Start Dask workers on this machine: one thread each, spawned, on the loopback address alone."""
    import dask
    from distributed import LocalCluster

    dask.config.set({
        "distributed.nanny.pre-spawn-environ": NANNY_ENVIRONMENT,
        "distributed.comm.timeouts.connect": "60s",
    })
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        memory_limit=0,
    )


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
        return Dask(store, Client(kind, timeout="15s"))
    except (OSError, TimeoutError, ValueError) as error:
        raise BadInput(f"no Dask scheduler answers at {kind} ({error}). Start one, or use --executor local.") from error
