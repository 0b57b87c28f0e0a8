"""The outside world becomes a `Model`: one file per kind."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from mlipbench.core.model import Model, ModelSpec
from mlipbench.errors import unknown

# kind → "module:function"; the function takes (spec, *, device) and returns a Model.
TABLE: Final = {
    "ase": "mlipbench.models.ase:load",
    "ace": "mlipbench.models.ace:load",
    "chgnet": "mlipbench.models.chgnet:load",
    "descriptor": "mlipbench.models.descriptor:load",
    "gap": "mlipbench.models.gap:load",
    "mace": "mlipbench.models.mace:load",
    "mm": "mlipbench.models.mm:load",
    "reference": "mlipbench.models.reference:load",
}


def load(spec: ModelSpec, *, device: str) -> Model:
    """Make the model that a spec describes.

    Raises:
        BadInput: the kind is unknown, or a file is missing or not the one the spec names.
        NotApplicable: a package is not installed.
        ModelFailure: the factory raised.
    """
    if spec.kind not in TABLE:
        raise unknown("model kind", spec.kind, TABLE, where=f"model {spec.name}")
    module, function = TABLE[spec.kind].split(":")
    model: Model = getattr(import_module(module), function)(spec, device=device)
    return model
