"""A formula about the surroundings of atoms cannot move without its version; see `test_golden`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pytest
from ase import Atoms
from site_model import Sums

from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float


@dataclass(frozen=True)
class Crooked(Sums):
    """Sums over three neighbours that know up from down and first from last."""

    order: int = 2

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        places = np.concatenate([np.arange(len(atoms)) % 2 for atoms in frames])
        heights = np.concatenate([atoms.positions[:, 2] - atoms.positions[0, 2] for atoms in frames])
        return super().site_features(frames) + 0.01 * (places + heights)[:, None]


GOLDEN: dict[str, tuple[Sums, tuple[int, int], dict[str, float]]] = {
    "feature_symmetry:FeatureSymmetry": (
        Crooked(),
        (1, 2),
        {
            "permutation_change": 0.00585686767,
            "rotation_change": 0.00723166939,
            "reflection_change": 0.0074487847,
            "translation_change": 0,
            "wrap_change": 0.0198592639,
            "supercell_change": 0.00789553091,
        },
    ),
    "completeness:Completeness": (
        Sums(order=3),
        (1, 2),
        {
            "pairs_told_apart": 2,
            "two_body_distance": 0.576768727,
            "three_body_distance": 0.00576835518,
            "four_body_distance": 0,
            "control_difference": 0,
            "displacement_change": 0.000456239221,
        },
    ),
    "body_order:BodyOrder": (
        Sums(order=3),
        (1, 2),
        {
            "body_order": 4,
            "mixed_difference neighbours=1": 0.0576224834,
            "mixed_difference neighbours=2": 0.151928779,
            "mixed_difference neighbours=3": 0.0848876472,
            "mixed_difference neighbours=4": 0,
            "mixed_difference neighbours=5": 0,
            "mixed_difference neighbours=6": 0,
            "resolution": 0,
        },
    ),
}


@pytest.mark.parametrize("place", GOLDEN)
def test_numbers_stay_with_their_version(place: str, data: Dataset, context: Context) -> None:
    model, versions, numbers = GOLDEN[place]
    module, name = place.split(":")
    made = getattr(import_module(f"mlipbench.benchmarks.{module}"), name)()
    values = made.score(made.observe(model, data, context), data)
    assert (made.about.observe_version, made.about.score_version) == versions
    assert {f"{v.metric} {v.part}".strip(): v.value for v in values} == pytest.approx(numbers, rel=1e-6, abs=1e-9)
