"""How wrong are energies, forces and stresses on frames the model never saw?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mlipbench.benchmarks.comparison import (
    KINDS,
    OVER,
    Errors,
    Names,
    bars,
    error_metrics,
    error_values,
    parity,
    value_of,
    values_by,
    values_by_config_type,
)
from mlipbench.benchmarks.frames import predict_all, spread_out
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, View
from mlipbench.units import GPA_PER_EV_PER_CUBIC_ANGSTROM, MEV_PER_EV

PART_KINDS = ("rmse", "mae", "relative_rmse")
SHAPE_KINDS = ("rmse", "relative_rmse")
COMPONENTS = "all three components of all atoms of all frames"

FITTED = (
    "one constant per element was fitted to {what} by least squares over these frames (shortest solution where their"
    " compositions leave it open)"
)
SHAPE = (
    Metric(
        name="energy_shape_rmse", title="Energy RMSE, shifted", unit="meV/atom", better="lower", good=1.0, bad=20.0,
        headline=True, tolerance=0.10, lowest=0.0,
        says="root of the mean squared energy error per atom over frames, after "
        + FITTED.format(what="the errors")
        + ", so that models with another energy of the lone atoms can be compared; divided by the frames less the"
        f" constants; {OVER}, the fit held fixed",
    ),
    Metric(
        name="energy_shape_relative_rmse", title="Energy relative RMSE, shifted", unit="", better="lower", good=0.02,
        bad=1.0, log_scale=True, role="diagnostic", lowest=0.0,
        says="energy_shape_rmse divided by the standard deviation of the reference energy per atom, after "
        + FITTED.format(what="that")
        + f", so that differences of composition do not count as spread; {OVER}, the fits held fixed",
    ),
)  # fmt: skip
COSINE = Metric(
    name="force_cosine", title="Force cosine", unit="", better="higher", good=0.999, bad=0.9,
    role="diagnostic", lowest=-1.0, highest=1.0,
    says=f"mean cosine of the angle between predicted and reference force over atoms with both forces; {OVER}",
)  # fmt: skip
METRICS = (
    *error_metrics("energy", "Energy", "meV/atom", good=1.0, bad=20.0, over="frames, per atom", tolerance=0.50),
    *SHAPE,
    *error_metrics("force", "Force", "meV/Å", good=20.0, bad=200.0, over=COMPONENTS, headline=True),
    COSINE,
    *error_metrics(
        "stress", "Stress", "GPa", good=0.05, bad=1.0, headline=True, tolerance=0.15,
        over="all nine components of the tensor over frames that have one",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyForceStress:
    """Predict each frame once and compare.

    Attributes:
        max_frames: at most so many frames, evenly spaced over configuration types and trajectories; None for all.
    """

    about: ClassVar[About] = About(
        name="energy_force_stress",
        title="Energy, force and stress errors",
        question="How wrong are energies, forces and stresses on frames the model never saw?",
        metrics=METRICS,
        observe_version=1,
        score_version=2,
        needs=frozenset({"labels"}),
        source="relative RMSE: RMSE over the reference's standard deviation, as in Magdău et al.,"
        " npj Computational Materials 9, 146 (2023), doi:10.1038/s41524-023-01100-w",
        seconds=5.0,
    )

    max_frames: int | None = None

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict the chosen frames."""
        frame = spread_out(data, self.max_frames)
        said = predict_all(model, [data.frames[i] for i in frame], context, remark="frames")
        return {
            "frame": frame, "n_atoms": said.n_atoms, "energy": said.energy, "forces": said.forces,
            "stress": said.stress, "has_stress": said.has_stress,
        }  # fmt: skip

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the headline metrics that these data allow: of the shape of the energy, of forces, of stresses."""
        chosen = data.take(spread_out(data, self.max_frames).tolist())
        allowed = {
            "energy_shape_rmse": _has_shape(chosen), "force_rmse": True, "stress_rmse": bool(chosen.has_stress.any()),
        }  # fmt: skip
        return tuple(name for name, is_allowed in allowed.items() if is_allowed)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare with the reference: everything, each configuration type, and forces by element."""
        chosen = data.take(seen["frame"].tolist())
        energy, force, stress = _errors(seen, chosen)
        found: list[MetricValue] = []
        for errors in (energy, force, stress):
            found += error_values(errors, METRICS, kinds=KINDS)
            found += values_by_config_type(errors, METRICS, kinds=PART_KINDS)
        found += values_by(force, METRICS, label="element", names=_symbols(chosen), kinds=PART_KINDS)
        if _has_shape(chosen):
            shape = _less_constants(energy, chosen)
            found += error_values(shape, METRICS, kinds=SHAPE_KINDS)
            found += values_by_config_type(shape, METRICS, kinds=SHAPE_KINDS)
        found += _cosine_values(force)
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show forces, energies and stresses against their references, and where the forces are worst."""
        chosen = data.take(seen["frame"].tolist())
        energy, force, stress = _errors(seen, chosen)
        symbols = _symbols(chosen)
        per_atom = Axis(quantity="energy less a constant per element", unit="meV/atom")
        rmse = Axis(quantity="force RMSE", unit="meV/Å")
        by_element = values_by(force, METRICS, label="element", names=symbols, kinds=("rmse",))
        by_config_type = values_by_config_type(force, METRICS, kinds=("rmse",))
        shown: list[View] = [
            parity("Forces", Axis(quantity="force component", unit="meV/Å"), force, symbols),
            parity("Energies", per_atom, _less_constants(energy, chosen), energy.config_types),
            bars("Force RMSE by element", rmse, by_element),
            bars("Force RMSE by configuration type", rmse, by_config_type),
        ]
        if len(stress.reference):
            axis = Axis(quantity="stress component", unit="GPa")
            shown.append(parity("Stresses", axis, stress, stress.config_types))
        return tuple(shown)


def _errors(seen: Observation, data: Dataset) -> tuple[Errors, Errors, Errors]:
    """Return energies in meV/atom, forces in meV/Å and stresses in GPa."""
    trajectory, config_type = np.array(data.trajectory), np.array(data.config_type)
    per_atom = MEV_PER_EV / data.n_atoms
    frame = data.frame_of_atom
    stressed = seen["has_stress"] & data.has_stress
    return (
        Errors(
            of="energy", reference=data.energy * per_atom, predicted=seen["energy"] * per_atom,
            units=trajectory, config_types=config_type, ignorance="mean",
        ),
        Errors(
            of="force", reference=data.forces * MEV_PER_EV, predicted=seen["forces"] * MEV_PER_EV,
            units=trajectory[frame], config_types=config_type[frame], ignorance="zero",
        ),
        Errors(
            of="stress", reference=data.stress[stressed] * GPA_PER_EV_PER_CUBIC_ANGSTROM,
            predicted=seen["stress"][stressed] * GPA_PER_EV_PER_CUBIC_ANGSTROM,
            units=trajectory[stressed], config_types=config_type[stressed], ignorance="mean",
        ),
    )  # fmt: skip


def _symbols(data: Dataset) -> Names:
    """Return the chemical symbol of each atom."""
    from ase.data import chemical_symbols

    return np.array(chemical_symbols)[data.numbers]


def _fractions(data: Dataset) -> Float:
    """Return the share of each element in each frame, shape (n_frames, n_elements)."""
    elements, column = np.unique(data.numbers, return_inverse=True)
    counts = np.zeros((len(data), len(elements)))
    np.add.at(counts, (data.frame_of_atom, column), 1.0)
    return counts / data.n_atoms[:, None]


def _has_shape(data: Dataset) -> bool:
    """Are there at least twice as many frames as constants to fit?"""
    return len(data) >= 2 * int(np.linalg.matrix_rank(_fractions(data)))


def _less_constants(energy: Errors, data: Dataset) -> Errors:
    """Take from reference and prediction, each, the constants per element that fit it best.

    The difference of the two is then the error less the constants that fit the error best. What is left is too small by
    √((n - k)/n) for k constants, and is stretched by as much.

    Source: N. R. Draper & H. Smith, Applied Regression Analysis (1998), chapter 5: mean square about the regression.
    """
    fractions = _fractions(data)
    free = len(fractions) - int(np.linalg.matrix_rank(fractions))
    stretch = np.sqrt(len(fractions) / free) if free else 1.0

    def rest(per_atom: Float) -> Float:
        fitted = fractions @ np.linalg.lstsq(fractions, per_atom, rcond=1e-9)[0]
        return np.asarray(stretch * (per_atom - fitted))

    return replace(
        energy, of="energy_shape", reference=rest(energy.reference), predicted=rest(energy.predicted), ignorance="zero"
    )


def _cosine_values(force: Errors) -> list[MetricValue]:
    """Return the mean cosine over the atoms on which both forces are not zero."""
    lengths = np.linalg.norm(force.reference, axis=1) * np.linalg.norm(force.predicted, axis=1)
    pulled = lengths > 0.0
    if not pulled.any():
        return []
    cosine = (force.reference * force.predicted).sum(axis=1)[pulled] / lengths[pulled]
    rows = np.column_stack([cosine, np.ones(len(cosine))])
    return [value_of(COSINE, rows, force.units[pulled], "mean")]
