"""Fits of frames: recovery, weights, refusals, memory, and the same answer from any number of workers."""

from __future__ import annotations

import multiprocessing
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from math import nan
from threading import Event, Lock
from typing import Any, overload

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlipbench.ace import fit as module
from mlipbench.ace import rows as rows_module
from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.fit import Executor, Fit, Labelled, Weights, fit
from mlipbench.ace.potential import LinearAce
from mlipbench.ace.rows import count_rows, frame_rows, weighted_triangle
from mlipbench.ace.solve import Ridge
from mlipbench.ace.triangle import Triangle
from mlipbench.core.benchmark import no_progress
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

NO_WALL = np.zeros((3, 3))


@pytest.fixture(scope="module")
def slim() -> LinearAce:
    """Few functions, for tests that fit often."""
    basis = Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(4.0, 2.0, 2.0), l_max=1)
    weights = np.random.default_rng(1).normal(size=(3, functions(basis).n_functions))
    return LinearAce(basis=basis, e0_eV=-np.arange(1.0, 4.0), weights=weights, wall_reach_A=np.full((3, 3), 1.3))


def label(potential: LinearAce, frame: Atoms) -> Labelled:
    found = potential.evaluate(frame)
    return Labelled(frame=frame, energy=found.energy, forces=found.forces, stress=found.stress)


def rattled(n: int, *, amplitude: float = 0.15) -> list[Atoms]:
    frames = []
    for seed in range(n):
        frame = molecule(("CH3CH2OH", "H2O", "CH4", "CO2")[seed % 4])
        if seed % 3 == 0:
            frame.set_cell([6.0, 6.5, 7.0])
            frame.pbc = True
        frame.rattle(amplitude, seed=seed)
        frames.append(frame)
    return frames


def refit(potential: LinearAce, data: Sequence[Labelled], *, exponent: float = 2.0, **options: Any) -> Fit:
    settings = {"weights": Weights(), "progress": no_progress, **options}
    return fit(
        potential.basis,
        data,
        e0_eV=potential.e0_eV,
        wall_reach_A=potential.wall_reach_A,
        prior_exponent=exponent,
        **settings,
    )


def square(triangle: Triangle) -> float:
    """Sum of squares of the weighted labels."""
    return float(np.square(triangle.matrix[:, -1]).sum())


def all_finite(solution: Ridge) -> bool:
    numbers = (solution.ridge, solution.sigma, solution.effective_parameters)
    return bool(
        np.isfinite(solution.coefficients).all() and np.isfinite(solution.factor).all() and np.isfinite(numbers).all()
    )


def test_coefficients_of_synthetic_data_are_recovered() -> None:
    basis = Basis(numbers=(29,), cutoff_A=4.0, degrees=(3.0, 2.0), l_max=1)
    weights = np.random.default_rng(0).normal(size=(1, functions(basis).n_functions))
    truth = LinearAce(basis=basis, e0_eV=np.array([-3.5]), weights=weights, wall_reach_A=np.zeros((1, 1)))
    frames = []
    for seed in range(12):
        frame = bulk("Cu", cubic=True, a=3.4 + 0.05 * seed)
        frame.rattle(0.3, seed=seed)
        frames.append(frame)
    found = refit(truth, [label(truth, frame) for frame in frames]).potential
    assert np.abs(found.weights - weights).max() < 1e-8
    assert np.abs((1.0 + 1e-6) * found.weights - weights).max() > 1e-8  # the bar can be missed


def test_predictions_of_synthetic_data_are_recovered_with_more_functions_than_needed(potential: LinearAce) -> None:
    frames = rattled(60)
    found = refit(potential, [label(potential, frame) for frame in frames[:48]])
    assert found.n_columns == potential.weights.size
    for frame in frames[:48]:
        error = found.potential.evaluate(frame).forces - potential.evaluate(frame).forces
        assert np.sqrt(np.square(error).mean()) < 1e-9


