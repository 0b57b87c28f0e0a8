"""Data and a recipe become a linear ACE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from mlipbench.ace.basis import MAX_ORDER, Basis, functions
from mlipbench.ace.file import write
from mlipbench.ace.fit import Fit, fit
from mlipbench.ace.neighbours import neighbours
from mlipbench.ace.posterior import MAX_MEMBERS, Noise, Posterior, Uncertainty
from mlipbench.ace.potential import LinearAce, species_of
from mlipbench.ace.rows import Labelled, Weights
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Progress, Trained
from mlipbench.errors import BadInput, ModelFailure, NotApplicable, unknown
from mlipbench.training.e0 import baseline

CHECKPOINT: Final = "ace.npz"
ORDERS: Final = tuple(f"nu{order}" for order in range(1, MAX_ORDER + 1))
E0S: Final = ("average", "isolated")
POSTERIORS: Final = ("members", "full", "none")
ROUND_OFF_SIGMA: Final = 1e-9  # of a weighted row: eV per √atom, eV/Å
DEFAULTS: Final[Mapping[str, Any]] = {
    "cutoff_A": 4.5,
    "pair_cutoffs_A": {},
    "degrees": {"nu1": 11, "nu2": 8, "nu3": 6},
    "l_max": 3,
    "l_weight": 1.5,
    "decay": 3.0,
    "envelope": 8,
    "pair_envelope": 3,
    "energy_weight": 10.0,
    "forces_weight": 1.0,
    "stress_weight": 1.0,
    "prior_exponent": 2.0,
    "wall_fraction": 0.8,
    "e0": "average",
    "posterior": "members",
    "n_members": 16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A recipe's options, checked.

    Attributes:
        basis: the functions.
        weights: of the rows.
        prior_exponent: of the smoothness prior.
        wall_fraction: reach of the repulsion as a part of the sum of covalent radii; 0 for none.
        e0: "average", "isolated", or an energy in eV for each element.
        posterior: "members", "full" or "none": what the file keeps of it.
        n_members: of the committee.
    """

    basis: Basis
    weights: Weights
    prior_exponent: float
    wall_fraction: float
    e0: str | Mapping[str, float]
    posterior: str
    n_members: int


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
    """Fit a linear ACE to energies, forces and, where a frame has one, stress; the file is `out`/ace.npz.

    The fit minimises Σ w² (prediction - label)² over rows E / √N (eV per √atom, `energy_weight`), force components
    (eV/Å, `forces_weight`) and virial components V σ / √N (eV per √atom, `stress_weight`). Members of a committee are
    drawn from the posterior of the coefficients. It runs on one core whatever the `device`; `valid` only tells how
    good the model is, and is checked before the fit.

    Args:
        train: frames to fit.
        valid: frames to report errors of.
        options: any of `DEFAULTS`. "degrees" has nu1 and any of nu2, nu3 and nu4; "pair_cutoffs_A" gives pairs
            such as "C-H" a cutoff shorter than `cutoff_A`; "e0" is "average" (least squares on compositions),
            "isolated" (frames of a lone atom in `train`), or a table of energies in eV; "posterior" is "members" (keep
            `n_members` draws), "full" (keep also the factor of its covariance, n_columns² / 2 numbers) or "none".
        seed: of the members.
        device: not used.
        out: folder for the file.
        progress: called with done, total and a remark.

    Raises:
        BadInput: an option is wrong or unknown, an E0 is missing, the data cannot be fitted, or a frame of `valid`
            holds another element, a label that is not finite, or two atoms on top of each other.
    """
    chosen = read_options(options, numbers=tuple(sorted(set(train.numbers.tolist()))))
    _refuse_bad_validation(valid, chosen.basis)
    elements = tuple(_symbol(number) for number in chosen.basis.numbers)
    e0 = baseline(train, chosen.e0, elements, is_shifted=False)
    began = perf_counter()
    try:
        found = fit(
            chosen.basis,
            labelled(train),
            e0_eV=np.array([e0.energies_eV[symbol] for symbol in elements]),
            wall_reach_A=wall_reach(chosen.basis, chosen.wall_fraction),
            weights=chosen.weights,
            prior_exponent=chosen.prior_exponent,
            progress=progress,
        )
    except ModelFailure as error:
        raise BadInput(f"a training frame cannot be used: {error}") from error
    seconds = perf_counter() - began
    out.mkdir(parents=True, exist_ok=True)
    write(
        out / CHECKPOINT,
        found.potential,
        uncertainty=_uncertainty(found, chosen, seed=seed),
        about={"data": f"{train.spec.name}@{train.spec.version}"},
    )
    return Trained(
        kind="ace",
        checkpoint=CHECKPOINT,
        elements=elements,
        notes=(*e0.notes, *_notes(found, chosen, train)),
        facts={
            **_facts(found, seconds),
            **_noise_facts(Noise(sigma=found.solution.sigma, weights=chosen.weights)),
            **{f"e0_{symbol}_eV": float(x) for symbol, x in zip(elements, found.potential.e0_eV, strict=True)},
            **errors(found.potential, train, prefix="train"),
            **errors(found.potential, valid, prefix="valid"),
        },
    )


