"""One file is one benchmark; this table is all that names them."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from mlipbench.core.benchmark import About, Benchmark
from mlipbench.errors import unknown

# name → "module:Class"; the class is a frozen dataclass that keeps the contract of `core.benchmark.Benchmark`.
TABLE: Final = {
    "energy_force_stress": "mlipbench.benchmarks.energy_force_stress:EnergyForceStress",
    "rigid_body_forces": "mlipbench.benchmarks.rigid_body_forces:RigidBodyForces",
    "intra_inter": "mlipbench.benchmarks.intra_inter:IntraInter",
    "symmetry": "mlipbench.benchmarks.symmetry:Symmetry",
    "feature_symmetry": "mlipbench.benchmarks.feature_symmetry:FeatureSymmetry",
    "completeness": "mlipbench.benchmarks.completeness:Completeness",
    "body_order": "mlipbench.benchmarks.body_order:BodyOrder",
    "smoothness": "mlipbench.benchmarks.smoothness:Smoothness",
    "locality": "mlipbench.benchmarks.locality:Locality",
    "extensivity": "mlipbench.benchmarks.extensivity:Extensivity",
    "consistency": "mlipbench.benchmarks.consistency:Consistency",
    "reproducibility": "mlipbench.benchmarks.reproducibility:Reproducibility",
    "limits": "mlipbench.benchmarks.limits:Limits",
    "diatomics": "mlipbench.benchmarks.diatomics:Diatomics",
    "compression": "mlipbench.benchmarks.compression:Compression",
    "cohesion": "mlipbench.benchmarks.cohesion:Cohesion",
    "volume_scan": "mlipbench.benchmarks.volume_scan:VolumeScan",
    "binding_curves": "mlipbench.benchmarks.binding_curves:BindingCurves",
    "equation_of_state": "mlipbench.benchmarks.equation_of_state:EquationOfState",
    "s22x5": "mlipbench.benchmarks.s22x5:S22x5",
    "barrier_heights": "mlipbench.benchmarks.barrier_heights:BarrierHeights",
    "reaction_path": "mlipbench.benchmarks.reaction_path:ReactionPaths",
    "frequencies": "mlipbench.benchmarks.frequencies:Frequencies",
    "stability": "mlipbench.benchmarks.stability:Stability",
    "density": "mlipbench.benchmarks.density:Density",
    "rdf": "mlipbench.benchmarks.rdf:Rdf",
    "pressure": "mlipbench.benchmarks.pressure:Pressure",
    "diffusion": "mlipbench.benchmarks.diffusion:DiffusionCoefficient",
    "velocity_spectrum": "mlipbench.benchmarks.velocity_spectrum:VelocitySpectrum",
    "nve_drift": "mlipbench.benchmarks.nve_drift:NveDrift",
    "transferability": "mlipbench.benchmarks.transferability:Transferability",
    "speed": "mlipbench.benchmarks.speed:Speed",
}


def benchmark(name: str) -> type[Benchmark]:
    """Return the class of a benchmark; its fields are the parameters a suite may set.

    Raises:
        BadInput: there is no benchmark of this name.

    >>> benchmark("speed").about.grade
    'cost'
    """
    if name not in TABLE:
        raise unknown("benchmark", name, TABLE)
    module, class_name = TABLE[name].split(":")
    found: type[Benchmark] = getattr(import_module(module), class_name)
    return found


def about(name: str) -> About:
    """Return what a benchmark measures, and how to cite it.

    Raises:
        BadInput: there is no benchmark of this name.
    """
    return benchmark(name).about
