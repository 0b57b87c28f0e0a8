"""Which frames of a data set make the path of a reaction?"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlipbench.benchmarks.comparison import Names
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Int
from mlipbench.data.units import is_guessed
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.simulate.reaction_path import refuse_no_path

AT_REST_EV_A: Final = 0.1  # a larger force on a reference's end point, and it is no minimum


def paths_of(data: Dataset) -> dict[str, Int]:
    """Return the frame numbers of each path, in order, by the name of its trajectory.

    Raises:
        NotApplicable: no trajectory of three frames or more begins or ends at rest, so that these are other data.
        BadInput: a trajectory is no path of three images or more, has no barrier, or its end points are no minima.
    """
    found = {}
    trajectory: Names = np.array(data.trajectory)
    largest = np.zeros(len(data))
    np.maximum.at(largest, data.frame_of_atom, np.linalg.norm(data.forces, axis=1))
    names = [name for name in dict.fromkeys(data.trajectory) if not is_guessed(name)]
    several = [np.flatnonzero(trajectory == name) for name in names]
    if not any(len(own) > 2 and largest[own[[0, -1]]].min() <= AT_REST_EV_A for own in several):
        raise NotApplicable(
            f"data set {data.spec.name} holds no reaction path: no trajectory of three frames or more begins or ends"
            f" where no force is larger than {AT_REST_EV_A:g} eV/Å"
        )
    for name, frames in zip(names, several, strict=True):
        where = f"data set {data.spec.name}, trajectory {name}"
        refuse_no_path([data.frames[i] for i in frames], where=where)
        if np.argmax(data.energy[frames]) in {0, len(frames) - 1}:
            raise BadInput(
                f"{where}: an end point is its highest frame, so that there is no barrier; a path's frames stand in"
                " order, from minimum over saddle to minimum"
            )
        at_ends_eV_A = float(largest[frames[[0, -1]]].max())
        if at_ends_eV_A > AT_REST_EV_A:
            raise BadInput(
                f"{where}: forces of {at_ends_eV_A:.3g} eV/Å at an end point, which is no minimum of the reference;"
                " relax it with the reference, without constraints, and pull the path from there"
            )
        found[name] = frames
    return found


def rows_of(data: Dataset, frames: Int) -> Int:
    """Return the atom rows of some frames."""
    return np.concatenate([np.arange(data.offsets[i], data.offsets[i + 1]) for i in frames])


def saddle_of(energy: Float, frames: Int) -> int:
    """Return the frame with the highest energy of a path."""
    return int(frames[np.argmax(energy[frames])])
