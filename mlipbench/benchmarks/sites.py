"""What does a model say of the surroundings of each atom?

Features where the model has them, else site energies, as one feature per atom. Everything here is relative to the same
atom alone: energies of lone atoms, and constants such as the density of the atom itself, say nothing of surroundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.comparison import bars
from mlipbench.benchmarks.frames import FRAMES_PER_CALL
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Float, Int, Model, SiteEnergies, SiteFeatures
from mlipbench.core.view import Axis, Bars
from mlipbench.errors import ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

# A feature counts relative to its own size plus this part of the largest one's, so that round-off of large features,
# 1e-16 or 1e-7 of their size, is not taken for changes of tiny ones.
SMALL: Final = 1e-6
ABOVE_NOISE: Final = 10.0  # times the round-off is what counts as a difference
SHOWN_FROM: Final = 1e-18  # figures of decades have no place for zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """What a model says of some atoms, less what it says of each of them alone.

    Attributes:
        values: shape (n_atoms, n_features); (n_atoms, 1) in eV for site energies.
        round_off: shape (n_features,), spacing of the numbers that hold a feature, with its constant.
    """

    values: Float
    round_off: Float


def names_sites(model: Model) -> bool:
    """Does the model say anything of single atoms, features or energies?"""
    return isinstance(model, (SiteFeatures, SiteEnergies))


def site_values(model: Model, frames: Sequence[Atoms], context: Context, *, remark: str) -> Sites:
    """Ask about every atom, some frames at a time.

    Args:
        model: with `SiteFeatures` or `SiteEnergies`.
        frames: to ask for.
        context: where to report progress.
        remark: what for.

    Returns:
        Every atom, frame after frame.

    Raises:
        ModelFailure: a shape is wrong, or a number is not finite.
        NotApplicable: the model has neither, or does not cover a frame.
    """
    return _sites(model, frames, context, remark, [np.arange(len(atoms)) for atoms in frames])


def centre_values(model: Model, frames: Sequence[Atoms], context: Context, *, remark: str) -> Sites:
    """Ask about the first atom of each frame; see `site_values`."""
    return _sites(model, frames, context, remark, [np.zeros(1, dtype=np.int64)] * len(frames))


def _sites(
    model: Model, frames: Sequence[Atoms], context: Context, remark: str, atoms_of_frame: Sequence[Int]
) -> Sites:
    """Ask for frames and for each of their elements alone, and keep some atoms of each frame."""
    from ase import Atoms

    values, sizes = [], []
    is_single = True
    for start in range(0, len(frames), FRAMES_PER_CALL):
        context.progress(start, len(frames), remark)
        chunk = frames[start : start + FRAMES_PER_CALL]
        numbers = np.concatenate([atoms.numbers for atoms in chunk])
        elements, own = np.unique(numbers, return_inverse=True)
        said = _ask(model, [*chunk, *(Atoms([number], [[0.0, 0.0, 0.0]]) for number in elements)])
        first = np.concatenate([[0], np.cumsum([len(atoms) for atoms in chunk])[:-1]])
        kept = np.concatenate([row + some for row, some in zip(first, atoms_of_frame[start:], strict=False)])
        alone = said[len(numbers) :][own[kept]]
        values.append(said[kept] - alone)
        sizes.append(np.maximum(np.abs(said[kept]), np.abs(alone)).max(axis=0))
        with np.errstate(over="ignore"):
            is_single &= bool((said == said.astype(np.float32)).all())
    # Numbers that all fit into single precision come from there, whatever they were turned into since.
    spacing = np.finfo(np.float32 if is_single else np.float64).eps
    return Sites(values=np.concatenate(values), round_off=float(spacing) * np.max(sizes, axis=0))


def _ask(model: Model, frames: Sequence[Atoms]) -> Float:
    """Return features or site energies, checked."""
    n_atoms = np.array([len(atoms) for atoms in frames])
    if isinstance(model, SiteFeatures):
        what, said = "site_features", np.asarray(model.site_features(frames), dtype=np.float64)
        is_right = said.ndim == 2 and len(said) == n_atoms.sum() and said.shape[1] > 0
    elif isinstance(model, SiteEnergies):
        what, said = "site_energies", np.asarray(model.site_energies(frames), dtype=np.float64)
        is_right = said.shape == (n_atoms.sum(),)
    else:
        raise NotApplicable(
            f"model {model.spec.name} has neither features nor energies of single atoms, and this asks about one atom's"
            " surroundings; give it `site_features` or `site_energies`"
        )
    if not is_right:
        raise ModelFailure(f"the model returned {what} of shape {said.shape} for {n_atoms.sum()} atoms")
    said = said.reshape(len(said), -1)
    finite = np.isfinite(said).all(axis=1)
    if not finite.all():
        frame = int(np.repeat(np.arange(len(frames)), n_atoms)[np.argmin(finite)])
        raise ModelFailure(
            f"the model's {what} are not finite in frame {frame} ({frames[frame].get_chemical_formula()})"
        )
    return said


def covered_elements(model: Model, data: Dataset) -> Int:
    """Return the atomic numbers of the data set that the model covers, ascending.

    Raises:
        NotApplicable: it covers none.
    """
    from ase.data import atomic_numbers

    known = model.spec.elements
    found = sorted(atomic_numbers[name] for name in data.spec.elements if known is None or name in known)
    if not found:
        raise NotApplicable(
            f"model {model.spec.name} covers none of the elements of data set {data.spec.name}:"
            f" {', '.join(data.spec.elements) or 'it names none'}"
        )
    return np.array(found, dtype=np.int64)


def weights_of(values: Float, round_off: Float) -> Float:
    """Return one over the size of each feature, so that the units and scales they come in do not matter.

    A model on top of them is free to scale each. The size is the root mean square over the rows, plus a millionth of
    the largest feature's. A feature that does not stand out of its round-off counts for nothing.

    Args:
        values: shape (n_rows, n_features), zero for an atom alone.
        round_off: shape (n_features,).

    Returns:
        Shape (n_features,); all zero when nothing stands out.

    >>> weights_of(np.array([[3.0, 0.0, 400.0], [-5.0, 0.0, 400.0]]), np.full(3, 1e-13)).round(3).tolist()
    [0.243, 0.0, 0.002]
    """
    size = np.sqrt((values**2).mean(axis=0))
    counts = size > ABOVE_NOISE * round_off
    return np.asarray(np.divide(1.0, size + SMALL * size.max(), out=np.zeros_like(size), where=counts))


def units_of(sites: Sites) -> Float:
    """Return factors of features that make each count alike, and the root mean square norm of an atom's vector 1.

    Args:
        sites: of the atoms that norm is of.

    Returns:
        Shape (n_features,).

    Raises:
        NotApplicable: no atom has a feature that differs from those of the atom alone.

    >>> units_of(Sites(values=np.array([[3.0, 0.0], [-5.0, 0.0]]), round_off=np.full(2, 1e-13))).round(3).tolist()
    [0.243, 0.0]
    """
    weights = weights_of(sites.values, sites.round_off)
    norm = float(np.sqrt(((weights * sites.values) ** 2).sum(axis=1).mean()))
    if not norm > 0.0:
        raise NotApplicable(
            "the model says of every atom here what it says of the atom alone; it needs data with atoms in its reach"
        )
    return weights / norm


def decades(title: str, values: Sequence[MetricValue]) -> Bars:
    """Return bars of relative differences, labelled by metric, on an axis of decades."""
    shown = bars(title, Axis(quantity="relative difference", log=True), values)
    return replace(
        shown,
        values=np.maximum(shown.values, SHOWN_FROM),
        low=np.maximum(shown.low, SHOWN_FROM),
        high=np.maximum(shown.high, SHOWN_FROM),
    )
