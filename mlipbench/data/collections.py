"""What does ASE bring along that can be a reference?

Nothing is copied: structures and numbers are those of the installed ASE (LGPL), and their hash goes into that of the
data set, so that results on another content do not mix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.model import Float, Int
from mlipbench.errors import unknown
from mlipbench.units import EV_PER_KJ_PER_MOL

if TYPE_CHECKING:
    from ase import Atoms

EV_PER_KCAL_PER_MOL: Final = 4.184 * EV_PER_KJ_PER_MOL
HASHED_DECIMALS: Final = 8  # another way of reading the same file may move the last digits
# The published grouping: complexes 1 to 7, 8 to 15 and 16 to 22.
S22_CLASSES: Final = (*("hydrogen_bonded",) * 7, *("dispersion",) * 8, *("mixed",) * 7)
DBH24_CLASSES: Final = {
    "HAT": "heavy_atom_transfer",
    "NS": "nucleophilic_substitution",
    "UA": "unimolecular_or_association",
    "HT": "hydrogen_transfer",
}
DELTA_CLASSES: Final = {
    **dict.fromkeys(("He", "Ne", "Ar", "Kr", "Xe", "Rn"), "noble_gas"),
    **dict.fromkeys(("H", "N", "O", "F", "Cl", "Br", "I"), "molecular"),
    **dict.fromkeys(("Cr", "Mn", "Fe", "Co", "Ni"), "magnetic_metal"),
}
NOBODY: Final = -1  # pads the reactants of a barrier


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Structures without energies and forces, and what is known of them.

    Attributes:
        frames: with "charge" and "spin" (multiplicity) in their info where they are known; no magnetic moments.
        uid: name of each frame.
        trajectory: the independent unit of each frame.
        config_type: kind of each frame.
        molecule: shape (n_atoms_total,), molecule number of each atom from 0 in its frame; None where it means nothing.
        observables: the reference values; see each function below.
        content_sha256: of all that.
    """

    frames: tuple[Atoms, ...]
    uid: tuple[str, ...]
    trajectory: tuple[str, ...]
    config_type: tuple[str, ...]
    molecule: Int | None
    observables: Mapping[str, Float]
    content_sha256: str


@lru_cache(maxsize=8)
def collection(name: str) -> Collection:
    """Return a collection; read once per process, so its frames must not be changed.

    Raises:
        BadInput: there is none of this name.

    >>> len(collection("s22x5").frames)
    110
    """
    if name not in TABLE:
        raise unknown("collection", name, TABLE)
    return TABLE[name]()


def s22x5() -> Collection:
    """Return 22 dimers at 0.9, 1.0, 1.2, 1.5 and 2.0 of their distance.

    Observables, one value a frame: "interaction_energy_eV", CCSD(T) at the complete basis set with counterpoise
    correction, and "relative_distance". As ASE gives them, the five energies of a dimer are scaled by one factor, so
    that the one at 1.0 is the revised value of Takatani et al. (2010).

    Source: P. Jurečka et al., Phys. Chem. Chem. Phys. 8, 1985 (2006); L. Gráfová et al., J. Chem. Theory Comput. 6,
    2365 (2010); T. Takatani et al., J. Chem. Phys. 132, 144104 (2010).
    """
    from ase.data import s22

    classes = dict(zip(s22.s22, S22_CLASSES, strict=True))
    dimers = [name.rsplit("_", 1)[0] for name in s22.s22x5]
    sizes = [s22.get_number_of_dimer_atoms(name) for name in s22.s22x5]
    return _made(
        frames=[s22.create_s22_system(name) for name in s22.s22x5],
        uid=s22.s22x5,
        trajectory=dimers,
        config_type=[classes[dimer] for dimer in dimers],
        molecule=np.concatenate([np.repeat([0, 1], size) for size in sizes]),
        observables={
            "interaction_energy_eV": [s22.get_interaction_energy_s22x5(name) for name in s22.s22x5],
            "relative_distance": [float(name.rsplit("_", 1)[1]) for name in s22.s22x5],
        },
    )


