"""Small parameters for every benchmark, and what each is asked on."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from site_model import Sums

MOVING: dict[str, Any] = {"n_replicas": 2, "duration_ps": 3.2, "timestep_fs": 8.0, "hydrogen_mass_u": None}
QUICK: dict[str, dict[str, Any]] = {
    "energy_force_stress": {},
    "rigid_body_forces": {},
    "intra_inter": {"max_frames": 12},
    "symmetry": {"n_frames": 4},
    "feature_symmetry": {"n_frames": 4},
    "completeness": {},
    "body_order": {"max_neighbours": 3, "n_draws": 3},
    "smoothness": {"n_frames": 1, "max_pairs": 2, "n_points": 61, "n_suspects": 1},
    "locality": {"n_strings": 1, "length_A": 20.0, "far_A": 10.0, "n_moved": 4},
    "extensivity": {"n_molecules": 2},
    "consistency": {"n_frames": 2, "n_directions": 2, "n_jacobians": 1, "n_loop_points": 8},
    "reproducibility": {"n_frames": 4},
    "limits": {},
    "diatomics": {"n_points": 101, "max_pairs": 4},
    "compression": {"n_frames": 2, "n_random": 2, "n_points": 15},
    "cohesion": {"n_frames": 2, "n_points": 15},
    "volume_scan": {},
    "binding_curves": {},
    "equation_of_state": {"elements": ("Si", "Cu")},
    "s22x5": {},
    "barrier_heights": {},
    "frequencies": {},
    "reaction_path": {},
    **dict.fromkeys(("stability", "density", "rdf", "pressure", "diffusion"), MOVING),
    "velocity_spectrum": {**MOVING, "interval_fs": 40.0, "settling_ps": 0.0, "duration_ps": 1.6},
    "nve_drift": {**MOVING, "duration_ps": 0.4},
    "transferability": {**MOVING, "with_dynamics": True},
    "speed": {"n_repeats": 2, "batch_frames": 3},
}
# Benchmarks about single atoms: a model that has features, and what is perfect where there is such a thing.
ABOUT_SITES: dict[str, tuple[Sums, Sums | None]] = {
    "feature_symmetry": (Sums(), Sums()),
    "completeness": (Sums(order=3), None),
    "body_order": (Sums(), None),
}
# Benchmarks that no reference is needed for, so that there is nothing perfect.
UNREFERENCED = ("consistency", "reproducibility", "limits", "diatomics", "compression", "cohesion")
# Benchmarks of what ASE brings along: data of their own. The reference itself is asked in their own tests.
COLLECTIONS = {"equation_of_state": "delta_codes", "s22x5": "s22x5", "barrier_heights": "dbh24"}
# Benchmarks of dynamics. Trajectories this short are too noisy for full scores, even of the reference itself.
IN_MOTION = (
    "stability", "density", "rdf", "pressure", "diffusion", "velocity_spectrum", "nve_drift", "transferability",
)  # fmt: skip


def some_energy(atoms: Atoms) -> float:
    """A crystal at rest at 15 Å^3 per atom, and molecules that repel each other."""
    if atoms.pbc.any():
        return len(atoms) * (atoms.cell.volume / len(atoms) / 15.0 - 1.0) ** 2
    return 1e-3 * len(atoms) ** 2
