"""Fit and time ace-jax; runs under the interpreter that has it, which need not have mlipbench.

`python run_ace_jax.py FOLDER` reads `FOLDER/request.json` and `FOLDER/frames.npz` and writes `FOLDER/answer.json`.
It leans on parts of ace-jax that may move from release to release: written for 0.4.1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

# Bond lengths that ace-jax has no default for, in Å.
BOND_LENGTHS_A: Final = {1: 0.74, 2: 1.2, 10: 1.5}
VACUUM_A: Final = 10.0
# Ridges tried, relative to the largest squared singular value, under ace-jax's own smoothness prior.
RIDGES: Final = 10.0 ** np.arange(-30.0, -3.9, 0.5)
TABLE_INTERVALS: Final = 4000  # what ace-jax takes when it is told to tabulate


def main(folder: Path) -> None:
    """Answer one request."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    one_thread()
    import jax

    jax.config.update("jax_enable_x64", True)  # noqa: FBT003  its signature
    with np.load(folder / "frames.npz", allow_pickle=False) as arrays:
        frames = {name: read(arrays, name) for name in ("train", "valid", "test", "box")}
    basis = build(request)
    answer: dict[str, Any] = {
        "version": version("ace-jax"),
        "n_functions": int(basis.meta["n_B"] + basis.meta["n_pair"]),
        "order_counts": [count for _, count in sorted(Counter(len(body) for body in basis.nnll_spec).items())],
        "n_pair_functions": int(basis.meta["n_pair"]),
    }
    model = folder / "model.npz"
    if frames["train"]:
        answer["fit"] = fit(request, basis, frames, model)
    else:
        drawn(basis, model)
    if frames["box"]:
        answer["paths"] = list(timings(request, model, frames["box"][0]))
    (folder / "answer.json").write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")


def one_thread() -> None:
    """Bind this process to one core; XLA sizes its pools by the cores it may use."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1]})


def read(arrays: Any, name: str) -> list[Any]:
    """Return the frames of one part, labels in the places where ace-jax looks for them."""
    from ase import Atoms

    ends = np.concatenate([[0], np.cumsum(arrays[f"{name}_n_atoms"])])
    found = []
    for i in range(len(ends) - 1):
        rows = slice(ends[i], ends[i + 1])
        atoms = Atoms(
            numbers=arrays[f"{name}_numbers"][rows], positions=arrays[f"{name}_positions"][rows],
            cell=arrays[f"{name}_cell"][i], pbc=arrays[f"{name}_pbc"][i],
        )  # fmt: skip
        if not atoms.pbc.any():  # matscipy, which ace-jax uses where it is installed, wants a cell
            atoms.center(vacuum=VACUUM_A)
        atoms.info["energy"] = float(arrays[f"{name}_energy"][i])
        atoms.arrays["forces"] = arrays[f"{name}_forces"][rows].copy()
        if arrays[f"{name}_has_stress"][i]:
            atoms.info["stress"] = arrays[f"{name}_stress"][i]
        found.append(atoms)
    return found


def build(request: dict[str, Any]) -> Any:
    """Return ace-jax's basis of an order, total degree and cutoff, with the E0s put in."""
    import equinox
    import jax.numpy as jnp
    from ace_jax.basis import radial_init
    from ace_jax.basis.model import build_model

    lengths = np.array([BOND_LENGTHS_A.get(z) or radial_init.bond_len(z) for z in request["numbers"]])
    basis = build_model(
        request["numbers"], request["order"], request["degree"], wL=request["l_weight"], rcut=request["cutoff_A"],
        r0=0.5 * request["bond_length_factor"] * (lengths[:, None] + lengths[None, :]),
    )  # fmt: skip
    model = equinox.tree_at(lambda one: one.E0, basis.model, jnp.asarray(request["e0_eV"], dtype=np.float64))
    return basis._replace(model=model)


def fit(request: dict[str, Any], basis: Any, frames: dict[str, list[Any]], path: Path) -> dict[str, Any]:
    """Fit by ace-jax's rows and smoothness prior; of all ridges the one with the lowest validation error is taken."""
    from ace_jax.fit.pipeline import FitConfig, load_fit_data
    from ace_jax.fit.pipeline.export import linear_arrays_from_mean
    from ace_jax.fit.pipeline.lstsq import lstsq_theta
    from ace_jax.fit.pipeline.problem import build_problem

    config = FitConfig(
        model=basis, arm="linear", stress_key="stress", weights={"default": request["weights"]}, e0="model", r0=None
    ).validate()
    data = load_fit_data(config, train=frames["train"], test=frames["test"], ood=frames["valid"], log=silent)
    problem = build_problem(config, data).prob
    theta = lstsq_theta(problem)  # unit noise, so that the weights alone decide
    valid_rows, valid_labels, _ = gathered(problem, theta, data.ds_ood)
    rows, labels, assembly = gathered(problem, theta, data.ds_train)
    start = time.process_time()
    found, chosen, tried = ladder(rows, labels, np.asarray(problem.gamma), (valid_rows, valid_labels))
    solve = time.process_time() - start
    np.savez(path, **linear_arrays_from_mean(data.z, data.E0, problem.cfg, found))
    n_atoms = sum(len(one) for one in frames["train"])
    return {
        "n_columns": rows.shape[1],
        "n_rows": rows.shape[0],
        "assembly_cpu_s": assembly,
        "assembly_cpu_ms_per_atom": 1e3 * assembly / n_atoms,
        "solve_cpu_s": solve,
        "relative_ridge": chosen,
        "ridges_tried": tried,
        "valid_force_rmse_meV_per_A": errors(problem, theta, data.ds_ood, found)["force_rmse_meV_per_A"],
        **errors(problem, theta, data.ds_test, found),
    }