def test_rows_have_the_stated_weights_and_order(potential: LinearAce) -> None:
    frame = rattled(1)[0]
    one, weights = label(potential, frame), Weights(energy=7.0, forces=2.0, stress=3.0)
    empty = replace(potential, e0_eV=np.zeros(3), weights=np.zeros_like(potential.weights), wall_reach_A=NO_WALL)
    assert one.stress is not None
    virial = one.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * frame.get_volume()
    n = len(frame)
    wanted = np.concatenate([[7 * one.energy / np.sqrt(n)], 2 * one.forces.reshape(-1), 3 * virial / np.sqrt(n)])
    rows, labels = frame_rows(empty, one, weights)
    assert np.abs(labels - wanted).max() < 1e-12 * np.abs(wanted).max()
    assert len(rows) == count_rows(one) == 1 + 3 * n + 6
    triangle = weighted_triangle(empty, [one], weights, progress=no_progress)
    assert square(triangle) == pytest.approx(np.square(wanted).sum(), rel=1e-12)
    assert triangle.n_rows == len(wanted)


def test_rows_times_coefficients_are_the_labels(potential: LinearAce) -> None:
    alone = replace(potential, e0_eV=np.zeros(3), wall_reach_A=NO_WALL)
    empty = replace(alone, weights=np.zeros_like(potential.weights))
    rows, labels = frame_rows(empty, label(alone, rattled(1)[0]), Weights(energy=7.0, forces=2.0, stress=3.0))
    assert np.abs(rows @ alone.weights.reshape(-1) - labels).max() < 1e-11 * np.abs(labels).max()


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        (Weights(energy=0.0), slice(1, None)),
        (Weights(forces=0.0), [0, -6, -5, -4, -3, -2, -1]),
        (Weights(stress=0.0), slice(0, -6)),
    ],
)
def test_rows_of_weight_zero_are_left_out(potential: LinearAce, weights: Weights, kept: slice | list[int]) -> None:
    one = label(potential, rattled(1)[0])
    all_rows, all_labels = frame_rows(potential, one, Weights())
    rows, labels = frame_rows(potential, one, weights)
    assert np.array_equal(rows, all_rows[kept])
    assert np.array_equal(labels, all_labels[kept])


def test_the_baseline_is_taken_off_the_labels(potential: LinearAce) -> None:
    frames, walls = rattled(4), replace(potential, weights=np.zeros_like(potential.weights))
    close = Atoms("OH", [[0, 0, 0], [0, 0, 0.8]])
    triangle = weighted_triangle(walls, [label(walls, x) for x in (*frames, close)], Weights(), progress=no_progress)
    assert square(triangle) == 0.0


def test_one_frame_many_copies_and_a_constant_energy_are_fitted(potential: LinearAce) -> None:
    frame = rattled(1)[0]
    for data in ([label(potential, frame)], [label(potential, frame)] * 5):
        found = refit(potential, data)
        assert all_finite(found.solution)
        assert found.potential.evaluate(frame).energy == pytest.approx(data[0].energy, abs=1e-6)
    flat = [Labelled(frame=Atoms("H"), energy=-1.0, forces=np.zeros((1, 3)))] * 3
    assert not refit(potential, flat).potential.weights.any()


def test_the_factor_is_that_of_the_rows(potential: LinearAce) -> None:
    data = [label(potential, frame) for frame in rattled(6)]
    found = refit(potential, data)
    empty = replace(potential, weights=np.zeros_like(potential.weights))
    rows = np.concatenate([frame_rows(empty, one, Weights())[0] for one in data])
    precision = np.tile(functions(potential.basis).degree, 3) ** 2.0
    wanted = rows.T @ rows + found.solution.ridge * np.diag(precision)
    assert np.abs(found.solution.factor.T @ found.solution.factor - wanted).max() < 1e-13 * np.abs(wanted).max()


