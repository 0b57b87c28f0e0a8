"""Do molecules hold together, and do they keep apart?

Rigid molecules of frames of the data are pushed together until they nearly overlap, and pulled apart until they are
alone: only their centres move, and the cell with them. Nothing is compared with any reference. The slope of the energy
must be what forces and stress say (the molecular virial), which a stress of the wrong sign breaks.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Names, share_of, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import covered_frames
from mlipbench.benchmarks.rigid import Company, companies, energies_alone, touching_scale, virial_errors, virials
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput
from mlipbench.physics.scans import Shape, shape_of
from mlipbench.units import MEV_PER_EV

CANDIDATES: Final = 4  # times as many frames are looked at as are scanned
VIRIAL_SCALES: Final = (0.97, 1.0, 1.06)
SHOWN_TO_MEV: Final = 500.0
SHOWN_POINTS: Final = 60
FLAGS: Final = {
    "no_minimum": ("No minimum", "whose energy is nowhere lower than at both ends"),
    "double_minimum": ("Double minimum", "with more than one well of 5 % of the depth (and 1 meV per molecule)"),
    "collapse": ("Collapse", "that do not repel when pushed together, or whose wall has a hole of 5 % of the depth"),
    "unbound": ("Unbound", "whose molecules are nowhere better off by 1 meV each than alone"),
}  # fmt: skip
METRICS: Final = (
    *(
        Metric(
            name=name, title=title, unit="", better="lower", good=0.0, bad=1e-3, headline=True,
            says=f"share of scans {says}; interval over trajectories",
        )
        for name, (title, says) in FLAGS.items()
    ),
    Metric(
        name="virial_identity", title="Molecular virial", unit="", better="lower", good=2e-4, bad=5e-3, log_scale=True,
        headline=True,
        says="difference of tr W - Σ (r - R)·f and minus the slope of the energy along the logarithm of the scale,"
        " relative to the larger of both and of their median size on the scan (at least 1 meV per molecule); root mean"
        " square over scans and scales; interval over trajectories",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohesion:
    """Push rigid molecules together and pull them apart.

    Attributes:
        n_frames: scans, each of another frame; those with most molecules, periodic ones first.
        max_atoms: larger frames are not used.
        nearest: contact at the inner end, in sums of covalent radii.
        farthest: scale at the outer end.
        n_points: of a scan.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="cohesion",
        title="Cohesion",
        question="Do molecules hold together, and do they keep apart?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="rigid-molecule volume scans after I.-B. Magdău et al., npj Comput. Mater. 9, 146 (2023); molecular"
        " virial: M. P. Allen & D. J. Tildesley, Computer Simulation of Liquids (2017), section 2.4",
        grade="verification",
        seconds=4.0,
    )

    n_frames: int = 3
    max_atoms: int = 90
    nearest: float = 0.9
    farthest: float = 3.0
    n_points: int = 28
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask along each scan.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: no frame holds two molecules, or the model does not cover them.
            ModelFailure: the model is at fault.
        """
        if not 0.5 <= self.nearest <= 1.5 or not 1.5 <= self.farthest <= 10.0 or self.n_points < 11:
            raise BadInput(
                f"cohesion: nearest is {self.nearest:g}, farthest {self.farthest:g} and n_points {self.n_points}; 0.5"
                " to 1.5, 1.5 to 10 and at least 11 are needed"
            )
        chosen = self._chosen(model, data)
        alone = energies_alone(model, chosen, context)
        scales = np.array([self._scales(one) for one in chosen])
        frames = [one.at(scale) for one, own in zip(chosen, scales, strict=True) for scale in own.tolist()]
        energy = predict(model, frames, context, remark="rigid molecules").energy.reshape(scales.shape)
        n_molecules = np.array([one.n_molecules for one in chosen])
        moved = [_moved(one, scale) for one in chosen for scale in VIRIAL_SCALES]
        found = virials(model, moved, context)
        return {
            "frame": np.array([one.frame for one in chosen]), "scale": scales,
            "energy": (energy - alone[:, None]) / n_molecules[:, None],
            "virial_told": found.told, "virial_slope": found.slope, "virial_known": found.known,
        }  # fmt: skip

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the share of scans with each flag, and how well the virial keeps its identity."""
        units: Names = np.array(data.trajectory)[seen["frame"]]
        shapes = [shape_of(energy) for energy in seen["energy"]]
        flagged = np.array([astuple(shape) for shape in shapes], dtype=bool)
        found = [share_of(DEFINED[field.name], flagged[:, column], units) for column, field in enumerate(fields(Shape))]
        known = seen["virial_known"].astype(bool)
        if known.any():
            scan = np.repeat(np.arange(len(units)), len(VIRIAL_SCALES))
            errors = virial_errors(seen["virial_told"], seen["virial_slope"], scan)[known]
            of_scan = units[scan][known]
            found.append(value_of(DEFINED["virial_identity"], squares(errors), of_scan, "root_mean"))
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all scans, cut off above."""
        grid = np.linspace(float(seen["scale"].min()), self.farthest, SHOWN_POINTS)
        curves = [np.interp(grid, x, MEV_PER_EV * y) for x, y in zip(seen["scale"], seen["energy"], strict=True)]
        return (
            Lines(
                title="Rigid molecules together and apart: energy less that of the molecules alone",
                x_axis=Axis(quantity="scale of the centres' distances, 1 as in the data"),
                y_axis=Axis(quantity="energy", unit="meV/molecule"),
                names=tuple(data.uid[frame] for frame in seen["frame"].tolist()), x=grid,
                y=np.clip(np.array(curves), -4.0 * SHOWN_TO_MEV, SHOWN_TO_MEV),
            ),
        )  # fmt: skip

    def _chosen(self, model: Model, data: Dataset) -> tuple[Company, ...]:
        """Return the frames to scan: with a cell first, then those of most molecules."""
        offered = covered_frames(model, data, n_frames=CANDIDATES * self.n_frames, max_atoms=self.max_atoms)
        found = companies(data, offered, lone_elements=self.lone_elements)
        order = sorted(found, key=lambda one: (-int(one.atoms.pbc.any()), -one.n_molecules, one.frame))
        return tuple(order[: self.n_frames])

    def _scales(self, one: Company) -> Float:
        """Return the scales of a scan, closer where molecules are close."""
        inner = min(touching_scale(one, nearest=self.nearest), 0.95)
        n_near = (2 * self.n_points) // 3
        near = np.linspace(inner, 1.25, n_near)
        return np.concatenate([near, np.geomspace(1.25, self.farthest, self.n_points - n_near + 1)[1:]])


def _moved(one: Company, scale: float) -> Company:
    """Return the molecules at another scale."""
    return Company(frame=one.frame, atoms=one.at(scale), molecule=one.molecule, charges=one.charges)
