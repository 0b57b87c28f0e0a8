"""Is the fast model also the accurate one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float
from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.models import load
from mlipbench.speed import ace_jax
from mlipbench.speed.comparison import Absent, Comparison, Found
from mlipbench.speed.fitting import our_fit
from mlipbench.speed.settings import OURS, Settings

BAR: Final = "<= 1"
ACE_JAX_BAR: Final = "<= 1.05"
UNIT: Final = "meV/Å"


def accuracy(settings: Settings) -> Iterator[Found]:
    """Compare force errors on the test split: trained models, then fits at equal settings beside ace-jax."""
    try:
        ours = force_rmse(settings.test, load(settings.spec(OURS), device="cpu").predict(settings.test.frames).forces)
    except NotApplicable as error:
        yield Absent(name=f"force RMSE: {OURS}", reason=str(error), bar=BAR)
        return
    for name in ("gap", "mace-ci"):
        title = f"force RMSE on {len(settings.test)} test frames: {OURS}, {name}"
        try:
            model = load(settings.spec(name), device="cpu")
        except NotApplicable as error:
            yield Absent(name=title, reason=str(error), bar=BAR)
            continue
        theirs = force_rmse(settings.test, model.predict(settings.test.frames).forces)
        yield Comparison(name=title, ours=ours, peer=theirs, ratio=ours / theirs, bar=BAR, unit=UNIT)
    for degree in settings.degrees:
        yield from beside_ace_jax(settings, degree)


def beside_ace_jax(settings: Settings, degree: int) -> Iterator[Found]:
    """Fit ours and ace-jax at equal order, total degree, cutoff, frames, E0s and weights.

    Once where both have about as many functions, and once where ours are a part of theirs.
    """
    name = f"force RMSE, order 3, total degree {degree}"
    try:
        answer = ace_jax.ask(settings, degree, is_fitted=True, is_timed=False)
    except (NotApplicable, ModelFailure) as error:
        yield Absent(name=f"{name}: our ACE, ace-jax", reason=str(error), bar=ACE_JAX_BAR)
        return
    theirs = answer.fit["force_rmse_meV_per_A"]
    for title, offset in (("", ace_jax.mean_offset(settings)), (", ours a part of theirs", 1.0)):
        basis = ace_jax.equal_basis(settings, degree, offset=offset)
        ours = our_rmse(settings, basis)
        yield Comparison(
            name=f"{name}{title}: our ACE, ace-jax {answer.version}",
            ours=ours, peer=theirs, ratio=ours / theirs, bar=ACE_JAX_BAR, unit=UNIT,
            note=f"{functions(basis).n_functions} functions of ours, {answer.n_functions} of theirs for each element; "
            f"ace-jax with its smoothness prior and of {answer.fit['ridges_tried']:g} ridges the one that is best on "
            f"validation frames; its rows took {answer.fit['assembly_cpu_ms_per_atom']:.2g} ms/atom",
        )  # fmt: skip


def our_rmse(settings: Settings, basis: Basis) -> float:
    """Return the force RMSE on the test frames of a fit of ours."""
    potential = our_fit(settings, basis, settings.train, prior_exponent=2.0).potential
    return force_rmse(
        settings.test, np.concatenate([potential.evaluate(frame).forces for frame in settings.test.frames])
    )


def force_rmse(data: Dataset, forces: Float) -> float:
    """Return the root-mean-square error of force components in meV/Å."""
    return 1e3 * float(np.sqrt(np.square(forces - data.forces).mean()))
