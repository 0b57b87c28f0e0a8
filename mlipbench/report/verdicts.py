"""What does the leaderboard say in plain words?"""

from __future__ import annotations

import json
from collections.abc import Mapping

from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.policy import counted, metric_score
from mlipbench.report.board import State
from mlipbench.report.scores import first_line, headline_values, past_limit, role
from mlipbench.report.table import Leaderboard
from mlipbench.report.words import count, listed, measured, number

LITTLE_SKILL = 0.7  # of the error of a model that knows nothing


def sentence(board: Leaderboard, model: str) -> str:
    """Return the verdict on one model: what speaks against it first, then how good it is, then its weakest number."""
    parts = [
        *_against(board, model), *_ignorance(board, model), _how_good(board, model), _standing(board, model),
        _weakest(board, model),
    ]  # fmt: skip
    return " ".join(part for part in parts if part)


def tone(board: Leaderboard, model: str) -> str:
    """Return "bad", "good", "fair", "poor" or "none", for the colour of a verdict."""
    overall = board.scores[model]
    failed = any(board.cell(model, line.name).state == "failed" for line in board.rows)
    if failed or any(check.state == "failed" and check.decides for check in board.checks[model]):
        return "bad"
    return "none" if overall.value is None else _grade(board, model, overall.value)


def _grade(board: Leaderboard, model: str, value: float) -> str:
    """Name a score; no model is good that at something hardly beats knowing nothing."""
    if value >= 0.7 and not unskilled(board, model):
        return "good"
    return "fair" if value >= 0.35 else "poor"


def unskilled(board: Leaderboard, model: str) -> list[tuple[str, Metric, MetricValue]]:
    """Return row, metric and value of headline numbers at which a model hardly beats one that knows nothing."""
    out = []
    for line in board.rows:
        if line.grade != "validation":
            continue
        for metric, value in headline_values(line, board.cell(model, line.name)):
            is_error = metric.better == "lower" and role(line, metric) == "merit"
            told = counted(metric, value, policy=board.policy).value  # as what knows nothing is counted
            if is_error and value.zero is not None and told > LITTLE_SKILL * value.zero:
                out.append((line.name, metric, value))
    return out


def _ignorance(board: Leaderboard, model: str) -> list[str]:
    """Say where a model hardly beats one that knows nothing."""
    found = unskilled(board, model)
    if not found:
        return []
    told = [
        f"{metric.title} on {row} ({measured(value)} against {number(value.zero or 0.0)})"
        for row, metric, value in found
    ]
    return [f"Hardly better than a model that knows nothing: {listed(told, at_most=2)}."]


def _against(board: Leaderboard, model: str) -> list[str]:
    """Say what failed, and what is past a limit."""
    out = []
    broken = [check.title for check in board.checks[model] if check.state == "failed" and check.decides]
    if broken:
        out.append(f"Fails {count(len(broken), 'deciding check')} ({listed(broken, at_most=3)}).")
    failed = [line.name for line in board.rows if board.cell(model, line.name).state == "failed"]
    if failed:
        out.append(f"Failed on {listed(failed)}, which counts as 0.")
    past = [
        f"{line.name} {metric.title}"
        for line in board.rows if line.grade != "verification"
        for metric, value in headline_values(line, board.cell(model, line.name))
        if any(past_limit(x, value.value) for x in line.row.limits if x.metric == metric.name and not x.part)
    ]  # fmt: skip
    if past:
        out.append(f"Past the suite's limit: {listed(past)}.")
    return out


def _how_good(board: Leaderboard, model: str) -> str:
    """Say the composite and what it rests on."""
    overall = board.scores[model]
    if overall.value is None:
        return "No accuracy row has given a score yet."
    states = [board.cell(model, line.name).state for line in board.rows if line.grade == "validation"]
    rest = [
        words for state, words in (("skipped", "skipped"), ("broken", "not run"), ("absent", "not run"))
        if state in states
    ]  # fmt: skip
    missing = f" ({listed(list(dict.fromkeys(rest)))}: {overall.rows - overall.scored})" if rest else ""
    rows = f"all {overall.rows}" if overall.scored == overall.rows else f"{overall.scored} of {overall.rows}"
    grade, place = _grade(board, model, overall.value), board.standings.get(model)
    where = "" if place is None or len(board.models) < 2 else f", place {place.words} of {len(board.standings)}"
    return f"Scores {overall.value:.2f} of 1 ({grade}{where}) over {rows} accuracy rows{missing}."


