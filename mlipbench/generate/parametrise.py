"""How were the GAFF2 templates in `models/gaff2` made?

SMILES → RDKit conformer → antechamber (AM1-BCC charges, GAFF2 types) → parmchk2 → tleap → OpenMM XML of one molecule.
Run once; what it made is shipped, so that sampling and the GAFF2 row need OpenMM only.

    python -m mlipbench.generate.parametrise FOLDER
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlipbench.errors import NotApplicable, missing_package
from mlipbench.models.gaff2 import openmm

SMILES = {"EC": "C1COC(=O)O1", "EMC": "CCOC(=O)OC"}
# GAFF2's types; c5 is its sp3 carbon in a five-membered ring.
TYPES = {"EC": "c5 c5 os c o os h1 h1 h1 h1", "EMC": "c3 c3 os c o os c3 hc hc hc h1 h1 h1 h1 h1"}
# GAFF2 has these for all our types, yet some builds of parmchk2 do not repeat themselves: the same input file left the
# sections empty, as it should, in some runs and replaced all of c5 by c3 in others.
MUST_BE_EMPTY = ("MASS", "BOND", "ANGLE", "NONBON")
ATTEMPTS = 30
CONFORMER_SEED = 7
SCEE = 1.2  # AMBER scales 1-4 electrostatics by its inverse


def program(name: str, *, extra: str) -> str:
    """Return the path of an external program, from beside the interpreter or from PATH.

    Raises:
        NotApplicable: it is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise missing_package(name, extra=extra, needed_for="generating this data set")
    return found


