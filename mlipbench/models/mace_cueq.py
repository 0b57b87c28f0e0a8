"""MACE through cuEquivariance's kernels, only after they gave the plain network's answers on the systems to be moved.

A published case changed the energy surface without a word (https://github.com/ACEsuit/mace/issues/1469).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.errors import ModelFailure, missing_package
from mlipbench.models.mace import MaceModel
from mlipbench.models.mace_graph import place, quiet_mace

if TYPE_CHECKING:
    import torch
    from ase import Atoms

# What sums in another order may change, eV per atom and eV/Å.
ENERGY_TOLERANCE_EV: Final = {"float32": 1e-5, "float64": 1e-9}
FORCE_TOLERANCE_EV_A: Final = {"float32": 1e-3, "float64": 1e-8}


def accelerated(model: MaceModel, frames: Sequence[Atoms]) -> MaceModel:
    """Return the model with its network converted, after both agreed on these frames.

    Raises:
        NotApplicable: cuequivariance-torch is not installed.
        ModelFailure: the conversion failed, or gives other energies or forces.
    """
    if find_spec("cuequivariance_torch") is None:
        raise missing_package("cuequivariance-torch", extra="cueq", needed_for="the option cuequivariance of MACE")
    try:
        network = converted(model.network, device=model.device)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise ModelFailure(f"MACE could not be converted to cuEquivariance: {type(error).__name__}: {error}") from error
    fast = replace(model, network=place(network, device=model.device, dtype=model.dtype))
    refuse_other_answers(model, fast, frames)
    return fast


def converted(network: torch.nn.Module, *, device: str) -> torch.nn.Module:
    """Return mace-torch's own conversion of a network."""
    with quiet_mace():
        from mace.cli.convert_e3nn_cueq import run

        made: torch.nn.Module = run(input_model=network, device=device, return_model=True)
        return made


def refuse_other_answers(plain: MaceModel, fast: MaceModel, frames: Sequence[Atoms]) -> None:
    """Raise unless both give the same energies and forces, to the precision of the network.

    Raises:
        ModelFailure: they do not, with both differences.
    """
    one, other = plain.predict(frames), fast.predict(frames)
    energy = float(np.abs((one.energy - other.energy) / np.maximum(one.n_atoms, 1)).max(initial=0.0))
    force = float(np.abs(one.forces - other.forces).max(initial=0.0))
    if not (energy < ENERGY_TOLERANCE_EV[plain.dtype] and force < FORCE_TOLERANCE_EV_A[plain.dtype]):
        raise ModelFailure(
            f"cuEquivariance changes the answers of {plain.spec.name} on these systems by {energy:.1e} eV per atom and "
            f"{force:.1e} eV/Å; run it without the option cuequivariance"
        )
