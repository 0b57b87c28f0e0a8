"""A formula cannot move without its version.

When one of these fails: if the meaning of an observation moved, raise `observe_version`; if a formula moved, raise
`score_version`; then print the new numbers here and add a line under "Numbers" in the changelog.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel

from mlipbench import benchmarks
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float


@dataclass(frozen=True)
class Crooked(PairModel):
    """A tenth too strong, with a force, a stress and an energy that know up from down and first from last."""

    scale: float = 1.1

    def answer(self, atoms: Atoms) -> tuple[float, Float, Float]:
        energy, forces, stress = super().answer(atoms)
        places = np.arange(len(atoms)) % 2
        return (
            energy + 0.01 * float((places * atoms.positions[:, 2]).sum()),
            forces + 0.01 * places[:, None],
            stress + np.diag([0.001, 0.0, 0.0]),
        )


GOLDEN: dict[str, tuple[tuple[int, int], dict[str, float]]] = {
    "energy_force_stress": (
        (1, 2),
        {
            "energy_rmse": 5.33532574,
            "energy_mae": 4.12991863,
            "energy_q95": 8.16398107,
            "energy_relative_rmse": 9.33631269e-06,
            "force_rmse": 10.7619892,
            "force_mae": 7.55665874,
            "force_q95": 18.6414982,
            "force_relative_rmse": 0.13070271,
            "stress_rmse": 0.0504308141,
            "stress_mae": 0.0197638414,
            "stress_q95": 0.152256142,
            "stress_relative_rmse": 1.38803446,
            "energy_shape_rmse": 4.49038976,
            "energy_shape_relative_rmse": 1.66241285,
            "force_cosine": 0.980374039,
        },
    ),
    "rigid_body_forces": (
        (1, 2),
        {
            "translation_force_rmse": 6.6081691,
            "translation_force_relative_rmse": 0.395120415,
            "rotation_force_rmse": 4.71921519,
            "rotation_force_relative_rmse": 0.358471459,
            "vibration_force_rmse": 10.0505861,
            "vibration_force_relative_rmse": 0.115978209,
        },
    ),
    "intra_inter": (
        (1, 2),
        {
            "intra_force_rmse": 10.2787626,
            "intra_force_relative_rmse": 0.12852405,
            "inter_force_rmse": 7.16791818,
            "inter_force_relative_rmse": 0.304954246,
            "intra_energy_rmse": 5.26711576,
            "intra_energy_relative_rmse": 9.21695604e-06,
            "inter_energy_rmse": 3.05107218,
            "inter_energy_relative_rmse": 1.31604971,
            "rigid_intra_force_rmse": 10.0505861,
            "rigid_intra_force_relative_rmse": 0.115978209,
            "rigid_inter_force_rmse": 7.24841532,
            "rigid_inter_force_relative_rmse": 0.336901505,
        },
    ),
    "symmetry": (
        (2, 2),
        {
            "permutation_energy": 2.783053,
            "rotation_energy": 15.673992,
            "reflection_energy": 11.1864723,
            "translation_energy": 57.6018798,
            "wrap_energy": 7.54996506,
            "supercell_energy": 14.4594822,
            "permutation_force": 6.94808334,
            "rotation_force": 8.51765612,
            "reflection_force": 7.79919645,
            "translation_force": 1.07916322e-13,
            "wrap_force": 1.27564953e-13,
            "supercell_force": 7.07106781,
            "rotation_stress": 0.0517222157,
            "reflection_stress": 0.0524927784,
        },
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_stay_with_their_version(name: str, data: Dataset, context: Context) -> None:
    versions, numbers = GOLDEN[name]
    about = benchmarks.about(name)
    made = benchmarks.benchmark(name)()
    values = made.score(made.observe(Crooked(), data, context), data)
    assert (about.observe_version, about.score_version) == versions
    found = {v.metric: v.value for v in values if not v.part and not v.metric.startswith("round_off")}
    assert found == pytest.approx(numbers, rel=1e-6, abs=1e-9)


def test_speed_stays_with_its_version(data: Dataset) -> None:
    made = benchmarks.benchmark("speed")()
    seen = {
        "peak_memory": np.array([300.0]), "memory_growth": np.array([12.0]),
        "single_n_atoms": np.array([100.0]), "single_wall_and_cpu_s": np.array([[0.1, 0.2], [0.2, 0.2], [0.4, 0.5]]),
        "batch_n_atoms": np.array([400.0]), "batch_wall_and_cpu_s": np.array([[0.1, 0.2], [0.2, 0.4], [0.3, 0.8]]),
    }  # fmt: skip
    assert (made.about.observe_version, made.about.score_version) == (1, 2)
    assert {v.metric: v.value for v in made.score(seen, data)} == pytest.approx({
        "single_atoms_per_second": 500.0, "single_atoms_per_cpu_second": 500.0,
        "batch_atoms_per_second": 2000.0, "batch_atoms_per_cpu_second": 1000.0,
        "peak_memory": 300.0, "memory_growth": 12.0,
    })  # fmt: skip
