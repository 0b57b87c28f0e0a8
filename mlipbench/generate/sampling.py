"""Where do the structures come from: packed boxes, GAFF2 dynamics and short GFN1-xTB dynamics?"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.core.model import Float, Int
from mlipbench.errors import NotApplicable
from mlipbench.generate.parametrise import program
from mlipbench.models.gaff2 import compose, openmm, template
from mlipbench.units import ANGSTROM_PER_NM, GRAM_PER_CUBIC_CM_PER_U_PER_CUBIC_ANGSTROM

if TYPE_CHECKING:
    from ase import Atoms

PACKING_TOLERANCE_A = 2.0
VACUUM_PACKING_DENSITY_G_CM3 = 0.8
LONGEST_CUTOFF_A = 9.0
WALL_KJ_PER_MOL_PER_NM2 = 500.0
HYDROGEN_MASS_U = 3.0  # with 2 fs conserves energy as 1 fs with 1 u does; static averages do not feel masses


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One stretch of Langevin dynamics.

    Attributes:
        temperature_K: of the thermostat.
        equilibration_ps: thrown away.
        gap_ps: between two frames that are kept.
        n_frames: how many are kept.
        timestep_fs: of the integrator.
        friction_per_ps: of the thermostat.
    """

    temperature_K: float
    equilibration_ps: float
    gap_ps: float
    n_frames: int
    timestep_fs: float
    friction_per_ps: float

    def steps(self, duration_ps: float) -> int:
        """Return how many steps a duration takes.

        >>> Protocol(temperature_K=300, equilibration_ps=4, gap_ps=2, n_frames=1, timestep_fs=0.5,
        ...          friction_per_ps=2).steps(4)
        8000
        """
        return round(1000.0 * duration_ps / self.timestep_fs)


def molecule_numbers(composition: Mapping[str, int]) -> tuple[list[str], Int]:
    """Return the name of each molecule, and the molecule number of each atom, in packed order.

    >>> names, molecule = molecule_numbers({"EC": 1, "EMC": 2})
    >>> names, molecule.shape, int(molecule[9]), int(molecule[10])
    (['EC', 'EMC', 'EMC'], (40,), 0, 1)
    """
    names = [name for name, count in composition.items() for _ in range(count)]
    sizes = [len(template(name).symbols) for name in names]
    return names, np.repeat(np.arange(len(names)), sizes)


def pack(composition: Mapping[str, int], *, density_g_cm3: float | None, seed: int) -> Atoms:
    """Return a packed cubic periodic box, or a packed cluster without a cell when there is no density.

    Raises:
        NotApplicable: packmol is not installed or found no packing.
    """
    from ase import Atoms

    names, _ = molecule_numbers(composition)
    symbols = [symbol for name in names for symbol in template(name).symbols]
    atoms = Atoms(symbols, np.zeros((len(symbols), 3)))
    density = VACUUM_PACKING_DENSITY_G_CM3 if density_g_cm3 is None else density_g_cm3
    box = round(float((atoms.get_masses().sum() * GRAM_PER_CUBIC_CM_PER_U_PER_CUBIC_ANGSTROM / density) ** (1 / 3)), 6)
    atoms.positions[:] = _packmol(composition, box_A=box, periodic=density_g_cm3 is not None, seed=seed)
    if density_g_cm3 is not None:
        atoms.set_cell([box] * 3)
        atoms.set_pbc(True)
    return atoms