def test_a_frame_without_atoms_has_no_rows(slim: LinearAce) -> None:
    nothing = Labelled(frame=Atoms(), energy=0.0, forces=np.zeros((0, 3)))
    data = [label(slim, frame) for frame in rattled(3)]
    assert refit(slim, [*data, nothing]).n_rows == refit(slim, data).n_rows


def test_the_fit_is_repeatable_and_the_order_of_frames_does_not_matter(slim: LinearAce, noisy: list[Labelled]) -> None:
    found = refit(slim, noisy).potential.weights
    assert np.array_equal(refit(slim, noisy).potential.weights, found)
    assert np.abs(refit(slim, noisy[::-1]).potential.weights - found).max() < 1e-10
    assert np.abs(refit(slim, noisy[1:]).potential.weights - found).max() > 1e-6  # the bar can be missed


def test_a_frame_larger_than_a_chunk_is_taken_in_pieces(slim: LinearAce, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [label(slim, frame) for frame in rattled(6)]
    wanted = weighted_triangle(slim, data, Weights(), progress=no_progress)
    monkeypatch.setattr(rows_module, "_CHUNK_ROWS", 7)
    found = weighted_triangle(slim, data, Weights(), progress=no_progress)
    sums = [made.matrix.T @ made.matrix for made in (found, wanted)]
    assert found.n_rows == wanted.n_rows
    assert np.abs(sums[0] - sums[1]).max() < 1e-13 * np.abs(sums[1]).max()


def test_progress_tells_rows_and_their_rate(potential: LinearAce, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_CHUNK_ROWS", 64)
    told: list[tuple[int, int, str]] = []
    data = [label(potential, frame) for frame in rattled(9)]
    found = refit(potential, data, progress=lambda *given: told.append(given))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[0][2].startswith("64 rows, ")
    assert told[-2][:2] == (9, 9)
    assert told[-2][2].startswith(f"{found.n_rows} rows, ")
    assert told[-2][2].endswith(" a second")
    assert told[-1] == (9, 9, f"solving for {found.n_columns} coefficients")


# Refusals


def moved(frame: Atoms, factor: float) -> Atoms:
    result = frame.copy()
    result.positions[:2] = factor
    return result


WRONG: dict[str, tuple[type[Exception], str, Callable[[Labelled], Labelled]]] = {
    "energy": (BadInput, "the label energy is not finite", lambda x: replace(x, energy=nan)),
    "forces": (BadInput, "the label forces is not finite", lambda x: replace(x, forces=x.forces + np.inf)),
    "stress": (BadInput, "the label stress is not finite", lambda x: replace(x, stress=np.full((3, 3), nan))),
    "shape": (BadInput, r"forces has shape \(4, 3\)", lambda x: replace(x, forces=x.forces[1:])),
    "no volume": (BadInput, "no cell with a volume", lambda x: replace(x, frame=Atoms(x.frame.symbols, np.eye(5, 3)))),
    "position": (BadInput, "not finite", lambda x: replace(x, frame=moved(x.frame, nan))),
    "overlap": (ModelFailure, "apart", lambda x: replace(x, frame=moved(x.frame, 0.0))),
    "element": (NotApplicable, "does not cover N", lambda x: replace(x, frame=Atoms("N5", cell=x.frame.cell))),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_a_frame_that_cannot_be_fitted_is_named(slim: LinearAce, name: str, is_parallel: bool) -> None:
    kind, message, spoil = WRONG[name]
    methane = Atoms("CH4", molecule("CH4").positions, cell=[5.0, 5.0, 5.0], pbc=True)
    data = [label(slim, frame) for frame in [*rattled(30), methane, *rattled(3)]]
    data[30] = spoil(data[30])
    executor = Backwards() if is_parallel else None
    with pytest.raises(kind, match=rf"^frame 30: .*{message}"):
        refit(slim, data, executor=executor)
    assert executor is None or executor.sent > 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (Weights(energy=0.0, forces=0.0, stress=0.0), "no weight"),
        (Weights(energy=-1.0), r"weight of energy is -1\.0"),
        (Weights(forces=nan), "weight of forces is nan"),
    ],
)
def test_weights_without_meaning_are_refused(potential: LinearAce, weights: Weights, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        refit(potential, [label(potential, rattled(1)[0])], weights=weights)


def test_no_frames_no_rows_and_no_blocks_are_refused(potential: LinearAce) -> None:
    for executor in (None, Backwards()):
        with pytest.raises(BadInput, match="no frames"):
            refit(potential, [], executor=executor)
        with pytest.raises(BadInput, match="no rows"):
            refit(potential, [Labelled(frame=Atoms(), energy=0.0, forces=np.zeros((0, 3)))], executor=executor)
    with pytest.raises(BadInput, match="in_flight = 0"):
        refit(potential, [label(potential, rattled(1)[0])], executor=Backwards(), in_flight=0)


# Workers


class Backwards:
    """An executor that does nothing until it is asked for a result, and then the latest call first."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.most = self.sent = 0

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future = LateFuture(self)
        self.calls.append((future, function, args))
        self.most, self.sent = max(self.most, len(self.calls)), self.sent + 1
        return future

    def run(self) -> None:
        while self.calls:
            future, function, args = self.calls.pop()
            try:
                future.set_result(function(*args))
            except (BadInput, ModelFailure, NotApplicable) as error:
                future.set_exception(error)


class LateFuture(Future[Any]):
    def __init__(self, owner: Backwards) -> None:
        super().__init__()
        self.owner = owner

    def result(self, timeout: float | None = None) -> Any:
        self.owner.run()
        return super().result(timeout)


@contextmanager
def dask_client() -> Iterator[Any]:
    from distributed import Client

    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", protocol="inproc"
    ) as client:
        yield client


EXECUTORS: dict[str, Callable[[], AbstractContextManager[Executor]]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")),
    "dask": dask_client,
}


@pytest.fixture
def noisy(slim: LinearAce) -> list[Labelled]:
    rng, data = np.random.default_rng(0), [label(slim, frame) for frame in rattled(40)]
    return [replace(x, forces=x.forces + 0.02 * rng.normal(size=x.forces.shape)) for x in data]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_PER_COLUMN", 0.5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", EXECUTORS)
def test_workers_find_the_same_coefficients(slim: LinearAce, noisy: list[Labelled], name: str) -> None:
    here = refit(slim, noisy)
    told: list[str] = []
    with EXECUTORS[name]() as executor:
        there = refit(slim, noisy, executor=executor, progress=lambda *given: told.append(given[2]))
    assert len(told) > 4  # blocks, and the solving
    assert there.n_rows == here.n_rows
    assert there.solution.ridge == pytest.approx(here.solution.ridge, rel=1e-6)
    assert np.abs(there.potential.weights - here.potential.weights).max() < 1e-9
    assert there.solution.sigma == pytest.approx(here.solution.sigma, rel=1e-9)


@pytest.mark.usefixtures("small_blocks")
def test_who_ends_first_and_how_many_are_under_way_does_not_matter(slim: LinearAce, noisy: list[Labelled]) -> None:
    found = []
    for in_flight in (1, 2, 100):
        executor = Backwards()
        found.append(refit(slim, noisy, executor=executor, in_flight=in_flight).potential.weights)
        assert executor.most == min(in_flight, executor.sent)
        assert executor.sent > 3
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


class Shared:
    """An executor that gives all who ask the same one object, as a Dask cluster does."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], Future[Any]] = {}
        self.lock, self.sent = Lock(), 0

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        _, data, first = args
        with self.lock:
            self.sent += 1
            if (first, len(data)) not in self.known:
                future = Future[Any]()
                future.set_result(function(*args))
                self.known[first, len(data)] = future
            return self.known[first, len(data)]


@pytest.mark.usefixtures("small_blocks")
def test_two_fits_at_once_through_one_client_do_not_disturb_each_other(slim: LinearAce, noisy: list[Labelled]) -> None:
    wanted, shared = refit(slim, noisy, executor=Backwards()).potential.weights, Shared()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: refit(slim, noisy, executor=shared).potential.weights, range(2)))
    assert shared.sent == 2 * len(shared.known) > 6
    assert all(np.array_equal(weights, wanted) for weights in found)


