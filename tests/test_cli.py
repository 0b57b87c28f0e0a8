"""What does a person at a terminal see, and with which exit code?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made import recipe

from mlipbench.cli import main
from mlipbench.store import Store

TOY = "mlipbench.models.toy:"


def run(*arguments: str, where: Path) -> int:
    return main([*arguments, "--store", str(where / "store")])


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mlipbench.cli import parser; parser().format_help();"
        "print([m for m in ('numpy', 'ase', 'torch', 'dask', 'pydantic', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_run_writes_a_page_and_its_twins(
    tiny_suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("run", str(tiny_suite), "--executor", "serial", where=tmp_path) == 0
    said = capsys.readouterr()
    assert "Springs · errors: measured" in said.err
    assert "leaderboard: reports/site/index.html" in said.err
    assert "Force RMSE" in said.out
    site = tmp_path / "reports" / "site"
    assert {path.name for path in site.iterdir()} >= {"index.html", "leaderboard.json", "leaderboard.csv"}
    text = (site / "leaderboard.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_run_ends_with_two_when_nothing_was_measured(
    tiny_suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--executor", "serial", "--out", str(tmp_path / "site"))
    assert run("run", str(tiny_suite), "--model", TOY + "CopperOnly", *out, where=tmp_path) == 2
    assert "nothing was measured" in capsys.readouterr().err
    assert (
        run("run", str(tiny_suite), "--model", TOY + "ReturnsNaN", "--model", TOY + "Springs", *out, where=tmp_path)
        == 0
    )


def test_a_user_brings_a_file_of_frames_and_a_file_of_code(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from mlipbench.models.toy import Springs\ndef calculator():\n    return Springs()\n", "utf-8"
    )
    arguments = ("--model", f"{tmp_path / 'mine.py'}:calculator", "--data", str(tiny / "frames.xyz"))
    where = ("--executor", "serial", "--out", str(tmp_path / "site"))
    assert run("run", "smoke", *arguments, *where, where=tmp_path) == 0
    records = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))["records"]
    rmse = [r["value"] for r in records if r["row"] == "errors" and r["metric"] == "force_rmse" and not r["part"]]
    assert len(rmse) == 1
    assert rmse[0] < 1e-4
    skipped = [r for r in records if r["row"] == "intra-inter"]
    assert skipped[0]["outcome"] == "skipped"
    assert "vacuum labels" in skipped[0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "the following arguments are required: suite"),
        (["rnu", "smoke"], "invalid choice: 'rnu'"),
        (["run", "smok"], "unknown suite 'smok'. Did you mean 'smoke'? Known: descriptors, dynamics"),
        (["run", "smoke", "--model", "mace-cy"], "unknown model 'mace-cy'. Did you mean 'mace-ci'?"),
        (["run", "smoke", "--model", "nowhere.py:x"], "nowhere.py"),
        (["run", "smoke", "--model", "ase.calculators.emt:EMMT"], "EMMT"),
        (["run", "smoke", "--data", "nowhere.xyz"], "nowhere.xyz: there is no such file"),
        (["run", "smoke", "--executor", "slurm", "--model", TOY + "Springs"], "unknown executor 'slurm'"),
        (["run", "smoke", "--workers", "0"], "0 is not a positive number"),
        (["run", "smoke", "--training-seeds", "0"], "training_seeds = 0, and it must be 1 or more"),
        (["run", "smoke", "--tier", "slow"], "invalid choice: 'slow'"),
        (["train", "gaff2"], "model gaff2 has no recipe"),
        (["report", "smoke"], "holds nothing of suite smoke, tier quick. Run it first: mlipbench run smoke"),
        (["gate", "smoke", "--candidate", "x.toml"], "x.toml cannot be read"),
        (["data", "lint", "nothing"], "unknown data set 'nothing'"),
        (["data", "generate", "nothing"], "unknown data set to generate 'nothing'"),
        (["check", "suiite"], "unknown model 'suiite'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_three(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    said = capsys.readouterr().err
    assert sentence in said
    assert code == 3
    assert "Traceback" not in said


def test_what_is_there_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in (
        "smoke",
        "electrolyte",
        "mace-ci",
        "ace-medium",
        "gaff2",
        "ecemc_gfn1",
        "energy_force_stress",
        "speed",
    ):
        assert name in said


def test_check_validates_everything_that_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "smoke", "electrolyte", "ecemc_gfn1", "mace-ci", "ace-medium", "gaff2"]) == 0
    assert "rows are well" in capsys.readouterr().out


def test_lint_says_what_a_careful_reader_should_know(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "lint", str(tiny)]) == 0
    assert "No vacuum labels" in capsys.readouterr().err


def test_gate_has_four_ends(
    tiny_suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "m.py"
    file.write_text(
        "from mlipbench.models.toy import Springs\n"
        "def good():\n    return Springs()\n"
        "def bad():\n    return Springs(stiffness_eV_per_A2=3.0)\n", encoding="utf-8",
    )  # fmt: skip
    good, bad = f"{file}:good", f"{file}:bad"
    for model in (good, bad):
        assert run("run", str(tiny_suite), "--model", model, "--executor", "serial", where=tmp_path) == 0
    assert run("gate", str(tiny_suite), "--candidate", good, where=tmp_path) == 0
    assert run("gate", str(tiny_suite), "--candidate", bad, where=tmp_path) == 1, "past its limit"
    assert run("gate", str(tiny_suite), "--candidate", TOY + "Springs", where=tmp_path) == 2, "never run"
    assert run("gate", str(tiny_suite), "--candidate", good, "--baseline", "none.json", where=tmp_path) == 3
    capsys.readouterr()
    assert run("gate", str(tiny_suite), "--candidate", good, "--write-baseline", where=tmp_path) == 0
    assert (tmp_path / "reports" / "baseline" / "tinysuite.json").is_file()
    assert run("gate", str(tiny_suite), "--candidate", good, where=tmp_path) == 0
    text = tiny_suite.read_text(encoding="utf-8")
    tiny_suite.write_text(text.replace("limits =", "#limits ="), encoding="utf-8")
    assert run("gate", str(tiny_suite), "--candidate", bad, "--against", "m-good", where=tmp_path) == 1, (
        "worse than the baseline"
    )


def test_gate_does_not_judge_what_was_measured_on_an_older_form(
    tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "m.py"
    file.write_text("from mlipbench.models.toy import Springs\ndef c():\n    return Springs()\n", encoding="utf-8")
    assert run("run", str(tiny_suite), "--model", f"{file}:c", "--executor", "serial", where=tmp_path) == 0
    assert run("gate", str(tiny_suite), "--candidate", f"{file}:c", where=tmp_path) == 0
    file.write_text(file.read_text("utf-8").replace("Springs()", "Springs(length_A=3.0)"), encoding="utf-8")
    assert run("gate", str(tiny_suite), "--candidate", f"{file}:c", where=tmp_path) == 2


def test_a_recipe_is_trained_once_scored_again_and_reported(
    tiny: Path, tiny_suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, where = recipe(tiny, tmp_path), ("--executor", "serial")
    assert run("train", model, *where, where=tmp_path) == 0
    assert "weights: " in capsys.readouterr().err
    out = ("--out", str(tmp_path / "site"))
    assert run("run", str(tiny_suite), "--model", model, *where, *out, where=tmp_path) == 0
    assert "3 jobs, 1 finished before" in capsys.readouterr().err
    assert run("score", str(tiny_suite), where=tmp_path) == 0
    assert "2 results, 0 scored again" in capsys.readouterr().err
    assert run("report", str(tiny_suite), *out, where=tmp_path) == 0
    wrong = Path(model).read_text("utf-8").replace("l_max", "l_maks")
    Path(model).write_text(wrong, encoding="utf-8")
    assert run("train", model, *where, where=tmp_path) == 3
    assert "'l_maks'. Did you mean 'l_max'" in capsys.readouterr().err


def test_what_nobody_foresaw_is_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def surprise(_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("mlipbench.verbs.TABLE", {"list": surprise})
    assert main(["list"]) == 2
    assert "this should not have happened" in capsys.readouterr().err


def test_two_runs_on_one_store_at_once(tiny_suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path / "store").lock():
        assert run("run", str(tiny_suite), "--executor", "serial", where=tmp_path) == 3
    assert "is in use by another run" in capsys.readouterr().err


def test_a_store_that_cannot_be_written_ends_with_three(
    tiny_suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").write_text("a file, not a folder", encoding="utf-8")
    assert run("run", str(tiny_suite), "--executor", "serial", where=tmp_path) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_a_disk_that_fills_up_in_the_middle_keeps_what_was_finished(tiny_suite: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full disk: writing past it is refused by the system."""
    out = ["--executor", "serial", "--out", str(tmp_path / "site"), "--store", str(tmp_path / "store")]
    assert main(["run", str(tiny_suite), *out]) == 0
    before = sorted((tmp_path / "store").glob("*/*/*/result.json"))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600));"
        "from mlipbench.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "run", str(tiny_suite), "--model", TOY + "ReturnsNaN", *out]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 3, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted((tmp_path / "store").glob("*/*/*/result.json")) == before
