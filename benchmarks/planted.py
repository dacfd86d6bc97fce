"""What mining and the fairness term gain on data whose faults are known: planted bad pairs, a group at a disadvantage.

    python benchmarks/planted.py [--seeds 5] [--jobs 2] [--keep FILE] [--settings device,even] [--rows clip,...]

Presets x seeds x settings (`benchmarks/worlds.py`): SynthFundus, real dermatoscopic and X-ray images, an independent
generator; 6 epochs of the built-in model. Two ceilings: `clip` on the same pairs with the right notes, and `clip` without
the planted pairs. Each seed changes the data set (or splits and swaps of real images) and the training seed. A row is a
preset, or a preset with changed settings: with a rule of your own in FAIRVLM_PLUGINS,
`--rows "clip,dbpm+mining.rule=NAME" --keep mine.jsonl` compares it with `clip`. Finished runs are stored in --keep, one a
line; the next call continues from there. Prints the tables of docs/benchmark.md; `--into docs/benchmark.md` writes them
there. `--first-seed 100` makes other data sets: on those the settings of the presets were chosen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from scipy.stats import t as student
from sklearn.metrics import average_precision_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.worlds import NAMES, World, make_world, why_missing
from fairvlm_core import RunConfig, fit
from fairvlm_core.errors import InputError
from fairvlm_core.evaluate import zero_shot
from fairvlm_core.fairness import roc_auc
from fairvlm_core.features import PairArrays, embed, pair_arrays
from fairvlm_core.mining import RANKING_RULES, lemon_scores, margin
from fairvlm_core.models import load_clip
from fairvlm_core.train import EpochReport, FitResult, TrainState

CEILINGS = ("repaired", "left-out")
PLUS = "robustfair-plus"
MINING_ALONE, TERM_ALONE = f"{PLUS}+fairness.weight=0", f"{PLUS}+mining.enabled=false"
MAIN = ("clip", "robustfair", PLUS, "repaired")
ROWS = (
    *MAIN, "left-out", "dbpm", MINING_ALONE, TERM_ALONE, "fairclip", "a-fairclip", "fairclip-plus",
    "robustfair-released", "group-weights", "group-balanced", "group-dro", "inferred-groups", "clip-score", "lemon",
)  # fmt: skip
RIVALS = ("group-weights", "group-balanced", "group-dro", "inferred-groups", "clip-score", "lemon")
SETTINGS = {
    "none": "SynthFundus, no bad pairs",
    "even": "15 % wrong notes",
    "skewed": "wrong notes by race: 35 / 10 / 5 %",
    "heavy": "45 % wrong notes of Asian patients, 20 % of others",
    "device": "Asian patients imaged by another device",
    "device-even": "another device, and 15 % wrong notes",
    "few": "a quarter of the Asian training pairs",
    "notes": "30 % wrong notes of Asian patients",
    "labels": "25 % wrong labels of Asian patients",
    "discs-device-noisy": "independent generator: 10 % wrong notes, another device",
    "derm-swapped": "skin images, 15 % notes swapped",
    "derm-device-swapped": "skin images, women by another device, 15 % notes swapped",
    "cxr-swapped": "chest X-rays, 15 % notes swapped",
    "cxr-device": "chest X-rays, women by another device",
}
# What is trained without --rows: everything where it answers a question of docs/benchmark.md, else the main rows.
DEFAULT_ROWS = {
    "device": ROWS,
    "device-even": ROWS,
    "even": (*MAIN, "left-out", "dbpm", MINING_ALONE, "clip-score", "lemon"),
}
MARKS = ("<!-- tables begin -->", "<!-- tables end -->")
KEPT = Path(__file__).with_name("planted.jsonl")
LEMON_GRID = (0.0, 1.0, 5.0, 20.0)
Record = dict[str, Any]


def run_setting(
    setting: str,
    seed: int,
    rows: Sequence[str],
    sizes: tuple[int, int, int] | None = None,
    epochs: int | None = None,
) -> Iterator[Record]:
    """Make one data set and train every row on it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(setting, seed, sizes, Path(folder))
        clip = load_clip("tiny")
        arrays = pair_arrays(world.table, clip)
        right = dataclasses.replace(arrays, tokens=clip.tokens(list(world.repaired.frame["text"]))[0])
        for row in rows:
            run = config_of(row, {"seed": seed % 100} | ({} if epochs is None else {"epochs": epochs}))
            table, given = (world.repaired, right) if row == "repaired" else (world.table, arrays)
            if row == "left-out":
                keep = np.flatnonzero(world.kind == "clean")
                table, given = table.take(keep), part_of(arrays, keep)
            by_epoch = EpochScores(table, given)
            hook = by_epoch if row in ("clip", "robustfair") else None
            result = fit(table, run, arrays=given, clip=load_clip("tiny"), on_epoch=hook)
            record = scores(result, world.attribute) | by_epoch.record(result)
            if row != "left-out":
                record |= rankings(result, world, arrays, row)
            yield {"setting": setting, "seed": seed, "row": row} | record


