"""A hydrogen atom between two heavier ones, whose path and barrier are known, as data and as a model.

u is where the hydrogen atom is along the line between the two, from their middle, and p how far it is from the line:

E = a (u² - b²)² + c (3 b² u - u³) + k p²/2 + k (D - d)²/2

Minima lie at u = ±b with energies ±2 c b³, the saddle at u = 3c/4a, and the path between them is straight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import Float, ModelSpec
from mlipbench.models.ase import AseModel

STIFF_EV_A2 = 8.0


@dataclass(frozen=True)
class Bridge:
    """The constants of one pair of heavy atoms; `scale` multiplies all energies, `shift_eV` is added."""

    a_eV_A4: float
    b_A: float
    c_eV_A3: float
    d_A: float
    scale: float = 1.0
    shift_eV: float = 0.0

    def along(self, u: float) -> float:
        """Energy on the path."""
        tilt = self.c_eV_A3 * (3.0 * self.b_A**2 * u - u**3)
        return self.shift_eV + self.scale * (self.a_eV_A4 * (u**2 - self.b_A**2) ** 2 + tilt)

    @property
    def saddle_A(self) -> float:
        """Where the saddle is."""
        return 0.75 * self.c_eV_A3 / self.a_eV_A4

    @property
    def barrier_eV(self) -> float:
        """From the first minimum."""
        return self.along(self.saddle_A) - self.along(-self.b_A)

    @property
    def reaction_energy_eV(self) -> float:
        """From the first minimum to the last."""
        return self.along(self.b_A) - self.along(-self.b_A)

    def answer(self, positions: Float) -> tuple[float, Float]:
        """Energy and forces; the hydrogen atom is the last one."""
        arm = positions[1] - positions[0]
        distance = float(np.linalg.norm(arm))
        axis = arm / distance
        away = positions[2] - 0.5 * (positions[0] + positions[1])
        u = float(away @ axis)
        across = away - u * axis
        stretch = distance - self.d_A
        slope = 4.0 * self.a_eV_A4 * u * (u**2 - self.b_A**2) + 3.0 * self.c_eV_A3 * (self.b_A**2 - u**2)
        on_hydrogen = slope * axis + STIFF_EV_A2 * across
        turn = (slope - STIFF_EV_A2 * u) * across / distance + STIFF_EV_A2 * stretch * axis
        gradient = np.array([-0.5 * on_hydrogen - turn, -0.5 * on_hydrogen + turn, on_hydrogen])
        more = 0.5 * STIFF_EV_A2 * (float(across @ across) + stretch**2)
        return self.along(u) + self.scale * more, -self.scale * gradient

    def frame(self, symbol: str, u: float) -> Atoms:
        """On the path, the line between the heavy atoms askew in space."""
        axis = np.array([2.0, -1.0, 2.0]) / 3.0
        places = np.array([-0.5 * self.d_A, 0.5 * self.d_A, u])
        return Atoms(f"{symbol}2H", np.array([1.0, 2.0, 3.0]) + places[:, None] * axis)


BRIDGES: Mapping[str, Bridge] = {
    "O": Bridge(8.0, 0.40, 0.0, 2.5, shift_eV=-100.0),
    "F": Bridge(20.0, 0.35, 3.0, 2.3, shift_eV=-200.0),
    "N": Bridge(10.0, 0.40, -2.0, 2.6, shift_eV=-50.0),
}
KINDS = {"O": "symmetric", "F": "tilted", "N": "tilted"}


class BridgeCalculator(Calculator):  # type: ignore[misc]
    """Knows bridges by their heavy atom."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, bridges: Mapping[str, Bridge] = BRIDGES, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.bridges = bridges

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.answer(self.atoms)
        self.results = {"energy": energy, "forces": forces}

    def answer(self, atoms: Atoms) -> tuple[float, Float]:
        return self.bridges[atoms.symbols[0]].answer(atoms.positions)


def model(calculator: Calculator | None = None, *, elements: tuple[str, ...] | None = None) -> AseModel:
    bare = BridgeCalculator() if calculator is None else calculator
    return AseModel(spec=ModelSpec(name="bridges", kind="test", elements=elements), bare=bare)


def changed(**constants: float) -> AseModel:
    """The same bridges with some constants changed in all of them."""
    return model(BridgeCalculator({name: replace(one, **constants) for name, one in BRIDGES.items()}))


def data(names: Sequence[str] = tuple(BRIDGES), *, n_each_side: int = 3, cell_A: float | None = None) -> Dataset:
    """One path for each pair: evenly spaced images on both sides of the saddle, which is one of them."""
    frames, trajectory, uid = [], [], []
    for name in names:
        bridge = BRIDGES[name]
        up = np.linspace(-bridge.b_A, bridge.saddle_A, n_each_side + 1)
        down = np.linspace(bridge.saddle_A, bridge.b_A, n_each_side + 1)[1:]
        for k, u in enumerate(np.concatenate([up, down]).tolist()):
            frames.append(bridge.frame(name, u))
            if cell_A is not None:
                frames[-1].set_cell([cell_A] * 3)
                frames[-1].set_pbc(True)
            trajectory.append(f"{name}-H-{name}")
            uid.append(f"{name}-H-{name}:{k}")
    answers = [BRIDGES[frame.symbols[0]].answer(frame.positions) for frame in frames]
    n = len(frames)
    return Dataset(
        spec=DatasetSpec(
            name="bridges", version="1", level_of_theory="bridges", licence="MIT", citation=(),
            elements=("H", *names), sha256="",
        ),
        frames=tuple(frames), uid=tuple(uid), energy=np.array([energy for energy, _ in answers]),
        forces=np.concatenate([forces for _, forces in answers]), stress=np.zeros((n, 3, 3)),
        has_stress=np.zeros(n, dtype=bool), trajectory=tuple(trajectory),
        config_type=tuple(KINDS[frame.symbols[0]] for frame in frames),
    )  # fmt: skip
