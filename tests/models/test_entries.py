"""Does a text or a TOML file become the model it speaks of?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlipbench.core.suite import Recipe
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.models import load
from mlipbench.models.entries import model_names, read_model, recipe_for

PAIR = Atoms("H2", [[0, 0, 0], [0, 0, 1.9]])


def write(folder: Path, text: str) -> str:
    path = folder / "m.toml"
    path.write_text("schema = 1\n" + text, encoding="utf-8")
    return str(path)


def energy(text: str) -> float:
    return float(load(read_model(text).spec, device="cpu").predict([PAIR]).energy[0])


def test_arguments_of_a_factory_reach_it(tmp_path: Path) -> None:
    spec = '[spec]\nname = "stiff"\nkind = "ase"\n[spec.options]\nfactory = "mlipbench.models.toy:Springs"\n'
    soft = energy(write(tmp_path, spec))
    stiff = energy(write(tmp_path, spec + "arguments = { stiffness_eV_per_A2 = 3.0 }\n"))
    assert soft > 0.0
    assert stiff == pytest.approx(3.0 * soft)


def test_a_factory_file_lies_beside_its_toml(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from mlipbench.models.toy import Springs as made\n", encoding="utf-8")
    found = read_model(write(tmp_path, '[spec]\nname = "m"\nkind = "ase"\noptions = { factory = "mine.py:made" }\n'))
    assert found.spec.identity.startswith("sha256:")
    assert load(found.spec, device="cpu").predict([PAIR]).energy[0] > 0.0


def test_gfn1_and_gfn2_are_what_they_say() -> None:
    pytest.importorskip("tblite")
    assert not np.isclose(energy("gfn1"), energy("gfn2"), atol=1e-3)


def test_a_model_whose_package_is_missing_can_be_listed_but_not_loaded(tmp_path: Path) -> None:
    text = write(tmp_path, '[spec]\nname = "m"\nkind = "ase"\noptions = { factory = "no_such_package.x:Y" }\n')
    with pytest.raises(NotApplicable, match="the module 'no_such_package' is not installed"):
        load(read_model(text).spec, device="cpu")


def test_every_model_that_ships_is_well() -> None:
    assert {"mace-ci", "ace-small", "ace-medium", "gaff2"} <= set(model_names())
    for name in model_names():
        assert read_model(name).spec.name == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[spec]\nname = "m"\nkind = "mace"\n', r"needs spec\.checkpoint or a \[recipe\]"),
        ('[spec]\nname = "m"\nkind = "ase"\n', r"needs options\.factory"),
        ('[spec]\nname = "m"\nkind = "mace"\ncheckpoint = "none.model"\n', r"none\.model cannot be read"),
        ('[spec]\nnaem = "m"\nkind = "ase"\n', r"unknown key 'naem'\. Did you mean 'name'"),
    ],
)
def test_a_model_file_that_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_model(write(tmp_path, text))


def test_other_weights_than_the_file_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.model").write_bytes(b"weights")
    text = f'[spec]\nname = "m"\nkind = "mace"\ncheckpoint = "w.model"\ncheckpoint_sha256 = "{"0" * 64}"\n'
    with pytest.raises(BadInput, match=r"has sha256 .* the file says 000000000000"):
        read_model(write(tmp_path, text))


def test_a_tier_changes_what_it_names_and_nothing_else() -> None:
    recipe = Recipe(
        trainer="ace", data="d", train="a", valid="v", options={"x": 1, "y": 2},
        tiers={"full": {"train": "b", "options": {"y": 3}}},
    )  # fmt: skip
    assert recipe_for(recipe, "quick", where="m").train == "a"
    full = recipe_for(recipe, "full", where="m")
    assert (full.train, full.valid, dict(full.options)) == ("b", "v", {"x": 1, "y": 3})
    wrong = Recipe(trainer="ace", data="d", train="a", valid="v", tiers={"full": {"trian": "b"}})
    with pytest.raises(BadInput, match=r"unknown key in tier full 'trian'\. Did you mean 'train'"):
        recipe_for(wrong, "full", where="m")
