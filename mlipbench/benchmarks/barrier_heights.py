"""How high are the barriers of reactions?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Errors, bars, error_values, parity, values_by_config_type
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.systems import (
    as_numbers,
    as_texts,
    ask_each,
    left_out_view,
    signed_means,
    size_of_mean,
)
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.core.view import Axis, View
from mlipbench.errors import MlipbenchError, ModelFailure, NotApplicable
from mlipbench.physics.survival import clopper_pearson
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

OVER: Final = "interval over reactions"
METRICS: Final = (
    Metric(
        name="barrier_rmse", title="Barrier RMSE", unit="meV", better="lower", good=50.0, bad=1000.0, headline=True,
        says="root of the mean squared error of E(transition state) − E(reactants) at the reference's structures, over"
        f" forward and reverse barriers; {OVER}",
    ),
    Metric(
        name="barrier_mae", title="Barrier MAE", unit="meV", better="lower", good=40.0, bad=800.0,
        says=f"mean absolute error of the same; {OVER}",
    ),
    Metric(
        name="barrier_bias", title="Barrier bias", unit="meV", better="lower", good=20.0, bad=800.0,
        says=f"size of the mean signed error of the same, whose sign a figure shows; {OVER}",
    ),
    Metric(
        name="not_computed", title="Reactions not computed", unit="", better="lower", good=0.0, bad=0.5,
        says="share of reactions, of those whose elements the model covers, in which it failed on a species, so that"
        " a barrier is missing in the other numbers; interval over reactions, by Clopper and Pearson",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
NEEDED: Final = ("barrier_eV", "transition_state", "reactants")
# What became of a species.
NOT_ASKED, COMPUTED, NOT_COVERED, FAILED = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class BarrierHeights:
    """Ask for transition states and reactants, each where the reference has it.

    Needs data with barriers, such as the collection `dbh24`. A species with an element that the model does not cover is
    left out with its reactions, and so is one that the model fails on.

    Attributes:
        charged: are reactions of ions asked about too? Only of a model to which a charge makes a difference.
    """

    about: ClassVar[About] = About(
        name="barrier_heights",
        title="Barrier heights",
        question="How high are the barriers of reactions?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="J. Zheng, Y. Zhao, D. G. Truhlar, J. Chem. Theory Comput. 5, 808 (2009), doi:10.1021/ct800568m",
        seconds=3.0,
    )

    charged: bool = False

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict the species of the reactions asked about.

        Raises:
            NotApplicable: the data hold no barriers, the model covers no reaction, or it is asked about ions and gives
                them the same energy whatever their charge.
            ModelFailure: the model failed on every species.
        """
        states, reactants = _reactions(data)
        asked = np.array([self.charged or not data.frames[k].info.get("charge") for k in states])
        if not asked.any():
            raise NotApplicable(f"data set {data.spec.name} has only reactions of ions; ask with charged = true")
        energy, errors = _energies(model, data, np.union1d(states[asked], reactants[asked]), context)
        became = np.full(len(data), NOT_ASKED)
        became[list(energy)] = COMPUTED
        for k, error in errors.items():
            became[k] = FAILED if isinstance(error, ModelFailure) else NOT_COVERED
        for kind, fine in ((NotApplicable, (COMPUTED, FAILED)), (ModelFailure, (COMPUTED,))):
            if not (asked & _whole(states, reactants, np.isin(became, fine))).any():
                raise next(error for error in errors.values() if isinstance(error, kind))
        if self.charged:
            _refuse_ignorance(model, [data.frames[k] for k in energy], context)
        return {
            "asked": asked,
            "became": became,
            "energy": np.array([energy.get(k, 0.0) for k in range(len(data))]),
            "left_out": np.array(list(errors), dtype=np.int64),
            "reason": as_numbers([str(error) for error in errors.values()]),
        }

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare with the reference: everything, and each class of reactions."""
        errors = _errors(seen, data)
        found = list(error_values(errors, METRICS, kinds=("rmse", "mae")))
        found += values_by_config_type(errors, METRICS, kinds=("rmse", "mae"))
        found.append(size_of_mean(DEFINED["barrier_bias"], errors))
        for name in np.unique(errors.config_types).tolist():
            chosen = errors.only(errors.config_types == name)
            found.append(size_of_mean(DEFINED["barrier_bias"], chosen, part=f"config_type={name}"))
        return (*found, _not_computed(seen, data))

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show barriers against their reference, errors by class and by reaction, and what was left out."""
        errors = _errors(seen, data)
        barrier, error = Axis(quantity="barrier", unit="meV"), Axis(quantity="error", unit="meV")
        bias = DEFINED["barrier_bias"]
        left_out = [data.uid[k] for k in seen["left_out"]]
        return (
            parity("Barriers", barrier, errors, errors.config_types),
            bars("MAE by class of reaction", error, values_by_config_type(errors, METRICS, kinds=("mae",))),
            bars(
                "Mean signed error by class of reaction", error, signed_means(bias, errors, names=errors.config_types)
            ),
            bars("Mean signed error by reaction", error, signed_means(bias, errors, names=errors.units)),
            *left_out_view(
                "Species", left_out, as_texts(seen["reason"]), n_used=int((seen["became"] == COMPUTED).sum())
            ),
        )