def config_of(row: str, settings: dict[str, Any]) -> RunConfig:
    """Configuration of a row: a preset, a preset with changes (``PRESET+KEY=VALUE+...``), or a ceiling."""
    preset, *changes = ("clip" if row in CEILINGS else row).split("+")
    return RunConfig.build(preset, settings | dict(change.split("=", 1) for change in changes))


def part_of(arrays: PairArrays, rows: np.ndarray) -> PairArrays:
    """The arrays of some rows."""
    return PairArrays(arrays.pixels[rows], arrays.tokens[rows], arrays.cut[rows])


class EpochScores:
    """Test AUC after each epoch: what another choice of the epoch would have given. No run sees it."""

    def __init__(self, table: Any, arrays: PairArrays):
        self._test = np.flatnonzero(np.asarray(table.frame["split"], str) == "test")
        self._table, self._arrays, self._values = table, arrays, []
        self._clip = load_clip("tiny")

    def __call__(self, report: EpochReport, state: TrainState) -> None:  # noqa: ARG002
        self._clip.module.load_state_dict(state.model)
        self._clip.module.eval()
        image, _ = embed(self._clip, self._arrays, self._test)
        score = zero_shot(self._clip, image, self._table.info.class_prompts)
        self._values.append(float(roc_auc(self._table.labels[self._test], score)))

    def record(self, result: FitResult) -> Record:
        return {"test_by_epoch": self._values, "chosen": result.best_epoch} if self._values else {}


def scores(result: FitResult, attribute: str) -> Record:
    """AUC, ES-AUC by attribute, group AUC and Sinkhorn distances of the world's attribute at the end, flags."""
    groups = result.test.attributes[attribute].groups
    last = [
        line
        for line in result.history[-1].sinkhorn
        if line["quantity"] == "loss" and line["attribute"] == attribute and line["n"] >= 30
    ]
    kinds = np.asarray(result.mining.kind)
    return {
        "auc": result.test.overall.auc,
        "attribute": attribute,
        "es": {n: float(a.es_auc) for n, a in result.test.attributes.items() if isinstance(a.es_auc, float)},
        "groups": {name: group.auc for name, group in groups.items() if isinstance(group.auc, float)},
        "distance": {line["group"]: [line[name] for name in ("value", "chance", "weighted")] for line in last},
        "flagged": {name: float((kinds == name).mean()) for name in ("faulty", "noisy")},
        "step": float(np.median([epoch.step_seconds for epoch in result.history])),
    }


