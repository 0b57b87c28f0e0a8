"""Which model does a text stand for?"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from mlipbench.core.model import ModelSpec
from mlipbench.core.suite import ModelEntry, Recipe, Tier
from mlipbench.errors import BadInput, NotApplicable, unknown
from mlipbench.files import toml
from mlipbench.files.hashes import sha256_of
from mlipbench.files.places import shared_folder
from mlipbench.models.ase import spec_of

# Ending of a checkpoint → kind of model.
CHECKPOINTS: Final = {".model": "mace", ".pt": "mace", ".npz": "ace", ".gap": "gap"}
PICKLES: Final = ("mace",)


def model_names() -> list[str]:
    """Return the names of the models that come with this installation."""
    return sorted(path.stem for path in shared_folder("suites").glob("models/*.toml"))


def read_model(text: str) -> ModelEntry:
    """Return the model that a text on the command line or in a suite stands for.

    Args:
        text: a name from `suites/models/`, a TOML file, a checkpoint, `package.module:factory` or `file.py:factory`.

    Raises:
        BadInput: nothing of the kind is there.
    """
    if text.endswith(".toml"):
        return _entry(Path(text))
    named = shared_folder("suites") / "models" / f"{text}.toml"
    if "/" not in text and named.is_file():
        return _entry(named)
    path = Path(text)
    if path.suffix in CHECKPOINTS and ":" not in text:
        spec = ModelSpec(
            name=path.stem,
            kind=CHECKPOINTS[path.suffix],
            checkpoint=str(path.resolve()),
            checkpoint_sha256=sha256_of(path),
        )
        return ModelEntry(spec=spec, about=f"checkpoint {path}")
    if ":" in text or path.suffix == ".py":
        return ModelEntry(spec=spec_of(text), about=f"ASE calculator {text}")
    hint = "Give also a TOML file, a checkpoint (.model, .npz, .gap), package.module:factory or file.py:factory."
    raise BadInput(f"{unknown('model', text, model_names())} {hint}")


def _entry(path: Path) -> ModelEntry:
    """Read a model file; paths in it are relative to it."""
    entry = toml.build(ModelEntry, toml.read(path), where=str(path))
    if entry.recipe is not None and (path.parent / entry.recipe.data).exists():
        entry = replace(entry, recipe=replace(entry.recipe, data=str((path.parent / entry.recipe.data).resolve())))
    spec = entry.spec
    if spec.kind == "ase":
        factory = spec.options.get("factory")
        if not isinstance(factory, str):
            raise BadInput(
                f"{path}: a model of kind 'ase' needs options.factory: package.module:factory or file.py:factory."
            )
        if ".py:" in factory and not Path(factory.rsplit(":", 1)[0]).is_absolute():
            factory = str(path.parent / factory)
        spec = _factory_spec(spec, factory)
    if spec.checkpoint is not None:
        checkpoint = (path.parent / spec.checkpoint).resolve()
        found = sha256_of(checkpoint)
        if spec.kind in PICKLES and spec.checkpoint_sha256 is None:
            raise BadInput(
                f"{path}: {checkpoint} is a pickle, and loading it runs what is in it. If you trust it, add "
                f'checkpoint_sha256 = "{found}" under [spec].'
            )
        if spec.checkpoint_sha256 not in (None, found):
            raise BadInput(
                f"{path}: {checkpoint} has sha256 {found[:12]}…, "
                f"the file says {str(spec.checkpoint_sha256)[:12]}…. Restore the weights or correct the hash."
            )
        spec = replace(spec, checkpoint=str(checkpoint), checkpoint_sha256=found)
    elif entry.recipe is None and spec.kind in set(CHECKPOINTS.values()):
        raise BadInput(f"{path}: a model of kind '{spec.kind}' needs spec.checkpoint or a [recipe].")
    return replace(entry, spec=spec)


def _factory_spec(spec: ModelSpec, factory: str) -> ModelSpec:
    """Fill in what decides the answers of a calculator's factory; where its package is missing, loading will say so."""
    try:
        made = spec_of(factory, name=spec.name)
    except NotApplicable:
        return replace(spec, identity="not installed")
    return replace(
        spec, identity=made.identity, options={**made.options, **spec.options, "factory": made.options["factory"]}
    )


def recipe_for(recipe: Recipe, tier: Tier, *, where: str) -> Recipe:
    """Return the recipe with what the tier sets otherwise.

    Raises:
        BadInput: the tier sets a key that a recipe does not have.
    """
    changes = dict(recipe.tiers.get(tier, {}))
    allowed = [field.name for field in fields(Recipe) if field.name != "tiers"]
    for key in changes:
        if key not in allowed:
            raise unknown(f"key in tier {tier}", key, allowed, where=where)
    if "options" in changes:
        changes["options"] = {**recipe.options, **changes["options"]}
    return replace(recipe, tiers={}, **changes)
