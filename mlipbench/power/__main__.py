"""The command: train models that are alike, then measure false alarms and power of the gate."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlipbench.core.result import Result
from mlipbench.core.suite import Suite
from mlipbench.data.suites import read_suite
from mlipbench.power import wrong
from mlipbench.power.alike import Kept, rows_of, scored, train, trained
from mlipbench.power.curves import smallest, svg
from mlipbench.power.pairs import LAWS, Key, Scatter, Share, judged, moved, over_models, stopped

SIZES: Final = (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4)
SINGLE: Final = 0.2
N_FAULTY: Final = 3
LEAST_MODELS: Final = 4
SAYS: Final = {
    "signs": "as measured, with random signs",
    "heavy tails": "times Student's t with 3 degrees of freedom",
    "skew": "times an exponential variate less its mean",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print markdown tables, and write them with all figures as JSON."""
    given = _parser().parse_args(arguments)
    suite = read_suite(given.suite)
    suite = replace(suite, rows=tuple(replace(row, limits=()) for row in rows_of(suite)))
    folders = train(
        given.model, suite, given.folder / "models", n=given.models, kept=Kept(share=given.share), report=_say
    )
    models = scored(folders, suite)
    found: dict[str, Any] = {
        "suite": suite.name, "model": given.model, "models": given.models, "share": given.share, "seed": 0,
    }  # fmt: skip
    lines = [*_real(models, suite, found), "", *_simulated(models, suite, found, n_pairs=given.pairs), ""]
    lines += [*_power(models, suite, found, n_pairs=given.power_pairs, figure=given.folder / "power.svg"), ""]
    lines += _faults(folders[:N_FAULTY], found)
    text = "\n".join(lines) + "\n"
    (given.folder / "power.md").write_text(text, encoding="utf-8")
    (given.folder / "power.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mlipbench.power", description=__doc__)
    parser.add_argument("--suite", default="electrolyte")
    parser.add_argument("--model", default="ace-small", help="name of a model with a recipe (default %(default)s)")
    parser.add_argument("--models", type=_several, default=30, help="how many to train (default %(default)s)")
    parser.add_argument(
        "--share",
        type=_share,
        default=0.9,
        help="of the training frames for each; 1: a bootstrap (default %(default)s)",
    )
    parser.add_argument("--pairs", type=int, default=2000, help="simulated pairs of equal models (default %(default)s)")
    parser.add_argument("--power-pairs", type=int, default=100, help="per point of a curve (default %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path("reports") / "power", help="resumable (default %(default)s)"
    )
    return parser


def _several(text: str) -> int:
    """Read a number of models: the scatter needs pairs, and faults a few of them."""
    if not text.isdigit() or int(text) < LEAST_MODELS:
        raise argparse.ArgumentTypeError(f"{text} is no number of models; {LEAST_MODELS} or more are needed")
    return int(text)


def _share(text: str) -> float:
    """Read a share of frames."""
    share = float(text)
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is no share; more than 0 and at most 1 is needed")
    return share