def rankings(result: FitResult, world: World, arrays: PairArrays, row: str) -> Record:
    """Average precision for the planted pairs, precision and recall of the flags, flag rates by group."""
    train = np.flatnonzero(np.asarray(world.table.frame["split"], str) == "train")
    kind, group = world.kind[train], world.table.attribute(world.attribute)[train]
    wrong, faulty = kind == "mismatch", np.asarray(result.mining.kind) == "faulty"
    record: Record = {"flag_rate": {g: float(result.mining.flagged[group == g].mean()) for g in np.unique(group)}}
    if not wrong.any():
        return record
    if row == "repaired":  # the ceiling: the notes as shipped, ranked by a model that was trained on the right ones
        image, text = embed(result.clip, arrays, train)
        own = margin(image, text, float(result.clip.scale.detach()), reference=None).numpy()
        return record | {"ap": float(average_precision_score(wrong, own))}
    ranked = not RANKING_RULES[result.mining.rule].ranks_loss
    own = result.mining.z if ranked else result.ledger.channel("margin")[-1]
    record["ap"] = float(average_precision_score(wrong, own))
    record["ap_loss"] = float(average_precision_score(wrong, result.ledger.losses.mean(0)))
    record["precision"] = float(wrong[faulty].mean()) if faulty.any() else None
    record["recall"] = float(faulty[wrong].mean())
    record["recall_by_group"] = {
        g: float(faulty[wrong & (group == g)].mean()) for g in np.unique(group) if (wrong & (group == g)).sum() >= 10
    }
    if (kind == "shortcut").any():
        noisy = np.asarray(result.mining.kind) == "noisy"
        record["shortcut"] = float(average_precision_score(kind == "shortcut", -own))
        record["shortcut_precision"] = float((kind == "shortcut")[noisy].mean()) if noisy.any() else None
        record["shortcut_recall"] = float(noisy[kind == "shortcut"].mean())
    if row == "clip":  # LEMoN with the settings that are best on the truth, from the same features as its preset has
        image, text = embed(result.clip, arrays, train)
        record["ap_lemon_tuned"] = max(
            float(average_precision_score(wrong, lemon_scores(image, text, beta=beta, gamma=gamma)))
            for beta in LEMON_GRID
            for gamma in LEMON_GRID
        )
    return record


# The tables ---------------------------------------------------------------------------------------------------------


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t over seeds."""
    reach = (
        student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    )
    return float(values.mean()), float(values.mean() - reach), float(values.mean() + reach)


def ratio_interval(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float, float]:
    """Fieller's 95 % interval of mean(top) / mean(bottom) over paired seeds; infinite if `bottom` may be 0."""
    n = len(top)
    centre = top.mean() / bottom.mean()
    if n < 2:
        return float(centre), np.nan, np.nan
    q = student.ppf(0.975, n - 1) ** 2 / n
    a = bottom.mean() ** 2 - q * bottom.var(ddof=1)
    b = top.mean() * bottom.mean() - q * np.cov(top, bottom)[0, 1]
    c = top.mean() ** 2 - q * top.var(ddof=1)
    if a <= 0 or b * b < a * c:
        return float(centre), -np.inf, np.inf
    root = np.sqrt(b * b - a * c)
    return float(centre), float((b - root) / a), float((b + root) / a)


class Runs:
    """The stored runs: by setting and row, then by seed."""

    def __init__(self, records: Sequence[Record]):
        self._found: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
        for record in records:
            self._found[record["setting"], record["row"]][record["seed"]] = record

    def of(self, setting: str, row: str) -> list[Record]:
        return list(self._found.get((setting, row), {}).values())

    def rows(self, setting: str) -> list[str]:
        """Rows of a setting that have runs, in the order of `ROWS`, others after them."""
        rows = [row for of_setting, row in self._found if of_setting == setting]
        return sorted(rows, key=lambda row: ROWS.index(row) if row in ROWS else len(ROWS))

    def settings(self) -> list[str]:
        return [setting for setting in SETTINGS if self.rows(setting)]

    def aligned(self, setting: str, rows: Sequence[str], metric: Callable[[Record], float]) -> list[np.ndarray]:
        """A metric of several rows, over the seeds that all of them have."""
        runs = [self._found.get((setting, row), {}) for row in rows]
        seeds = sorted(set.intersection(*map(set, runs)))
        return [np.array([metric(of_row[seed]) for seed in seeds]) for of_row in runs]


def es_auc(record: Record) -> float:
    """ES-AUC by the attribute that the setting is about."""
    return record["es"][record["attribute"]]


