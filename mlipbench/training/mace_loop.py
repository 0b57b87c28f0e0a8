"""How does a MACE network get better, epoch by epoch?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.core.model import Progress
from mlipbench.errors import ModelFailure
from mlipbench.models.mace_graph import Graph, collate
from mlipbench.training.mace_options import Options
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    import torch

VALID_BATCH_FRAMES = 16
WEIGHT_DECAY = 5e-7
EMA_DECAY = 0.99
LARGEST_GRADIENT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a training went.

    Attributes:
        best_state: the averaged weights with the lowest validation loss of the last stage.
        best_epoch: where they come from, counted from 1.
        stage_two_from: first epoch of stage two; 0 without one.
        stopped_early: did the last stage run out of patience?
        history: one mapping per epoch.
    """

    best_state: Mapping[str, torch.Tensor]
    best_epoch: int
    stage_two_from: int
    stopped_early: bool
    history: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Epochs with one loss.

    Attributes:
        epochs: at most.
        energy_weight: in the loss.
        learning_rate: at its start.
    """

    epochs: int
    energy_weight: float
    learning_rate: float


def stages(options: Options) -> tuple[Stage, ...]:
    """Return the stages that hold any epoch.

    >>> [(s.epochs, s.energy_weight) for s in stages(Options(epochs=60, stage_two_epoch=40))]
    [(40, 1.0), (20, 1000.0)]
    >>> [(s.epochs, s.energy_weight) for s in stages(Options(epochs=10, stage_two_epoch=40))]
    [(10, 1.0)]
    """
    first = min(options.stage_two_epoch, options.epochs)
    both = (
        Stage(epochs=first, energy_weight=options.energy_weight, learning_rate=options.learning_rate),
        Stage(
            epochs=options.epochs - first,
            energy_weight=options.stage_two_energy_weight,
            learning_rate=options.stage_two_learning_rate,
        ),
    )
    return tuple(stage for stage in both if stage.epochs)


def fit(
    network: torch.nn.Module,
    train: Sequence[Graph],
    valid: Sequence[Graph],
    *,
    options: Options,
    rng: np.random.Generator,
    progress: Progress,
) -> Course:
    """Train a network through its stages; the weights of the last stage count.

    The losses of two stages weigh energies differently and cannot be compared. A stage that runs out of patience ends,
    and the next one begins.

    Args:
        network: on its device, untrained; left with whatever weights it had last.
        train: graphs with labels, on the same device.
        valid: likewise.
        options: of the recipe.
        rng: for the order of frames.
        progress: called once an epoch.

    Raises:
        ModelFailure: the loss stopped being finite.
    """
    loop = Loop(network=network, train=train, valid=valid, options=options, rng=rng)
    planned = stages(options)
    end = 0
    for i, stage in enumerate(planned):
        begun = len(loop.history)
        end = begun + stage.epochs
        later = sum(other.epochs for other in planned[i + 1 :])
        loop.run(stage, partial(_report, progress, end + later))
    return Course(
        best_state=loop.best_state, best_epoch=loop.best_epoch, history=tuple(loop.history),
        stage_two_from=begun + 1 if options.stage_two_epoch < options.epochs else 0,
        stopped_early=len(loop.history) < end,
    )  # fmt: skip


def _report(progress: Progress, total: int, done: int, remark: str) -> None:
    """Report with the total put in."""
    progress(done, total, remark)


@dataclass(slots=True, kw_only=True)
class Loop:
    """A network in training, with its optimiser and averaged weights.

    Attributes:
        network: on its device.
        train: graphs with labels, on the same device.
        valid: likewise.
        options: of the recipe.
        rng: for the order of frames.
        history: one mapping per finished epoch.
        best_state: best weights of the stage that runs or ran last.
        best_epoch: where they come from, counted from 1.
    """

    network: torch.nn.Module
    train: Sequence[Graph]
    valid: Sequence[Graph]
    options: Options
    rng: np.random.Generator
    history: list[Mapping[str, float]] = field(default_factory=list)
    best_state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    optimizer: Any = field(init=False)
    average: Any = field(init=False)

    def __post_init__(self) -> None:
        """Make the optimiser."""
        from torch_ema import ExponentialMovingAverage

        self.optimizer = _optimizer(self.network)
        self.average = ExponentialMovingAverage(self.network.parameters(), decay=EMA_DECAY)

    def run(self, stage: Stage, report: Callable[[int, str], None]) -> None:
        """Run one stage until its epochs or its patience are spent, and remember its best weights."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate
        slower = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=0.8, patience=self.options.learning_rate_patience
        )
        lowest, waited = math.inf, 0
        for _ in range(stage.epochs):
            start = time.perf_counter()
            epoch = len(self.history) + 1
            loss = self.train_epoch(stage)
            with self.average.average_parameters():
                energy, force, valid_loss = self.validate(stage)
                if valid_loss < lowest:
                    lowest, waited, self.best_epoch = valid_loss, 0, epoch
                    self.best_state = {name: x.detach().clone() for name, x in self.network.state_dict().items()}
                else:
                    waited += 1
            if not math.isfinite(loss + valid_loss):
                raise ModelFailure(f"the loss is not finite in epoch {epoch}; try a lower learning_rate")
            slower.step(valid_loss)
            self.history.append({
                "epoch": float(epoch), "loss": loss, "valid_loss": valid_loss, "energy_weight": stage.energy_weight,
                "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
                "valid_energy_rmse_meV_per_atom": energy, "valid_force_rmse_meV_per_A": force,
                "seconds": time.perf_counter() - start,
            })  # fmt: skip
            report(epoch, f"valid {energy:.1f} meV/atom, {force:.0f} meV/Å")
            if waited >= self.options.patience:
                return

    def train_epoch(self, stage: Stage) -> float:
        """Take one step per batch of shuffled frames, and return the mean loss."""
        import torch

        losses = []
        for batch in self._batches(self.train, self.rng.permutation(len(self.train)), self.options.batch_size):
            self.optimizer.zero_grad(set_to_none=True)
            answer = self._ask(batch, is_training=True)
            energy, force, stress = (total / max(n, 1.0) for total, n in _squares(answer, batch))
            loss = _weigh(energy, force, stress, stage, self.options)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), max_norm=LARGEST_GRADIENT)
            self.optimizer.step()
            self.average.update()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def validate(self, stage: Stage) -> tuple[float, float, float]:
        """Return the validation RMSEs in meV/atom and meV/Å, over all frames at once, and the loss they make."""
        totals = np.zeros((3, 2))
        for batch in self._batches(self.valid, np.arange(len(self.valid)), VALID_BATCH_FRAMES):
            answer = self._ask(batch, is_training=False)
            totals += np.array([[float(total.detach()), n] for total, n in _squares(answer, batch)])
        energy, force, stress = totals[:, 0] / np.maximum(totals[:, 1], 1.0)
        rmse = [MEV_PER_EV * math.sqrt(x) if math.isfinite(x) else math.inf for x in (energy, force)]
        return rmse[0], rmse[1], float(_weigh(energy, force, stress, stage, self.options))

    def _ask(self, batch: Mapping[str, Any], *, is_training: bool) -> Mapping[str, Any]:
        """Run the network; stresses only where the batch has a label for one."""
        answer: Mapping[str, Any] = self.network(
            dict(batch), training=is_training, compute_force=True, compute_stress=bool(batch["stress_weight"].any())
        )
        return answer

    def _batches(self, graphs: Sequence[Graph], order: Any, size: int) -> Iterator[dict[str, Any]]:
        """Join graphs in this order, some at a time."""
        device = str(graphs[0]["positions"].device)
        for first in range(0, len(order), size):
            yield collate([graphs[i] for i in order[first : first + size]], device=device)


