"""Data and a recipe become a model: one file per trainer."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from mlipbench.core.model import Trainer
from mlipbench.errors import unknown

# trainer → "module:function" and the version that moves whenever the same recipe would give another model.
TABLE: Final = {
    "ace": ("mlipbench.training.ace:train", 2),
    "gap": ("mlipbench.training.gap:train", 1),
    "mace": ("mlipbench.training.mace:train", 1),
}

# Trainers whose model gives the same energies and forces whatever the seed, and why: several seeds would be one.
SEEDLESS: Final = {
    "ace": "a linear least-squares fit has one solution; the seed only draws the members of its committee",
}


def trainer(name: str) -> Trainer:
    """Return the trainer of this name.

    Raises:
        BadInput: there is no such trainer.
    """
    if name not in TABLE:
        raise unknown("trainer", name, TABLE)
    module, function = TABLE[name][0].split(":")
    found: Trainer = getattr(import_module(module), function)
    return found