def mean_es(record: Record) -> float:
    return float(np.mean(list(record["es"].values())))


def auc(record: Record) -> float:
    return record["auc"]


def tables(records: list[Record]) -> str:
    """All tables of docs/benchmark.md, as Markdown."""
    runs = Runs(records)
    out = ["### At a glance", "", *_glance(runs), ""]
    for title, build in (
        ("Each half alone", _halves),
        ("Share of the loss to bad pairs that is won back", _won_back),
        ("Planted pairs that are found", _found),
        ("Flags on clean data, by group", _flag_rates),
        ("Distance between groups at the end", _distances),
        ("Which epoch is chosen", _epochs),
    ):
        lines = build(runs)
        out += [f"### {title}", "", *lines, ""] if len(lines) > 2 else []
    for setting in runs.settings():
        out += [f"### {setting}: {SETTINGS[setting]}", "", *_scores(runs, setting), ""]
    return "\n".join(out)


def _signed(values: tuple[float, float, float], scale: float = 1.0, digits: int = 4) -> str:
    centre, low, high = (scale * v for v in values)
    interval = "one seed" if np.isnan(low) else f"{low:+.{digits}f}, {high:+.{digits}f}"
    return f"{centre:+.{digits}f} [{interval}]"


def _relative(runs: Runs, setting: str, row: str, base: str = "clip", metric: Callable = es_auc) -> str:
    """Relative gain of a row, in percent."""
    mine, other = runs.aligned(setting, (row, base), metric)
    if not len(mine):
        return "–"
    gain = tuple(100 * (v - 1) for v in ratio_interval(mine, other))
    return f"{_signed(gain, digits=1)} %"


def _mean(runs: list[Record], metric: Callable[[Record], Any]) -> float | None:
    values = [value for record in runs if (value := metric(record)) is not None]
    return float(np.mean(values)) if values else None


def _cell(value: float | None, style: str = ".3f") -> str:
    return "–" if value is None else format(value, style)


def _glance(runs: Runs) -> list[str]:
    lines = [
        "| setting | seeds | ES-AUC of `clip` | `robustfair` | `robustfair-plus` | right notes | AUC of `clip` | "
        "`robustfair` − `clip` | `robustfair-plus` − `clip` |",
        "|---|---:|---:|---|---|---|---:|---|---|",
    ]
    for setting in runs.settings():
        clip = runs.of(setting, "clip")
        if not clip:
            continue
        gains = [_relative(runs, setting, row) for row in ("robustfair", PLUS, "repaired")]
        changes = []
        for row in ("robustfair", PLUS):
            mine, other = runs.aligned(setting, (row, "clip"), auc)
            changes.append(_signed(mean_interval(mine - other)) if len(mine) else "–")
        lines.append(
            f"| {SETTINGS[setting]} (`{setting}`) | {len(clip)} | {_cell(_mean(clip, es_auc))} | {' | '.join(gains)} | "
            f"{_cell(_mean(clip, auc))} | {' | '.join(changes)} |"
        )
    return lines


def _halves(runs: Runs) -> list[str]:
    lines = ["| setting | compared with | ES-AUC | AUC |", "|---|---|---|---|"]
    for setting in runs.settings():
        for row, name in ((MINING_ALONE, "mining alone (λ = 0)"), (TERM_ALONE, "term alone (no mining)")):
            cells = []
            for metric in (es_auc, auc):
                mine, other = runs.aligned(setting, (PLUS, row), metric)
                cells += [_signed(mean_interval(mine - other))] if len(mine) else []
            if cells:
                lines.append(f"| {setting} | {name} | {' | '.join(cells)} |")
    return lines