def _uncertainty(found: Fit, chosen: Options, *, seed: int) -> Uncertainty | None:
    """Return what the file keeps of the posterior."""
    if chosen.posterior == "none":
        return None
    noise = Noise(sigma=found.solution.sigma, weights=chosen.weights)
    posterior = Posterior(potential=found.potential, factor=found.solution.factor, noise=noise)
    return Uncertainty(
        members=posterior.draw(chosen.n_members, seed=seed),
        noise=noise,
        factor=posterior.factor if chosen.posterior == "full" else None,
    )


def _notes(found: Fit, chosen: Options, train: Dataset) -> tuple[str, ...]:
    """Say when a committee cannot disagree, and what the data leave open."""
    notes = []
    if found.solution.sigma <= ROUND_OFF_SIGMA and chosen.posterior != "none":
        notes.append("The fit leaves nothing unexplained, so the members of the committee do not differ.")
    if not chosen.weights.energy:
        notes.append("Energies had no weight in the fit: those of different compositions cannot be compared.")
    unseen = _unseen_pairs(train, chosen.basis)
    if unseen:
        notes.append(
            f"No training frame has {', '.join(unseen)} within the pair's own cutoff, though some lie within cutoff_A: "
            "what these pairs do to each other is undetermined."
        )
    return tuple(notes)


def _unseen_pairs(train: Dataset, basis: Basis) -> list[str]:
    """Return the pairs of elements that lie within cutoff_A in some frame, but never within a cutoff of their own."""
    within: dict[tuple[int, int], float] = {(low, high): cutoff for low, high, cutoff in basis.pair_cutoffs_A}
    nearest = dict.fromkeys(within, np.inf)
    for frame in train.frames:
        left = [pair for pair in within if nearest[pair] >= within[pair] and set(pair) <= set(frame.numbers.tolist())]
        if not left:
            continue
        found = neighbours(frame, basis.cutoff_A)
        first, second = np.repeat(frame.numbers, np.diff(found.start)), frame.numbers[found.index]
        distance = np.sqrt(np.einsum("pa,pa->p", found.vector, found.vector))
        for pair in left:
            these = distance[(first == pair[0]) & (second == pair[1])]
            nearest[pair] = min(nearest[pair], float(these.min(initial=np.inf)))
    return [
        f"{_symbol(low)}-{_symbol(high)}"
        for (low, high), distance in nearest.items()
        if within[low, high] <= distance < basis.cutoff_A
    ]


def _noise_facts(noise: Noise) -> dict[str, float]:
    """Return the noise of the labels that had a weight, for the model card."""
    facts = {}
    if noise.weights.energy:
        facts["energy_noise_meV_per_sqrt_atom"] = 1e3 * noise.energy_eV(1)
    if noise.weights.forces:
        facts["forces_noise_meV_per_A"] = 1e3 * noise.forces_eV_per_A()
    return facts


def _facts(found: Fit, seconds: float) -> dict[str, Any]:
    """Return the numbers of a fit for the model card."""
    return {
        "n_functions": functions(found.potential.basis).n_functions,
        "n_columns": found.n_columns,
        "n_rows": found.n_rows,
        "evidence_sigma": found.solution.sigma,
        "evidence_ridge": found.solution.ridge,
        "effective_parameters": found.solution.effective_parameters,
        "fit_seconds": seconds,
    }