def _packmol(composition: Mapping[str, int], *, box_A: float, periodic: bool, seed: int) -> Float:
    present = {name: count for name, count in composition.items() if count}
    lines = [f"tolerance {PACKING_TOLERANCE_A}", "filetype xyz", "output packed.xyz", f"seed {seed % 10**6}"]
    lines += ["maxit 50", "nloop 400", *([f"pbc {box_A:.6f} {box_A:.6f} {box_A:.6f}"] if periodic else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for molecule, count in present.items():
            known = template(molecule)
            rows = [f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(known.symbols, known.positions, strict=True)]
            (folder / f"{molecule}.xyz").write_text("\n".join([str(len(rows)), molecule, *rows]) + "\n", "utf-8")
            inside = f"  inside box 0. 0. 0. {box_A:.6f} {box_A:.6f} {box_A:.6f}"
            lines += [f"structure {molecule}.xyz", f"  number {count}", inside, "end structure"]
        (folder / "packmol.inp").write_text("\n".join(lines) + "\n", "utf-8")
        # packmol rewinds its input, so that must be a file: a pipe ends in a Fortran backtrace
        with (folder / "packmol.inp").open() as handle:
            command = [program("packmol", extra="generate")]
            done = subprocess.run(  # noqa: S603  # a fixed argument list, no shell
                command, cwd=folder, stdin=handle, capture_output=True, text=True, check=False
            )
        if not (folder / "packed.xyz").exists():
            raise NotApplicable(f"packmol found no packing of {dict(present)} in {box_A:.2f} Å: {done.stdout[-200:]}")
        rows = (folder / "packed.xyz").read_text("utf-8").splitlines()[2:]
    return np.array([[float(x) for x in row.split()[1:4]] for row in rows])


def gaff2_frames(start: Atoms, composition: Mapping[str, int], protocol: Protocol, *, seed: int) -> list[Atoms]:
    """Return frames of GAFF2 Langevin dynamics from a packed start, molecules whole.

    A cluster is held together by a flat-bottomed sphere of radius 2 Å + 3 Å·n^(1/3), n molecules.

    Raises:
        NotApplicable: OpenMM is not installed.
    """
    mm = openmm()
    names, _ = molecule_numbers(composition)
    system = compose(names)
    if start.pbc.any():
        _make_periodic(system, start.cell.array)
    elif len(names) > 1:
        system.addForce(_wall(len(start), radius_A=2.0 + 3.0 * len(names) ** (1 / 3)))
    integrator = mm.LangevinMiddleIntegrator(
        protocol.temperature_K, protocol.friction_per_ps, protocol.timestep_fs / 1000.0
    )
    integrator.setRandomNumberSeed(seed % 2**31)
    # Without PME the plain platform is 3 to 70 times faster than the threaded one at this size.
    name, options = ("CPU", {"Threads": "1", "DeterministicForces": "true"}) if start.pbc.any() else ("Reference", {})
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName(name), options)
    centre = 0.0 if start.pbc.any() else start.positions.mean(axis=0)
    context.setPositions((start.positions - centre) / ANGSTROM_PER_NM)
    mm.LocalEnergyMinimizer.minimize(context, maxIterations=500)
    context.setVelocitiesToTemperature(protocol.temperature_K, seed % 2**31)
    integrator.step(protocol.steps(protocol.equilibration_ps))
    frames = []
    for _ in range(protocol.n_frames):
        integrator.step(protocol.steps(protocol.gap_ps))
        frame = start.copy()
        frame.positions[:] = context.getState(getPositions=True).getPositions(asNumpy=True)._value * ANGSTROM_PER_NM
        frames.append(frame)
    return frames


def _make_periodic(system: Any, cell: Float) -> None:
    mm = openmm()
    cutoff_A = min(LONGEST_CUTOFF_A, 0.95 * float(np.diag(cell).min()) / 2)
    system.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in cell / ANGSTROM_PER_NM))
    for force in system.getForces():
        if isinstance(force, mm.NonbondedForce):
            force.setNonbondedMethod(mm.NonbondedForce.PME)
            force.setCutoffDistance(cutoff_A / ANGSTROM_PER_NM)


def _wall(n_atoms: int, *, radius_A: float) -> Any:
    wall = openmm().CustomExternalForce("k*max(0,r-r0)^2; r=sqrt(x^2+y^2+z^2)")
    wall.addGlobalParameter("k", WALL_KJ_PER_MOL_PER_NM2)
    wall.addGlobalParameter("r0", radius_A / ANGSTROM_PER_NM)
    for i in range(n_atoms):
        wall.addParticle(i, [])
    return wall


def gfn1_frames(start: Atoms, protocol: Protocol, *, seed: int) -> list[Atoms]:
    """Return frames of GFN1-xTB Langevin dynamics, hydrogen 3 u, from a structure that is first relaxed a little.

    Raises:
        NotApplicable: tblite is not installed.
        CalculationFailed: the electronic structure did not converge (ASE's exception).
    """
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.optimize import FIRE

    from mlipbench.generate.labels import calculator

    rng = np.random.default_rng(seed)
    moving = start.copy()
    moving.calc = calculator(accuracy=1.0)
    FIRE(moving, logfile=None).run(fmax=1.0, steps=30)
    moving.set_masses(np.where(moving.numbers == 1, HYDROGEN_MASS_U, moving.get_masses()))
    MaxwellBoltzmannDistribution(moving, temperature_K=protocol.temperature_K, rng=rng)
    dynamics = Langevin(
        moving,
        protocol.timestep_fs * units.fs,
        temperature_K=protocol.temperature_K,
        friction=protocol.friction_per_ps / (1000.0 * units.fs),
        fixcm=False,  # ASE's own remark: fixing the centre of mass does not sample NVT in small systems
        rng=rng,
    )
    dynamics.run(protocol.steps(protocol.equilibration_ps))
    frames = []
    for _ in range(protocol.n_frames):
        dynamics.run(protocol.steps(protocol.gap_ps))
        frame = start.copy()
        frame.positions[:] = moving.positions
        frames.append(frame)
    return frames
