"""How wrong is what holds a molecule together, and how wrong is what acts between molecules?

Two definitions carry these names in the literature, and they are not equal:

vacuum      intra is what each molecule, alone in vacuum at the same geometry, would feel; inter is the rest.
            Metrics: intra_…, inter_…
rigid body  inter is what moves and turns a molecule as a whole; intra is what deforms it.
            Metrics: rigid_intra_…, rigid_inter_…
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mlipbench.benchmarks.comparison import Errors, bars, error_metrics, error_values, parity, values_by_config_type
from mlipbench.benchmarks.frames import predict_all, spread_out
from mlipbench.benchmarks.molecular import LONE_ELEMENTS, Molecular, left_out_view, molecular
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, View
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

SHOWN = ("rmse", "relative_rmse")
COMPANY = "frames of two molecules or more"
VACUUM = "vacuum re-evaluation"
RIGID = "rigid-body definition"
# Tolerances are what another choice of training frames moves each number by (`python -m mlipbench.power`).
METRICS = tuple(
    # the rigid parts are compared where they are split further, in `rigid_body_forces`
    replace(metric, role="diagnostic") if of.startswith("rigid") else metric
    for of, title, unit, good, bad, over, headline, tolerance in (
        ("intra_force", "Intra force", "meV/Å", 20.0, 200.0, f"all components of all atoms, {VACUUM}", False, 0.05),
        ("inter_force", "Inter force", "meV/Å", 10.0, 100.0, f"all components of atoms in {COMPANY}, {VACUUM}",
         True, 0.10),
        ("intra_energy", "Intra energy", "meV/atom", 1.0, 20.0, f"frames, per atom, {VACUUM}", False, 0.10),
        ("inter_energy", "Inter energy", "meV/atom", 0.5, 10.0, f"{COMPANY}, per atom, {VACUUM}", True, 0.10),
        ("rigid_intra_force", "Intra force (rigid body)", "meV/Å", 20.0, 200.0,
         f"all components of atoms of molecules, not lone atoms: vibration, {RIGID}", False, 0.05),
        ("rigid_inter_force", "Inter force (rigid body)", "meV/Å", 5.0, 50.0,
         f"all components of atoms in {COMPANY}: translation plus rotation, {RIGID}", False, 0.05),
    )
    for metric in error_metrics(
        of, title, unit, good=good, bad=bad, over=over, headline=headline, tolerance=tolerance,
        merit="relative_rmse" if of.startswith("rigid") else "rmse",
        relative=(0.05, 0.95) if of == "rigid_inter_force" else (0.02, 1.0),
    )
    if metric.name.removeprefix(f"{of}_") in SHOWN
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class IntraInter:
    """Ask for every frame and for each of its molecules alone; model and reference are each split by their own answer.

    Attributes:
        max_frames: at most so many frames, evenly spaced; None for all.
        lone_elements: never bonded when molecules are found by the bond rule, such as ions in a solvent.
    """

    about: ClassVar[About] = About(
        name="intra_inter",
        title="Forces within and between molecules",
        question="How wrong is what holds a molecule together, and how wrong is what acts between molecules?",
        metrics=METRICS,
        observe_version=1,
        score_version=2,
        source="vacuum re-evaluation: Magdău et al., npj Computational Materials 9, 146 (2023),"
        " doi:10.1038/s41524-023-01100-w",
        needs=frozenset({"labels", "molecules", "vacuum_labels"}),
        seconds=10.0,
    )

    max_frames: int | None = None
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict the frames, and all their molecules one by one in vacuum at unchanged geometry.

        Raises:
            NotApplicable: the data have no vacuum labels, or no frame whose molecules can be taken out whole.
            BadInput: a frame has another number of charges than of molecules.
            ModelFailure: the model is at fault.
        """
        _vacuum_labels(data)
        found = molecular(data, spread_out(data, self.max_frames), lone_elements=self.lone_elements)
        chosen = data.take(found.frames.tolist())
        said = predict_all(model, chosen.frames, context, remark="frames")
        alone = _molecules_alone(found, chosen)
        vacuum = predict_all(model, alone, context, remark="molecules in vacuum")
        # Answers come molecule after molecule, but the atoms of a frame may stand in any order.
        forces = np.empty_like(vacuum.forces)
        forces[found.rows_by_molecule] = vacuum.forces
        frame_of_molecule = np.repeat(np.arange(len(chosen)), found.molecules_in_frame)
        return {
            "frame": found.frames,
            "n_left_out": np.array(found.n_left_out),
            "energy": said.energy,
            "forces": said.forces,
            "energy_intra": np.bincount(frame_of_molecule, weights=vacuum.energy, minlength=len(chosen)),
            "forces_intra": forces,
        }

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the headline metrics that these data allow: inter parts, where there are two molecules in a frame."""
        _vacuum_labels(data)
        found = molecular(data, spread_out(data, self.max_frames), lone_elements=self.lone_elements)
        has_company = bool((found.molecules_in_frame > 1).any())
        return tuple(metric.name for metric in METRICS if metric.headline and has_company)

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare intra and inter parts by both definitions: everything, and each configuration type."""
        found, chosen = self._molecules(seen, data)
        values: list[MetricValue] = []
        for errors in _errors(seen, found, chosen):
            values += error_values(errors, METRICS, kinds=SHOWN)
            values += values_by_config_type(errors, METRICS, kinds=SHOWN)
        return tuple(values)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show inter and intra forces and inter energies against their references."""
        found, chosen = self._molecules(seen, data)
        titles = {
            "intra_force": ("Intra forces (vacuum)", Axis(quantity="intra force component", unit="meV/Å")),
            "inter_force": ("Inter forces (vacuum)", Axis(quantity="inter force component", unit="meV/Å")),
            "inter_energy": ("Inter energies (vacuum)", Axis(quantity="inter energy per atom", unit="meV/atom")),
            "rigid_inter_force": ("Inter forces (rigid body)", Axis(quantity="force component", unit="meV/Å")),
        }
        shown: list[View] = []
        values: list[MetricValue] = []
        for errors in _errors(seen, found, chosen):
            if errors.of in titles and len(errors.reference):
                title, axis = titles[errors.of]
                shown.append(parity(title, axis, errors, errors.config_types))
            if errors.of.endswith("force"):
                values += error_values(errors, METRICS, kinds=("rmse",))
        shown.append(bars("Force RMSE within and between", Axis(quantity="force RMSE", unit="meV/Å", log=True), values))
        return (*shown, *left_out_view(len(found.frames), int(seen["n_left_out"])))

    def _molecules(self, seen: Observation, data: Dataset) -> tuple[Molecular, Dataset]:
        """Return the molecules of the frames seen, and these frames."""
        frames = seen["frame"]
        return molecular(data, frames, lone_elements=self.lone_elements), data.take(frames.tolist())


def _errors(seen: Observation, found: Molecular, data: Dataset) -> tuple[Errors, ...]:
    """Return every quantity of both definitions, in meV/Å or meV/atom."""
    trajectory, config_type = np.array(data.trajectory), np.array(data.config_type)
    frame = found.frame_of_atom
    company = found.molecules_in_frame > 1

    def force(of: str, reference: Float, predicted: Float) -> Errors:
        return Errors(
            of=of, reference=reference * MEV_PER_EV, predicted=predicted * MEV_PER_EV,
            units=trajectory[frame], config_types=config_type[frame], ignorance="zero",
        )  # fmt: skip

    def energy(of: str, reference: Float, predicted: Float) -> Errors:
        per_atom = MEV_PER_EV / data.n_atoms
        return Errors(
            of=of, reference=reference * per_atom, predicted=predicted * per_atom,
            units=trajectory, config_types=config_type, ignorance="mean",
        )  # fmt: skip

    energy_intra, forces_intra = _vacuum_labels(data)
    parts, parts_seen = found.split(data.forces), found.split(seen["forces"])
    return (
        force("intra_force", forces_intra, seen["forces_intra"]),
        force("inter_force", data.forces - forces_intra, seen["forces"] - seen["forces_intra"]).only(company[frame]),
        energy("intra_energy", energy_intra, seen["energy_intra"]),
        energy("inter_energy", data.energy - energy_intra, seen["energy"] - seen["energy_intra"]).only(company),
        force("rigid_intra_force", parts.vibration, parts_seen.vibration).only(found.is_in_polyatomic),
        force(
            "rigid_inter_force",
            parts.translation + parts.rotation,
            parts_seen.translation + parts_seen.rotation,
        ).only(company[frame]),
    )


def _vacuum_labels(data: Dataset) -> tuple[Float, Float]:
    """Return the reference's vacuum energies and forces.

    Raises:
        NotApplicable: there are none; the message names the command that makes them.
    """
    if data.energy_intra is None or data.forces_intra is None:
        usual = f"mlipbench data vacuum {data.spec.name} --reference MODEL --out DIR"
        raise NotApplicable(
            f"data set {data.spec.name} has no vacuum labels (energy_intra, forces_intra); this makes them: "
            f"{data.spec.make_vacuum_labels or usual}"
        )
    return data.energy_intra, data.forces_intra


def _molecules_alone(found: Molecular, data: Dataset) -> list[Atoms]:
    """Return every molecule as a frame of its own, whole and without a cell, in the order of molecule numbers."""
    from ase import Atoms

    charges = _charges(found, data)
    numbers = data.numbers
    alone = []
    groups = np.split(found.rows_by_molecule, np.cumsum(np.bincount(found.molecule))[:-1])
    for rows, charge in zip(groups, charges, strict=True):
        atoms = Atoms(numbers=numbers[rows], positions=found.positions[rows], masses=found.masses[rows])
        if charge:
            atoms.info["charge"] = charge
        alone.append(atoms)
    return alone


def _charges(found: Molecular, data: Dataset) -> list[int]:
    """Return the charge of each molecule; neutral where the data set says nothing.

    Raises:
        BadInput: a frame has another number of charges than of molecules.
    """
    if data.molecule_charges is None:
        return [0] * int(found.molecules_in_frame.sum())
    charges: list[int] = []
    for uid, given, n_molecules in zip(data.uid, data.molecule_charges, found.molecules_in_frame.tolist(), strict=True):
        if len(given) != n_molecules:
            raise BadInput(f"frame {uid} has {n_molecules} molecules but {len(given)} molecule charges; give one each")
        charges += given
    return charges
