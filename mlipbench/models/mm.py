"""How does a classical force field, GAFF2, answer for EC and EMC?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.core.model import Float, ModelSpec, Predictions, Progress
from mlipbench.errors import BadInput, NotApplicable, unknown
from mlipbench.models.gaff2 import CUTOFF_A, NAMES, SWITCH_A, openmm
from mlipbench.models.gaff2.assign import assign
from mlipbench.models.gaff2.evaluate import Evaluator

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlipbench.models.gaff2.batch import GaffBatch

ELEMENTS = ("H", "C", "O")
OPTIONS = {"cutoff_A": CUTOFF_A, "switch_A": SWITCH_A, "ewald_tolerance": 1e-6, "platform": "Reference"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GaffModel:
    """GAFF2 with AM1-BCC charges for any mixture of EC and EMC, in vacuum or in a cell, atoms in any order.

    In a cell: particle-mesh Ewald, and Lennard-Jones switched off smoothly, without dispersion correction; energy,
    forces and stress belong to one function of positions and cell.

    Attributes:
        spec: what it takes to make it again.
        evaluator: keeps the OpenMM contexts.
    """

    spec: ModelSpec
    evaluator: Evaluator

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames, one after the other.

        Raises:
            NotApplicable: a frame holds a molecule other than EC and EMC, or is periodic in one or two directions.
        """
        answers = [self.one(frame, where=f"frame {number}") for number, frame in enumerate(frames)]
        return Predictions(
            n_atoms=np.array([len(frame) for frame in frames], dtype=np.int64),
            energy=np.array([energy for energy, _, _ in answers], dtype=np.float64),
            forces=np.concatenate([np.zeros((0, 3)), *(forces for _, forces, _ in answers)]),
            stress=np.array([stress for _, _, stress in answers]).reshape(-1, 3, 3),
            has_stress=np.array([bool(frame.pbc.all()) for frame in frames], dtype=np.bool_),
        )

    def calculator(self) -> Calculator:
        """Return an ASE calculator of this model."""
        return _calculator(self)

    def batch(self, frames: Sequence[Atoms]) -> GaffBatch:
        """Return what evaluates these frames again and again while their atoms move.

        Raises:
            NotApplicable: a molecule is neither EC nor EMC.
        """
        from mlipbench.models.gaff2.batch import GaffBatch

        return GaffBatch(self.evaluator, frames)

    @property
    def engine(self) -> str:
        """What drives it when it drives itself."""
        from mlipbench.models.gaff2.engine import ENGINE

        return ENGINE

    def simulate(self, replicas: Sequence[Replica], schedule: Schedule, progress: Progress) -> tuple[Track, ...]:
        """Run the replicas in OpenMM, in single precision and with a coarser Ewald sum than `predict` has.

        Raises:
            NotApplicable: a box is not cubic, or the thermostat is not Langevin's.
        """
        from mlipbench.models.gaff2 import engine

        cutoff_A, switch_A = self.evaluator.cutoff_A, self.evaluator.switch_A
        return engine.simulate(replicas, schedule, progress, cutoff_A=cutoff_A, switch_A=switch_A)

    def one(self, frame: Atoms, *, where: str, with_stress: bool = True) -> tuple[float, Float, Float]:
        """Return energy, forces and stress of one frame; a stress that is not wanted is zero.

        Raises:
            NotApplicable: as `predict`.
        """
        if frame.pbc.any() and not frame.pbc.all():
            raise NotApplicable(f"{where}: periodic along {frame.pbc.tolist()}; GAFF2 here needs all three or none")
        if not len(frame):
            raise NotApplicable(f"{where}: it has no atoms")
        known = assign(frame, where=where)
        positions, stress = known.positions[known.order], np.zeros((3, 3))
        if frame.pbc.all():
            energy, forces, stress = self.evaluator.periodic(
                known.names, positions, frame.cell.array, with_stress=with_stress
            )
        else:
            energy, forces = self.evaluator.alone(known.names, positions)
        back = np.empty_like(forces)
        back[known.order] = forces
        return energy, back, stress


def load(spec: ModelSpec, *, device: str) -> GaffModel:
    """Make the GAFF2 model; it always runs on the CPU, in double precision unless another platform is asked for.

    Options: `cutoff_A` (5.5), `switch_A` (5), `ewald_tolerance` (1e-6), `platform` ("Reference").

    Raises:
        BadInput: an option is unknown or out of range.
        NotApplicable: openmm is not installed, or lacks the platform.
    """
    for name in spec.options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS, where=f"model {spec.name}")
    options: dict[str, Any] = OPTIONS | dict(spec.options)
    cutoff_A, switch_A, tolerance = (float(options[name]) for name in ("cutoff_A", "switch_A", "ewald_tolerance"))
    if not 0.0 < switch_A < cutoff_A or not 0.0 < tolerance < 0.5:
        raise BadInput(
            f"model {spec.name}: 0 < switch_A < cutoff_A and 0 < ewald_tolerance < 0.5 are needed; got "
            f"switch_A = {switch_A}, cutoff_A = {cutoff_A}, ewald_tolerance = {tolerance}"
        )
    mm = openmm()
    platforms = [mm.Platform.getPlatform(k).getName() for k in range(mm.Platform.getNumPlatforms())]
    if options["platform"] not in platforms:
        raise NotApplicable(
            f"model {spec.name}: OpenMM has no platform '{options['platform']}' here; it has {', '.join(platforms)}"
        )
    evaluator = Evaluator(
        cutoff_A=cutoff_A, switch_A=switch_A, ewald_tolerance=tolerance, platform=str(options["platform"])
    )
    identity = spec.identity or f"gaff2 {_parameters_sha256()[:16]}"
    return GaffModel(spec=replace(spec, elements=spec.elements or ELEMENTS, identity=identity), evaluator=evaluator)


def _parameters_sha256() -> str:
    """Return a hash of the shipped force field."""
    import hashlib

    folder = files("mlipbench.models.gaff2")
    return hashlib.sha256(b"".join((folder / f"{name}.xml").read_bytes() for name in NAMES)).hexdigest()


def _calculator(model: GaffModel) -> Calculator:
    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    class Gaff(Calculator):  # type: ignore[misc]  # ASE is not typed
        implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            with_stress = bool(self.atoms.pbc.all()) and "stress" in (properties or ())
            energy, forces, stress = model.one(self.atoms, where="the atoms", with_stress=with_stress)
            self.results = {"energy": energy, "forces": forces}
            if with_stress:
                self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    return Gaff()
