"""Made-up results of three models on six rows, with every outcome and with names that try to break out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlipbench.core.measure import measure, squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import ModelSpec
from mlipbench.core.result import Broken, Failed, Measured, Outcome, Provenance, Result, Skipped, Training
from mlipbench.core.suite import Limit, Row, Suite
from mlipbench.core.view import Axis, Bars, Lines, Parity, View

HOSTILE = "<script>alert('x')</script>\"&"
OVER = "interval over trajectories (jackknife, Student's t)"

FORCE = Metric(
    name="force_rmse", title="Force RMSE", unit="meV/Å", better="lower", good=20.0, bad=200.0, headline=True,
    says=f"Root of the mean square over all force components of all frames; {OVER}.",
)  # fmt: skip
FORCE_MAE = Metric(
    name="force_mae", title="Force MAE", unit="meV/Å", better="lower", good=10.0, bad=120.0,
    says=f"Mean of the absolute errors over all force components; {OVER}.",
)  # fmt: skip
ENERGY = Metric(
    name="energy_rmse", title="Energy RMSE", unit="meV/atom", better="lower", good=1.0, bad=20.0, headline=True,
    says=f"Root of the mean square of the energy error per atom; {OVER}.",
)  # fmt: skip
STRESS = Metric(
    name="stress_rmse", title="Stress RMSE", unit="GPa", better="lower", good=0.05, bad=1.0, headline=True,
    says=f"Root of the mean square over the nine components; periodic frames only; {OVER}.",
)  # fmt: skip
TRANSLATION = Metric(
    name="translation_rmse", title="Translation RMSE", unit="meV/Å", better="lower", good=10.0, bad=100.0,
    says=f"Error of the part of the forces that moves molecules as a whole; {OVER}.", headline=True,
)  # fmt: skip
INTER = Metric(
    name="inter_force_rmse", title="Inter RMSE", unit="meV/Å", better="lower", good=10.0, bad=100.0, headline=True,
    says=f"Forces between molecules: the whole less each molecule alone in vacuum; {OVER}.",
)  # fmt: skip
ROTATION = Metric(
    name="rotation_force", title="Rotation, forces", unit="meV/Å", better="lower", good=1e-6, bad=1.0, log_scale=True,
    says="RMS change of the forces after turning a frame and turning them back; interval over frames.",
)  # fmt: skip
PERMUTATION = Metric(
    name="permutation_energy", title="Permutation, energy", unit="meV/atom", better="lower", good=1e-6, bad=1.0,
    log_scale=True, says="RMS change of the energy after renumbering the atoms; interval over frames.",
)  # fmt: skip
SPEED = Metric(
    name="atoms_per_second", title="Atoms per second", unit="1/s", better="higher", good=1e5, bad=1e2, headline=True,
    log_scale=True, tolerance=0.45,
    says="Median over repeats of atoms by wall time, one frame at a time; interval over repeats.",
)  # fmt: skip

SUITE = Suite(
    name="electrolyte", version="1", about="Ethylene carbonate and ethyl methyl carbonate: errors against GFN1-xTB.",
    rows=(
        Row(name="errors-test", benchmark="energy_force_stress", data="ecemc_gfn1", split="test",
            limits=(Limit(metric="force_rmse", at_most=150.0),)),
        Row(name="errors-control", benchmark="energy_force_stress", data="ecemc_gfn1", split="control"),
        Row(name="rigid-body", benchmark="rigid_body_forces", data="ecemc_gfn1", split="test"),
        Row(name="intra-inter", benchmark="intra_inter", data="ecemc_gfn1", split="test"),
        Row(name="symmetry", benchmark="symmetry", data="ecemc_gfn1", split="test",
            limits=(Limit(metric="rotation_force", at_most=1e-3),)),
        Row(name="speed", benchmark="speed", data="ecemc_gfn1", split="test"),
    ),
)  # fmt: skip

GRADES = {"symmetry": "verification", "speed": "cost"}
TITLES = {
    "energy_force_stress": ("Energies, forces, stresses", "How wrong are energies, forces and stresses?"),
    "rigid_body_forces": ("Rigid-body forces", "Does the error move, turn or deform molecules?"),
    "intra_inter": ("Inside and between molecules", "Are the weak forces between molecules right?"),
    "symmetry": ("Symmetry", "Does the model obey the symmetries of physics?"),
    "speed": ("Speed", "How fast is it, and how much memory does it take?"),
}
METRICS = {
    "energy_force_stress": (FORCE, ENERGY, STRESS, FORCE_MAE),
    "rigid_body_forces": (TRANSLATION,),
    "intra_inter": (INTER,),
    "symmetry": (ROTATION, PERMUTATION),
    "speed": (SPEED,),
}


@dataclass(frozen=True)
class Fake:
    """What the store hands to the report."""

    result: Result
    shown: tuple[View, ...] = field(default=())

    def views(self) -> tuple[View, ...]:
        return self.shown


def provenance(**changed: Any) -> Provenance:
    given: dict[str, Any] = {
        "started": "2026-01-02T03:04:05Z", "seconds": 4.2, "cpu_seconds": 4.0, "peak_memory_MB": 512.0, 
        "host": "laptop",
        "hardware": "Some CPU, 2 cores", "device": "cpu", "python": "3.11.9", "seed": 0, "mlipbench": "0.1.0",
        "packages": {"numpy": "2.2.0", "ase": "3.26.0"},
    }  # fmt: skip
    return Provenance(**{**given, **changed})


def result(row: str, model: str, outcome: Outcome, *, suite: Suite = SUITE, **changed: Any) -> Result:
    """Return one evaluation."""
    line = next(x for x in suite.rows if x.name == row)
    title, question = TITLES[line.benchmark]
    given: dict[str, Any] = {
        "job_id": f"job-{row}-{model}", "kind": "evaluate", "row": row, "model": model, "model_key": f"key-{model}",
        "checkpoint_sha256": "ab" * 32, "benchmark": line.benchmark, "title": title, "question": question,
        "grade": GRADES.get(line.benchmark, "validation"), "source": "Some & Author, J. Chem. 1, 1 (2020)",
        "observe_version": 1, "score_version": 1, "parameters": {"max_frames": 100}, "dataset": "ecemc_gfn1@1",
        "data_sha256": "cd" * 32, "split": line.split, "level_of_theory": "GFN1-xTB",
        "metrics": METRICS[line.benchmark], "outcome": outcome, "provenance": provenance(),
    }  # fmt: skip
    return Result(**{**given, **changed})


def value(metric: Metric, number: float, *, stderr: float | None = None, part: str = "", n: int = 12) -> MetricValue:
    """Return a value with a symmetric interval."""
    low, high = (None, None) if stderr is None else (number - 2 * stderr, number + 2 * stderr)
    return MetricValue(metric=metric.name, part=part, value=number, stderr=stderr, low=low, high=high, n=n)


def sampled(metric: Metric, scale: float, *, part: str = "", seed: int = 0) -> MetricValue:
    """Return an RMSE over twelve trajectories whose difficulty all models share."""
    hard = np.exp(0.3 * np.random.default_rng(7).standard_normal(12))
    rng = np.random.default_rng(seed)
    errors = scale * hard[:, None] * np.exp(0.12 * rng.standard_normal((12, 1)))
    return measure(metric, squares(errors), [f"trajectory-{i}" for i in range(12)], "root_mean", part=part)


def errors(scale: float, *, stress: bool = True, seed: int = 0) -> Measured:
    """Return the values of an error row, split by element and kind of frame."""
    values = [
        sampled(FORCE, 100 * scale, seed=seed), sampled(FORCE_MAE, 70 * scale, seed=seed),
        sampled(ENERGY, 4 * scale, seed=seed + 10),
    ]  # fmt: skip
    if stress:
        values.append(sampled(STRESS, 0.2 * scale, seed=seed + 20))
    for element, factor in (("H", 0.6), ("C", 1.3), ("O", 1.1)):
        values.append(sampled(FORCE, 100 * scale * factor, part=f"element={element}"))
    for kind, factor in (("molecule", 0.5), ("cluster_4", 0.9), ("liquid_6", 1.1), ("liquid_12", 1.2)):
        values.append(sampled(FORCE, 100 * scale * factor, part=f"config_type={kind}"))
    values.append(value(FORCE, 80 * scale, part="config_type=<b>single</b>", n=1))
    return Measured(values=tuple(values))


def error_views(scale: float, seed: int) -> tuple[View, ...]:
    """Return a parity plot, bars and curves."""
    rng = np.random.default_rng(3)
    forces = rng.standard_t(4, 3000)
    off = 0.1 * scale * np.random.default_rng(seed).standard_t(3, 3000)
    off[5] += 9.0 * scale
    elements = tuple(np.where(np.arange(3000) % 3 == 0, "C", np.where(np.arange(3000) % 3 == 1, "H", "O")).tolist())
    energies = rng.normal(-3.0, 0.02, 150)
    heights = np.array([60.0, 130.0, 110.0]) * scale
    r = np.linspace(0.8, 3.0, 40)
    return (
        Parity(title="Forces", axis=Axis(quantity="force component", unit="eV/Å"), reference=forces,
               predicted=forces + off, group=elements),
        Parity(title="Energies", axis=Axis(quantity="energy per atom", unit="eV"), reference=energies,
               predicted=energies + 0.004 * scale * np.random.default_rng(seed).standard_normal(150)),
        Bars(title="Force RMSE by element", axis=Axis(quantity="force RMSE", unit="meV/Å"), 
             labels=("H", "C", "<i>O</i>"),
             values=heights, low=0.9 * heights, high=1.15 * heights),
        Lines(title="Error along the distance", x_axis=Axis(quantity="distance", unit="Å"),
              y_axis=Axis(quantity="error", unit="meV/Å"), names=("error",), x=r, y=(50 * scale * np.exp(-r))[None]),
    )  # fmt: skip


def trained(model: str, *, notes: tuple[str, ...] = (), seconds: float = 187.0) -> Result:
    """Return one training."""
    history = tuple(
        {"epoch": float(i), "valid_force_rmse": 400.0 / (1 + i) + 60, "valid_energy_rmse": 20.0 / (1 + i) + 2}
        for i in range(40)
    )
    training = Training(
        spec=ModelSpec(name=model, kind="ace", level_of_theory="GFN1-xTB", elements=("H", "C", "O"),
                       checkpoint="model.npz", checkpoint_sha256="ab" * 32, options={"cutoff_A": 5.0}),
        recipe={"trainer": "ace", "data": "ecemc_gfn1", "train": "train_quick", "options": {"order": 3, "degree": 12}},
        data={"name": "ecemc_gfn1", "version": "1", "sha256": "cd" * 32, "splits": {"train": 200, "valid": 40}},
        notes=notes, facts={"parameters": 12345, "epochs": 40, "valid_force_rmse": 69.756}, history=history,
    )  # fmt: skip
    return Result(
        job_id=f"key-{model}",
        kind="train",
        row="train",
        model=model,
        model_key=f"key-{model}",
        outcome=Measured(values=()),
        provenance=provenance(seconds=seconds, cpu_seconds=2 * seconds),
        training=training,
    )


def model_rows(model: str, scale: float, seed: int, *, changed: Mapping[str, Outcome] | None = None) -> list[Fake]:
    """Return all rows of one model; `changed` replaces the outcome of some of them."""
    outcomes: dict[str, Outcome] = {
        "errors-test": errors(scale, seed=seed),
        "errors-control": errors(0.8 * scale, seed=seed + 5),
        "rigid-body": Measured(values=(sampled(TRANSLATION, 50 * scale, seed=seed),)),
        "intra-inter": Measured(values=(sampled(INTER, 40 * scale, seed=seed),)),
        "symmetry": Measured(values=(value(ROTATION, 3e-9, stderr=1e-9), value(PERMUTATION, 2.5e-12, stderr=1e-12))),
        "speed": Measured(values=(value(SPEED, 20_000.0 / scale, stderr=700.0, n=5),)),
        **(changed or {}),
    }
    views = {"errors-test": error_views(scale, seed), "errors-control": error_views(0.8 * scale, seed + 1)}
    return [Fake(result(row, model, outcome), views.get(row, ())) for row, outcome in outcomes.items()]


def three_models() -> list[Fake]:
    """Three models: one good, one middling with a hostile name in its notes, one that fails, skips and is not run."""
    trouble: dict[str, Outcome] = {
        "errors-test": errors(2.6, stress=False),
        "rigid-body": Failed(reason=f"the model's forces are not finite in frame 3 {HOSTILE}"),
        "intra-inter": Skipped(reason="no vacuum labels: make them with `mlipbench data vacuum ecemc_gfn1`"),
        "symmetry": Measured(values=(value(ROTATION, 3.2, stderr=0.4), value(PERMUTATION, 1e-9))),
        "speed": Broken(reason="KeyError: 'x'\nTraceback (most recent call last):\n  File speed.py, line 1 <oops>"),
    }
    return [
        *model_rows("ace-medium", 0.9, 1),
        *model_rows("mace-ci", 1.0, 2),
        *model_rows(f"gaff2 {HOSTILE}", 2.6, 3, changed=trouble),
        Fake(trained("ace-medium")),
        Fake(trained("mace-ci", notes=(f"E0s were fitted, not taken from isolated atoms {HOSTILE}.",), seconds=412.0)),
    ]