def _reactions(data: Dataset) -> tuple[Int, Int]:
    """Return the frame numbers of transition states, shape (n_barriers,), and of reactants, (n_barriers, m), with -1.

    Raises:
        NotApplicable: the data hold none.
    """
    missing = [name for name in NEEDED if name not in data.observables]
    if missing:
        raise NotApplicable(f"data set {data.spec.name} has no {', '.join(missing)}; collection dbh24 does")
    states, reactants = (data.observables[name].astype(np.int64) for name in NEEDED[1:])
    if max(states.max(), reactants.max()) >= len(data):
        raise NotApplicable(f"data set {data.spec.name}: these {len(data)} frames are not all species of its reactions")
    return states, reactants


def _energies(
    model: Model, data: Dataset, species: Int, context: Context
) -> tuple[dict[int, float], dict[int, MlipbenchError]]:
    """Return the energy in eV of each species by frame number, and the errors of those that have none."""
    numbers = species[species >= 0].tolist()
    answers = ask_each(
        model, [[data.frames[k]] for k in numbers], context, remark="species of reactions", forgive_failures=True
    )
    energy: dict[int, float] = {}
    errors: dict[int, MlipbenchError] = {}
    for k, answer in zip(numbers, answers, strict=True):
        if isinstance(answer, MlipbenchError):
            errors[k] = answer
        else:
            energy[k] = float(answer[0])
    return energy, errors


def _whole(states: Int, reactants: Int, has: Bool) -> Bool:
    """Tell of which barriers all species have something, shape (n_barriers,)."""
    return has[states] & (has[reactants] | (reactants < 0)).all(axis=1)


def _refuse_ignorance(model: Model, frames: list[Atoms], context: Context) -> None:
    """Refuse a model that gives ions the same energy whatever their charge.

    Raises:
        NotApplicable: it does.
    """
    ions = [atoms for atoms in frames if atoms.info.get("charge")]
    if not ions:
        return
    neutral = [atoms.copy() for atoms in ions]
    for atoms in neutral:
        atoms.info.pop("charge")
    try:
        with_charge, without = (predict(model, own, context, remark="ions").energy for own in (ions, neutral))
    except (ModelFailure, NotApplicable):
        return  # it minds
    if np.array_equal(with_charge, without):
        raise NotApplicable(
            "the model gives ions the same energy with and without their charge (info['charge'] of a frame), so that"
            " its barriers for ions would be those of other molecules; ask with charged = false"
        )


def _errors(seen: Observation, data: Dataset) -> Errors:
    """Return the barriers that were computed, in meV, beside their reference."""
    states, reactants = _reactions(data)
    chosen = seen["asked"] & _whole(states, reactants, seen["became"] == COMPUTED)
    energy: Float = MEV_PER_EV * seen["energy"]
    barrier = energy[states] - np.where(reactants < 0, 0.0, energy[reactants]).sum(axis=1)
    return Errors(
        of="barrier",
        reference=MEV_PER_EV * data.observables["barrier_eV"][chosen],
        predicted=barrier[chosen],
        units=np.array(data.trajectory)[states[chosen]],
        config_types=np.array(data.config_type)[states[chosen]],
    )


def _not_computed(seen: Observation, data: Dataset) -> MetricValue:
    """Return the share of reactions in which the model failed."""
    states, reactants = _reactions(data)
    covered = seen["asked"] & _whole(states, reactants, np.isin(seen["became"], (COMPUTED, FAILED)))
    failed = covered & ~_whole(states, reactants, seen["became"] == COMPUTED)
    names = np.array(data.trajectory)[states]
    n, n_failed = len(np.unique(names[covered])), len(np.unique(names[failed]))
    low, high = clopper_pearson(n_failed, n)
    return MetricValue(metric="not_computed", value=n_failed / n, low=low, high=high, n=n)
