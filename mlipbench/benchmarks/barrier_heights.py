"""How high are the barriers of reactions?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Errors, Names, bars, error_values, parity, values_by_config_type
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.systems import (
    Systems,
    as_numbers,
    as_texts,
    ask_each,
    first_blame,
    left_out_view,
    share_failed,
    signed_means,
    size_of_mean,
)
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.core.policy import counted_zero
from mlipbench.core.view import Axis, View
from mlipbench.errors import MlipbenchError, ModelFailure, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

OVER: Final = "interval over reactions"
METRICS: Final = (
    Metric(
        name="barrier_rmse", title="Barrier RMSE", unit="meV", better="lower", good=50.0, bad=1000.0, headline=True,
        lowest=0.0,
        says="root of the mean squared error of E(transition state) − E(reactants) at the reference's structures, over"
        f" forward and reverse barriers; {OVER}",
    ),
    Metric(
        name="barrier_mae", title="Barrier MAE", unit="meV", better="lower", good=40.0, bad=800.0,
        role="diagnostic", lowest=0.0,
        says=f"mean absolute error of the same; {OVER}",
    ),
    Metric(
        name="barrier_bias", title="Barrier bias", unit="meV", better="lower", good=20.0, bad=800.0,
        role="diagnostic", lowest=0.0,
        says=f"size of the mean signed error of the same, whose sign a figure shows; {OVER}",
    ),
    Metric(
        name="not_computed", title="Reactions not computed", unit="", better="lower", good=0.0, bad=0.5,
        role="diagnostic", lowest=0.0, highest=1.0,
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
    left out with its reactions; a reaction with a species that the model fails on has failed, forward and reverse.

    Attributes:
        charged: are reactions of ions asked about too? Only of a model to which a charge makes a difference.
    """

    about: ClassVar[About] = About(
        name="barrier_heights",
        title="Barrier heights",
        question="How high are the barriers of reactions?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="J. Zheng, Y. Zhao, D. G. Truhlar, J. Chem. Theory Comput. 5, 808 (2009), doi:10.1021/ct800568m",
        seconds=3.0,
    )

    charged: bool = False

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict the species of the reactions asked about.

        Raises:
            NotApplicable: the data hold no barriers, the model covers no reaction, or it is asked about ions and gives
                them the same energy whatever their charge.
            ModelFailure: the model failed on a species of every reaction that it covers.
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
        systems = _systems({"asked": asked, "became": became}, data)
        if not systems.covered:
            raise next(error for error in errors.values() if isinstance(error, NotApplicable))
        if systems.failed == systems.covered:
            raise first_blame(errors.values())
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
        systems = _systems(seen, data)
        return (*systems.told(found, zero=_zero(seen, data)), share_failed(DEFINED["not_computed"], systems))

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that these data allow: all."""
        return tuple(DEFINED)

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
    answers = ask_each(model, [[data.frames[k]] for k in numbers], context, remark="species of reactions")
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


def _systems(seen: Observation, data: Dataset) -> Systems:
    """Return which reactions were asked about, and which of them miss a species that the model failed on."""
    states, reactants = _reactions(data)
    names: Names = np.array(data.trajectory)[states]
    lost = seen["asked"] & ~_whole(states, reactants, np.isin(seen["became"], (COMPUTED, FAILED)))
    covered = seen["asked"] & ~np.isin(names, names[lost])
    failed = covered & ~_whole(states, reactants, seen["became"] == COMPUTED)
    asked = np.flatnonzero(seen["asked"])
    return Systems(
        names=tuple(names[asked].tolist()), kinds=tuple(data.config_type[k] for k in states[asked]),
        covered=frozenset(names[covered].tolist()), failed=frozenset(names[failed].tolist()),
    )  # fmt: skip


def _errors(seen: Observation, data: Dataset) -> Errors:
    """Return the barriers of reactions without a failure, in meV, beside their reference."""
    systems = _systems(seen, data)
    return _barriers(seen["energy"], data, systems.covered - systems.failed)


def _zero(seen: Observation, data: Dataset) -> dict[str, float]:
    """Return what a model without barriers gets, over all reactions that this one covers."""
    errors = _barriers(np.zeros(len(data)), data, _systems(seen, data).covered)
    metric = DEFINED["barrier_rmse"]
    return {metric.name: counted_zero(metric, error_values(errors, METRICS, kinds=("rmse",))[0])}


def _barriers(energy_eV: Float, data: Dataset, names: Collection[str]) -> Errors:
    """Return the barriers of some reactions, forward and reverse, in meV, beside their reference."""
    states, reactants = _reactions(data)
    units: Names = np.array(data.trajectory)[states]
    chosen = np.isin(units, sorted(names))
    energy = MEV_PER_EV * energy_eV
    barrier = energy[states] - np.where(reactants < 0, 0.0, energy[reactants]).sum(axis=1)
    return Errors(
        of="barrier",
        reference=MEV_PER_EV * data.observables["barrier_eV"][chosen],
        predicted=barrier[chosen],
        units=units[chosen],
        config_types=np.array(data.config_type)[states[chosen]],
    )