def _standing(board: Leaderboard, model: str) -> str:
    """Say how often it leads, and how often clearly so."""
    best = clearly = level = compared = 0
    for line in board.rows:
        if line.grade != "validation":
            continue
        for metric in line.headline:
            first, tied = board.leaders(line, metric.name)
            if first is None or board.cell(model, line.name).value(metric.name) is None:
                continue
            compared += 1
            best += first == model
            clearly += first == model and not tied
            level += model in tied
    if not compared:
        return ""
    if not best and not level:
        return f"Behind the best in all {compared} headline numbers compared."
    if not best:
        return f"Level with the best in {level} of {compared} headline numbers."
    if clearly == best + level:
        return f"Clearly best in {best} of {compared} headline numbers."
    return (
        f"Best or level with the best in {best + level} of {compared} headline numbers, "
        f"clearly ahead in {clearly or 'none'}."
    )


def _weakest(board: Leaderboard, model: str) -> str:
    """Name the headline number with the lowest score, when it is not a good one."""
    found = [
        (
            metric_score(metric, value, policy=board.policy),
            f"{metric.title}, {measured(value)} {metric.unit}".strip(), line.name,
        )
        for line in board.rows if line.grade == "validation"
        for metric, value in headline_values(line, board.cell(model, line.name))
        if role(line, metric) == "merit"
    ]  # fmt: skip
    if not found or min(found)[0] >= 0.7:
        return ""
    _, what, row = min(found)
    return f"Weakest: {what} on {row}."


def incomparable(board: Leaderboard) -> list[str]:
    """Return a warning for each row whose cells were not measured alike."""
    out = []
    for line in board.rows:
        groups: dict[str, list[str]] = {}
        for model in board.models:
            cell = board.cell(model, line.name)
            if cell.results and cell.state == "measured":
                groups.setdefault(cell.conditions, []).append(model)
        if len(groups) > 1:
            sets = " | ".join(listed(models) for models in groups.values())
            differs = listed(_what_differs(list(groups)))
            out.append(f"{line.name}: not measured alike ({differs} differ), so compare only within: {sets}.")
    return out


def _what_differs(conditions: list[str]) -> list[str]:
    """Name what is not the same in all conditions; each is the text of `Cell.conditions`."""
    names = ("the data", "splits", "observation versions", "score versions", "parameters", "seeds")
    jobs = [json.loads(text) for text in conditions]
    if len({len(job) for job in jobs}) > 1:
        return ["seeds"]
    return [
        name for i, name in enumerate(names)
        if len({json.dumps([entry[i] for entry in job], sort_keys=True) for job in jobs}) > 1
    ]  # fmt: skip


def other_theory(board: Leaderboard, levels: Mapping[str, str]) -> dict[str, str]:
    """Return a warning for each model whose own level of theory is not that of the labels.

    Args:
        board: the leaderboard.
        levels: level of theory of each model; empty when unknown.
    """
    labels = sorted({line.level_of_theory for line in board.rows if line.level_of_theory})
    out = {}
    for model in board.models:
        level = levels.get(model, "")
        others = [label for label in labels if label.casefold() != level.casefold()]
        if level and others:
            out[model] = (
                f"{model} stands for {level}, the labels are {listed(others)}: its errors also hold the difference "
                "between the two."
            )
    return out


def reasons(board: Leaderboard) -> list[tuple[str, str, State, str, str]]:
    """Return (model, row, state, first line of the reason, the rest) of every cell without values."""
    out: list[tuple[str, str, State, str, str]] = []
    for line in board.rows:
        for model in board.models:
            cell = board.cell(model, line.name)
            if cell.state != "measured":
                first = first_line(cell.reason)
                rest = cell.reason.strip().removeprefix(first).strip("\n")
                out.append((model, line.name, cell.state, first, rest))
    order = {"failed": 0, "broken": 1, "absent": 2, "skipped": 3}
    return sorted(out, key=lambda entry: order[entry[2]])