def silent(*_: object) -> None:
    """Say nothing."""


def batches(dataset: Any) -> Iterator[Any]:
    """Yield the batches of a data set."""
    import jax

    for k in range(dataset.n_batches):
        yield jax.tree.map(lambda array, k=k: array[k], dataset)


def gathered(problem: Any, theta: Any, dataset: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the weighted rows and labels of a data set, and the processor seconds they took once compiled.

    Rows that only fill up a batch are left out.
    """
    import jax
    from ace_jax.fit.solve import _weighted_rows

    compiled = jax.jit(lambda batch: _weighted_rows(problem, theta, batch))
    jax.block_until_ready(compiled(next(batches(dataset))))
    start = time.process_time()
    rows, labels = [], []
    for batch in batches(dataset):
        some, known = (np.asarray(one) for one in compiled(batch))
        used = some.any(axis=1) | (known != 0)
        rows.append(some[used])
        labels.append(known[used])
    return np.concatenate(rows), np.concatenate(labels), time.process_time() - start


def ladder(
    rows: np.ndarray, labels: np.ndarray, gamma: np.ndarray, valid: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, float, int]:
    """Return the coefficients, their relative ridge, and how many ridges were tried.

    For min |X c - y|² + ridge |Γ c|² with one singular value decomposition of X Γ⁻¹, through its QR factor.
    """
    from scipy.linalg import qr, svd

    triangle = qr(np.column_stack([rows, labels]), mode="r", overwrite_a=True, check_finite=False)[0]
    n = rows.shape[1]
    left, values, right = svd(triangle[:n, :n] / gamma, full_matrices=False, check_finite=False)
    along = left.T @ triangle[:n, n]
    best: tuple[float, np.ndarray, float] | None = None
    for ridge in RIDGES:
        shrunk = values / (values**2 + ridge * values[0] ** 2)
        coefficients = (right.T @ (shrunk * along)) / gamma
        misfit = float(np.square(valid[0] @ coefficients - valid[1]).sum())
        if best is None or misfit < best[0]:
            best = (misfit, coefficients, float(ridge))
    if best is None:
        raise RuntimeError("no ridge was tried")
    return best[1], best[2], len(RIDGES)


def errors(problem: Any, theta: Any, dataset: Any, coefficients: np.ndarray) -> dict[str, float]:
    """Return root-mean-square errors: forces in meV/Å, energy in meV/atom."""
    import jax
    from ace_jax.fit.rows import batch_rows

    def left(batch: Any) -> tuple[Any, Any]:
        rows = batch_rows(theta, problem.spec, problem.model, problem.ind, problem.cfg, batch)
        return rows.F @ coefficients - batch.y_F, rows.E @ coefficients - batch.y_E

    compiled = jax.jit(left)
    forces, energies = [], []
    for batch in batches(dataset):
        force, energy = (np.asarray(one) for one in compiled(batch))
        forces.append(force[np.asarray(batch.node_mask)].ravel())
        kept = np.asarray(batch.cfg_mask)
        energies.append((energy / np.maximum(np.asarray(batch.n_atoms), 1))[kept])
    return {
        "force_rmse_meV_per_A": 1e3 * float(np.sqrt(np.square(np.concatenate(forces)).mean())),
        "energy_rmse_meV_per_atom": 1e3 * float(np.sqrt(np.square(np.concatenate(energies)).mean())),
    }


def drawn(basis: Any, path: Path) -> None:
    """Write a model with small random coefficients: their size does not matter to its speed."""
    import equinox
    import jax.numpy as jnp
    from ace_jax.basis.export import save_npz

    rng = np.random.default_rng(0)
    old = basis.model
    new = equinox.tree_at(
        lambda one: (one.WB, one.Wpair), old,
        tuple(jnp.asarray(1e-3 * rng.standard_normal(part.shape)) for part in (old.WB, old.Wpair)),
    )  # fmt: skip
    with path.open("wb") as file:
        save_npz(file, basis._replace(model=new))


def timings(request: dict[str, Any], model: Path, box: Any) -> Iterator[dict[str, Any]]:
    """Yield the processor and wall seconds of a call by each way in, medians after the calls that compile."""
    from ace_jax import ACECalculator

    table = {"radial_table": TABLE_INTERVALS}
    ways: dict[str, dict[str, Any]] = {
        "ASE calculator, skin of 1 Å": {},
        "ASE calculator, tabulated radials, skin of 1 Å": table,
        "ASE calculator, fresh neighbour list": {"skin": 0.0},
        "ASE calculator, tabulated radials, fresh neighbour list": {"skin": 0.0, **table},
    }
    rng = np.random.default_rng(request["seed"])
    for name, options in ways.items():
        atoms = box.copy()
        atoms.calc = ACECalculator(str(model), **options)

        def call(atoms: Any = atoms) -> None:
            atoms.positions += request["step_A"] * rng.standard_normal(atoms.positions.shape)
            atoms.get_potential_energy()
            atoms.get_forces()
            atoms.get_stress()

        yield {"name": name, "has_stress": True, **medians(call, request["n_calls"])}
    yield from kernel_timings(request, model, box)


def medians(call: Callable[[], object], n_calls: int) -> dict[str, float]:
    """Return median processor and wall seconds of a call, after three that are not counted."""
    cpu, wall = [], []
    for number in range(n_calls + 3):
        before = time.process_time(), time.perf_counter()
        call()
        if number >= 3:
            cpu.append(time.process_time() - before[0])
            wall.append(time.perf_counter() - before[1])
    return {"cpu_s": float(np.median(cpu)), "wall_s": float(np.median(wall))}


def kernel_timings(request: dict[str, Any], model: Path, box: Any) -> Iterator[dict[str, Any]]:
    """Yield the time of the C++ kernel that LAMMPS calls, alone and with its neighbours given, if it can be compiled.

    It gives energies and forces, no stress, and forces on copies of atoms across the boundary are not folded back.
    """
    from ace_jax.eval import ffi

    try:
        library = ffi.library(cache=model.parent)
    except ffi.FFIUnavailable:
        return
    import jax
    import jax.numpy as jnp
    from ace_jax.eval import load
    from ace_jax.eval.model import lean, with_radial_table

    ffi.register(library)
    loaded, meta, _ = load(str(model))
    table = with_radial_table(lean(loaded), TABLE_INTERVALS)[0]
    places = {int(number): i for i, number in enumerate(meta["elements"])}
    positions, species, neighbours, counts = matrix(box, float(meta["rcut"]), places)
    _, forces = ffi.lammps_fns(table, len(places), list(range(len(places))), float(meta["rcut"]))

    class Graph:
        """Neighbour matrix, shape (most, n_atoms), and how many of it count."""

        def __init__(self, neighbors: Any, num_neighbors: Any) -> None:
            self.neighbors = neighbors
            self.num_neighbors = num_neighbors

    compiled = jax.jit(lambda where: forces(where, species, Graph(neighbours, counts)))
    rng = np.random.default_rng(request["seed"])

    def call() -> None:
        moved = positions + request["step_A"] * rng.standard_normal(positions.shape)
        jax.block_until_ready(compiled(jnp.asarray(moved)))

    yield {"name": "C++ kernel of the LAMMPS export, neighbours given", "has_stress": False,
           **medians(call, request["n_calls"])}  # fmt: skip


def matrix(box: Any, cutoff_A: float, places: dict[int, int]) -> tuple[np.ndarray, Any, Any, Any]:
    """Return positions of atoms and of their copies in reach, species, neighbour matrix and neighbour counts."""
    import jax.numpy as jnp
    from ase.neighborlist import neighbor_list

    centre, index, shift = neighbor_list("ijS", box, cutoff_A)
    n = len(box)
    seen: dict[tuple[int, int, int, int], int] = {(i, 0, 0, 0): i for i in range(n)}
    columns: list[list[int]] = [[] for _ in range(n)]
    for i, j, s in zip(centre.tolist(), index.tolist(), shift.tolist(), strict=True):
        columns[i].append(seen.setdefault((j, *s), len(seen)))
    keys = np.array(list(seen))
    positions = box.positions[keys[:, 0]] + keys[:, 1:] @ box.cell.array
    species = np.array([places[int(number)] for number in box.numbers[keys[:, 0]]])
    most = max(len(column) for column in columns)
    filled = np.zeros((most, len(keys)), dtype=np.int32)
    for i, column in enumerate(columns):
        filled[: len(column), i] = column
    counts = np.array([len(column) for column in columns] + [0] * (len(keys) - n), dtype=np.int32)
    return positions, jnp.asarray(species, dtype=jnp.int32), jnp.asarray(filled), jnp.asarray(counts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
