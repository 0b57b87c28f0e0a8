"""What may a MACE recipe set?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from mlipbench.errors import BadInput, unknown
from mlipbench.files.toml import build


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a recipe may set.

    The loss is, in eV and Å, energy_weight · mean over frames of (energy error per atom)² + forces_weight · mean over
    all components of (force error)² + stress_weight · mean over the components of (stress error)², where there is one.
    Stage two, from `stage_two_epoch` on, weighs energies more and learns slower; at `epochs` or later there is none.

    Attributes:
        irreps: hidden features, as in "32x0e+32x1o".
        cutoff_A: of each interaction; the network sees `num_interactions` times as far.
        correlation: order of the many-body products.
        max_ell: largest degree of the spherical harmonics.
        num_interactions: message-passing layers.
        epochs: at most.
        stage_two_epoch: epochs before stage two, which begins early when stage one stops getting better.
        batch_size: frames per step.
        learning_rate: of stage one.
        stage_two_learning_rate: of stage two.
        energy_weight: of stage one.
        stage_two_energy_weight: of stage two.
        forces_weight: of both.
        stress_weight: of both; 0 saves the time that stresses take.
        patience: epochs without a better validation loss after which a stage ends.
        learning_rate_patience: the same, after which stage one learns slower by a fifth.
        dtype: "float32" or "float64".
        e0: "average", "isolated" or a table in eV; see `training.e0`.
    """

    irreps: str = "16x0e"
    cutoff_A: float = 4.5
    correlation: int = 2
    max_ell: int = 2
    num_interactions: int = 2
    epochs: int = 60
    stage_two_epoch: int = 40
    batch_size: int = 5
    learning_rate: float = 0.01
    stage_two_learning_rate: float = 1e-3
    energy_weight: float = 1.0
    stage_two_energy_weight: float = 1000.0
    forces_weight: float = 100.0
    stress_weight: float = 0.0
    patience: int = 30
    learning_rate_patience: int = 8
    dtype: Literal["float32", "float64"] = "float32"
    e0: Literal["average", "isolated"] | dict[str, float] = "average"


def read_options(options: Mapping[str, Any]) -> Options:
    """Return the options of a recipe, with defaults for those it leaves out.

    Raises:
        BadInput: an option is unknown, of the wrong type or out of range.
    """
    names = [field.name for field in fields(Options)]
    for name in options:
        if name not in names:
            raise unknown("recipe option", name, names, where="trainer mace")
    chosen = build(Options, dict(options), where="trainer mace, recipe option")
    at_least = {
        "cutoff_A": 0.1, "correlation": 1, "max_ell": 0, "num_interactions": 1, "epochs": 1, "stage_two_epoch": 0,
        "batch_size": 1, "learning_rate": 0, "stage_two_learning_rate": 0, "energy_weight": 0, "forces_weight": 0,
        "stage_two_energy_weight": 0, "stress_weight": 0, "patience": 1, "learning_rate_patience": 1,
    }  # fmt: skip
    for name, lowest in at_least.items():
        value = getattr(chosen, name)
        if not (math.isfinite(value) and value >= lowest):
            raise BadInput(
                f"trainer mace: recipe option {name} = {value}; a finite number of at least {lowest} is needed."
            )
    return chosen
