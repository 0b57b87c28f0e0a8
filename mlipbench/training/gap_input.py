"""What is gap_fit told: a recipe's options, the terms of the energy, and the frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from mlipbench.ace.neighbours import neighbours
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.errors import BadInput, ModelFailure, unknown
from mlipbench.files.toml import build
from mlipbench.models.gap import in_box
from mlipbench.models.gap_file import XML

if TYPE_CHECKING:
    from ase import Atoms

FRAMES: Final = "train.xyz"
# A lone atom has a kernel with every other, so gap_fit must be told that nothing is left to learn for it.
LONE_SIGMA_EV: Final = 1e-4
LARGEST_N_MAX: Final = 12  # M. A. Caro, documentation of soap_turbo
SPREAD_A: Final = 1e-2  # of the distances of a pair term
AT_LEAST: Final = {
    "cutoff_A": 0.5, "cutoff_width_A": 0.05, "n_max": 2, "l_max": 0, "atom_sigma_A": 0.05, "zeta": 1, "n_sparse": 1,
    "delta_eV": 1e-6, "pair_cutoff_A": 0.5, "pair_n_sparse": 0, "pair_delta_eV": 1e-6, "pair_length_A": 1e-3,
    "energy_sigma_eV": 1e-8, "forces_sigma_eV_per_A": 1e-8, "virial_sigma_eV": 1e-8, "jitter": 0.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a recipe may set.

    The energy is a sum over atoms of many-body terms, and over pairs of pair terms. A many-body term compares the
    atom's SOAP power spectrum, normalised, with those of `n_sparse` atoms of its element: the kernel is
    delta² (p · p')^zeta. A pair term is a Gaussian process in the distance.

    gap_fit weighs a total energy by 1 / (energy_sigma √N), a force component by 1 / forces_sigma and a component of
    the virial (stress times volume) by 1 / (virial_sigma √N), N the number of atoms.

    Attributes:
        cutoff_A: of the many-body terms.
        cutoff_width_A: where neighbours fade, in front of the cutoff.
        n_max: radial functions of each neighbouring element.
        l_max: largest degree of the spherical harmonics.
        atom_sigma_A: width of the Gaussians that stand for atoms; it grows by a tenth of the distance.
        zeta: power of the kernel.
        n_sparse: atoms of each element that all are compared with; fewer where the data have fewer.
        delta_eV: how far an atom's energy may go.
        pair_cutoff_A: of the pair terms.
        pair_n_sparse: distances of each pair of elements that all are compared with; 0 leaves pair terms out.
        pair_delta_eV: how far a pair's energy may go, as seen from each of its atoms.
        pair_length_A: over which a pair's energy changes.
        energy_sigma_eV: see above, eV per √atom.
        forces_sigma_eV_per_A: see above, eV/Å.
        virial_sigma_eV: see above, eV per √atom.
        jitter: added to the diagonal of the kernel between sparse points.
        e0: "average", "isolated" or a table in eV; see `training.e0`.
    """

    cutoff_A: float = 4.5
    cutoff_width_A: float = 0.5
    n_max: int = 6
    l_max: int = 3
    atom_sigma_A: float = 0.3
    zeta: int = 4
    n_sparse: int = 800
    delta_eV: float = 1.0
    pair_cutoff_A: float = 4.5
    pair_n_sparse: int = 20
    pair_delta_eV: float = 1.0
    pair_length_A: float = 1.0
    energy_sigma_eV: float = 0.0005
    forces_sigma_eV_per_A: float = 0.03
    virial_sigma_eV: float = 0.02
    jitter: float = 1e-8
    e0: Literal["average", "isolated"] | dict[str, float] = "average"


