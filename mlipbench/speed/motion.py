"""How fast are many small systems in motion, beside ASE and torch-sim, and how fast are distances counted?"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Replica, Schedule
from mlipbench.core.model import Float, Int, Model
from mlipbench.errors import NotApplicable
from mlipbench.models import load
from mlipbench.models.mace import MaceModel
from mlipbench.models.mace import load as load_mace
from mlipbench.models.mace_graph import quiet_mace
from mlipbench.physics.rdf import count_pairs
from mlipbench.simulate.driver import run
from mlipbench.speed.comparison import Absent, Comparison, Found, in_turn
from mlipbench.speed.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

MACE, ACE = "mace-ci", "ace-medium"
MANY: Final = 8
DIMER_BOX_A: Final = 20.0
TEMPERATURE_K, TIMESTEP_FS, FRICTION_PER_PS = 300.0, 0.5, 10.0
RDF_FRAMES, RDF_ATOMS, RDF_EDGE_A, RDF_MAX_A, RDF_BINS = 1000, 640, 18.7, 8.0, 160
AT_AN_EDGE_A: Final = 1e-5
UNIT: Final = "atom-steps per CPU-second"


def motion(settings: Settings) -> Iterator[Found]:
    """Compare Langevin dynamics and the counting of distances, one thread each, by processor time."""
    yield from dynamics(settings)
    yield from distances(settings)


def dynamics(settings: Settings) -> Iterator[Found]:
    """Compare our batches with ASE one by one, torch-sim, and ACE with MACE."""
    try:
        mace = load_mace(settings.spec(MACE), device="cpu")
    except NotApplicable as error:
        yield Absent(name=f"dynamics: {MACE}", reason=str(error), bar=">= 4")
        return
    n = settings.n_steps
    dimers, box = small_systems(settings), [settings.box]
    for title, systems, ase_bar, torch_sim_bar in (
        (f"{MANY} dimers in boxes", dimers, ">= 4", ">= 0.9"), ("one box", box, ">= 1", ""),
    ):  # fmt: skip
        calls = [
            ours(mace, systems, n),
            by_ase(mace_torch_calculator(mace), systems, n),
            by_ase(mace.calculator(), systems, n),
        ]
        if find_spec("torch_sim") is not None:
            calls.append(by_torch_sim(mace, systems, n))
        batched, theirs, alone, *other = in_turn(*calls, repeats=settings.n_repeats, clock=time.process_time)
        work = n * sum(len(one) for one in systems)
        name = f"{MACE} dynamics, {title} ({sum(len(one) for one in systems)} atoms)"
        for way, seconds, bar in (("mace-torch's", theirs, ase_bar), ("our", alone, "")):
            yield Comparison(
                name=f"{name}: ours, ASE one by one with {way} calculator", ours=work / batched, peer=work / seconds,
                ratio=seconds / batched, bar=bar, unit=UNIT,
            )  # fmt: skip
        if other:
            yield Comparison(
                name=f"{name}: ours, torch-sim", ours=work / batched, peer=work / other[0], ratio=other[0] / batched,
                bar=torch_sim_bar, unit=UNIT,
            )  # fmt: skip
        elif torch_sim_bar:
            yield Absent(name=f"{name}: torch-sim", reason="torch-sim-atomistic is not installed", bar=torch_sim_bar)
    try:
        ace = load(settings.spec(ACE), device="cpu")
    except NotApplicable as error:
        yield Absent(name=f"dynamics: {ACE}", reason=str(error), bar=">= 8")
        return
    fast, slow = in_turn(ours(ace, box, n), ours(mace, box, n), repeats=settings.n_repeats, clock=time.process_time)
    work = n * len(box[0])
    yield Comparison(
        name=f"dynamics of one box: {ACE}, {MACE}", ours=work / fast, peer=work / slow, ratio=slow / fast, bar=">= 8",
        unit=UNIT,
    )  # fmt: skip


def small_systems(settings: Settings) -> list[Atoms]:
    """Return pairs of molecules, each in a box of its own."""
    found = [frame.copy() for frame in settings.data.split("train").frames if len(frame) in {20, 25}][:MANY]
    for frame in found:
        frame.set_cell([DIMER_BOX_A] * 3)
        frame.set_pbc(True)
    return found


def ours(model: Model, systems: list[Atoms], n_steps: int) -> Callable[[], object]:
    """Return a call that moves all systems together."""
    replicas = [
        Replica(name=str(k), atoms=one, seed=k, temperature_K=TEMPERATURE_K, timestep_fs=TIMESTEP_FS)
        for k, one in enumerate(systems)
    ]
    plan = Schedule(
        n_steps=n_steps, friction_per_ps=FRICTION_PER_PS, sample_every=n_steps, frame_every=n_steps,
        samples_pressure=False,
    )  # fmt: skip
    return lambda: run(model, replicas, plan, progress=no_progress)


def mace_torch_calculator(model: MaceModel) -> Calculator:
    """Return the calculator that comes with mace-torch, around the same network."""
    with quiet_mace():
        from mace.calculators import MACECalculator

        return MACECalculator(models=[model.network], device="cpu", default_dtype=model.dtype)


def by_ase(calculator: Calculator, systems: list[Atoms], n_steps: int) -> Callable[[], object]:
    """Return a call that moves each system on its own, by ASE."""
    from ase import units
    from ase.md.langevin import Langevin

    def call() -> None:
        for system in systems:
            atoms = system.copy()
            atoms.calc = calculator
            friction = 1e-3 * FRICTION_PER_PS / units.fs
            move = Langevin(
                atoms,
                TIMESTEP_FS * units.fs,
                temperature_K=TEMPERATURE_K,
                friction=friction,
                rng=np.random.default_rng(0),
                fixcm=False,
            )
            move.run(n_steps)

    return call


def by_torch_sim(model: MaceModel, systems: list[Atoms], n_steps: int) -> Callable[[], object]:
    """Return a call that moves all systems together, by torch-sim."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        import torch_sim
        from torch_sim.models.mace import MaceModel as Theirs

        kind = getattr(torch, model.dtype)
        wrapped: Any = Theirs(
            model=model.network, device=torch.device("cpu"), dtype=kind, compute_forces=True, compute_stress=False
        )

    def call() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch_sim.io.atoms_to_state(systems, torch.device("cpu"), kind)
            torch_sim.integrate(
                system=state, model=wrapped, integrator=torch_sim.integrators.nvt_langevin, n_steps=n_steps,
                temperature=TEMPERATURE_K, timestep=1e-3 * TIMESTEP_FS,
            )  # fmt: skip

    return call