def read_options(given: Mapping[str, Any], *, numbers: tuple[int, ...]) -> Options:
    """Return a recipe's options with the defaults filled in.

    Raises:
        BadInput: an option is unknown or has a value that it cannot have.
    """
    for name in given:
        if name not in DEFAULTS:
            raise unknown("option", name, DEFAULTS, where="trainer ace")
    if not numbers:
        raise BadInput("trainer ace: the training split has no frames")
    values = {**DEFAULTS, **given}
    cutoff = _number("cutoff_A", values["cutoff_A"])
    basis = Basis(
        numbers=numbers,
        cutoff_A=cutoff,
        pair_cutoffs_A=_pair_cutoffs(values["pair_cutoffs_A"], numbers, cutoff),
        degrees=_degrees(values["degrees"]),
        l_max=_whole("l_max", values["l_max"]),
        l_weight=_number("l_weight", values["l_weight"]),
        decay=_number("decay", values["decay"]),
        envelope=_whole("envelope", values["envelope"]),
        pair_envelope=_whole("pair_envelope", values["pair_envelope"]),
    )
    weights = Weights(
        energy=_number("energy_weight", values["energy_weight"], low=0.0),
        forces=_number("forces_weight", values["forces_weight"], low=0.0),
        stress=_number("stress_weight", values["stress_weight"], low=0.0),
    )
    fraction = _number("wall_fraction", values["wall_fraction"], low=0.0)
    if fraction > 1.0:
        raise BadInput(f"trainer ace: wall_fraction is {fraction}; from 0 to 1 is allowed, so that bonds stay free")
    if values["posterior"] not in POSTERIORS:
        raise unknown("posterior", str(values["posterior"]), POSTERIORS, where="trainer ace")
    n_members = _whole("n_members", values["n_members"])
    if not 1 <= n_members <= MAX_MEMBERS:
        raise BadInput(f"trainer ace: n_members is {n_members}; from 1 to {MAX_MEMBERS} is allowed")
    return Options(
        basis=basis,
        weights=weights,
        prior_exponent=_number("prior_exponent", values["prior_exponent"], low=0.0),
        wall_fraction=fraction,
        e0=_e0_option(values["e0"]),
        posterior=values["posterior"],
        n_members=n_members,
    )


def _number(name: str, given: Any, *, low: float = -np.inf) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not np.isfinite(given) or given < low:
        allowed = "a finite number" if low == -np.inf else f"a number from {low:g}"
        raise BadInput(f"trainer ace: {name} is {given!r}; it must be {allowed}")
    return float(given)