def dbh24() -> Collection:
    """Return the 38 species of 12 reactions, transition states among them, and 24 barriers.

    A transition state's trajectory is its reaction, as in "HAT 1", and its config_type the class of that; other
    species are trajectories of their own of the config_type "species".

    Observables, one value a barrier, forward and reverse in turn: "barrier_eV" (best estimates, without zero-point
    energy), "transition_state" and "reactants" (frame numbers, the latter of shape (24, 2), padded with -1), and
    "repeats": the number of an earlier barrier between the same species, which this one is again, or -1. Two reactions
    are their own reverse, so 22 barriers differ.

    Source: J. Zheng, Y. Zhao, D. G. Truhlar, J. Chem. Theory Comput. 3, 569 (2007) for structures, 5, 808 (2009) for
    energies.
    """
    from ase.data import dbh24 as source

    number = {name: k for k, name in enumerate(source.dbh24)}
    reactions = [source.dbh24_reaction_list[f"dbh24_r{k}"] for k in range(1, 13)]
    of_state = {reaction["tst"]: reaction["description"] for reaction in reactions}
    barriers, states, reactants = [], [], []
    for reaction in reactions:
        for side, energy in (("initial", source.get_dbh24_Vf), ("final", source.get_dbh24_Vb)):
            barriers.append(EV_PER_KCAL_PER_MOL * energy(reaction["tst"]))  # ASE holds kcal/mol
            states.append(number[reaction["tst"]])
            found = sorted(number[name] for name in reaction[side])
            reactants.append(found + [NOBODY] * (2 - len(found)))
    same = list(zip(states, map(tuple, reactants), strict=True))
    return _made(
        frames=[_species(source.data[name]) for name in source.dbh24],
        uid=source.dbh24,
        trajectory=[of_state.get(name, name) for name in source.dbh24],
        config_type=[
            DBH24_CLASSES[of_state[name].split()[0]] if name in of_state else "species" for name in source.dbh24
        ],
        molecule=None,
        observables={
            "barrier_eV": barriers,
            "transition_state": states,
            "reactants": reactants,
            "repeats": [same.index(one) if same.index(one) < k else -1 for k, one in enumerate(same)],
        },
    )


def _species(entry: Mapping[str, Any]) -> Atoms:
    """Return a molecule with its charge in e and its spin multiplicity."""
    from ase import Atoms

    unpaired = 0.0 if entry["magmoms"] is None else sum(entry["magmoms"])
    info = {"charge": round(entry["charge"]), "spin": round(abs(unpaired)) + 1}
    return Atoms(entry["symbols"], entry["positions"], info=info)


def delta_codes() -> Collection:
    """Return 71 elemental crystals with the equation of state of each from WIEN2k with PBE.

    The initial magnetic moments that ASE gives O, Cr, Mn (antiferromagnetic), Fe, Co and Ni are left out: the reference
    is of these magnetic states, which a model without spins cannot be told. The config_type is "noble_gas", "molecular"
    (of two atoms each), "magnetic_metal" or "solid".

    Observables, one value a frame: "volume_A3" (per atom), "bulk_modulus_GPa", "bulk_modulus_derivative".

    Source: K. Lejaeghere et al., Crit. Rev. Solid State Mater. Sci. 39, 1 (2014) and Science 351, aad3000 (2016).
    """
    from ase.collections import dcdft

    frames = []
    for name in dcdft.names:
        frame = dcdft[name]
        frame.set_initial_magnetic_moments(None)
        frames.append(frame)
    values = [dcdft.data[name] for name in dcdft.names]
    return _made(
        frames=frames,
        uid=dcdft.names,
        trajectory=dcdft.names,
        config_type=[DELTA_CLASSES.get(name, "solid") for name in dcdft.names],
        molecule=None,
        observables={
            "volume_A3": [one["wien2k_volume"] for one in values],
            "bulk_modulus_GPa": [one["wien2k_B"] for one in values],
            "bulk_modulus_derivative": [one["wien2k_Bp"] for one in values],
        },
    )


# name → function
TABLE: Final[dict[str, Callable[[], Collection]]] = {"s22x5": s22x5, "dbh24": dbh24, "delta_codes": delta_codes}


def _made(
    *,
    frames: list[Atoms],
    uid: list[str],
    trajectory: list[str],
    config_type: list[str],
    molecule: Int | None,
    observables: Mapping[str, Any],
) -> Collection:
    """Return the collection with its hash."""
    arrays = {name: np.array(values, dtype=np.float64) for name, values in observables.items()}
    for array in arrays.values():
        array.setflags(write=False)  # shared by all who ask
    digest = hashlib.sha256()
    for number, frame in enumerate(frames):
        digest.update(repr((uid[number], trajectory[number], config_type[number], sorted(frame.info.items()))).encode())
        for array in (frame.numbers, frame.positions, frame.cell.array, frame.pbc):
            _add(digest, array)
    _add(digest, np.zeros(0) if molecule is None else molecule)
    for name, array in arrays.items():
        digest.update(name.encode())
        _add(digest, array)
    return Collection(
        frames=tuple(frames), uid=tuple(uid), trajectory=tuple(trajectory), config_type=tuple(config_type),
        molecule=molecule, observables=arrays, content_sha256=digest.hexdigest(),
    )  # fmt: skip


def _add(digest: hashlib._Hash, array: Any) -> None:
    """Add an array to a hash, so that it does not depend on the machine."""
    rounded = np.round(np.asarray(array, dtype="<f8"), HASHED_DECIMALS) + 0.0
    digest.update(f"{rounded.shape}\n".encode())
    digest.update(np.ascontiguousarray(rounded, dtype="<f8").tobytes())