def read_options(options: Mapping[str, Any]) -> Options:
    """Return the options of a recipe, with defaults for those it leaves out.

    Raises:
        BadInput: an option is unknown, of the wrong type or out of range.
    """
    names = [field.name for field in fields(Options)]
    for name in options:
        if name not in names:
            raise unknown("recipe option", name, names, where="trainer gap")
    chosen = build(Options, dict(options), where="trainer gap, recipe option")
    for name, lowest in AT_LEAST.items():
        value = getattr(chosen, name)
        if not (math.isfinite(value) and value >= lowest):
            raise BadInput(
                f"trainer gap: recipe option {name} = {value}; a finite number of at least {lowest} is needed."
            )
    if chosen.n_max > LARGEST_N_MAX:
        raise BadInput(
            f"trainer gap: recipe option n_max = {chosen.n_max}; at most {LARGEST_N_MAX}, beyond which the radial "
            "functions lose their precision."
        )
    if isinstance(chosen.e0, dict) and not all(math.isfinite(energy) for energy in chosen.e0.values()):
        raise BadInput(f"trainer gap: recipe option e0 = {chosen.e0}; finite energies in eV are needed.")
    if chosen.cutoff_width_A >= chosen.cutoff_A:
        raise BadInput(
            f"trainer gap: recipe option cutoff_width_A = {chosen.cutoff_width_A}; less than cutoff_A = "
            f"{chosen.cutoff_A} is needed."
        )
    return chosen


def is_lone(frame: Atoms) -> bool:
    """Return whether a frame is one atom with nothing around it."""
    return len(frame) == 1 and not frame.pbc.any()


def count_of(data: Dataset, symbol: str, most: int) -> int:
    """Return how many sparse points an element can have: at most its atoms, with the lone one."""
    held = [frame for frame in data.frames if symbol in frame.symbols]
    n_atoms = sum(list(frame.symbols).count(symbol) for frame in held)
    return min(most, n_atoms + (not any(is_lone(frame) for frame in held)))


def gap_terms(data: Dataset, options: Options, elements: tuple[str, ...]) -> tuple[str, ...]:
    """Return the terms of the energy in gap_fit's words: pairs of elements that meet, then one SOAP per element.

    Raises:
        ModelFailure, BadInput: a frame cannot be used.
    """
    from ase.data import atomic_numbers

    numbers = [atomic_numbers[symbol] for symbol in elements]
    met = _pairs_that_meet(data, options.pair_cutoff_A) if options.pair_n_sparse else []
    pairs = [
        f"distance_2b Z1={first} Z2={second} cutoff={options.pair_cutoff_A!r} cutoff_transition_width=1.0 "
        f"covariance_type=ard_se theta_uniform={options.pair_length_A!r} delta={options.pair_delta_eV!r} "
        f"n_sparse={options.pair_n_sparse} sparse_method=uniform add_species=F"
        for first, second in met
    ]
    n = len(elements)
    bodies = [
        f"soap_turbo l_max={options.l_max} alpha_max={_each(options.n_max, n)} "
        f"atom_sigma_r={_each(options.atom_sigma_A, n)} atom_sigma_t={_each(options.atom_sigma_A, n)} "
        f"atom_sigma_r_scaling={_each(0.1, n)} atom_sigma_t_scaling={_each(0.1, n)} "
        f"amplitude_scaling={_each(1.0, n)} central_weight={_each(1.0, n)} radial_enhancement=1 basis=poly3gauss "
        f"scaling_mode=polynomial compress_mode=trivial rcut_hard={options.cutoff_A!r} "
        f"rcut_soft={options.cutoff_A - options.cutoff_width_A!r} n_species={n} "
        f"species_Z={{{{{' '.join(str(number) for number in numbers)}}}}} central_index={i + 1} "
        f"covariance_type=dot_product zeta={options.zeta} delta={options.delta_eV!r} "
        f"n_sparse={count_of(data, symbol, options.n_sparse)} sparse_method=cur_points add_species=F"
        for i, symbol in enumerate(elements)
    ]
    return (*pairs, *bodies)


def _each(value: float, n_elements: int) -> str:
    """Return a value for every element, in the double braces that survive gap_fit's own reading."""
    return "{{" + " ".join([repr(value)] * n_elements) + "}}"