@pytest.mark.usefixtures("small_blocks")
def test_after_a_failure_nothing_more_is_started(slim: LinearAce, noisy: list[Labelled]) -> None:
    held, futures = Event(), list[Future[Any]]()
    with ThreadPoolExecutor(1) as pool:

        class Watched:
            def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
                if len(futures) == 1:
                    futures.append(pool.submit(held.wait, 10.0))  # keeps the only thread busy
                futures.append(pool.submit(function, *args))
                return futures[-1]

        with pytest.raises(BadInput, match="frame 0"):
            refit(slim, [replace(noisy[0], energy=nan), *noisy[1:]], executor=Watched())
        held.set()
    assert len(futures) > 3
    assert all(future.cancelled() for future in futures[2:])


def test_blocks_cover_all_frames_and_are_worth_a_merge(noisy: list[Labelled]) -> None:
    rows = sum(count_rows(one) for one in noisy)
    for n_columns in (1, 5, 50, 10**6):
        ends = module._block_ends(noisy, n_columns)
        assert ends == sorted(set(ends))
        assert ends[-1] == len(noisy)
        assert len(ends) <= max(1.0, 1.2 * rows / (4 * n_columns))
    assert len(module._block_ends(noisy * 50, 1)) == 64
    assert module._block_ends(noisy[:1], 1) == [1]


