"""What does a reader see who misspelt something?"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlipbench.core.suite import Row, Suite
from mlipbench.errors import BadInput
from mlipbench.files import toml
from mlipbench.files.hashes import canonical_id, sha256_of

GOOD = {"name": "s", "version": "1", "about": "", "rows": [{"name": "a", "benchmark": "speed", "data": "d"}]}


def test_plain_values_become_a_frozen_noun() -> None:
    assert toml.build(Suite, GOOD, where="s.toml").rows == (Row(name="a", benchmark="speed", data="d"),)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"abuot": ""},
            r"^s\.toml: unknown key 'abuot'\. Did you mean 'about'\? Allowed: about, error_rate, failures",
        ),
        ({"rows": [{**GOOD["rows"][0], "splti": "x"}]}, r"row 'a': unknown key 'splti'\. Did you mean 'split'\?"),
        ({"rows": [{"name": "a"}]}, r"row 'a': the key '.*benchmark' is missing"),
        ({"rows": [{**GOOD["rows"][0], "tiers": ["slow"]}]}, r"row 'a': .*'slow' does not fit: .*'quick'"),
        ({"version": 3}, r"^s\.toml: version = 3 does not fit"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        toml.build(Suite, {**GOOD, **change}, where="s.toml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("schema = 1\na = ", "is not valid TOML"),
        ("a = 1", "schema = None; this version of mlipbench reads schema = 1. Add that line"),
        ("schema = 99", "schema = 99.*Update mlipbench"),
    ],
)
def test_a_file_that_is_none_of_ours(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=sentence):
        toml.read(tmp_path / "x.toml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml cannot be read: No such file"):
        toml.read(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="cannot be read"):
        sha256_of(tmp_path / "none")


def test_an_id_depends_on_values_alone() -> None:
    assert canonical_id({"a": [1.0, {"x": 2}]}) == canonical_id({"a": (1.0, {"x": 2})})
    assert canonical_id({"a": 1}) != canonical_id({"a": 2})
    with pytest.raises(ValueError, match="Out of range"):
        canonical_id({"a": float("nan")})