def _pairs_that_meet(data: Dataset, cutoff_A: float) -> list[tuple[int, int]]:
    """Return the pairs of atomic numbers that the data hold at two distances or more within the cutoff.

    gap_fit ends with an error at a pair without data, and divides by zero at one with a single distance.
    """
    met: dict[tuple[int, int], list[float]] = {}
    for frame in data.frames:
        found = neighbours(frame, cutoff_A)
        distances = np.linalg.norm(found.vector, axis=1)
        first = frame.numbers[np.repeat(np.arange(len(frame)), np.diff(found.start))]
        pairs = np.sort(np.stack([first, frame.numbers[found.index]], axis=1), axis=1)
        for a, b in np.unique(pairs, axis=0):
            here = distances[(pairs == (a, b)).all(axis=1)]
            met.setdefault((int(a), int(b)), []).extend((float(here.min()), float(here.max())))
    return sorted(pair for pair, ends in met.items() if max(ends) - min(ends) > SPREAD_A)


def arguments(terms: Sequence[str], options: Options, e0_eV: Mapping[str, float], *, seed: int) -> list[str]:
    """Return what gap_fit is called with, one text per argument; no shell reads them.

    >>> arguments(["soap"], Options(), {"H": -0.5}, seed=3)[1:4]
    ['gap={soap}', 'e0={H:-0.5}', 'default_sigma={0.0005 0.03 0.02 0.0}']
    """
    sigmas = (options.energy_sigma_eV, options.forces_sigma_eV_per_A, options.virial_sigma_eV, 0.0)
    return [
        f"atoms_filename={FRAMES}",
        f"gap={{{' : '.join(terms)}}}",
        f"e0={{{':'.join(f'{symbol}:{float(energy)!r}' for symbol, energy in e0_eV.items())}}}",
        f"default_sigma={{{' '.join(repr(sigma) for sigma in sigmas)}}}",
        "sigma_per_atom=T",
        "energy_parameter_name=label_energy",
        "force_parameter_name=label_forces",
        "virial_parameter_name=label_virial",
        f"sparse_jitter={options.jitter!r}",
        "do_copy_at_file=F",
        "sparse_separate_file=T",
        f"gp_file={XML}",
        f"rnd_seed={seed + 1}",  # 0 and less mean the clock
    ]


def frames_text(data: Dataset, e0_eV: Mapping[str, float], *, cutoff_A: float) -> str:
    """Return the frames with their labels as gap_fit reads them, each in a cell, and the lone atoms that are missing.

    Raises:
        ModelFailure, BadInput: a frame cannot be used.
    """
    from ase import Atoms

    offsets = data.offsets
    parts: list[str] = []
    for i, frame in enumerate(data.frames):
        try:
            boxed = in_box(frame, cutoff_A)
        except (ModelFailure, BadInput) as error:
            raise type(error)(f"frame {i}: {error}") from error
        has_stress = bool(data.has_stress[i]) and bool(frame.pbc.all())
        # QUIP's virial is positive under pressure, ASE's stress under tension.
        virial = -data.stress[i] * boxed.get_volume() if has_stress else None
        forces = data.forces[offsets[i] : offsets[i + 1]]
        parts += _frame_text(boxed, float(data.energy[i]), forces, virial, is_lone=is_lone(frame))
    known = {str(frame.symbols[0]) for frame in data.frames if is_lone(frame)}
    for symbol, energy in e0_eV.items():
        if symbol not in known:
            boxed = in_box(Atoms(symbol), cutoff_A)
            parts += _frame_text(boxed, energy, np.zeros((1, 3)), None, is_lone=True)
    return "".join(parts)


def _frame_text(frame: Atoms, energy: float, forces: Float, virial: Float | None, *, is_lone: bool) -> Iterator[str]:
    """Yield the lines of one frame in extended XYZ, with every digit."""
    yield f"{len(frame)}\n"
    yield f'Lattice="{_numbers(frame.cell.array)}" pbc="T T T" Properties=species:S:1:pos:R:3:label_forces:R:3'
    yield f" label_energy={float(energy)!r}"
    if is_lone:
        yield f" energy_sigma={LONE_SIGMA_EV!r}"
    if virial is not None:
        yield f' label_virial="{_numbers(virial)}"'
    yield "\n"
    for symbol, position, force in zip(frame.symbols, frame.positions, forces, strict=True):
        yield f"{symbol} {_numbers(position)} {_numbers(force)}\n"


def _numbers(values: Float) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))
