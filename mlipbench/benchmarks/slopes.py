"""How do slopes of the energy compare with forces and stresses, and what of the difference may be numerical?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.answers import Answered, along_a_line, answered, moved, round_off, scatter
from mlipbench.core.benchmark import Context, Observation
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.errors import ModelFailure
from mlipbench.physics.conservation import SLOPES_NOISE, THREE_STEPS, antisymmetry, loop_work, slopes
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM

if TYPE_CHECKING:
    from ase import Atoms

N_ALONG: Final = 14  # energies along one displacement, for what a polynomial leaves of them
DEGREE: Final = 6
LEAST_FORCE_EV_PER_A: Final = 0.01  # errors are relative to forces of at least this size
LEAST_STRESS_EV_PER_A3: Final = 0.1 / GPA_PER_EV_PER_CUBIC_ANGSTROM
LARGEST_VOLUME_A3: Final = 20.0  # per atom; more of a cell is vacuum, which takes no stress
CANNOT_TELL: Final = 5e-3  # relative; what truncation and round-off may explain at most
# Frames with less are at rest: they are displaced by so much per atom, as at room temperature, and strained.
REST_FORCE_EV_PER_A: Final = 0.1
REST_STRESS_EV_PER_A3: Final = 0.5 / GPA_PER_EV_PER_CUBIC_ANGSTROM
SHAKE_A: Final = 0.05
SQUEEZE: Final = np.array([[-0.02, 0.01, -0.005], [0.01, -0.02, 0.005], [-0.005, 0.005, -0.02]])
JACOBIAN_STEP_A: Final = 0.005
MOST_ROUND_OFF_EV_PER_A: Final = 2e-4  # of forces; more is no round-off
# The six independent strains, each of norm 1.
STRAINS: Final = tuple(
    np.array([[float((i, j) in {(k, m), (m, k)}) for j in range(3)] for i in range(3)]) / (1.0 if k == m else 2.0**0.5)
    for k, m in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Awake:
    """Frames out of rest, and what the model says of them.

    Attributes:
        frames: as they were, changed where they were at rest.
        said: of them.
    """

    frames: list[Atoms]
    said: Predictions


def shaken(
    model: Model, frames: Sequence[Atoms], said: Predictions, rng: np.random.Generator, context: Context
) -> Awake:
    """Shake frames at rest, in which no force is large enough to be wrong by much."""
    ways = [SHAKE_A * rng.normal(size=(len(atoms), 3)) / 3.0**0.5 for atoms in frames]
    still = [k for k, forces in enumerate(by_frame(said)) if np.sqrt((forces**2).mean()) < REST_FORCE_EV_PER_A]
    return _changed(model, frames, said, {k: moved(frames[k], ways[k]) for k in still}, context)


def compressed(model: Model, frames: Sequence[Atoms], said: Predictions, context: Context) -> Awake:
    """Strain frames in which no stress is large enough to be wrong by much."""
    size = np.sqrt((said.stress**2).mean(axis=(1, 2)))
    still = np.flatnonzero(said.has_stress & (size < REST_STRESS_EV_PER_A3)).tolist()
    return _changed(model, frames, said, {k: strained(frames[k], SQUEEZE) for k in still}, context)


def _changed(
    model: Model, frames: Sequence[Atoms], said: Predictions, others: dict[int, Atoms], context: Context
) -> Awake:
    """Ask for the changed frames; one that the model does not answer for stays as it is."""
    found = answered(model, [[atoms] for atoms in others.values()], context, remark="frames out of rest")
    numbers = [list(others)[k] for k in found.kept.tolist()]
    frames = [others[k] if k in numbers else atoms for k, atoms in enumerate(frames)]
    parts, new = by_frame(said), dict(zip(numbers, by_frame(found.said), strict=True))
    energy, stress, has_stress = said.energy.copy(), said.stress.copy(), said.has_stress.copy()
    energy[numbers], stress[numbers], has_stress[numbers] = found.said.energy, found.said.stress, found.said.has_stress
    return Awake(frames=frames, said=Predictions(
        n_atoms=said.n_atoms, energy=energy, stress=stress, has_stress=has_stress,
        forces=np.concatenate([new.get(k, part) for k, part in enumerate(parts)]),
    ))  # fmt: skip


def energy_noise(
    model: Model, frames: Sequence[Atoms], step_A: float, rng: np.random.Generator, context: Context
) -> tuple[Answered, Float]:
    """Return the standard deviation of energies about a smooth curve, eV, of the frames that were answered."""
    found = along_a_line(model, frames, step_A, N_ALONG, rng, context)
    energies = found.said.energy.reshape(len(found.kept), N_ALONG)
    return found, np.array([scatter(energy, DEGREE) for energy in energies])


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Slopes of the energy beside what forces or stresses say of them.

    Attributes:
        failed: numbers of frames without an answer, and why.
        slopes: shape (n_items, 3), of `physics.conservation.slopes`.
        expected: shape (n_items,), in the same unit.
        item: shape (n_items,), number of the frame among those asked.
        size: shape (n_frames,), root mean square of what is expected.
        extent: shape (n_frames,), factor from a force, or a stress, to that.
    """

    failed: dict[int, str]
    slopes: Float
    expected: Float
    item: Int
    size: Float
    extent: Float

    def observation(self, name: str, quiet: Answered) -> dict[str, Float | Int]:
        """Return what an observation keeps, of the frames with a known round-off."""
        own = np.isin(self.item, quiet.kept)
        return {
            f"{name}_slopes": self.slopes[own], f"{name}_expected": self.expected[own], f"{name}_item": self.item[own],
            f"{name}_size": self.size, f"{name}_extent": self.extent,
        }  # fmt: skip