def _squares(answer: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[tuple[Any, float], ...]:
    """Return sums of squared errors and their counts: energy per atom, force and stress components, in eV and Å."""
    n_atoms = batch["ptr"][1:] - batch["ptr"][:-1]
    energy = ((answer["interaction_energy"] - batch["label_energy"]) / n_atoms).square()
    force = (answer["forces"] - batch["label_forces"]).square()
    weight = batch["stress_weight"]
    stress = energy.sum() * 0.0
    if answer["stress"] is not None:
        stress = (weight[:, None, None] * (answer["stress"] - batch["label_stress"])).square().sum()
    return (
        (energy.sum(), float(energy.numel())), (force.sum(), float(force.numel())), (stress, 9.0 * float(weight.sum()))
    )  # fmt: skip


def _weigh(energy: Any, force: Any, stress: Any, stage: Stage, options: Options) -> Any:
    """Return the loss of mean squared errors."""
    return stage.energy_weight * energy + options.forces_weight * force + options.stress_weight * stress


def _optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    """Return Adam with a small weight decay on the weights that mix features, as MACE's own training has it."""
    import torch

    decaying: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for name, parameter in network.named_parameters():
        mixes = name.startswith("interactions.") and ("linear.weight" in name or "skip_tp_full.weight" in name)
        (decaying if mixes or name.startswith("products.") else others).append(parameter)
    groups = [{"params": decaying, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.Adam(groups, amsgrad=True)
