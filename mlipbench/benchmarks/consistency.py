"""Do energy, forces and stress belong to one function of positions and cell?

force_gradient  F·d against the slope of the energy along random displacements d of all atoms
stress_strain   V stress:e against the slope of the energy along strains e of the cell
jacobian        the derivatives of the forces of molecules alone: a symmetric matrix
loop            the work of the forces around closed curves: zero
net_force       the sum of all forces: zero
net_torque      of frames that do not repeat: zero

Slopes are central differences, extrapolated to a step of zero. The round-off of an energy is measured as what a smooth
curve along one more displacement leaves; what it may explain does not count, and where it could explain an error as
large as the limit, the check says so instead of passing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import bars, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import covered_by, covered_frames
from mlipbench.benchmarks.pieces import cut_out, pieces
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.core.view import Axis, View
from mlipbench.errors import BadInput
from mlipbench.physics.conservation import SLOPE_NOISE, STEPS, antisymmetry, loop_work, slope
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

N_ALONG: Final = 14  # energies along one displacement, for what a polynomial leaves of them
DEGREE: Final = 6
LEAST_FORCE_EV_PER_A: Final = 0.01  # errors are relative to forces of at least this size, as crystals have none
LEAST_STRESS_GPA: Final = 0.1
# The six independent strains, each of norm 1.
STRAINS: Final = tuple(
    np.array([[float((i, j) in {(k, m), (m, k)}) for j in range(3)] for i in range(3)]) / (1.0 if k == m else 2.0**0.5)
    for k, m in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
)
OVER: Final = "interval over trajectories"


def _relative(name: str, title: str, bad: float, says: str) -> Metric:
    """Return the definition of an error without unit."""
    return Metric(
        name=name, title=title, unit="", better="lower", good=1e-4 * bad, bad=bad, log_scale=True, headline=True,
        says=f"{says}; {OVER}",
    )  # fmt: skip


CHECKS: Final = (
    _relative(
        "force_gradient", "Force against energy", 3e-3,
        "root mean square over displacements of the slope of the energy plus F·d, relative to the root mean square"
        " force of the frame (at least 10 meV/Å); the mean square that round-off explains is taken off frame by frame",
    ),
    _relative(
        "stress_strain", "Stress against energy", 3e-3,
        "root mean square over six strains of the slope of the energy less V stress:e, relative to the root mean square"
        " of V stress:e (of at least 0.1 GPa); the mean square that round-off explains is taken off frame by frame",
    ),
    _relative(
        "jacobian_antisymmetry", "Jacobian antisymmetry", 4e-3,
        "root mean square over molecules alone of |(J - Jᵀ)/2| / |J|, J the derivatives of the forces",
    ),
    _relative(
        "loop_work", "Closed-loop work", 1e-3,
        "root mean square over closed curves of the work of the forces, relative to the work done on the way regardless"
        " of its sign",
    ),
    Metric(
        name="net_force", title="Net force", unit="meV/Å", better="lower", good=1e-4, bad=1.0, log_scale=True,
        says=f"root mean square over frames of the length of the sum of all forces, per atom; {OVER}",
    ),
    Metric(
        name="net_torque", title="Net torque", unit="meV", better="lower", good=1e-4, bad=1.0, log_scale=True,
        says="root mean square over frames that do not repeat of the length of the sum of all torques about the"
        f" centroid, per atom; {OVER}",
    ),
)  # fmt: skip
METRICS: Final = (
    *CHECKS,
    *(
        Metric(
            name=f"{name}_resolution", title=f"{title}: resolution", unit="", better="lower", good=1e-6, bad=5e-3,
            log_scale=True,
            says=f"what round-off of the energy alone would leave of {name}; root mean square over frames; {OVER}",
        )
        for name, title in (("force_gradient", "Force against energy"), ("stress_strain", "Stress against energy"))
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """Displace, strain and lead around a few frames.

    Attributes:
        n_frames: half of them periodic where there are such frames.
        max_atoms: larger frames are not used.
        n_directions: displacements of each frame.
        n_jacobians: molecules alone whose force derivatives are taken.
        n_loop_points: of each closed curve.
        step_A: root mean square displacement of an atom, of the wider of two steps.
        strain_step: size of the wider of two strains.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="consistency",
        title="Consistency",
        question="Do energy, forces and stress belong to one function of positions and cell?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="F = -dE/dr, stress = (1/V) dE/de; antisymmetry: F. Bigi et al., arXiv:2412.11569 (2024)",
        grade="verification",
        seconds=5.0,
    )

    n_frames: int = 4
    max_atoms: int = 90
    n_directions: int = 3
    n_jacobians: int = 2
    n_loop_points: int = 16
    step_A: float = 0.04
    strain_step: float = 0.02
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for the frames and all that is made of them.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: no frame is small enough, or the model does not cover them.
            ModelFailure: the model is at fault.
        """
        self._check()
        chosen = covered_frames(model, data, n_frames=self.n_frames, max_atoms=self.max_atoms)
        rng = context.rng()
        frames = [data.frames[i] for i in chosen]
        said = predict(model, frames, context, remark="frames as they are")
        noise_eV = self._noise(model, frames, rng, context)
        seen: dict[str, Float | Int] = {"frame": chosen, "noise": noise_eV}
        seen |= self._displaced(model, frames, said, rng, context)
        seen |= self._strained(model, frames, said, context)
        seen |= self._led_around(model, frames, rng, context)
        seen |= self._differentiated(model, data, rng, context)
        return seen | _sums(frames, said)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return what is left beyond round-off."""
        trajectory = np.array(data.trajectory)
        noise = SLOPE_NOISE * seen["noise"]
        found = []
        for name, step, least in (
            ("force_gradient", self.step_A, LEAST_FORCE_EV_PER_A),
            ("stress_strain", self.strain_step, LEAST_STRESS_GPA / GPA_PER_EV_PER_CUBIC_ANGSTROM),
        ):
            item = seen[f"{name}_item"]
            if len(item):
                own = np.unique(item)
                size = np.maximum(seen[f"{name}_size"], least * seen[f"{name}_extent"])[own]
                n = np.bincount(item)[own].astype(np.float64)
                square = np.bincount(item, seen[f"{name}_error"] ** 2)[own] / size**2
                explained = (noise[own] / step / size) ** 2
                units = trajectory[seen["frame"][own]]
                excess = np.column_stack([np.maximum(square - n * explained, 0.0), n])
                found.append(value_of(DEFINED[name], excess, units, "root_mean"))
                # the mean of n squares of noise scatters by sqrt(2/n) of its expectation
                left = np.column_stack([explained * np.sqrt(2.0 / n), np.ones(len(own))])
                found.append(value_of(DEFINED[f"{name}_resolution"], left, units, "root_mean"))
        for name, frames, unit in (
            ("jacobian_antisymmetry", seen["jacobian_frame"], 1.0), ("loop_work", seen["frame"], 1.0),
            ("net_force", seen["frame"], MEV_PER_EV),
            ("net_torque", seen["frame"][seen["net_torque_item"]], MEV_PER_EV),
        ):  # fmt: skip
            if len(frames):
                rows = squares(unit * seen[name])
                found.append(value_of(DEFINED[name], rows, trajectory[frames], "root_mean"))
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the errors without unit beside each other."""
        relative = [value for value in self.score(seen, data) if not DEFINED[value.metric].unit]
        return (bars("Inconsistency, relative", Axis(quantity="relative error"), relative),)

    def _check(self) -> None:
        """Refuse parameters without meaning."""
        for name, least in (("n_directions", 1), ("n_jacobians", 1), ("n_loop_points", 4)):
            if getattr(self, name) < least:
                raise BadInput(f"consistency: {name} is {getattr(self, name)}; it must be {least} or more")
        for name, most in (("step_A", 0.2), ("strain_step", 0.05)):
            if not 0.0 < getattr(self, name) <= most:
                raise BadInput(
                    f"consistency: {name} is {getattr(self, name):g}; it must be above 0 and at most {most:g}"
                )

    def _noise(self, model: Model, frames: Sequence[Atoms], rng: np.random.Generator, context: Context) -> Float:
        """Return the standard deviation of each frame's energy about a smooth curve, eV.

        A frame that is only shifted would keep its distances, and with them most of its round-off.
        """
        places = np.linspace(-1.0, 1.0, N_ALONG)
        ways = [rng.normal(size=(len(atoms), 3)) / 3.0**0.5 for atoms in frames]
        along = [
            _moved(atoms, self.step_A * float(place) * way)
            for atoms, way in zip(frames, ways, strict=True)
            for place in places
        ]
        energy = predict(model, along, context, remark="round-off").energy.reshape(len(frames), N_ALONG)
        powers = np.polynomial.legendre.legvander(places, DEGREE)
        relative = energy - energy.mean(axis=1, keepdims=True)
        left = relative - relative @ np.linalg.pinv(powers).T @ powers.T
        return np.asarray(np.sqrt((left**2).sum(axis=1) / (N_ALONG - DEGREE - 1)))

    def _displaced(
        self, model: Model, frames: Sequence[Atoms], said: Predictions, rng: np.random.Generator, context: Context
    ) -> dict[str, Float | Int]:
        """Return slopes of the energy along displacements plus F·d, eV/Å, and how large F·d is."""
        item = np.repeat(np.arange(len(frames)), self.n_directions)
        ways = [rng.normal(size=(len(frames[k]), 3)) / 3.0**0.5 for k in item.tolist()]
        moved = [
            _moved(frames[k], self.step_A * step * way)
            for k, way in zip(item.tolist(), ways, strict=True)
            for step in STEPS
        ]
        energy = predict(model, moved, context, remark="displacements").energy.reshape(len(item), len(STEPS))
        parts = np.split(said.forces, said.offsets[1:-1])
        work = np.array([(parts[k] * way).sum() for k, way in zip(item.tolist(), ways, strict=True)])
        return {
            "force_gradient_error": slope(energy, self.step_A) + work, "force_gradient_item": item,
            "force_gradient_size": np.array([np.linalg.norm(part) / 3.0**0.5 for part in parts]),
            "force_gradient_extent": np.array([len(part) ** 0.5 for part in parts]),
        }  # fmt: skip

    def _strained(
        self, model: Model, frames: Sequence[Atoms], said: Predictions, context: Context
    ) -> dict[str, Float | Int]:
        """Return slopes of the energy along strains less V stress:e, eV, and how large that is."""
        own = np.flatnonzero(said.has_stress)
        strained = [
            _strained(frames[k], self.strain_step * step * strain)
            for k in own.tolist()
            for strain in STRAINS
            for step in STEPS
        ]
        energy = predict(model, strained, context, remark="strains").energy if strained else np.zeros(0)
        volume = np.array([atoms.get_volume() if atoms.cell.rank == 3 else 0.0 for atoms in frames])
        expected = volume[:, None] * np.einsum("nab,sab->ns", said.stress, np.array(STRAINS))
        found = slope(energy.reshape(len(own), len(STRAINS), len(STEPS)), self.strain_step) - expected[own]
        return {
            "stress_strain_error": found.ravel(), "stress_strain_item": np.repeat(own, len(STRAINS)),
            "stress_strain_size": np.sqrt((expected**2).mean(axis=1)), "stress_strain_extent": volume,
        }  # fmt: skip

    def _led_around(
        self, model: Model, frames: Sequence[Atoms], rng: np.random.Generator, context: Context
    ) -> dict[str, Float]:
        """Return the work of the forces around a closed curve from each frame, relative to that done on the way."""
        angles = 2.0 * np.pi * np.arange(self.n_loop_points) / self.n_loop_points
        loops = [rng.normal(size=(2, len(atoms), 3)) / 3.0**0.5 * self.step_A for atoms in frames]
        led = [
            _moved(atoms, np.cos(angle) * one + np.sin(angle) * other)
            for atoms, (one, other) in zip(frames, loops, strict=True)
            for angle in angles
        ]
        said = predict(model, led, context, remark="closed curves")
        forces = np.split(said.forces, said.offsets[self.n_loop_points : -1 : self.n_loop_points])
        work = []
        for loop, part in zip(loops, forces, strict=True):
            one, other = loop.reshape(2, 1, -1)
            speed = 2.0 * np.pi * (np.cos(angles)[:, None] * other - np.sin(angles)[:, None] * one)
            around, on_the_way = loop_work(part.reshape(self.n_loop_points, -1), speed)
            work.append(around / on_the_way if on_the_way > 0.0 else 0.0)
        return {"loop_work": np.array(work)}

    def _differentiated(
        self, model: Model, data: Dataset, rng: np.random.Generator, context: Context
    ) -> dict[str, Float | Int]:
        """Return the antisymmetry of the derivatives of the forces of molecules alone."""
        numbers, known = covered_by(model, data)
        alone = pieces(known, self.n_jacobians, rng, lone_elements=self.lone_elements)
        if all(len(piece.atoms) == 1 for piece in alone):  # of argon, an atom and its neighbours
            alone = tuple(cut_out(known, piece.frame, rng) for piece in alone)
        alone = tuple(piece for piece in alone if len(piece.atoms) > 1)
        step_A = 0.05 * self.step_A  # its truncation is of second order, and forces have little round-off
        found = []
        for piece in alone:
            steps = step_A * np.eye(3 * len(piece.atoms)).reshape(-1, len(piece.atoms), 3)
            moved = [_moved(piece.atoms, sign * step) for step in steps for sign in (1.0, -1.0)]
            forces = predict(model, moved, context, remark="derivatives").forces.reshape(len(steps), 2, -1)
            found.append(antisymmetry((forces[:, 0] - forces[:, 1]) / (2.0 * step_A)))
        return {
            "jacobian_antisymmetry": np.array(found),
            "jacobian_frame": numbers[[piece.frame for piece in alone]],
        }


def _sums(frames: Sequence[Atoms], said: Predictions) -> dict[str, Float | Int]:
    """Return the length of the sum of all forces, eV/Å, and of all torques, eV, per atom of each frame."""
    force, torque, free = [], [], []
    for k, (atoms, part) in enumerate(zip(frames, np.split(said.forces, said.offsets[1:-1]), strict=True)):
        force.append(np.linalg.norm(part.sum(axis=0)) / len(atoms))
        if not atoms.pbc.any():
            arms = atoms.positions - atoms.positions.mean(axis=0)
            torque.append(np.linalg.norm(np.cross(arms, part).sum(axis=0)) / len(atoms))
            free.append(k)
    return {
        "net_force": np.array(force), "net_torque": np.array(torque),
        "net_torque_item": np.array(free, dtype=np.int64),
    }  # fmt: skip


def _moved(atoms: Atoms, by_A: Float) -> Atoms:
    """Return a copy with atoms displaced."""
    moved = atoms.copy()
    moved.positions += by_A
    return moved


def _strained(atoms: Atoms, strain: Float) -> Atoms:
    """Return a copy with cell and positions strained."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=False)
    moved.positions = atoms.positions @ (np.eye(3) + strain)
    return moved
