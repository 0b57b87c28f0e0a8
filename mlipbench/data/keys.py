"""What are the labels called in this file?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import BadInput, unknown

if TYPE_CHECKING:
    from ase import Atoms

    from mlipbench.data.manifest import Keys

# ASE puts the plain names into a calculator that only remembers.
REMEMBERED: Final = ("energy", "forces", "stress")
NOT_LABELS: Final = ("_intra", "_inter", "intra_", "inter_", "std", "_var", "weight", "free_energy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The names in force, and how they were found.

    Attributes:
        energy: key of the energy.
        forces: key of the forces.
        stress: key of the stress; None when no frame has one.
        keys: what the manifest gave.
        remark: one sentence for the user on what was detected.
    """

    energy: str
    forces: str
    stress: str | None
    keys: Keys
    remark: str

    def energy_of(self, frame: Atoms) -> Any:
        """Return what stands under the energy's key, or None."""
        return value_of(frame, self.energy)

    def forces_of(self, frame: Atoms) -> Any:
        """Return what stands under the forces' key, or None."""
        return value_of(frame, self.forces)

    def stress_of(self, frame: Atoms) -> Any:
        """Return what stands under the stress' key, or None."""
        return None if self.stress is None else value_of(frame, self.stress)


def value_of(frame: Atoms, key: str) -> Any:
    """Return a label from wherever ASE put it: the remembering calculator, info or arrays."""
    if key in REMEMBERED and frame.calc is not None and frame.calc.results.get(key) is not None:
        return frame.calc.results[key]
    return frame.info.get(key, frame.arrays.get(key))


def find_labels(frames: Sequence[Atoms], keys: Keys, *, where: str) -> Labels:
    """Return the labels' names: those of the manifest, or the one pair that fits.

    Raises:
        BadInput: no pair of energy and forces was found, or several, or a given name is in no frame.
    """
    energies, forces, stresses = (_candidates(frames, what) for what in ("energy", "force", "stress"))
    for what, given, found in (("energy", keys.energy, energies), ("forces", keys.forces, forces)):
        if given is not None and given not in found and all(value_of(frame, given) is None for frame in frames):
            raise BadInput(f"{where}: no frame has '{given}', the key given for {what}. Found: {_listed(found)}.")
    pairs = [
        (e, f)
        for e in ([keys.energy] if keys.energy is not None else energies)
        for f in ([keys.forces] if keys.forces is not None else forces)
        if (keys.energy is not None and keys.forces is not None) or _affix(e) == _affix(f)
    ]
    if not pairs and len(energies) == 1 and len(forces) == 1:
        pairs = [(energies[0], forces[0])]
    if not pairs:
        missing = "forces" if energies else "energy and forces"
        raise BadInput(
            f"{where}: no {missing} found. Found energies: {_listed(energies)}; forces: {_listed(forces)}. "
            "Name them in the manifest under [keys]."
        )
    if len(pairs) > 1:
        raise BadInput(
            f"{where}: several labels fit: {'; '.join(f'{e} with {f}' for e, f in pairs)}. "
            'Choose one in the manifest under [keys], as in energy = "' + pairs[0][0] + '".'
        )
    energy, force = pairs[0]
    same = [key for key in stresses if _affix(key) == _affix(energy)]
    stress = keys.stress if keys.stress is not None else next(iter(same), None)
    remark = f"labels: energy '{energy}', forces '{force}'" + (f", stress '{stress}'" if stress else ", no stress")
    return Labels(energy=energy, forces=force, stress=stress, keys=keys, remark=remark)


def check_given(frames: Sequence[Atoms], keys: Keys, *, where: str) -> None:
    """Refuse a name given in the manifest that no frame has: it is misspelt, and would be missed silently.

    Raises:
        BadInput: there is one.
    """
    there = {key for frame in frames for key in (*frame.info, *frame.arrays, *REMEMBERED)}
    for field in fields(keys):
        given = getattr(keys, field.name)
        if given is not None and given not in there:
            raise unknown(f"name for {field.name} under [keys]", given, there - set(REMEMBERED), where=where)


def _candidates(frames: Sequence[Atoms], what: str) -> list[str]:
    """Return all names that look like this label, in the order met."""
    found: dict[str, None] = {}
    for frame in frames:
        remembered = frame.calc.results if frame.calc is not None else {}
        inside = frame.arrays if what == "force" else frame.info
        for key in (*(k for k in REMEMBERED if k in remembered), *inside):
            lower = key.lower()
            if what in lower and not any(word in lower for word in NOT_LABELS):
                found[key] = None
    return list(found)


def _affix(key: str) -> str:
    """Return what is left of a name without the word: "REF_energy" and "REF_forces" belong together."""
    lower = key.lower()
    for word in ("energy", "forces", "force", "stress"):
        lower = lower.replace(word, "")
    return lower.strip("_-")


def _listed(names: Sequence[str]) -> str:
    """Return names for a sentence."""
    return ", ".join(names) if names else "none"