def parametrise(name: str, out: Path) -> None:
    """Write `out`/`name`.xml, an OpenMM System of one molecule, and `out`/`name`.xyz, a start geometry.

    The AM1-BCC charges come rounded to four digits; what they miss to zero is spread evenly over the atoms, so that a
    periodic box is neutral.

    Raises:
        NotApplicable: RDKit, OpenMM or AmberTools is missing, or a program failed or typed the atoms otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        _write_conformer(name, SMILES[name], scratch / f"{name}.mol", out / f"{name}.xyz")
        _amber(name, scratch)
        (out / f"{name}.xml").write_text(_openmm_xml(scratch / f"{name}.prmtop"), encoding="utf-8")


def _write_conformer(name: str, smiles: str, mol: Path, xyz: Path) -> None:
    try:
        from rdkit import Chem
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError as error:
        raise missing_package("rdkit", extra="generate", needed_for="a start geometry") from error
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(molecule, randomSeed=CONFORMER_SEED)
    rdForceFieldHelpers.MMFFOptimizeMolecule(molecule)
    Chem.MolToMolFile(molecule, str(mol))
    positions = molecule.GetConformer().GetPositions()
    rows = [
        f"{atom.GetSymbol()} {x:.6f} {y:.6f} {z:.6f}"
        for atom, (x, y, z) in zip(molecule.GetAtoms(), positions, strict=True)
    ]
    xyz.write_text("\n".join([str(len(rows)), f"{name} {smiles}", *rows]) + "\n", encoding="utf-8")


def _amber(name: str, scratch: Path) -> None:
    files = f"-i {name}.mol -fi mdl -o {name}.mol2 -fo mol2 -c bcc -at gaff2 -nc 0 -rn {name} -pf y -dr no"
    _call("antechamber", files.split(), scratch)
    types = mol2_types((scratch / f"{name}.mol2").read_text(encoding="utf-8"))
    if types != TYPES[name].split():
        raise NotApplicable(
            f"antechamber typed {name} as {' '.join(types)} instead of {TYPES[name]}; try another build"
        )
    for _ in range(ATTEMPTS):
        _call("parmchk2", f"-i {name}.mol2 -f mol2 -o {name}.frcmod -s gaff2".split(), scratch)
        if not replaced((scratch / f"{name}.frcmod").read_text(encoding="utf-8")):
            break
    else:
        raise NotApplicable(
            f"parmchk2 did not find GAFF2's own parameters of {name} in {ATTEMPTS} runs; try another build"
        )
    lines = ["source leaprc.gaff2", f"loadamberparams {name}.frcmod", f"m = loadmol2 {name}.mol2"]
    lines += [f"saveamberparm m {name}.prmtop {name}.inpcrd", "quit"]
    (scratch / "leap.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _call("tleap", ["-f", "leap.in"], scratch)


def mol2_types(text: str) -> list[str]:
    r"""Return the atom types in a Tripos mol2 file.

    >>> mol2_types("@<TRIPOS>ATOM\n1 C1 0.0 0.0 0.0 c5 1 EC 0.1\n@<TRIPOS>BOND\n1 1 2 1")
    ['c5']
    """
    _, _, after = text.partition("@<TRIPOS>ATOM\n")
    rows, _, _ = after.partition("@<TRIPOS>")
    return [row.split()[5] for row in rows.splitlines()]


def replaced(text: str) -> list[str]:
    r"""Return the rows of an AMBER frcmod file that replace parameters which GAFF2 has.

    >>> replaced("remark\nMASS\n\nBOND\nc5-c5  300.90   1.538  same as c3-c3\n\nDIHE\nX -c3-os-X  3 1.15\n")
    ['c5-c5  300.90   1.538  same as c3-c3']
    """
    found, section = [], ""
    for row in text.splitlines()[1:]:
        if row.strip().isalpha() and row.isupper():
            section = row.strip()
        elif row.strip() and section in MUST_BE_EMPTY:
            found.append(row)
    return found


def _call(name: str, arguments: list[str], folder: Path) -> None:
    command = [program(name, extra="generate"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  # no shell
    if done.returncode:
        raise NotApplicable(f"{name} failed with exit code {done.returncode}: {(done.stderr or done.stdout)[-300:]}")


def _openmm_xml(prmtop: Path) -> str:
    mm = openmm()
    from openmm import app, unit

    system = app.AmberPrmtopFile(str(prmtop)).createSystem(
        nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False, removeCMMotion=False
    )
    kinds = [type(force).__name__ for force in system.getForces()]
    _neutralise(system.getForce(kinds.index("NonbondedForce")), unit.elementary_charge)
    bonds = system.getForce(kinds.index("HarmonicBondForce"))
    pairs = [tuple(bonds.getBondParameters(k)[:2]) for k in range(bonds.getNumBonds())]
    torsions = kinds.index("PeriodicTorsionForce")
    system.addForce(_symmetrised(system.getForce(torsions), pairs, system))
    system.removeForce(torsions)
    return str(mm.XmlSerializer.serialize(system))


def _neutralise(nonbonded: Any, unit_of_charge: Any) -> None:
    n = nonbonded.getNumParticles()
    charges = [nonbonded.getParticleParameters(i)[0].value_in_unit(unit_of_charge) for i in range(n)]
    charges = [charge - sum(charges) / n for charge in charges]
    for i, charge in enumerate(charges):
        nonbonded.setParticleParameters(i, charge, *nonbonded.getParticleParameters(i)[1:])
    for k in range(nonbonded.getNumExceptions()):
        i, j, product, sigma, epsilon = nonbonded.getExceptionParameters(k)
        if product.value_in_unit(unit_of_charge**2) != 0.0:  # a 1-4 pair
            nonbonded.setExceptionParameters(k, i, j, charges[i] * charges[j] / SCEE, sigma, epsilon)


def _symmetrised(torsions: Any, bonds: list[tuple[int, int]], system: Any) -> Any:
    """Return the torsions averaged over the molecule's automorphisms.

    AMBER writes an improper in one order of its outer atoms, so that swapping two like atoms changes the energy a
    little; a potential must not care which of two like atoms is called first.
    """
    import networkx as nx

    graph = nx.Graph(bonds)
    for i in graph:
        graph.nodes[i]["mass"] = system.getParticleMass(i)._value
    same = nx.algorithms.isomorphism.categorical_node_match("mass", None)
    automorphisms = list(nx.isomorphism.GraphMatcher(graph, graph, node_match=same).isomorphisms_iter())
    strength: dict[tuple[tuple[int, ...], int, float], float] = {}
    for n in range(torsions.getNumTorsions()):
        *atoms, periodicity, phase, k = torsions.getTorsionParameters(n)
        for image in automorphisms:
            moved = tuple(image[atom] for atom in atoms)
            key = (min(moved, moved[::-1]), periodicity, phase._value)
            strength[key] = strength.get(key, 0.0) + k._value / len(automorphisms)
    whole = openmm().PeriodicTorsionForce()
    for (moved, periodicity, phase), k in strength.items():
        if k != 0.0:
            whole.addTorsion(*moved, periodicity, phase, k)
    return whole


if __name__ == "__main__":
    for key in SMILES:
        parametrise(key, Path(sys.argv[1]))
