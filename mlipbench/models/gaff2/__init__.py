"""What does GAFF2 say about EC and EMC, molecule by molecule and together?

`EC.xml` and `EMC.xml` are OpenMM Systems of one molecule, GAFF2 with AM1-BCC charges, and `EC.xyz`, `EMC.xyz` a start
geometry in the same order of atoms; `mlipbench.generate.parametrise` made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from mlipbench.core.model import Float
from mlipbench.errors import missing_package, unknown

NAMES = ("EC", "EMC")
# As long as a box of twelve molecules, about two cutoffs wide, allows. docs/models.md says what 5.0 and 4.0 Å do.
CUTOFF_A: Final = 5.5
SWITCH_A: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One molecule of the force field.

    Attributes:
        name: as in `NAMES`.
        symbols: chemical symbol of each atom.
        positions: shape (n_atoms, 3), Å, a sensible geometry.
        bonds: pairs of atom numbers.
    """

    name: str
    symbols: tuple[str, ...]
    positions: Float
    bonds: tuple[tuple[int, int], ...]


@cache
def template(name: str) -> Template:
    """Return one molecule of the force field.

    Raises:
        BadInput: there is no such molecule.
        NotApplicable: OpenMM is not installed.

    >>> template("EC").symbols[:4]
    ('C', 'C', 'O', 'C')
    """
    if name not in NAMES:
        raise unknown("molecule", name, NAMES, where="GAFF2")
    rows = (files(__name__) / f"{name}.xyz").read_text(encoding="utf-8").splitlines()[2:]
    cells = [row.split() for row in rows]
    system = one_molecule(name)  # keeps its forces alive: OpenMM hands out bare pointers
    bonds = _force(system, "HarmonicBondForce")
    pairs = [tuple(bonds.getBondParameters(k)[:2]) for k in range(bonds.getNumBonds())]
    return Template(
        name=name,
        symbols=tuple(cell[0] for cell in cells),
        positions=np.array([[float(x) for x in cell[1:4]] for cell in cells]),
        bonds=tuple((int(i), int(j)) for i, j in pairs),
    )


def one_molecule(name: str) -> Any:
    """Return the shipped `openmm.System` of one molecule in vacuum.

    Raises:
        NotApplicable: OpenMM is not installed.
    """
    return openmm().XmlSerializer.deserialize((files(__name__) / f"{name}.xml").read_text(encoding="utf-8"))


def compose(names: Sequence[str]) -> Any:
    """Return an `openmm.System` of several molecules, atoms in the order of `names`, without cutoff or constraints.

    Args:
        names: as in `NAMES`.

    Raises:
        NotApplicable: OpenMM is not installed.
    """
    mm = openmm()
    whole = mm.System()
    forces = {kind: getattr(mm, kind)() for kind in _COPY}
    parts = {name: one_molecule(name) for name in set(names)}
    for name in names:
        part, first = parts[name], whole.getNumParticles()
        for i in range(part.getNumParticles()):
            whole.addParticle(part.getParticleMass(i))
        for kind, copy in _COPY.items():
            copy(_force(part, kind), forces[kind], first)
    for force in forces.values():
        whole.addForce(force)
    return whole


def openmm() -> Any:
    """Return the package `openmm`.

    Raises:
        NotApplicable: it is not installed.
    """
    try:
        import openmm as package
    except ImportError as error:
        raise missing_package("openmm", extra="mm", needed_for="the GAFF2 force field") from error
    return package


def _force(system: Any, kind: str) -> Any:
    (force,) = [force for force in system.getForces() if type(force).__name__ == kind]
    return force


def _copy_bonds(part: Any, whole: Any, first: int) -> None:
    for k in range(part.getNumBonds()):
        i, j, *parameters = part.getBondParameters(k)
        whole.addBond(i + first, j + first, *parameters)


def _copy_angles(part: Any, whole: Any, first: int) -> None:
    for n in range(part.getNumAngles()):
        i, j, k, *parameters = part.getAngleParameters(n)
        whole.addAngle(i + first, j + first, k + first, *parameters)


def _copy_torsions(part: Any, whole: Any, first: int) -> None:
    for n in range(part.getNumTorsions()):
        *atoms, periodicity, phase, k = part.getTorsionParameters(n)
        whole.addTorsion(*(atom + first for atom in atoms), periodicity, phase, k)


def _copy_nonbonded(part: Any, whole: Any, first: int) -> None:
    for i in range(part.getNumParticles()):
        whole.addParticle(*part.getParticleParameters(i))
    for k in range(part.getNumExceptions()):
        i, j, *parameters = part.getExceptionParameters(k)
        whole.addException(i + first, j + first, *parameters)


_COPY = {
    "HarmonicBondForce": _copy_bonds,
    "HarmonicAngleForce": _copy_angles,
    "PeriodicTorsionForce": _copy_torsions,
    "NonbondedForce": _copy_nonbonded,
}
