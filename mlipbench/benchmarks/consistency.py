"""Do energy, forces and stress belong to one function of positions and cell?

force_gradient  F·d against the slope of the energy along random displacements d of all atoms
stress_strain   V stress:e against the slope of the energy along strains e of the cell
jacobian        the derivatives of the forces of molecules alone: a symmetric matrix
loop            the work of the forces around closed curves: zero
net_force       the sum of all forces: zero
net_torque      of frames that do not repeat: zero

Slopes are central differences of three steps, extrapolated to a step of zero (`benchmarks.slopes`). What the narrowest
step changes bounds their truncation, and the round-off of an energy is measured as what a smooth curve along one more
displacement leaves. What either may explain does not count, and where they could explain an error as large as the
limit, nothing is taken off and the check fails: it cannot tell.

A frame at rest has neither forces nor a stress that could be wrong, so that it is shaken and compressed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.answers import answered, failures, failures_view, for_pieces, with_failures
from mlipbench.benchmarks.comparison import bars, value_of
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import covered_by, covered_frames
from mlipbench.benchmarks.pieces import Piece, cut_out, pieces
from mlipbench.benchmarks.slopes import (
    CANNOT_TELL,
    LEAST_FORCE_EV_PER_A,
    LEAST_STRESS_EV_PER_A3,
    Awake,
    along_displacements,
    along_strains,
    around_loops,
    by_frame,
    compressed,
    energy_noise,
    piece_antisymmetry,
    shaken,
    unexplained,
)
from mlipbench.benchmarks.systems import as_numbers
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.core.view import Axis, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

LOOP_A: Final = 0.04  # root mean square displacement of an atom on a closed curve
OVER: Final = "interval over trajectories"
LESS: Final = (
    "what truncation and round-off explain is taken off frame by frame, nothing of it where that would be more than"
    f" {CANNOT_TELL:g}"
)


def _relative(name: str, title: str, bad: float, says: str) -> Metric:
    """Return the definition of an error without unit."""
    return Metric(
        name=name, title=title, unit="", better="lower", good=1e-4 * bad, bad=bad, log_scale=True, headline=True,
        role="check", severity="must",
        says=f"{says}; {OVER}",
    )  # fmt: skip


CHECKS: Final = (
    _relative(
        "force_gradient", "Force against energy", 3e-3,
        "root mean square over displacements of the slope of the energy plus F·d, relative to the root mean square"
        f" force of the frame (at least 10 meV/Å); {LESS}",
    ),
    _relative(
        "stress_strain", "Stress against energy", 3e-3,
        "root mean square over six strains of the slope of the energy less V stress:e, relative to the root mean square"
        f" of V stress:e (of at least 0.1 GPa); {LESS}",
    ),
    _relative(
        "jacobian_antisymmetry", "Jacobian antisymmetry", 1e-3,
        "root mean square over molecules alone of |(J - Jᵀ)/2| / |J|, J the derivatives of the forces; what"
        " their round-off explains is taken off",
    ),
    _relative(
        "loop_work", "Closed-loop work", 1e-3,
        "root mean square over closed curves of the work of the forces, relative to the work done on the way regardless"
        " of its sign",
    ),
    Metric(
        name="net_force", title="Net force", unit="meV/Å", better="lower", good=1e-4, bad=1.0, log_scale=True,
        role="check", severity="must",
        says=f"root mean square over frames of the length of the sum of all forces, per atom; {OVER}",
    ),
    Metric(
        name="net_torque", title="Net torque", unit="meV", better="lower", good=1e-4, bad=1.0, log_scale=True,
        role="check", severity="must",
        says="root mean square over frames that do not repeat of the length of the sum of all torques about the"
        f" centroid, per atom; {OVER}",
    ),
)  # fmt: skip
METRICS: Final = (
    *CHECKS,
    *(
        Metric(
            name=f"{name}_resolution", title=f"{title}: resolution", unit="", better="lower", good=1e-6,
            bad=CANNOT_TELL, log_scale=True, role="diagnostic",
            says=f"what truncation and round-off alone may leave of {name}; root mean square over frames; {OVER}",
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
        max_atoms: larger frames are used only where there are no others.
        n_directions: displacements of each frame.
        n_jacobians: molecules alone whose force derivatives are taken.
        n_loop_points: of each closed curve.
        step_A: root mean square displacement of an atom, of the widest of three steps.
        strain_step: size of the widest of three strains.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="consistency",
        title="Consistency",
        question="Do energy, forces and stress belong to one function of positions and cell?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="F = -dE/dr, stress = (1/V) dE/de; antisymmetry: F. Bigi et al., arXiv:2412.11569 (2024)",
        grade="verification",
        seconds=10.0,
    )

    n_frames: int = 4
    max_atoms: int = 90
    n_directions: int = 3
    n_jacobians: int = 2
    n_loop_points: int = 16
    step_A: float = 0.08
    strain_step: float = 0.02
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for the frames and all that is made of them; a part that the model fails on costs that part alone.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: no frame has two atoms or more, or the model covers none.
            ModelFailure: the model is at fault, on every frame.
        """
        self._check()
        chosen = covered_frames(model, data, n_frames=self.n_frames, max_atoms=self.max_atoms)
        rng = context.rng()
        found = answered(
            model, [[data.frames[i]] for i in chosen], context, remark="frames as they are", are_whole=True
        ).or_raise()
        seen: dict[str, Float | Int] = dict(failures("frames", chosen, found))
        chosen = chosen[found.kept]
        awake = shaken(model, [data.frames[i] for i in chosen], found.said, rng, context)
        seen |= {"frame": chosen} | _sums(awake.frames, awake.said)
        seen |= self._compared(model, chosen, awake, rng, context)
        found, work = around_loops(model, awake.frames, self.n_loop_points, LOOP_A, rng, context)
        seen |= {"loop_work": work, "loop_work_frame": chosen[found.kept]} | failures("loop_work", chosen, found)
        return seen | self._differentiated(model, data, rng, context)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return what is left beyond truncation and round-off."""
        trajectory = np.array(data.trajectory)
        found = []
        for name, step, least in (
            ("force_gradient", self.step_A, LEAST_FORCE_EV_PER_A),
            ("stress_strain", self.strain_step, LEAST_STRESS_EV_PER_A3),
        ):
            if len(seen[f"{name}_item"]):
                left = unexplained(seen, name, step=step, least=least)
                units = trajectory[seen["frame"][left.frame]]
                rows = np.column_stack([left.square, left.n])
                found.append(with_failures(value_of(DEFINED[name], rows, units, "root_mean"), name, seen, data))
                rows = np.column_stack([left.resolution**2, np.ones(len(left.n))])
                found.append(value_of(DEFINED[f"{name}_resolution"], rows, units, "root_mean"))
        for name, frames, unit in (
            ("jacobian_antisymmetry", seen["jacobian_antisymmetry_frame"], 1.0),
            ("loop_work", seen["loop_work_frame"], 1.0), ("net_force", seen["frame"], MEV_PER_EV),
            ("net_torque", seen["frame"][seen["net_torque_item"]], MEV_PER_EV),
        ):  # fmt: skip
            if len(frames):
                rows = squares(unit * seen[name])
                value = value_of(DEFINED[name], rows, trajectory[frames], "root_mean")
                found.append(with_failures(value, name, seen, data))
        return tuple(found)

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return what every model has on these frames, and stresses against strains where a frame has a whole cell."""
        some = [atoms for atoms in data.frames if len(atoms) > 1]
        stressed = ("stress_strain",) if any(atoms.pbc.all() for atoms in some) else ()
        free = ("net_torque",) if any(not atoms.pbc.any() for atoms in some) else ()
        return ("force_gradient", "jacobian_antisymmetry", "loop_work", "net_force", *stressed, *free) if some else ()

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the errors without unit beside each other, and what was not answered."""
        relative = [value for value in self.score(seen, data) if not DEFINED[value.metric].unit]
        shown = (bars("Inconsistency, relative", Axis(quantity="relative error"), relative),) if relative else ()
        return (*shown, *failures_view(seen, data, n_used=len(seen["frame"])))

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

    def _compared(
        self, model: Model, chosen: Int, awake: Awake, rng: np.random.Generator, context: Context
    ) -> dict[str, Float | Int]:
        """Return slopes of the energy along displacements and strains; not of frames without a known round-off."""
        frames, said = awake.frames, awake.said
        tight = compressed(model, frames, said, context)
        quiet, noise_eV = energy_noise(model, frames, 0.5 * self.step_A, rng, context)
        noise = np.zeros(len(frames))
        noise[quiet.kept] = noise_eV
        seen: dict[str, Any] = {"noise": noise}
        for name, compared in (
            ("force_gradient", along_displacements(model, frames, said, self.n_directions, self.step_A, rng, context)),
            ("stress_strain", along_strains(model, tight.frames, tight.said, self.strain_step, context)),
        ):
            lost = dict(zip(quiet.failed.tolist(), quiet.reasons, strict=True)) | compared.failed
            seen |= compared.observation(name, quiet)
            seen |= {
                f"{name}_failed": chosen[np.array(list(lost), dtype=np.int64)],
                f"{name}_reason": np.asarray(as_numbers(list(lost.values())), dtype=np.int64),
            }
        return seen

    def _differentiated(
        self, model: Model, data: Dataset, rng: np.random.Generator, context: Context
    ) -> dict[str, Float | Int]:
        """Return the antisymmetry of the derivatives of the forces of molecules alone, as far as they are answered."""
        numbers, known = covered_by(model, data)
        found: dict[int, float] = {}
        failed: dict[int, str] = {}
        for piece in self._alone(known, rng):
            asked = for_pieces(model, piece.atoms, context)
            try:
                found[piece.frame] = piece_antisymmetry(asked, piece.atoms, rng, context)
            except ModelFailure as failure:
                failed[piece.frame] = str(failure)
            except NotApplicable:
                continue
        return {
            "jacobian_antisymmetry": np.array(list(found.values())),
            "jacobian_antisymmetry_frame": numbers[np.array(list(found), dtype=np.int64)],
            "jacobian_antisymmetry_failed": numbers[np.array(list(failed), dtype=np.int64)],
            "jacobian_antisymmetry_reason": as_numbers(list(failed.values())),
        }

    def _alone(self, known: Dataset, rng: np.random.Generator) -> tuple[Piece, ...]:
        """Return molecules alone, or an atom and its neighbours where molecules are atoms, as of argon."""
        alone = pieces(known, self.n_jacobians, rng, lone_elements=self.lone_elements)
        if all(len(piece.atoms) == 1 for piece in alone):
            alone = tuple(cut_out(known, piece.frame, rng) for piece in alone)
        return tuple(piece for piece in alone if len(piece.atoms) > 1)


def _sums(frames: Sequence[Atoms], said: Predictions) -> dict[str, Float | Int]:
    """Return the length of the sum of all forces, eV/Å, and of all torques, eV, per atom of each frame."""
    force, torque, free = [], [], []
    for k, (atoms, part) in enumerate(zip(frames, by_frame(said), strict=True)):
        force.append(np.linalg.norm(part.sum(axis=0)) / len(atoms))
        if not atoms.pbc.any():
            arms = atoms.positions - atoms.positions.mean(axis=0)
            torque.append(np.linalg.norm(np.cross(arms, part).sum(axis=0)) / len(atoms))
            free.append(k)
    return {
        "net_force": np.array(force), "net_torque": np.array(torque),
        "net_torque_item": np.array(free, dtype=np.int64),
    }  # fmt: skip
