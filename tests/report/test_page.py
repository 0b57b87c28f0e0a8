"""Is the page whole, harmless, and the same as its twins?"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_results import FORCE, HOSTILE, SUITE, Fake, model_rows, result, three_models, trained, value

from mlipbench.core.model import ModelSpec
from mlipbench.core.result import Measured
from mlipbench.core.suite import ModelEntry
from mlipbench.errors import BadInput
from mlipbench.report import page, table
from mlipbench.store import Store


class Reader(HTMLParser):
    """What a browser would see: elements, scripts, and the cells that carry numbers."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.ids: list[str] = []
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((given, ""))
        if given.get("id"):
            self.ids.append(given["id"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            given, text = self.scripts[-1]
            self.scripts[-1] = (given, text + data)
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.words.append(data)


@lru_cache(maxsize=4)
def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write(three_models(), SUITE, out=tmp_path_factory.mktemp("report") / "site", tier="quick")


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return written.read_text(encoding="utf-8")


def test_three_files_and_nothing_else(written: Path) -> None:
    assert sorted(path.name for path in written.parent.iterdir()) == [
        "index.html",
        "leaderboard.csv",
        "leaderboard.json",
    ]
    assert written.stat().st_size < 7e6


def test_the_same_results_give_the_same_bytes_in_any_order(finished: list[Fake], written: Path, tmp_path: Path) -> None:
    again = page.write(finished[::-1], SUITE, out=tmp_path / "again", tier="quick")
    for path in written.parent.iterdir():
        assert (again.parent / path.name).read_bytes() == path.read_bytes()


def test_hostile_names_stay_text(text: str) -> None:
    seen = read(text)
    assert len([tag for tag, _ in seen.tags if tag == "script"]) == text.count("<script")
    own = [given for given, _ in seen.scripts if given.get("type") is None]
    assert own == [{}]  # ours, the last one
    assert all(given.get("type") in (None, "application/json", "text/plain") for given, _ in seen.scripts)
    assert HOSTILE in "".join(seen.words)
    assert not any(name.startswith("on") for _, given in seen.tags for name in given)
    assert not any(tag in ("b", "i") and "single" in str(given) for tag, given in seen.tags)


def test_hostile_names_stay_text_inside_figures(text: str) -> None:
    for given, data in read(text).scripts:
        if given.get("type") == "application/json":
            assert "<" not in data and ">" not in data and "&" not in data
            spec = json.loads(data)
            names = [trace.get("name", "") for trace in spec["data"]]
            names += [
                label for trace in spec["data"] if trace["type"] == "bar"
                for label in trace["y" if trace["orientation"] == "h" else "x"]
            ]  # fmt: skip
            assert all(isinstance(name, str) for name in names)
            assert not any("<" in name for name in names)  # plotly reads tags in names, so they are escaped twice


def test_nothing_is_loaded_from_outside(text: str) -> None:
    seen = read(text)
    for tag, given in seen.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
        assert "src" not in given and "srcset" not in given
        href = given.get("href")
        assert href is None or href.startswith("#") or href in ("leaderboard.json", "leaderboard.csv")
    style = "".join(seen.styles) + "".join(str(given.get("style", "")) for _, given in seen.tags)
    assert not re.search(r"@import|url\s*\(|https?:", style)
    own = next(data for given, data in seen.scripts if given.get("type") is None)
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(", own)


def test_the_policy_lets_only_our_own_scripts_run(text: str) -> None:
    seen = read(text)
    policy = next(given["content"] for tag, given in seen.tags if given.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "'unsafe-eval'" not in policy and "'unsafe-inline'" not in policy.split(";")[1]
    ours = [data for given, data in seen.scripts if given.get("type") in (None, "text/plain")]
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in ours}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests
    assert len(digests) == 2


def test_every_link_leads_somewhere_and_ids_are_unique(text: str) -> None:
    seen = read(text)
    assert len(seen.ids) == len(set(seen.ids))
    targets = {href[1:] for _, given in seen.tags if (href := given.get("href")) and href.startswith("#")}
    assert targets <= set(seen.ids)
    drawn = {given["data-figure"] for _, given in seen.tags if "data-figure" in given}
    assert drawn == {name for name in seen.ids if name.startswith("figure-")}


def shown(text: str) -> dict[int, float]:
    """Return every number that a table shows, by the place of its record in the twin."""
    return {
        int(given["data-record"] or ""): float(given["data-value"] or "nan")
        for tag, given in read(text).tags
        if tag == "td" and "data-record" in given
    }


def recorded(records: list[dict[str, Any]]) -> dict[int, float]:
    """Return every number of the twin that belongs to a row."""
    return {place: record["value"] for place, record in enumerate(records) if record["row"] and record["metric"]}


def test_the_twin_holds_what_the_page_shows(written: Path, text: str) -> None:
    document = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))
    assert shown(text) == pytest.approx(recorded(document["records"]), rel=1e-5)


def test_a_changed_number_is_seen_by_that_test(finished: list[Fake], text: str) -> None:
    def changed(factor: float) -> dict[int, float]:
        records = table.records(table.leaderboard([job.result for job in finished], SUITE))
        place = next(i for i, record in enumerate(records) if record["row"] and record["metric"])
        records[place]["value"] *= factor
        return recorded(records)

    assert shown(text) == pytest.approx(changed(1.0), rel=1e-5)
    assert shown(text) != pytest.approx(changed(1.0001), rel=1e-5)


def test_a_number_stands_in_the_line_of_its_model(written: Path, text: str) -> None:
    records = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))["records"]
    model, n_seen = "", 0
    for tag, given in read(text).tags:
        if tag == "th":
            model = given.get("data-text") or ""
        if tag == "td" and "data-record" in given and model:
            n_seen += 1
            assert records[int(given["data-record"] or "")]["model"] == model
    assert n_seen > 20