def _whole(name: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise BadInput(f"trainer ace: {name} is {given!r}; it must be a whole number")
    return given


def _degrees(given: Any) -> tuple[float, ...]:
    """Return the degrees of each order; an order that is not named is left out."""
    if not isinstance(given, Mapping) or "nu1" not in given:
        raise BadInput(f"trainer ace: degrees is {given!r}; it must be a table such as {{nu1 = 11, nu2 = 8, nu3 = 6}}")
    for name in given:
        if name not in ORDERS:
            raise unknown("degree", name, ORDERS, where="trainer ace")
    last = max(place for place, name in enumerate(ORDERS) if name in given)
    return tuple(_number(f"degrees.{name}", given.get(name, -1.0)) for name in ORDERS[: last + 1])


def _pair_cutoffs(given: Any, numbers: tuple[int, ...], cutoff_A: float) -> tuple[tuple[int, int, float], ...]:
    """Return the pairs of elements with a cutoff of their own, as the basis wants them."""
    from ase.data import atomic_numbers

    if not isinstance(given, Mapping):
        raise BadInput(f"trainer ace: pair_cutoffs_A is {given!r}; it must be a table such as {{H-H = 3.5, C-H = 4.0}}")
    covered = {_symbol(number): number for number in numbers}
    found: dict[tuple[int, int], float] = {}
    for name, value in given.items():
        symbols = str(name).split("-")
        for symbol in symbols:
            if symbol not in atomic_numbers or len(symbols) != 2:
                raise BadInput(f"trainer ace: pair_cutoffs_A names '{name}'; two symbols such as 'C-H' are needed")
            if symbol not in covered:
                raise BadInput(
                    f"trainer ace: pair_cutoffs_A names '{name}', and the training frames hold only "
                    f"{', '.join(covered)}; leave it out"
                )
        low, high = sorted(covered[symbol] for symbol in symbols)
        if (low, high) in found:
            raise BadInput(
                f"trainer ace: pair_cutoffs_A names '{name}' twice; the order of the symbols does not matter"
            )
        found[low, high] = _number(f"pair_cutoffs_A.{name}", value)
        if not 0.0 < found[low, high] <= cutoff_A:
            raise BadInput(
                f"trainer ace: pair_cutoffs_A.{name} is {value}; above 0 up to cutoff_A = {cutoff_A} is allowed"
            )
    return tuple((low, high, cutoff) for (low, high), cutoff in sorted(found.items()))


def _e0_option(given: Any) -> str | Mapping[str, float]:
    from ase.data import atomic_numbers

    if isinstance(given, str):
        if given not in E0S:
            raise unknown("e0", given, E0S, where="trainer ace")
        return given
    if not isinstance(given, Mapping):
        raise BadInput(f"trainer ace: e0 is {given!r}; it must be 'average', 'isolated' or a table of energies in eV")
    for symbol in given:
        if symbol not in atomic_numbers:
            raise BadInput(f"trainer ace: e0 names '{symbol}', which is no chemical symbol")
    return {symbol: _number(f"e0.{symbol}", energy) for symbol, energy in given.items()}


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


def wall_reach(basis: Basis, fraction: float) -> Float:
    """Return where the repulsion ends for each pair of elements, in Å: a part of the sum of covalent radii."""
    from ase.data import covalent_radii

    radii = covalent_radii[list(basis.numbers)]
    reach: Float = np.minimum(fraction * (radii[:, None] + radii[None, :]), basis.cutoffs_A)
    return reach


def labelled(data: Dataset) -> Sequence[Labelled]:
    """Return the frames of a data set with their labels."""
    offsets = data.offsets
    return [
        Labelled(
            frame=frame,
            energy=float(data.energy[i]),
            forces=data.forces[offsets[i] : offsets[i + 1]],
            stress=data.stress[i] if data.has_stress[i] else None,
        )
        for i, frame in enumerate(data.frames)
    ]


def _refuse_bad_validation(valid: Dataset, basis: Basis) -> None:
    """Raise when a frame of the validation split cannot be predicted or compared, before a fit is spent on it."""
    for i, one in enumerate(labelled(valid)):
        where = f"a validation frame cannot be used: frame {i} ({valid.uid[i]})"
        stress = 0.0 if one.stress is None else one.stress
        for name, label in (("energy", one.energy), ("forces", one.forces), ("stress", stress)):
            if not np.isfinite(label).all():
                raise BadInput(f"{where}: the label {name} is not finite")
        try:
            species_of(one.frame, basis.numbers)
            neighbours(one.frame, basis.cutoff_A)
        except (BadInput, ModelFailure, NotApplicable) as error:
            raise BadInput(f"{where}: {error}") from error


def errors(potential: LinearAce, data: Dataset, *, prefix: str) -> dict[str, float]:
    """Return root-mean-square errors: energy in meV/atom, forces in meV/Å, stress in meV/Å^3; empty without frames."""
    squares: dict[str, list[Float]] = {"energy_rmse_meV_per_atom": [], "forces_rmse_meV_per_A": []}
    for one in labelled(data):
        if not len(one.frame):
            continue
        found = potential.evaluate(one.frame)
        squares["energy_rmse_meV_per_atom"].append(np.square([(found.energy - one.energy) / len(one.frame)]))
        squares["forces_rmse_meV_per_A"].append(np.square(found.forces - one.forces).reshape(-1))
        if one.stress is not None and found.stress is not None:
            squares.setdefault("stress_rmse_meV_per_A3", []).append(np.square(found.stress - one.stress).reshape(-1))
    return {f"{prefix}_{name}": 1e3 * float(np.sqrt(np.concatenate(x).mean())) for name, x in squares.items() if x}
