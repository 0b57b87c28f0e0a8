"""What do the rows of a fit cost, and the whole fit?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.fit import Fit, fit
from mlipbench.ace.neighbours import neighbours
from mlipbench.ace.rows import bare_rows, room_for
from mlipbench.benchmarks.frames import spread_out
from mlipbench.core.benchmark import no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.errors import NotApplicable
from mlipbench.speed.comparison import Absent, Comparison, Found, in_turn
from mlipbench.speed.settings import OURS, Settings
from mlipbench.training.ace import labelled

if TYPE_CHECKING:
    from ase import Atoms

ASSEMBLY_BAR: Final = "<= 0.2"
TORCH_BAR: Final = ">= 10"
FIT_BAR: Final = "<= 20"
FIT_ATOMS: Final = 4000
UNIT: Final = "ms/atom"


def fitting(settings: Settings) -> Iterator[Found]:
    """Time the assembly of the design matrix beside torch, and a whole fit."""
    train = settings.train
    spread = [train.frames[i] for i in spread_out(train, min(settings.assembly_frames, len(train)))]
    yield from assembly(settings.medium, spread, title="training frames")
    yield from assembly(settings.medium, [settings.box], title=f"box of {len(settings.box)} atoms")
    yield whole_fit(settings)


def assembly(basis: Basis, frames: Sequence[Atoms], *, title: str) -> Iterator[Found]:
    """Time energy, force and virial rows of some frames from positions on, per atom, beside torch's dense algebra.

    Torch is taken by the faster of two ways: frame by frame, and all frames at once.
    """
    n_atoms = sum(len(frame) for frame in frames)
    name = f"assembly of all rows, {functions(basis).n_functions} functions, {title}"
    try:
        torch_ways = by_torch(basis, frames)
    except NotApplicable as error:
        torch_ways = ()
        yield Absent(name=f"{name}: compiled loops, torch", reason=str(error), bar=TORCH_BAR)
    room = room_for(max(frames, key=len), np.empty((0, len(basis.numbers) * functions(basis).n_functions)))
    ours, *peers = in_turn(
        lambda: [design_rows(basis, frame, room) for frame in frames], *torch_ways, clock=time.process_time
    )
    per_atom = 1e3 * ours / n_atoms
    if peers:
        best = min(peers)
        yield Comparison(
            name=f"{name}: compiled loops, torch", ours=per_atom, peer=1e3 * best / n_atoms, ratio=best / ours,
            bar=TORCH_BAR, unit=UNIT, note=f"torch {('frame by frame', 'all frames at once')[peers.index(best)]}",
        )  # fmt: skip
    yield Comparison(name=name, ours=per_atom, peer=None, ratio=per_atom, bar=ASSEMBLY_BAR, unit=UNIT)


def design_rows(basis: Basis, frame: Atoms, room: Float) -> Float:
    """Return energy, force and virial rows of one frame, shape (7 + 3 n_atoms, n_columns), from its positions on.

    They lie in `room`, as in a fit.
    """
    return bare_rows(basis, frame, neighbours(frame, basis.cutoff_A), room)


def by_torch(basis: Basis, frames: Sequence[Atoms]) -> tuple[Callable[[], object], ...]:
    """Return calls that make the same rows with torch: frame by frame, and all frames at once.

    Raises:
        NotApplicable: torch is not installed.
    """
    from mlipbench.ace.torch_design import design_rows as torch_rows

    torch_rows(basis, frames[:1], device="cpu")
    return (
        lambda: [torch_rows(basis, [frame], device="cpu") for frame in frames],
        lambda: torch_rows(basis, frames, device="cpu"),
    )


def whole_fit(settings: Settings) -> Comparison:
    """Time one fit of the medium ACE to about 4 000 atoms, from frames to coefficients."""
    data = about(settings.train, FIT_ATOMS)
    our_fit(settings, settings.medium, data.take([0]), prior_exponent=2.0)  # compiles
    start = time.process_time()
    found = our_fit(settings, settings.medium, data, prior_exponent=2.0)
    seconds = time.process_time() - start
    return Comparison(
        name=f"fit of {OURS} to {data.n_atoms.sum()} atoms, {found.n_rows} rows, {found.n_columns} columns",
        ours=seconds, peer=None, ratio=seconds, bar=FIT_BAR, unit="CPU s", note="once, from frames to coefficients",
    )  # fmt: skip


def our_fit(settings: Settings, basis: Basis, data: Dataset, *, prior_exponent: float) -> Fit:
    """Fit a basis to some frames with the E0s and weights that every comparison shares, without a wall."""
    n = len(basis.numbers)
    return fit(
        basis, labelled(data), e0_eV=settings.e0_eV, wall_reach_A=np.zeros((n, n)), weights=settings.weights,
        prior_exponent=prior_exponent, progress=no_progress,
    )  # fmt: skip


def about(data: Dataset, n_atoms: int) -> Dataset:
    """Return frames evenly spaced over the data that have about so many atoms in all, or all of them."""
    share = min(1.0, n_atoms / max(1, int(data.n_atoms.sum())))
    return data.take(spread_out(data, max(1, round(share * len(data)))).tolist())