def _won_back(runs: Runs) -> list[str]:
    lines = ["| setting | row | AUC | mean ES-AUC | ES-AUC |", "|---|---|---|---|---|"]
    for setting in ("even", "skewed", "heavy", "device-even"):
        for row in runs.rows(setting):
            if row in ("clip", "repaired"):
                continue
            cells = []
            for metric in (auc, mean_es, es_auc):
                mine, clip, top = runs.aligned(setting, (row, "clip", "repaired"), metric)
                if len(mine):
                    centre, low, high = ratio_interval(mine - clip, top - clip)
                    cells.append(f"{centre:.0%} [{'one seed' if np.isnan(low) else f'{low:.0%}, {high:.0%}'}]")
            if cells:
                lines.append(f"| {setting} | `{row}` | {' | '.join(cells)} |")
    return lines


def _found(runs: Runs) -> list[str]:
    lines = [
        "| setting | row | AP of wrong notes | LEMoN, best settings on the truth | row − LEMoN | precision | recall | "
        "AP of shared markers | precision | recall |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for setting in runs.settings():
        for row in runs.rows(setting):
            of_row = [record for record in runs.of(setting, row) if "ap" in record]
            if not of_row:
                continue
            names = ("precision", "recall", "shortcut", "shortcut_precision", "shortcut_recall")
            values = [_cell(_mean(of_row, lambda record, name=name: record.get(name))) for name in names]
            mine, rival = runs.aligned(setting, (row, "clip"), lambda r: r.get("ap_lemon_tuned", r["ap"]))
            mine, _ = runs.aligned(setting, (row, "clip"), lambda r: r["ap"])
            against = _signed(mean_interval(mine - rival), digits=3) if len(mine) else "–"
            lines.append(
                f"| {setting} | `{row}` | {_cell(_mean(of_row, lambda r: r['ap']))} | "
                f"{_cell(float(rival.mean()) if len(rival) else None)} | {against} | {' | '.join(values)} |"
            )
    return lines


def _flag_rates(runs: Runs) -> list[str]:
    lines = [
        "| setting | row | flagged | by group | largest difference between groups over seeds |",
        "|---|---|---:|---|---|",
    ]
    for setting in ("none", "device"):
        for row in ("dbpm", "robustfair", PLUS):
            of_row = runs.of(setting, row)
            if not of_row:
                continue
            rates = {g: np.array([record["flag_rate"][g] for record in of_row]) for g in of_row[0]["flag_rate"]}
            words = ", ".join(f"{group} {value.mean():.2%}" for group, value in rates.items())
            pairs = [(a, b) for a in rates for b in rates if a < b]
            a, b = max(pairs, key=lambda pair: abs((rates[pair[0]] - rates[pair[1]]).mean()))
            apart = mean_interval(rates[a] - rates[b])
            total = _mean(of_row, lambda r: sum(r["flagged"].values()))
            lines.append(
                f"| {setting} | `{row}` | {_cell(total, '.2%')} | {words} | {a} − {b}: {_signed(apart, 100, 2)} points |"
            )
    return lines


def _distances(runs: Runs) -> list[str]:
    lines = [
        "| setting | row | largest distance of a group | by chance | ratio | by the miner's weights |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for setting in runs.settings():
        for row in (row for row in runs.rows(setting) if row in (*MAIN, MINING_ALONE, TERM_ALONE, *RIVALS)):
            worst = []
            for record in runs.of(setting, row):
                found = {g: values for g, values in record["distance"].items() if None not in values}
                if found:
                    worst.append(max(found.values(), key=lambda values: values[0] / max(values[1], 1e-9)))
            if worst:
                value, chance, weighted = np.mean(worst, axis=0)
                lines.append(
                    f"| {setting} | `{row}` | {value:.4f} | {chance:.4f} | {value / chance:.1f} | {weighted:.4f} |"
                )
    return lines


def _epochs(runs: Runs) -> list[str]:
    lines = [
        "| row | runs | mean loss against the run's own best epoch | 95th percentile | last epoch, mean |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in ("clip", "robustfair"):
        of_row = [r for setting in runs.settings() for r in runs.of(setting, row) if r.get("test_by_epoch")]
        if of_row:
            best = np.array([max(r["test_by_epoch"]) for r in of_row])
            lost = best - [r["test_by_epoch"][r["chosen"] - 1] for r in of_row]
            last = best - [r["test_by_epoch"][-1] for r in of_row]
            lines.append(
                f"| `{row}` | {len(of_row)} | {lost.mean():.4f} | {np.quantile(lost, 0.95):.4f} | {last.mean():.4f} |"
            )
    return lines


def _scores(runs: Runs, setting: str) -> list[str]:
    lines = [
        "| row | seeds | AUC | ES-AUC | mean ES-AUC | worst group | AUC − clip | ES-AUC − clip | flagged |",
        "|---|---:|---:|---:|---:|---:|---|---|---:|",
    ]
    for row in runs.rows(setting):
        of_row = runs.of(setting, row)
        values = (
            _cell(_mean(of_row, metric), ".4f")
            for metric in (auc, es_auc, mean_es, lambda r: min(r["groups"].values()))
        )
        versus = []
        for metric in (auc, es_auc):
            mine, clip = runs.aligned(setting, (row, "clip"), metric)
            versus.append(_signed(mean_interval(mine - clip)) if row != "clip" and len(mine) else "–")
        flagged = _mean(of_row, lambda r: sum(r["flagged"].values()))
        lines.append(
            f"| `{row}` | {len(of_row)} | {' | '.join(values)} | {' | '.join(versus)} | {_cell(flagged, '.1%')} |"
        )
    return lines


# The command --------------------------------------------------------------------------------------------------------


def _missing(options: argparse.Namespace, done: set[tuple[str, int, str]]) -> list[tuple[Any, ...]]:
    """The runs that are not stored, by data set; seeds first, so that a stopped benchmark has whole seeds."""
    sizes = tuple(int(n) for n in options.sizes.split(",")) if options.sizes else None
    jobs = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for setting in options.settings.split(","):
            rows = options.rows.split(",") if options.rows else DEFAULT_ROWS.get(setting, (*MAIN, "dbpm"))
            planted = setting not in ("none", "device", "few", "cxr-device")
            rows = [r for r in rows if (setting, seed, r) not in done and (planted or r not in CEILINGS)]
            if rows and why_missing(setting) is None:
                jobs.append((setting, seed, rows, sizes, options.epochs))
    return jobs


def _work(job: tuple[Any, ...]) -> None:
    *arguments, queue = job
    for record in run_setting(*arguments):
        queue.put(record)


def _trained(jobs: list[tuple[Any, ...]], processes: int) -> Iterator[Record]:
    """Records of all jobs, in several processes, as they are finished."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(processes, maxtasksperchild=1) as pool, Progress() as bar:
        queue = manager.Queue()
        pending = [pool.apply_async(_work, ((*job, queue),)) for job in jobs]
        for _ in bar.track(range(sum(len(rows) for _, _, rows, *_ in jobs)), description="runs"):
            while queue.empty():
                for job in filter(AsyncResult.ready, pending):
                    job.get()  # raises what went wrong
                time.sleep(0.5)
            yield queue.get()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=KEPT, help="file of finished runs, one a line")
    parser.add_argument("--settings", default=",".join(SETTINGS), help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rows", help="presets, ceilings, or presets with changed settings [depends on the setting]")
    parser.add_argument("--sizes", help="training, validation and test pairs of drawn sets")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--into", type=Path, help="a Markdown file; the tables between its two marks are replaced")
    parser.add_argument("--tables", action="store_true", help="print the tables of --keep and train nothing")
    options = parser.parse_args()
    for row in (options.rows or "clip").split(","):
        try:
            config_of(row, {})
        except (InputError, ValueError) as error:
            parser.error(f"row {row!r}: {error}")
    records = [json.loads(line) for line in options.keep.read_text().splitlines()] if options.keep.exists() else []
    if not options.tables:
        done = {(r["setting"], r["seed"], r["row"]) for r in records}
        for record in _trained(_missing(options, done), options.jobs):
            records.append(record)
            with options.keep.open("a") as file:
                file.write(json.dumps(record) + "\n")
    text = tables(records)
    print(text)
    if options.into is not None:
        before, _, rest = options.into.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        options.into.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
