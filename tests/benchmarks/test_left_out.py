"""A pair, a heap or a frame that a model fails on costs only itself, and is named with the reason."""

from __future__ import annotations

from typing import Any

import broken
import numpy as np
import pytest

from mlipbench.benchmarks.compression import Compression, heap, nearest_contact
from mlipbench.benchmarks.diatomics import Diatomics
from mlipbench.benchmarks.limits import Limits
from mlipbench.core.benchmark import Context
from mlipbench.core.view import Bars
from mlipbench.errors import BadInput, ModelFailure


class NoKrypton(broken.Pairs):
    """An electronic structure that does not converge for two krypton atoms, and for crystals."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        if (self.atoms.numbers == 36).sum() == 2 or self.atoms.pbc.any():
            raise RuntimeError("SCF not converged in 250 cycles")


def told(views: tuple[Any, ...]) -> str:
    return " ".join(label for view in views if isinstance(view, Bars) for label in view.labels)


def test_a_pair(context: Context) -> None:
    row, data = Diatomics(elements=("Ar", "Kr"), n_points=101), broken.argon()
    seen = row.observe(broken.model(NoKrypton()), data, context)
    found = {value.metric: value for value in row.score(seen, data)}
    assert len(seen["pair"]) == 2
    assert found["not_computed"].value == pytest.approx(1 / 3)
    assert found["not_computed"].low is not None and found["not_computed"].low > 0.0
    assert "Kr–Kr" in told(row.views(seen, data)) and "SCF not converged" in told(row.views(seen, data))


def test_a_crystal(context: Context) -> None:
    row, data = Compression(n_frames=2, n_random=2, n_points=11), broken.argon()
    seen = row.observe(broken.model(NoKrypton()), data, context)
    found = {value.metric: value for value in row.score(seen, data) if not value.part}
    assert found["not_computed"].value == pytest.approx(1 / 4)
    assert "SCF not converged" in told(row.views(seen, data))


class Never(broken.Pairs):
    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("no")


@pytest.mark.parametrize("row", [Diatomics(n_points=101), Compression(n_frames=2, n_random=1)])
def test_failing_everywhere_is_the_models_fault(row: Diatomics | Compression, context: Context) -> None:
    with pytest.raises(ModelFailure):
        row.observe(broken.model(Never()), broken.argon(), context)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (Diatomics(n_points=40), "n_points is 40; it must be odd"),
        (Diatomics(farthest_A=2.0), "at least 4 Å"),
        (Diatomics(n_points=61), "101 or more|100 or more"),
        (Diatomics(elements=()), "no element with a known covalent radius"),
        (Diatomics(elements=("Xx",)), "elements holds 'Xx'"),
        (Compression(n_points=3), "n_points is 3; it must be 11 or more"),
        (Compression(nearest=0.8), "0.2 to 0.54 and 1 to 2"),
        (Limits(edges_A=(5.0,)), "15 Å or more"),
    ],
)
def test_parameters_without_meaning(row: Diatomics | Compression | Limits, says: str, context: Context) -> None:
    with pytest.raises(BadInput, match=says):
        row.observe(broken.model(broken.Pairs()), broken.argon(), context)


def test_heaps_are_atoms_side_by_side() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        atoms = heap(np.array([1, 6, 8]), 6, rng)
        assert len(atoms) == 6
        assert 1.0 <= nearest_contact(atoms) < 1.6


def test_frames_with_an_element_that_the_model_lacks_are_not_asked(context: Context) -> None:
    """One frame with krypton does not cost the checks of those without."""
    from dataclasses import replace

    from mlipbench.benchmarks.consistency import Consistency
    from mlipbench.benchmarks.reproducibility import Reproducibility

    data = broken.argon()
    odd = data.frames[0].copy()
    odd.numbers[0] = 36
    mixed = replace(data, frames=(odd, *data.frames[1:]))
    model = broken.model(broken.Pairs())
    model = replace(model, spec=replace(model.spec, elements=("Ar",)))
    for row in (Consistency(n_frames=6, n_directions=1), Reproducibility(n_frames=6), Compression(n_frames=6)):
        seen = row.observe(model, mixed, context)
        assert 0 not in seen["frame" if "frame" in seen else "origin"][: len(data) - 1]


def test_one_frame_is_not_its_own_company(context: Context) -> None:
    """Remembered answers would make a random model look sound."""
    from mlipbench.benchmarks.reproducibility import Reproducibility
    from mlipbench.engine.ask import asked
    from mlipbench.engine.run import attempt

    data = broken.argon().take([0])
    noisy = asked(broken.model(broken.Forgetful()), attempt, remember=True)
    seen = Reproducibility().observe(noisy, data, context)
    found = {value.metric: value.value for value in Reproducibility().score(seen, data)}
    assert found["order_force"] > 1.0 and found["batch_energy"] > 0.1
