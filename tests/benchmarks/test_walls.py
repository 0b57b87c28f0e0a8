"""Walls: right ones pass, however short their bonds; holes are found, behind a refusal too."""

from __future__ import annotations

from typing import Any

import broken
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers

from mlipbench.benchmarks.diatomics import Diatomics, neighbours
from mlipbench.core.benchmark import Context
from mlipbench.core.metric import Metric, MetricValue, score

# Bond length in Å, dissociation energy in eV, harmonic wave number in 1/cm, reduced mass in u. K. P. Huber &
# G. Herzberg, Constants of Diatomic Molecules (1979); metals: M. D. Morse, Chem. Rev. 86, 1049 (1986), and
# J. R. Lombardi & B. Davis, Chem. Rev. 102, 2431 (2002).
DIMERS = {
    "H": (0.741, 4.75, 4401.0, 0.504), "N": (1.098, 9.91, 2359.0, 7.002), "O": (1.208, 5.21, 1580.0, 7.997),
    "C": (1.243, 6.3, 1855.0, 6.0), "F": (1.412, 1.66, 917.0, 9.499), "Li": (2.673, 1.06, 351.0, 3.47),
    "Cr": (1.679, 1.53, 481.0, 25.998), "V": (1.77, 2.75, 537.0, 25.47), "Ti": (1.943, 1.54, 408.0, 23.933),
    "Zr": (2.241, 3.05, 306.0, 45.61), "Nb": (2.078, 5.24, 425.0, 46.453), "Mo": (1.929, 4.48, 477.0, 47.97),
    "W": (2.0, 5.0, 337.0, 91.92), "Cu": (2.22, 2.08, 265.0, 31.77), "Si": (2.246, 3.24, 511.0, 14.04),
}  # fmt: skip


class Morse(Calculator):
    """One Morse curve, with a cutoff far away."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012, as ASE has it

    def __init__(self, symbol: str) -> None:
        super().__init__()
        self.length_A, self.depth_eV, wave_number, mass_u = DIMERS[symbol]
        # k = μ ω²; (2 π c / cm)² u = 3.6785e-6 eV/Å²
        self.a = np.sqrt(mass_u * wave_number**2 * 3.67751e-6 / (2.0 * self.depth_eV))

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, changes)
        apart = self.atoms.positions[1] - self.atoms.positions[0]
        r = float(np.linalg.norm(apart))
        e = np.exp(-self.a * (r - self.length_A))
        pull = -2.0 * self.a * self.depth_eV * (e - e**2) * apart / r
        self.results = {"energy": self.depth_eV * (e**2 - 2 * e), "forces": np.array([-pull, pull])}


def values(row: Any, calculator: Calculator, data: Any, context: Context) -> dict[str, MetricValue]:
    seen = row.observe(broken.model(calculator), data, context)
    return {value.metric: value for value in row.score(seen, data) if not value.part}


def failed(row: Any, found: dict[str, MetricValue]) -> set[str]:
    defined: dict[str, Metric] = {metric.name: metric for metric in row.about.metrics}
    return {name for name, value in found.items() if score(defined[name], value.value) <= 0.0}


@pytest.mark.parametrize("symbol", DIMERS)
def test_dimers_as_they_are(symbol: str, context: Context) -> None:
    row = Diatomics(elements=(symbol,))
    assert not failed(row, values(row, Morse(symbol), broken.argon(), context))


def test_units_of_the_curves() -> None:
    """Cr2: k of 3.54 N/cm, as in the reviews, is 22.1 eV/Å²."""
    made = Morse("Cr")
    assert 2.0 * made.depth_eV * made.a**2 == pytest.approx(22.1, rel=0.02)


class RefusesNear(broken.CollapsingWall):
    """The hole itself is never answered for."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        distances = self.atoms.get_all_distances(mic=bool(self.atoms.pbc.any()))
        if distances[~np.eye(len(distances), dtype=bool)].min(initial=9.0) < 2.0:
            raise RuntimeError("too near")


def test_refusing_near_is_not_better_than_a_hole(context: Context) -> None:
    row, data = Diatomics(n_points=161, farthest_A=8.0), broken.argon()
    wrong, refusing = (values(row, made(), data, context) for made in (broken.CollapsingWall, RefusesNear))
    assert wrong["collapsed"].value == refusing["collapsed"].value == 1.0
    assert refusing["not_computed"].value == 1.0
    assert refusing["work_mismatch"].value < 3e-3, "what it answers is judged"


def test_who_is_next_to_whom() -> None:
    from dataclasses import replace

    from ase.build import molecule

    data = broken.argon()
    assert neighbours(data) == {(18, 18)}
    water, numbers = molecule("H2O"), atomic_numbers
    one = replace(data.take([0]), frames=(water,))
    assert neighbours(one) == {(numbers["H"], numbers["O"])}
