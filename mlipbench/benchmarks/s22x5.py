"""How strongly do two molecules attract each other, and at which distance?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Errors, Names, bars, error_values, parity, values_by
from mlipbench.benchmarks.systems import (
    Systems,
    as_numbers,
    as_texts,
    ask_each,
    first_blame,
    left_out_view,
    reference_of,
    signed_means,
    size_of_mean,
)
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.policy import counted_zero
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, MlipbenchError, ModelFailure, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

OVER: Final = "interval over dimers"
METRICS: Final = (
    Metric(
        name="interaction_rmse", title="Interaction energy RMSE", unit="meV", better="lower", good=10.0, bad=150.0,
        headline=True, lowest=0.0,
        says="root of the mean squared error of E(dimer) − E(monomer) − E(monomer), monomers frozen as in the dimer,"
        f" over all dimers and distances; {OVER}",
    ),
    Metric(
        name="interaction_mae", title="Interaction energy MAE", unit="meV", better="lower", good=8.0, bad=120.0,
        role="diagnostic", lowest=0.0,
        says=f"mean absolute error of the same; {OVER}",
    ),
    Metric(
        name="interaction_bias", title="Interaction energy bias", unit="meV", better="lower", good=4.0, bad=120.0,
        role="diagnostic", lowest=0.0,
        says=f"size of the mean signed error of the same, whose sign a figure shows; {OVER}",
    ),
)  # fmt: skip
BIAS: Final = METRICS[2]
N_CURVES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class S22x5:
    """Ask for each dimer and its two monomers, frozen as they are in it.

    Needs data with interaction energies, such as the collection `s22x5`. A dimer with an element that the model does
    not cover is left out and counted; one that it covers and fails on, at any distance, has failed.
    """

    about: ClassVar[About] = About(
        name="s22x5",
        title="Interaction energies of dimers (S22x5)",
        question="How strongly do two molecules attract each other, and at which distance?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="L. Gráfová, M. Pitoňák, J. Řezáč, P. Hobza, J. Chem. Theory Comput. 6, 2365 (2010),"
        " doi:10.1021/ct1002253",
        needs=frozenset({"molecules"}),
        seconds=5.0,
    )

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict dimers and monomers in one batch.

        Raises:
            NotApplicable: the data hold no interaction energies, or the model covers no dimer.
            BadInput: a frame has another number of molecules than two.
            ModelFailure: the model covers a dimer, and has no answer for any.
        """
        for name in ("interaction_energy_eV", "relative_distance"):
            reference_of(data, name)
        frames = [np.flatnonzero(np.array(data.trajectory) == name) for name in dict.fromkeys(data.trajectory)]
        parts = [_parts(data, k) for k in range(len(data))]
        groups = [[atoms for k in own for atoms in parts[k]] for own in frames]
        answers = ask_each(model, groups, context, remark="dimers and monomers")
        used = [k for k, answer in enumerate(answers) if not isinstance(answer, MlipbenchError)]
        refused = {k: answer for k, answer in enumerate(answers) if isinstance(answer, MlipbenchError)}
        if not used:
            raise first_blame(refused.values())
        energy = np.concatenate([np.asarray(answers[k]).reshape(-1, 3) for k in used])
        return {
            "frame": np.concatenate([frames[k] for k in used]),
            "interaction": energy[:, 0] - energy[:, 1] - energy[:, 2],
            "left_out": np.array([frames[k][0] for k in refused], dtype=np.int64),
            "is_covered": np.array([isinstance(error, ModelFailure) for error in refused.values()], dtype=bool),
            "reason": as_numbers([str(error) for error in refused.values()]),
        }

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare with the reference: everything, each distance and each class."""
        errors = _errors(seen, data)
        places = _places(seen, data)
        found = list(error_values(errors, METRICS, kinds=("rmse", "mae")))
        found += values_by(errors, METRICS, label="relative_distance", names=places, kinds=("rmse", "mae"))
        found += values_by(errors, METRICS, label="config_type", names=errors.config_types, kinds=("rmse", "mae"))
        found.append(size_of_mean(BIAS, errors))
        for label, names in (("relative_distance", places), ("config_type", errors.config_types)):
            for name in np.unique(names).tolist():
                found.append(size_of_mean(BIAS, errors.only(names == name), part=f"{label}={name}"))
        return tuple(_systems(seen, data).told(found, zero=_zero(seen, data)))

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that these data allow: all."""
        return tuple(metric.name for metric in METRICS)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all energies, where they are wrong, and some curves."""
        errors, places = _errors(seen, data), _places(seen, data)
        energy, error = Axis(quantity="interaction energy", unit="meV"), Axis(quantity="error", unit="meV")
        left_out = [data.trajectory[k] for k in seen["left_out"]]
        return (
            parity("Interaction energies", energy, errors, errors.config_types),
            *(
                bars(f"MAE by {title}", error, values_by(errors, METRICS, label=title, names=names, kinds=("mae",)))
                for title, names in (("relative distance", places), ("class", errors.config_types))
            ),
            bars("Mean signed error by relative distance", error, signed_means(BIAS, errors, names=places)),
            bars("Mean signed error by class", error, signed_means(BIAS, errors, names=errors.config_types)),
            _curves(seen, data),
            *left_out_view("Dimers", left_out, as_texts(seen["reason"]), n_used=len(set(errors.units.tolist()))),
        )


def _parts(data: Dataset, number: int) -> tuple[Atoms, Atoms, Atoms]:
    """Return a dimer and its monomers.

    Raises:
        NotApplicable: the data do not say which atoms make a monomer, or which monomer is charged.
        BadInput: there are not two of them.
    """
    if data.molecule is None:
        raise NotApplicable(f"data set {data.spec.name} has no molecule numbers, which tell the monomers apart")
    if data.frames[number].info.get("charge"):
        raise NotApplicable(f"frame {data.uid[number]} is charged, and no one says which of its monomers is")
    own = data.molecule[data.offsets[number] : data.offsets[number + 1]]
    if own.max() != 1:
        raise BadInput(f"frame {data.uid[number]} has {int(own.max()) + 1} molecules; interaction energies are of two")
    dimer = data.frames[number].copy()
    return dimer, dimer[own == 0], dimer[own == 1]


def _systems(seen: Observation, data: Dataset) -> Systems:
    """Return which dimers were asked about, and which of them the model has no answer for."""
    lost = np.array(data.trajectory)[seen["left_out"]]
    uncovered, failed = (frozenset(lost[its].tolist()) for its in (~seen["is_covered"], seen["is_covered"]))
    return Systems(
        names=data.trajectory, kinds=data.config_type, covered=frozenset(data.trajectory) - uncovered, failed=failed
    )


def _zero(seen: Observation, data: Dataset) -> dict[str, float]:
    """Return what a model without any interaction gets, over all dimers that this one covers."""
    covered = np.flatnonzero(np.isin(data.trajectory, sorted(_systems(seen, data).covered)))
    errors = _errors({"frame": covered, "interaction": np.zeros(len(covered))}, data)
    return {METRICS[0].name: counted_zero(METRICS[0], error_values(errors, METRICS, kinds=("rmse",))[0])}


def _errors(seen: Observation, data: Dataset) -> Errors:
    """Return interaction energies in meV beside their reference."""
    chosen = seen["frame"]
    return Errors(
        of="interaction",
        reference=MEV_PER_EV * reference_of(data, "interaction_energy_eV")[chosen],
        predicted=MEV_PER_EV * seen["interaction"],
        units=np.array(data.trajectory)[chosen],
        config_types=np.array(data.config_type)[chosen],
    )


def _places(seen: Observation, data: Dataset) -> Names:
    """Return the relative distance of each frame seen, as a text."""
    return np.array([f"{place:.1f}" for place in reference_of(data, "relative_distance")[seen["frame"]]])


def _curves(seen: Observation, data: Dataset) -> Lines:
    """Return the curves of a few dimers that are known at the same distances."""
    places = reference_of(data, "relative_distance")[seen["frame"]]
    errors = _errors(seen, data)
    curves: dict[str, tuple[Float, Float, Float]] = {}
    for name in dict.fromkeys(errors.units.tolist()):
        own = np.flatnonzero(errors.units == name)
        own = own[np.argsort(places[own], kind="stable")]
        curves[name] = (places[own], errors.predicted[own], errors.reference[own])
    x = next(iter(curves.values()))[0]
    alike = [name for name, (own, _, _) in curves.items() if np.array_equal(own, x)]
    shown = [alike[int(k)] for k in np.unique(np.linspace(0, len(alike) - 1, N_CURVES).round())]
    return Lines(
        title="Interaction curves",
        x_axis=Axis(quantity="relative distance"),
        y_axis=Axis(quantity="interaction energy", unit="meV"),
        names=tuple(f"{name}: {what}" for name in shown for what in ("model", "reference")),
        x=x,
        y=np.array([curve for name in shown for curve in curves[name][1:]]),
    )