def distances(settings: Settings) -> Iterator[Found]:
    """Count the distances of 640 atoms as MDAnalysis does, and compare the counts too."""
    bar = ">= 1"
    if find_spec("MDAnalysis") is None:
        yield Absent(name="RDF: ours, MDAnalysis", reason="MDAnalysis is not installed", bar=bar)
        return
    n_frames = RDF_FRAMES if settings.is_whole else 4
    edges = np.full(3, RDF_EDGE_A)
    # A gas at a liquid's density: how long it takes depends on how many pairs there are, not on where.
    positions = np.random.default_rng(0).uniform(0.0, RDF_EDGE_A, (n_frames, RDF_ATOMS, 3)).astype(np.float32)
    by_us, by_them = our_counts(positions, edges), their_counts(positions, edges)
    own, other = in_turn(by_us, by_them, repeats=settings.n_repeats, clock=time.process_time)
    pairs = n_frames * RDF_ATOMS * (RDF_ATOMS - 1) / 2
    yield Comparison(
        name=f"RDF of {n_frames} frames of {RDF_ATOMS} atoms up to {RDF_MAX_A:g} Å: ours, MDAnalysis",
        ours=pairs / own, peer=pairs / other, ratio=other / own, bar=bar, unit="pairs per CPU-second",
    )  # fmt: skip
    unexplained = differing(by_us(), by_them(), positions, edges)
    yield Comparison(
        name="RDF counts that differ from MDAnalysis' by more than the pairs at a bin's edge", ours=unexplained,
        peer=None, ratio=unexplained, bar="<= 0", unit="bins",
        note=f"a pair is at an edge when it is within {AT_AN_EDGE_A:g} Å of it",
    )  # fmt: skip


def our_counts(positions: Any, edges_A: Float) -> Callable[[], Float]:
    """Return a call that counts all pairs in bins, shape (n_bins,)."""
    n = positions.shape[1]
    cells = np.repeat(np.diag(edges_A)[None], len(positions), axis=0)
    kinds, alone = np.zeros(n, dtype=np.int64), np.arange(n)
    return lambda: count_pairs(positions, cells, kinds, alone, r_max_A=RDF_MAX_A, n_bins=RDF_BINS).counts.sum(
        axis=(0, 1)
    )


def their_counts(positions: Any, edges_A: Float) -> Callable[[], Float]:
    """Return a call that lets MDAnalysis count them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import MDAnalysis
        from MDAnalysis.analysis.rdf import InterRDF
        from MDAnalysis.coordinates.memory import MemoryReader

    n = positions.shape[1]

    def call() -> Float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            universe = MDAnalysis.Universe.empty(n, trajectory=True)
            universe.load_new(positions, format=MemoryReader, dimensions=np.array([*edges_A, 90.0, 90.0, 90.0]))
            found = InterRDF(
                universe.atoms, universe.atoms, nbins=RDF_BINS, range=(0.0, RDF_MAX_A), exclusion_block=(1, 1)
            ).run()
        counts: Float = np.asarray(found.results.count, dtype=np.float64) / 2.0  # each pair from both ends
        return counts

    return call


def differing(ours: Float, theirs: Float, positions: Any, edges_A: Float) -> float:
    """Return the number of bins whose counts differ by more than the pairs at their two edges."""
    width = RDF_MAX_A / RDF_BINS
    at_edge = np.zeros(RDF_BINS + 1)
    for frame in positions.astype(np.float64):
        i, j = _upper(len(frame))
        apart = frame[i] - frame[j]
        apart -= edges_A * np.round(apart / edges_A)
        distance = np.linalg.norm(apart, axis=1)
        nearest = np.round(distance / width).astype(np.int64)
        close = (np.abs(distance - nearest * width) < AT_AN_EDGE_A) & (nearest <= RDF_BINS)
        at_edge += np.bincount(nearest[close], minlength=RDF_BINS + 1)
    return float((np.abs(ours - theirs) > at_edge[:-1] + at_edge[1:]).sum())


def _upper(n: int) -> tuple[Int, Int]:
    i, j = np.triu_indices(n, k=1)
    return i.astype(np.int64), j.astype(np.int64)