def test_outcomes_have_their_words_colours_and_reasons(text: str) -> None:
    seen = read(text)
    words = "".join(seen.words)
    states = {
        str(given["class"]).split()[1] for tag, given in seen.tags if tag == "td" and "state" in str(given.get("class"))
    }
    assert states == {"failed", "skipped", "broken"}
    assert "the model's forces are not finite in frame 3" in words
    assert "mlipbench data vacuum ecemc_gfn1" in words
    assert "KeyError: 'x'" in words and "File speed.py, line 1 <oops>" in words
    assert "deciding check failed" in words and "E0s were fitted" in words


def test_tables_can_be_sorted_by_keyboard_and_say_how_they_are(text: str) -> None:
    seen = read(text)
    buttons = [given for tag, given in seen.tags if tag == "button"]
    assert all(given.get("type") == "button" for given in buttons)
    assert len([given for given in buttons if given.get("data-column")]) > 10
    assert [given["aria-sort"] for _, given in seen.tags if "aria-sort" in given] == ["descending"]


def test_parameters_that_are_none_are_left_out(tmp_path: Path) -> None:
    parameters = {"max_frames": None, "lone_elements": ["Li", "Na"], "n_frames": 6}
    job = Fake(result("errors-test", "only", Measured(values=(value(FORCE, 50.0),)), parameters=parameters))
    text = page.write([job], SUITE, out=tmp_path).read_text("utf-8")
    assert "lone_elements Li Na · n_frames 6" in text and "None" not in text


def test_figures_have_one_legend_each(text: str) -> None:
    seen = read(text)
    assert len([tag for tag, _ in seen.tags if tag == "figure"]) == len([
        tag for tag, given in seen.tags if given.get("class") == "key"
    ]) + text.count("<h4>Energies</h4>")  # points of one kind need none
    assert {given["aria-pressed"] for _, given in seen.tags if "data-meta" in given} == {"true"}


def test_without_results_there_is_a_page_that_says_what_to_do(tmp_path: Path) -> None:
    text = page.write([], SUITE, out=tmp_path).read_text("utf-8")
    assert "mlipbench run electrolyte" in text
    assert len(text) < 100_000  # no plotly without figures


def test_one_model_without_figures(tmp_path: Path) -> None:
    job = Fake(result("errors-test", "only", Measured(values=(value(FORCE, 50.0),))))
    text = page.write([job], SUITE, out=tmp_path).read_text("utf-8")
    assert "only" in text and "★</span>" not in text
    assert len(text) < 100_000


def test_every_one_of_many_models_has_its_verdict(tmp_path: Path) -> None:
    jobs = [Fake(result("errors-test", f"m{i}", Measured(values=(value(FORCE, 50.0 + i),)))) for i in range(9)]
    seen = read(page.write(jobs, SUITE, out=tmp_path).read_text("utf-8"))
    assert len([tag for tag, given in seen.tags if tag == "li" and "verdict" in str(given.get("class"))]) == 9
    assert len(seen.ids) == len(set(seen.ids))


def test_cards_show_training_and_entries(tmp_path: Path) -> None:
    entry = ModelEntry(spec=ModelSpec(name="b", kind="mm", level_of_theory="GAFF2"), about="A <classical> field.")
    jobs = [*model_rows("a", 1.0, 1), *model_rows("b", 1.1, 2), Fake(trained("a"))]
    text = page.write(jobs, SUITE, out=tmp_path, entries={"b": entry}).read_text("utf-8")
    words = html.unescape(text)
    assert "A <classical> field." in words and "A <classical> field." not in text
    assert "train_quick" in words and "3 min 7 s" in words and "12345" in words
    assert "b stands for GAFF2, the labels are GFN1-xTB" in words


def test_results_from_a_store_make_the_same_page(finished: list[Fake], text: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for job in finished:
        store.write(job.result, views=job.views())
    again = page.write(list(store.all()), SUITE, out=tmp_path / "site", tier="quick")
    assert again.read_text("utf-8") == text


def test_a_page_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        page.write([], SUITE, out=tmp_path / "file" / "site")


def test_the_old_page_stays_when_the_new_one_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = page.write([], SUITE, out=tmp_path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        page.write([Fake(trained("a"))], SUITE, out=tmp_path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3