def along_displacements(
    model: Model, frames: Sequence[Atoms], said: Predictions, n: int, step_A: float,
    rng: np.random.Generator, context: Context,
) -> Compared:  # fmt: skip
    """Compare slopes of the energy along n random displacements of each frame with -F·d, eV/Å."""
    ways = [rng.normal(size=(n, len(atoms), 3)) / 3.0**0.5 for atoms in frames]
    groups = [
        [moved(atoms, step_A * step * way) for way in own for step in THREE_STEPS]
        for atoms, own in zip(frames, ways, strict=True)
    ]
    found = answered(model, groups, context, remark="displacements")
    parts = by_frame(said)
    energy = found.said.energy.reshape(len(found.kept) * n, len(THREE_STEPS))
    work = np.array([-(parts[k] * way).sum() for k in found.kept.tolist() for way in ways[k]])
    return Compared(
        failed=dict(zip(found.failed.tolist(), found.reasons, strict=True)), slopes=slopes(energy, step_A),
        expected=work, item=np.repeat(found.kept, n),
        size=np.array([np.linalg.norm(part) / 3.0**0.5 for part in parts]),
        extent=np.array([len(part) ** 0.5 for part in parts]),
    )  # fmt: skip


def along_strains(model: Model, frames: Sequence[Atoms], said: Predictions, step: float, context: Context) -> Compared:
    """Compare slopes of the energy along the six strains of each frame that has a stress with V stress:e, eV."""
    own = np.flatnonzero(said.has_stress)
    groups = [
        [strained(frames[k], step * part * strain) for strain in STRAINS for part in THREE_STEPS] for k in own.tolist()
    ]
    found = answered(model, groups, context, remark="strains")
    volume = np.array([atoms.get_volume() if atoms.cell.rank == 3 else 0.0 for atoms in frames])
    expected = volume[:, None] * np.einsum("nab,sab->ns", said.stress, np.array(STRAINS))
    energy = found.said.energy.reshape(len(found.kept) * len(STRAINS), len(THREE_STEPS))
    kept = own[found.kept]
    return Compared(
        failed=dict(zip(own[found.failed].tolist(), found.reasons, strict=True)), slopes=slopes(energy, step),
        expected=expected[kept].ravel(), item=np.repeat(kept, len(STRAINS)),
        size=np.sqrt((expected**2).mean(axis=1)),
        extent=np.minimum(volume, LARGEST_VOLUME_A3 * np.array([len(atoms) for atoms in frames])),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """What is left of differences, frame by frame, in units of the frame's own forces or stresses.

    Attributes:
        frame: shape (n_frames,), number among those asked.
        square: shape (n_frames,), sum of squares that nothing numerical explains; all where that may be too much.
        n: shape (n_frames,), differences of each.
        resolution: shape (n_frames,), what truncation and round-off alone may leave.
    """

    frame: Int
    square: Float
    n: Float
    resolution: Float


def unexplained(seen: Observation, name: str, *, step: float, least: float) -> Unexplained:
    """Take off what truncation and round-off explain.

    Of three slopes each frame is judged by the one that these two blur least. Truncation is bounded by the distance to
    the slope of all three steps, or of that one to the next, less what round-off makes of it; it is taken off each
    error. Two standard deviations more than the expected sum of squares of round-off are taken off that of errors.

    Args:
        seen: holds `Compared.observation` and "noise", eV, shape (n_frames,).
        name: of the comparison.
        step: of the widest differences.
        least: sizes are at least this times the extent.
    """
    of_item, found = seen[f"{name}_item"], seen[f"{name}_slopes"]
    frame, row = np.unique(of_item, return_inverse=True)
    size = np.maximum(seen[f"{name}_size"], least * seen[f"{name}_extent"])[frame]
    n = np.bincount(row).astype(np.float64)
    wrong = np.abs(found - seen[f"{name}_expected"][:, None]) / size[row][:, None]
    noise = seen["noise"][frame][:, None] * np.array(SLOPES_NOISE) / step / size[:, None]
    apart = np.abs(found - found[:, [2, 2, 1]]) / size[row][:, None]
    spread = np.sqrt(noise**2 + noise[:, [2, 2, 1]] ** 2)  # of the distance, by round-off alone
    truncation = np.maximum(apart - 2.0 * spread[row], 0.0)
    mean_square = _summed(truncation**2, row) / n[:, None]
    best = np.argmin(mean_square + noise**2, axis=1)
    pick = np.arange(len(frame)), best
    # the sum of n squares of noise scatters by sqrt(2n) about n times the variance, and each frame is judged
    noisy = (n + 2.0 * np.sqrt(2.0 * n)) * noise[pick] ** 2
    resolution = np.sqrt(mean_square[pick] + noisy / n)
    left = _summed(np.maximum(wrong - truncation, 0.0) ** 2, row)[pick] - noisy
    everything = np.maximum(_summed(wrong**2, row)[pick], n * resolution**2)
    square = np.where(resolution > CANNOT_TELL, everything, np.maximum(left, 0.0))
    return Unexplained(frame=frame, square=square, n=n, resolution=resolution)


def _summed(values: Float, row: Int) -> Float:
    """Return sums of rows of one frame; values: shape (n_items, 3)."""
    return np.column_stack([np.bincount(row, column) for column in values.T])


def around_loops(
    model: Model, frames: Sequence[Atoms], n_points: int, size_A: float, rng: np.random.Generator, context: Context
) -> tuple[Answered, Float]:
    """Return the work of the forces around a closed curve from each frame, relative to that done on the way."""
    angles = 2.0 * np.pi * np.arange(n_points) / n_points
    loops = [rng.normal(size=(2, len(atoms), 3)) / 3.0**0.5 * size_A for atoms in frames]
    groups = [
        [moved(atoms, np.cos(angle) * one + np.sin(angle) * other) for angle in angles]
        for atoms, (one, other) in zip(frames, loops, strict=True)
    ]
    found = answered(model, groups, context, remark="closed curves")
    forces, work = by_frame(found.said), []
    for k, number in enumerate(found.kept.tolist()):
        one, other = loops[number].reshape(2, 1, -1)
        speed = 2.0 * np.pi * (np.cos(angles)[:, None] * other - np.sin(angles)[:, None] * one)
        part = np.array(forces[k * n_points : (k + 1) * n_points]).reshape(n_points, -1)
        around, on_the_way = loop_work(part, speed)
        work.append(around / on_the_way if on_the_way > 0.0 else 0.0)
    return found, np.array(work)


def piece_antisymmetry(model: Model, piece: Atoms, rng: np.random.Generator, context: Context) -> float:
    """Return the antisymmetry of the derivatives of the forces on a piece, less what their round-off explains.

    An element of (J - Jᵀ)/2 off the diagonal has a variance of σ²/4h² for forces with a standard deviation σ.

    Raises:
        ModelFailure: the model is at fault.
        NotApplicable: the model does not cover the piece.
    """
    n, h = 3 * len(piece), JACOBIAN_STEP_A
    steps = h * np.eye(n).reshape(-1, len(piece), 3)
    group = [moved(piece, sign * step) for step in steps for sign in (1.0, -1.0)]
    said = answered(model, [group], context, remark="derivatives").or_raise().said
    forces = said.forces.reshape(n, 2, -1)
    jacobian = (forces[:, 0] - forces[:, 1]) / (2.0 * h)
    size = float(np.linalg.norm(jacobian))
    if not np.isfinite(size):
        raise ModelFailure("the derivatives of the forces are not finite")
    sigma = min(float(round_off(model, [piece], rng, context).force[0]), MOST_ROUND_OFF_EV_PER_A)
    explained = n * (n - 1) * (sigma / (2.0 * h)) ** 2
    left = (antisymmetry(jacobian) * size) ** 2 - explained
    return float(np.sqrt(max(left, 0.0)) / size) if size > 0.0 else 0.0


def by_frame(said: Predictions) -> list[Float]:
    """Return the forces of each frame."""
    return np.split(said.forces, said.offsets[1:-1]) if len(said.n_atoms) else []


def strained(atoms: Atoms, strain: Float) -> Atoms:
    """Return a copy with cell and positions strained."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=False)
    copy.positions = atoms.positions @ (np.eye(3) + strain)
    return copy