def _real(models: Sequence[Sequence[Result]], suite: Suite, found: dict[str, Any]) -> list[str]:
    """Hold every model against every other."""
    n = len(models)
    alarms: Counter[Key] = Counter()
    hits = np.zeros((n, n))
    for i in range(n):
        for k in range(n):
            if i != k:
                worse = stopped(judged(models[i], models[k], suite))
                hits[i, k] = bool(worse)
                alarms.update(worse)
    share, low, high = over_models(hits)
    by_model = hits.sum(axis=1).astype(int).tolist()
    single = Share(hits=int(hits[range(0, n - 1, 2), range(1, n, 2)].sum()), trials=n // 2)
    found["real"] = {
        "share": share, "low": low, "high": high, "pairs": n * (n - 1), "stopped_by_candidate": by_model,
        "disjoint": asdict(single), "alarms": _named(alarms),
    }  # fmt: skip
    worst = ", ".join(f"{row} {metric} {count}" for (row, metric), count in alarms.most_common(4))
    most = f" Of {int(hits.sum())} pairs that were stopped, {max(by_model)} have one and the same candidate."
    return [
        "| real pairs of one recipe | stopped |", "| --- | --- |",
        f"| all {n * (n - 1)} ordered pairs of {n} models (interval by bootstrap over models) |"
        f" {100 * share:.2f} % ({100 * low:.2f}–{100 * high:.2f}) |",
        f"| {single.trials} pairs without a model in common | {single.words} |",
        *([f"\nWhat was stopped: {worst}.{most}"] if worst else []),
    ]  # fmt: skip


def _simulated(models: Sequence[Sequence[Result]], suite: Suite, found: dict[str, Any], *, n_pairs: int) -> list[str]:
    """Judge simulated pairs of equal models, with tolerances and without."""
    scatter = Scatter.of(models)
    none = {metric.name: 0.0 for result in models[0] for metric in result.metrics}
    lines = [
        "| simulated pairs of equal models | scatter | stopped | by statistics alone |",
        "| --- | --- | --- | --- |",
    ]
    found["simulated"] = {}
    for law, n in zip(LAWS, (n_pairs, n_pairs // 4, n_pairs // 4), strict=True):
        rng, hits, bare = np.random.default_rng(0), 0, 0
        for _ in range(n):
            model = models[int(rng.integers(len(models)))]
            twin = moved(model, scatter.drawn(rng, law), lambda _: 0.0)
            hits += bool(stopped(judged(twin, model, suite)))
            bare += bool(stopped(judged(twin, model, suite, tolerances=none)))
        shares = Share(hits=hits, trials=n), Share(hits=bare, trials=n)
        found["simulated"][law] = {"stopped": asdict(shares[0]), "without_tolerances": asdict(shares[1])}
        lines.append(f"| {n} | {SAYS[law]} | {shares[0].words} | {shares[1].words} |")
    return lines


def _faults(folders: Sequence[Path], found: dict[str, Any]) -> list[str]:
    """Give a few models faults that are no chance, and run the checks that must find them."""
    told = wrong.found({folder.name: trained(folder) for folder in folders})
    found["faults"] = {words: {name: list(pair) for name, pair in by_model.items()} for words, by_model in told.items()}
    lines = ["| fault | check | found | failed without the fault |", "| --- | --- | --- | --- |"]
    for fault in wrong.FAULTS:
        pairs = list(told[fault.words].values())
        caught, false = (sum(pair[k] for pair in pairs) for k in (0, 1))
        lines.append(
            f"| {fault.words} | {fault.row} {fault.check} | {caught} of {len(pairs)} | {false} of {len(pairs)} |"
        )
    return lines


def _power(
    models: Sequence[Sequence[Result]], suite: Suite, found: dict[str, Any], *, n_pairs: int, figure: Path
) -> list[str]:
    """Judge candidates that are worse by known shares."""
    scatter, rng = Scatter.of(models), np.random.default_rng(1)
    on_test = {row.name for row in suite.rows if row.split == "test"}
    headline = [
        (result.row, metric.name) for result in models[0] for metric in result.metrics
        if metric.headline and metric.role == "merit" and (result.row, metric.name) in scatter.residuals[0]
    ]  # fmt: skip

    def verdict(worse: Callable[[Key], float]) -> list[Key]:
        model = models[int(rng.integers(len(models)))]
        return stopped(judged(moved(model, scatter.drawn(rng), worse), model, suite))

    def forces_on_test(size: float) -> bool:
        return bool(verdict(lambda key: size if key[0] in on_test and "force" in key[1] else 0.0))

    def only(chosen: Key, size: float) -> bool:
        return chosen in verdict(lambda key: size if key == chosen else 0.0)

    curve = []
    for size in SIZES:
        everywhere = sum(forces_on_test(size) for _ in range(n_pairs))
        # each headline number in turn
        single = sum(only(headline[k % len(headline)], size) for k in range(n_pairs))
        curve.append((size, Share(hits=everywhere, trials=n_pairs), Share(hits=single, trials=n_pairs)))
    each = [Share(hits=sum(only(key, SINGLE) for _ in range(n_pairs)), trials=n_pairs) for key in headline]
    found["power"] = [
        {"worse_by": size, "forces_on_test": asdict(a), "one_headline": asdict(b)} for size, a, b in curve
    ]  # fmt: skip
    found["one_headline"] = {" ".join(key): asdict(share) for key, share in zip(headline, each, strict=True)}
    reach = [smallest(SIZES, shares) for shares in ([a for _, a, _ in curve], [b for _, _, b in curve])]
    found["smallest_with_80_percent"] = {"forces_on_test": reach[0], "one_headline": reach[1]}
    named = {"all forces on test": [point[1] for point in curve], "one headline number": [point[2] for point in curve]}
    figure.write_text(svg(SIZES, named), encoding="utf-8")
    ends = ["more than 40 %" if end is None else f"{100 * end:.1f} %" for end in reach]
    return [
        "| worse by | all forces on `test` | one headline number, each in turn |", "| --- | --- | --- |",
        *(f"| {100 * size:.0f} % | {a.words} | {b.words} |" for size, a, b in curve),
        f"| smallest found with 80 % | {ends[0]} | {ends[1]} |", "",
        f"| one headline number worse by {100 * SINGLE:.0f} % | found |", "| --- | --- |",
        *(f"| {row} {metric} | {share.words} |" for (row, metric), share in zip(headline, each, strict=True)),
    ]  # fmt: skip


def _named(alarms: Counter[Key]) -> dict[str, int]:
    """Return counts with names that JSON can hold."""
    return {f"{row} {metric}": count for (row, metric), count in alarms.most_common()}


def _say(text: str) -> None:
    """Tell a person; results go to standard output."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
