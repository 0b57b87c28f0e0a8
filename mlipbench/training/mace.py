"""Train a MACE network on labelled frames."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.ace.torch_batch import check_device
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Progress, Trained
from mlipbench.errors import BadInput
from mlipbench.models.mace_graph import Graph, graph_of, place, quiet_mace
from mlipbench.training.e0 import Baseline, baseline, is_lone
from mlipbench.training.mace_loop import fit
from mlipbench.training.mace_options import Options, read_options

if TYPE_CHECKING:
    import torch

CHECKPOINT = "mace.model"


def train(
    train: Dataset,
    valid: Dataset,
    *,
    options: Mapping[str, Any],
    seed: int,
    device: str,
    out: Path,
    progress: Progress,
) -> Trained:
    """Train a MACE network and write it to `out`; the weights kept are those with the best validation loss.

    The same seed gives the same weights on one CPU thread. The file is an ordinary MACE checkpoint.

    Raises:
        BadInput: an option is unknown or out of range, a split is empty, or the validation split holds other elements.
        NotApplicable: mace-torch is not installed, or there is no such device.
        ModelFailure: the loss stopped being finite.
    """
    chosen = read_options(options)
    elements = _elements(train, valid)
    start = time.perf_counter()
    energies = baseline(train, chosen.e0, elements, is_shifted=True)
    with quiet_mace(), _own_randomness(seed, chosen.dtype, device):
        import torch

        if chosen.e0 == "isolated":
            # Their energies are what the E0s reproduce; with a shift they would pull against all other frames.
            train = train.take([i for i, frame in enumerate(train.frames) if not is_lone(frame)])
            _elements(train, valid)
        parts = [_graphs(part, energies, chosen, elements, device) for part in (train, valid)]
        network = place(_network(parts[0], train, energies, chosen, elements), device=device, dtype=chosen.dtype)
        course = fit(network, *parts, options=chosen, rng=np.random.default_rng(seed), progress=progress)
        network.load_state_dict(course.best_state)
        out.mkdir(parents=True, exist_ok=True)
        torch.save(network.cpu().eval(), out / CHECKPOINT)
    best = course.history[course.best_epoch - 1]
    return Trained(
        kind="mace", checkpoint=CHECKPOINT, elements=elements, options={"dtype": chosen.dtype}, notes=energies.notes,
        facts={
            "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
            "n_train": len(train), "n_valid": len(valid),
            "epochs": len(course.history), "best_epoch": course.best_epoch, "stage_two_from": course.stage_two_from,
            "stopped_early": course.stopped_early, "seconds": round(time.perf_counter() - start, 2),
            "valid_energy_rmse_meV_per_atom": best["valid_energy_rmse_meV_per_atom"],
            "valid_force_rmse_meV_per_A": best["valid_force_rmse_meV_per_A"],
            "shift_eV_per_atom": energies.offset_eV_per_atom,
            **{f"e0_{symbol}_eV": energy for symbol, energy in energies.energies_eV.items()},
        },
        history=course.history,
    )  # fmt: skip


def _elements(train: Dataset, valid: Dataset) -> tuple[str, ...]:
    """Return the elements to train for, in the order of the periodic table."""
    from ase.data import chemical_symbols

    for part, what in ((train, "training"), (valid, "validation")):
        if len(part) == 0:
            raise BadInput(f"data set {part.spec.name}: the {what} split is empty.")
    numbers = sorted({int(number) for number in train.numbers})
    foreign = sorted({chemical_symbols[number] for number in valid.numbers if number not in numbers})
    if foreign:
        raise BadInput(f"the validation split holds {', '.join(foreign)}, which the training split lacks.")
    return tuple(chemical_symbols[number] for number in numbers)


@contextmanager
def _own_randomness(seed: int, dtype: str, device: str) -> Iterator[None]:
    """Seed torch and set the precision of new tensors; both are as before afterwards."""
    import torch
    from mace.tools.torch_tools import default_dtype

    check_device(device, where="MACE")
    devices = list(range(torch.cuda.device_count())) if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), default_dtype(dtype):
        torch.manual_seed(seed)
        yield


def _graphs(
    data: Dataset, energies: Baseline, options: Options, elements: tuple[str, ...], device: str
) -> list[dict[str, Any]]:
    """Return all frames as graphs on the device, with labels; energies are those the network learns, without E0s."""
    import torch

    kind = getattr(torch, options.dtype)
    offsets = data.offsets
    graphs = []
    for i, frame in enumerate(data.frames):
        graph = graph_of(frame, cutoff_A=options.cutoff_A, symbols=elements, dtype=options.dtype)
        left = data.energy[i] - sum(energies.energies_eV[symbol] for symbol in frame.symbols)
        has_stress = bool(data.has_stress[i]) and options.stress_weight > 0
        graph["label_energy"] = torch.tensor([left], dtype=kind)
        graph["label_forces"] = torch.tensor(data.forces[offsets[i] : offsets[i + 1]], dtype=kind)
        graph["label_stress"] = torch.tensor(data.stress[i : i + 1], dtype=kind)
        graph["stress_weight"] = torch.tensor([float(has_stress)], dtype=kind)
        graphs.append({name: tensor.to(device) for name, tensor in graph.items()})
    return graphs


def _network(
    graphs: Sequence[Graph], train: Dataset, energies: Baseline, options: Options, elements: tuple[str, ...]
) -> torch.nn.Module:
    """Make an untrained network, scaled by the data so that it starts from their mean energy and force."""
    import torch
    from ase.data import atomic_numbers
    from e3nn import o3
    from mace import modules

    try:
        hidden = o3.Irreps(options.irreps)
    except ValueError as error:
        raise BadInput(
            f"trainer mace: recipe option irreps = '{options.irreps}' is not of the form '32x0e+32x1o'."
        ) from error
    receivers = sum(len(torch.unique(graph["edge_index"][1])) for graph in graphs)
    neighbours = sum(graph["edge_index"].shape[1] for graph in graphs) / max(receivers, 1)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=options.cutoff_A, num_bessel=8, num_polynomial_cutoff=5, max_ell=options.max_ell,
        interaction_cls=block, interaction_cls_first=block, num_interactions=options.num_interactions,
        num_elements=len(elements), atomic_numbers=[atomic_numbers[symbol] for symbol in elements],
        atomic_energies=np.array([energies.energies_eV[symbol] for symbol in elements]),
        hidden_irreps=hidden, MLP_irreps=o3.Irreps("16x0e"), gate=torch.nn.functional.silu,
        correlation=options.correlation, avg_num_neighbors=neighbours if receivers else 1.0,
        atomic_inter_scale=float(np.sqrt(np.mean(train.forces**2))) or 1.0,
        atomic_inter_shift=energies.offset_eV_per_atom,
    )  # fmt: skip
