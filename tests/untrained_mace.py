"""A MACE network that was never trained: small, fast, and wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlipbench.models.mace_graph import quiet_mace


def untrained(path: Path) -> Path:
    """Write a network in double precision for H, C and O, and return its path."""
    import torch

    with quiet_mace():
        from e3nn import o3
        from mace import modules
        from mace.tools.torch_tools import default_dtype

        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        with torch.random.fork_rng(), default_dtype("float64"):
            torch.manual_seed(5)
            network = modules.ScaleShiftMACE(
                r_max=3.5, num_bessel=4, num_polynomial_cutoff=5, max_ell=1, interaction_cls=block,
                interaction_cls_first=block, num_interactions=2, num_elements=3, atomic_numbers=[1, 6, 8],
                atomic_energies=np.array([-13.0, -1030.0, -2040.0]), hidden_irreps=o3.Irreps("4x0e"),
                MLP_irreps=o3.Irreps("4x0e"), gate=torch.nn.functional.silu, correlation=2, avg_num_neighbors=6.0,
                atomic_inter_scale=1.3, atomic_inter_shift=0.1,
            )  # fmt: skip
        torch.save(network, path)
    return path