# Memory


class Lazy(Sequence[Labelled]):
    """Frames made when they are asked for; a slice is as lazy."""

    def __init__(self, places: range, make: Callable[[int], Labelled]) -> None:
        self.places, self.make = places, make

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Labelled: ...
    @overload
    def __getitem__(self, place: slice) -> Lazy: ...
    def __getitem__(self, place: int | slice) -> Labelled | Lazy:
        if isinstance(place, slice):
            return Lazy(self.places[place], self.make)
        return self.make(self.places[place])

    def __iter__(self) -> Iterator[Labelled]:
        raise AssertionError("all frames at once")


def crystal(potential: LinearAce, seed: int) -> Labelled:
    frame = molecule("CH3CH2OH")
    frame.set_cell([5.0, 5.0, 5.0])
    frame.pbc = True
    frame *= (2, 2, 1)
    frame.rattle(0.1, seed=seed)
    return label(potential, frame)


def peak_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_frames(slim: LinearAce) -> None:
    def run(n_frames: int) -> Triangle:
        data = Lazy(range(n_frames), lambda seed: crystal(slim, seed))
        return weighted_triangle(slim, data, Weights(), progress=no_progress)

    assert run(25).n_rows > 2048  # more than one chunk, and the kernels are compiled
    few, many = peak_bytes(lambda: run(25)), peak_bytes(lambda: run(100))
    n_columns = slim.weights.size
    assert many < 1.15 * few  # the last chunk is a part of one
    assert many < 8 * (2 * (n_columns + 1) ** 2 + 3 * (2048 + 128) * (n_columns + 1)) + 2**20
    assert peak_bytes(lambda: [frame_rows(slim, crystal(slim, k), Weights()) for k in range(100)]) > many


@pytest.mark.usefixtures("small_blocks")
def test_lazy_frames_are_fitted_here_and_by_workers(slim: LinearAce) -> None:
    data = Lazy(range(12), lambda seed: crystal(slim, seed))
    wanted = refit(slim, [data[k] for k in range(12)]).potential.evaluate(data[0].frame)
    for executor in (None, Backwards()):
        found = refit(slim, data, executor=executor).potential.evaluate(data[0].frame)
        assert np.abs(found.forces - wanted.forces).max() < 1e-10
