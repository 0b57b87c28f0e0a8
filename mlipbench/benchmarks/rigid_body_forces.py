"""How wrong are the forces that move, turn and deform each molecule?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mlipbench.benchmarks.comparison import (
    bars,
    error_metrics,
    error_values,
    has_spread,
    parity,
    values_by_config_type,
)
from mlipbench.benchmarks.frames import predict_all, spread_out
from mlipbench.benchmarks.molecular import LONE_ELEMENTS, Molecular, left_out_view, molecular
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Model
from mlipbench.core.view import Axis, View
from mlipbench.errors import NotApplicable

NAMES = ("translation_force", "rotation_force", "vibration_force")
KINDS = ("rmse", "relative_rmse")
METRICS = tuple(
    metric
    # another choice of training frames moves the small parts by a tenth, the large one by a few per cent
    for name, title, good, bad, relative, tolerance, over in (
        ("translation_force", "Translation force", 5.0, 50.0, (0.05, 0.95), 0.15,
         "atoms in frames of two molecules or more"),
        ("rotation_force", "Rotation force", 5.0, 50.0, (0.05, 0.95), 0.15,
         "atoms of molecules, not lone atoms, in such frames"),
        ("vibration_force", "Vibration force", 20.0, 200.0, (0.02, 0.5), 0.05,
         "atoms of molecules, not lone atoms, in all frames"),
    )
    for metric in error_metrics(
        name, title, "meV/Å", good=good, bad=bad, over=f"all three components of {over}", headline=True,
        merit="relative_rmse", relative=relative, tolerance=tolerance,
    )
    if metric.name.removeprefix(f"{name}_") in KINDS
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RigidBodyForces:
    """Split predicted and reference forces alike, and compare part by part.

    Vibrations dominate the total force error; translations and rotations, a hundred times smaller, drive diffusion.

    Attributes:
        max_frames: at most so many frames, evenly spaced; None for all.
        lone_elements: never bonded when molecules are found by the bond rule, such as ions in a solvent.
    """

    about: ClassVar[About] = About(
        name="rigid_body_forces",
        title="Translation, rotation and vibration forces",
        question="How wrong are the forces that move, turn and deform each molecule?",
        metrics=METRICS,
        observe_version=1,
        score_version=2,
        source="projection on the rigid modes of each molecule in mass-weighted coordinates, as in Wilson, Decius &"
        " Cross, Molecular Vibrations (1955), chapter 2",
        needs=frozenset({"labels", "molecules"}),
        seconds=5.0,
    )

    max_frames: int | None = None
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Predict the forces of all frames whose molecules can be told apart."""
        found = molecular(data, spread_out(data, self.max_frames), lone_elements=self.lone_elements)
        if not (found.is_in_company | found.is_in_polyatomic).any():
            raise NotApplicable(f"data set {data.spec.name} holds lone atoms only here; their forces have no parts")
        said = predict_all(model, [data.frames[i] for i in found.frames], context, remark="frames")
        return {"frame": found.frames, "forces": said.forces, "n_left_out": np.array(found.n_left_out)}

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the relative errors of the parts that these data have."""
        found = molecular(data, spread_out(data, self.max_frames), lone_elements=self.lone_elements)
        chosen = data.take(found.frames.tolist())
        every = found.split_errors(chosen, chosen.forces, names=NAMES)
        return tuple(f"{errors.of}_relative_rmse" for errors in every if has_spread(errors))

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare the parts: everything, and each configuration type."""
        found, chosen = self._molecules(seen, data)
        values: list[MetricValue] = []
        for part in found.split_errors(chosen, seen["forces"], names=NAMES):
            errors = replace(part, ignorance="zero")
            values += error_values(errors, METRICS, kinds=KINDS)
            values += values_by_config_type(errors, METRICS, kinds=KINDS)
        return tuple(values)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show each part against its reference, and the three errors beside each other."""
        found, chosen = self._molecules(seen, data)
        every = found.split_errors(chosen, seen["forces"], names=NAMES)
        how = "" if data.molecule is not None else " (molecules found by the bond rule)"
        shown: list[View] = []
        values: list[MetricValue] = []
        for errors, part in zip(every, ("Translation", "Rotation", "Vibration"), strict=True):
            if len(errors.reference):
                axis = Axis(quantity=f"{part.lower()} force component", unit="meV/Å")
                shown.append(parity(f"{part} forces{how}", axis, errors, errors.config_types))
                values += error_values(errors, METRICS, kinds=("rmse",))
        axis = Axis(quantity="force RMSE", unit="meV/Å", log=True)
        shown.append(bars(f"Force RMSE by part{how}", axis, values))
        return (*shown, *left_out_view(len(found.frames), int(seen["n_left_out"])))

    def _molecules(self, seen: Observation, data: Dataset) -> tuple[Molecular, Dataset]:
        """Return the molecules of the frames seen, and these frames."""
        frames = seen["frame"]
        return molecular(data, frames, lone_elements=self.lone_elements), data.take(frames.tolist())
