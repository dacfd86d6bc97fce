"""What mining and the fairness term win back, measured on planted bad pairs.

    python benchmarks/planted.py [--seeds 5] [--jobs 2] [--keep FILE] [--settings skewed,heavy] [--rows clip,...]

Presets x seeds x noise settings on SynthFundus (2,000 training, 400 validation, 3,000 test pairs; 6 epochs of the built-in
model), with two ceilings: `clip` on the same pairs with the planted ones repaired, and `clip` with them left out. Each seed
changes both the data set and the training seed. A row is a preset, or a preset with changed settings: with a rule of your
own in FAIRVLM_PLUGINS, `--rows "clip,dbpm+mining.rule=NAME" --keep mine.jsonl` compares it with `clip`. Finished runs are
stored in --keep, one a line; the next call continues from there. Prints the tables of docs/benchmark.md;
`--into docs/benchmark.md` writes them there.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from scipy.stats import t as student
from sklearn.metrics import average_precision_score

from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.errors import InputError
from fairvlm_core.features import PairArrays, embed, pair_arrays
from fairvlm_core.mining import RANKING_RULES, margin
from fairvlm_core.models import load_clip
from fairvlm_core.synth import SynthConfig, synthesize, write_synth
from fairvlm_core.train import FitResult

SETTINGS: dict[str, float | dict[str, float]] = {
    "none": 0.0,
    "even": 0.15,
    "skewed": {"Asian": 0.35, "Black": 0.10, "White": 0.05},
    "heavy": {"Asian": 0.45, "*": 0.20},
}
CEILINGS = ("repaired", "left-out")
AVERAGED = "clip-averaged"  # clip with the average of weights of robustfair-plus, and nothing else of it
ROWS = (
    "clip", "repaired", "robustfair-plus", "robustfair", "robustfair-released", "left-out", "dbpm", "fairclip",
    "a-fairclip", "fairclip-plus", AVERAGED,
)  # fmt: skip
WON_BACK = ("dbpm", "robustfair", "robustfair-released", "robustfair-plus")
SHORTCUTS = 0.03
MARKS = ("<!-- tables begin -->", "<!-- tables end -->")
KEPT = Path(__file__).with_name("planted.jsonl")
CXR = Path(__file__).resolve().parents[2] / "shared/data/cxr"
CXR_SETTINGS = {"cxr, none": 0.0, "cxr": 0.15}
CXR_TITLES = {"cxr, none": "X-rays as they come", "cxr": "X-rays with swapped notes"}
Record = dict[str, Any]


def run_setting(
    setting: str, seed: int, rows: list[str], sizes: tuple[int, int, int], epochs: int | None = None
) -> Iterator[Record]:
    """Make one data set and train every row on it."""
    torch.set_num_threads(1)
    config = SynthConfig(
        n_train=sizes[0], n_val=sizes[1], n_test=sizes[2], seed=2000 + seed, mismatch_rate=SETTINGS[setting],
        shortcut_rate=0.0 if setting == "none" else SHORTCUTS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        data = synthesize(config, workers=1)
        table = PairTable.read(write_synth(data, Path(folder) / "data"))
        clip = load_clip("tiny")
        arrays = pair_arrays(table, clip)
    planted = data.planted.set_index("pair_id").loc[table.pair_ids]
    kind = planted["kind"].to_numpy(str)
    right = dataclasses.replace(arrays, tokens=clip.tokens(list(planted["clean_text"]))[0])
    for row in rows:
        settings: dict[str, Any] = {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
        run = config_of(row, settings)
        if row == "left-out":
            keep = np.flatnonzero(kind == "clean")
            result = fit(table.take(keep), run, arrays=part_of(arrays, keep), clip=load_clip("tiny"))
            record = scores(result)
        else:
            result = fit(table, run, arrays=right if row == "repaired" else arrays, clip=load_clip("tiny"))
            record = scores(result)
            record |= rankings(result, table, arrays, kind, row)
        yield {"setting": setting, "seed": seed, "row": row} | record


def config_of(row: str, settings: dict[str, Any]) -> RunConfig:
    """Configuration of a row: a preset, a preset with changes (``PRESET+KEY=VALUE+...``), a ceiling or `AVERAGED`."""
    if row == AVERAGED:
        return RunConfig.build("clip", settings | {"averaging": RunConfig.build("robustfair-plus").averaging})
    preset, *changes = ("clip" if row in CEILINGS else row).split("+")
    return RunConfig.build(preset, settings | dict(change.split("=", 1) for change in changes))


def part_of(arrays: PairArrays, rows: np.ndarray) -> PairArrays:
    """The arrays of some rows."""
    return PairArrays(arrays.pixels[rows], arrays.tokens[rows], arrays.cut[rows])


def scores(result: FitResult) -> Record:
    """AUC, ES-AUC, AUC of the worst group with at least 50 patients, first and last Sinkhorn divergence, flagged share."""
    attributes = result.test.attributes
    worst = [
        group.auc
        for attribute in attributes.values()
        for group in attribute.groups.values()
        if group.n >= 50 and isinstance(group.auc, float)
    ]
    loss = [[line["value"] for line in epoch.sinkhorn if line["quantity"] == "loss"] for epoch in result.history]
    flagged = result.mining.n_flagged
    return {
        "auc": result.test.overall.auc,
        "worst": min(worst),
        "es": {name: float(attribute.es_auc) for name, attribute in attributes.items()},
        "sinkhorn": [float(np.mean(loss[0])), float(np.mean(loss[-1]))],
        "flagged": sum(flagged.values()) / len(result.mining),
        "down": float(np.mean(result.mining.weight < 0.5)),
        "step": float(np.median([epoch.step_seconds for epoch in result.history])),
    }


def rankings(result: FitResult, table: PairTable, arrays: PairArrays, kind: np.ndarray, row: str) -> Record:
    """Average precision for the planted pairs, by mean loss and by the row's own ranking, for all pairs and by race."""
    train = np.flatnonzero(np.asarray(table.frame["split"], str) == "train")
    kind = kind[train]
    race = table.attribute("race")[train]
    flagged = result.mining.flagged
    rates = {group: float(flagged[race == group].mean()) for group in np.unique(race)}
    record: Record = {"flag_rate": rates}
    if not (kind == "mismatch").any():
        return record
    if row == "repaired":  # the ceiling: the notes with planted errors, ranked by a model trained on the right notes
        own = mean_loss = ceiling(result, arrays, train)
    else:
        own, mean_loss = result.ledger.channel("margin")[-1], result.ledger.losses.mean(0)
        record["ap_margin"] = float(average_precision_score(kind == "mismatch", own))
        if not RANKING_RULES[result.mining.rule].ranks_loss:
            own = result.mining.z
    precision = average_precision_score
    record["ap_loss"] = float(precision(kind == "mismatch", mean_loss))
    record["ap"] = float(precision(kind == "mismatch", own))
    record["shortcut_loss"] = float(precision(kind == "shortcut", -mean_loss))
    record["shortcut"] = float(precision(kind == "shortcut", -own))
    for name, planted, rank in (("ap_by_race", "mismatch", own), ("shortcut_by_race", "shortcut", -own)):
        record[name] = {
            group: float(precision((kind == planted)[race == group], rank[race == group]))
            for group in np.unique(race)
            if (kind == planted)[race == group].any()
        }
    return record


def ceiling(result: FitResult, shipped: PairArrays, train: np.ndarray) -> np.ndarray:
    """Margins of the notes with planted errors under a model that was trained on the right notes; the worst are largest."""
    image, text = embed(result.clip, shipped, train)
    return margin(image, text, float(result.clip.scale.detach()), reference=None).numpy()


def run_cxr(folder: Path, setting: str, seed: int, rows: Sequence[str]) -> Iterator[Record]:
    """Train on real X-rays, unchanged or with 15 % of the training notes swapped with notes of the other label."""
    torch.set_num_threads(1)
    table = PairTable.read(folder)
    rng = np.random.default_rng(seed)
    train = np.asarray(table.frame["split"], str) == "train"
    count = round(CXR_SETTINGS[setting] * train.sum() / 2)
    bad = np.zeros(len(table), bool)
    with_label = [rng.permutation(np.flatnonzero(train & (table.labels == label)))[:count] for label in (0, 1)]
    notes = table.frame["text"].to_numpy(object).copy()
    for a, b in zip(*with_label, strict=True):
        notes[a], notes[b] = notes[b], notes[a]
        bad[[a, b]] = True
    clip = load_clip("tiny")
    right = pair_arrays(table, clip)
    swapped = dataclasses.replace(right, tokens=clip.tokens(list(notes))[0])
    frame = table.frame.assign(text=notes)  # the mining rule also reads the words of the notes
    columns = ["pair_id", "patient_id", "split", "label", "text", "image", *table.attributes]
    plain = frame[columns].astype({name: str for name in ("split", *table.attributes)})
    shipped = PairTable.from_frame(plain, attributes=table.attributes, root=table.root, prompts=table.info.prompts)
    for row in rows:
        run = config_of(row, {"seed": seed})
        source, arrays = (table, right) if row == "repaired" else (shipped, swapped)
        if row == "left-out":
            keep = np.flatnonzero(~bad)
            source, arrays = shipped.take(keep), part_of(swapped, keep)
        result = fit(source, run, arrays=arrays, clip=load_clip("tiny"))
        record = {"setting": setting, "seed": seed, "row": row, "auc": result.test.overall.auc}
        if row not in CEILINGS:
            record["flagged"] = float(result.mining.flagged.mean())
        if bad.any() and row != "left-out":
            record["share"] = float(bad[train].mean())
            own = ceiling(result, swapped, np.flatnonzero(train)) if row == "repaired" else result.mining.z
            record["ap"] = float(average_precision_score(bad[train], own))
            if row != "repaired":
                record["ap_loss"] = float(average_precision_score(bad[train], result.ledger.losses.mean(0)))
        yield record


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


def tables(records: list[Record]) -> str:
    """All tables of docs/benchmark.md, as Markdown."""
    found: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
    for record in records:
        record["mean_es"] = float(np.mean(list(record.get("es", {"": np.nan}).values())))
        found[record["setting"], record["row"]][record["seed"]] = record
    out = _cxr(found)
    for setting in SETTINGS:
        if not any(key[0] == setting for key in found):
            continue
        out += [f"### {setting}", "", *_scores(found, setting), ""]
        if setting != "none":
            out += [*_won_back(found, setting), ""]
        out += [*(_flag_rates(found, setting) if setting == "none" else _rankings(found, setting)), ""]
    return "\n".join(out)


def _rows(found: Any, setting: str) -> list[str]:
    """Rows of a setting that have runs, in the order of `ROWS`, others after them."""
    rows = [row for of_setting, row in found if of_setting == setting]
    return sorted(rows, key=lambda row: ROWS.index(row) if row in ROWS else len(ROWS))


def _cxr(found: Any) -> list[str]:
    out = []
    for setting, title in CXR_TITLES.items():
        rows = _rows(found, setting)
        if not rows:
            continue
        out += [
            f"### {title}", "",
            "| row | seeds | AUC | AUC − clip | AP mismatch, own ranking | bare mean loss | chance | flagged |",
            "|---|---:|---:|---|---:|---:|---:|---:|",
        ]  # fmt: skip
        for row in rows:
            runs = list(found[setting, row].values())
            auc, ap, ap_loss, share, flagged = (
                f"{np.mean([run[name] for run in runs]):.3f}" if name in runs[0] else "–"
                for name in ("auc", "ap", "ap_loss", "share", "flagged")
            )
            mine, clip = _aligned(found, setting, (row, "clip"), lambda r: r["auc"])
            versus = _signed(mean_interval(mine - clip), digits=3) if row != "clip" else "–"
            out.append(f"| `{row}` | {len(runs)} | {auc} | {versus} | {ap} | {ap_loss} | {share} | {flagged} |")
        out.append("")
    return out


def _aligned(found: Any, setting: str, rows: Sequence[str], metric: Any) -> list[np.ndarray]:
    """A metric of several rows, over the seeds that all of them have."""
    runs = [found.get((setting, row), {}) for row in rows]
    seeds = sorted(set.intersection(*map(set, runs)))
    return [np.array([metric(of_row[seed]) for seed in seeds]) for of_row in runs]


def _signed(values: tuple[float, float, float], scale: float = 1.0, digits: int = 4) -> str:
    centre, low, high = (scale * v for v in values)
    interval = "one seed" if np.isnan(low) else f"{low:+.{digits}f}, {high:+.{digits}f}"
    return f"{centre:+.{digits}f} [{interval}]"


def _scores(found: Any, setting: str) -> list[str]:
    lines = [
        "| row | seeds | AUC | mean ES-AUC | ES-AUC race | worst group | AUC − clip | mean ES-AUC − clip | flagged | "
        "Sinkhorn first → last |",
        "|---|---:|---:|---:|---:|---:|---|---|---:|---|",
    ]
    for row in _rows(found, setting):
        runs = list(found[setting, row].values())
        mean = {name: np.mean([run[name] for run in runs]) for name in ("auc", "mean_es", "worst", "flagged")}
        race = np.mean([run["es"]["race"] for run in runs])
        auc, mine = _aligned(found, setting, (row, "clip"), lambda r: r["auc"])
        es, clip_es = _aligned(found, setting, (row, "clip"), lambda r: r["mean_es"])
        sinkhorn = np.mean([run["sinkhorn"] for run in runs], 0)
        versus = (
            f"{_signed(mean_interval(auc - mine))} | {_signed(mean_interval(es - clip_es))}"
            if row != "clip"
            else "– | –"
        )
        lines.append(
            f"| `{row}` | {len(runs)} | {mean['auc']:.4f} | {mean['mean_es']:.4f} | {race:.4f} | {mean['worst']:.4f} | "
            f"{versus} | {mean['flagged']:.1%} | {sinkhorn[0]:.4f} → {sinkhorn[1]:.4f} |"
        )
    return lines


def _won_back(found: Any, setting: str) -> list[str]:
    """Share of the loss to noise that is won back, by attribute and compared with the other presets."""
    kinds = (lambda r: r["auc"], lambda r: r["mean_es"], lambda r: r["es"]["race"])
    lines = ["| share won back (95 %, Fieller) | AUC | mean ES-AUC | ES-AUC race |", "|---|---|---|---|"]
    for row in (*WON_BACK, *(row for row in _rows(found, setting) if row not in ROWS)):
        cells = []
        for metric in kinds:
            mine, clip, top = _aligned(found, setting, (row, "clip", "repaired"), metric)
            if len(mine):
                centre, low, high = ratio_interval(mine - clip, top - clip)
                cells.append(f"{centre:.0%} [{'one seed' if np.isnan(low) else f'{low:.0%}, {high:.0%}'}]")
        if cells:
            lines.append(f"| `{row}` | {' | '.join(cells)} |")
    plus, clip, top = _aligned(found, setting, ("robustfair-plus", "clip", "repaired"), lambda r: r["mean_es"])
    if not len(plus):
        return lines
    gain, largest = (values.mean() / clip.mean() - 1 for values in (plus, top))
    lines += [
        "",
        f"Relative gain in mean ES-AUC over `clip`: `robustfair-plus` {gain:+.1%}, the ceiling {largest:+.1%}.",
    ]
    lines += ["", "| `robustfair-plus` − | metric | difference [95 %] |", "|---|---|---|"]
    for name in found[setting, "clip"][min(found[setting, "clip"])]["es"]:
        mine, clip = _aligned(found, setting, ("robustfair-plus", "clip"), lambda r, name=name: r["es"][name])
        lines.append(f"| `clip` | ES-AUC {name} | {_signed(mean_interval(mine - clip))} |")
    for row in ("robustfair", "robustfair-released", AVERAGED):
        mine, other = _aligned(found, setting, ("robustfair-plus", row), lambda r: r["mean_es"])
        if len(mine):
            lines.append(f"| `{row}` | mean ES-AUC | {_signed(mean_interval(mine - other))} |")
    return lines


def _rankings(found: Any, setting: str) -> list[str]:
    lines = [
        "| row | AP mismatch, own ranking | last margin | bare mean loss | own ranking − clip's bare mean loss | by race | "
        "AP shortcut, own ranking | bare mean loss | by race |",
        "|---|---:|---:|---:|---|---|---:|---:|---|",
    ]
    for row in _rows(found, setting):
        runs = [run for run in found.get((setting, row), {}).values() if "ap" in run]
        if not runs:
            continue
        mean = {name: np.mean([run[name] for run in runs]) for name in ("ap", "ap_loss", "shortcut", "shortcut_loss")}
        by_race, shortcut_by_race = (_by_group(runs, name) for name in ("ap_by_race", "shortcut_by_race"))
        own = np.array([run["ap"] for run in runs])
        clip = found.get((setting, "clip"), {})
        bare = np.array([clip[run["seed"]]["ap_loss"] for run in runs if run["seed"] in clip])
        against = _signed(mean_interval(own - bare), digits=3) if len(own) == len(bare) else "–"
        if row == "repaired":
            lines.append(f"| `{row}` (the ceiling) | {mean['ap']:.3f} | – | – | {against} | {by_race} | – | – | – |")
        else:
            last = np.mean([run["ap_margin"] for run in runs])
            lines.append(
                f"| `{row}` | {mean['ap']:.3f} | {last:.3f} | {mean['ap_loss']:.3f} | {against} | {by_race} | "
                f"{mean['shortcut']:.3f} | {mean['shortcut_loss']:.3f} | {shortcut_by_race} |"
            )
    return lines


def _by_group(runs: list[Record], name: str) -> str:
    groups = sorted({group for run in runs for group in run[name]})
    return ", ".join(f"{g} {np.mean([run[name][g] for run in runs if g in run[name]]):.2f}" for g in groups)


def _flag_rates(found: Any, setting: str) -> list[str]:
    """Pairs flagged on clean data, by race."""
    lines = ["| row | flagged | by race | largest / smallest rate of a group |", "|---|---:|---|---:|"]
    for row in _rows(found, setting):
        runs = list(found[setting, row].values())
        rate = {g: float(np.mean([run["flag_rate"][g] for run in runs])) for g in runs[0]["flag_rate"]}
        words = ", ".join(f"{group} {value:.2%}" for group, value in rate.items())
        ratio = f"{max(rate.values()) / min(rate.values()):.2f}" if min(rate.values()) > 0 else "–"
        lines.append(f"| `{row}` | {np.mean([run['flagged'] for run in runs]):.2%} | {words} | {ratio} |")
    return lines


def _to_do(setting: str, seed: int, row: str, done: set[tuple[str, int, str]]) -> bool:
    """Whether a run is missing; without planted pairs the ceilings equal `clip` and are not run."""
    return (setting, seed, row) not in done and not (setting in ("none", "cxr, none") and row in CEILINGS)


def _work(job: tuple[str, int, list[str], tuple[int, int, int], int | None, Any]) -> None:
    setting, seed, rows, sizes, epochs, queue = job
    for record in run_setting(setting, seed, rows, sizes, epochs):
        queue.put(record)


def _synth_runs(jobs: list[tuple[Any, ...]], processes: int) -> Iterator[Record]:
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


def _cxr_runs(options: argparse.Namespace, done: set[tuple[str, int, str]]) -> Iterator[Record]:
    if not options.cxr.is_dir():
        print("X-rays with swapped notes: skipped, no folder --cxr")
        return
    for setting, seed in itertools.product(CXR_SETTINGS, range(options.seeds)):
        rows = [row for row in options.rows.split(",") if row != AVERAGED and _to_do(setting, seed, row, done)]
        yield from run_cxr(options.cxr, setting, seed, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=KEPT, help="file of finished runs, one a line")
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--sizes", default="2000,400,3000", help="training, validation and test pairs")
    parser.add_argument("--epochs", type=int)
    parser.add_argument(
        "--cxr", type=Path, help="a folder of real pairs; notes are swapped in memory only", default=CXR
    )
    parser.add_argument("--into", type=Path, help="a Markdown file; the tables between its two marks are replaced")
    parser.add_argument("--tables", action="store_true", help="print the tables of --keep and train nothing")
    options = parser.parse_args()
    for row in options.rows.split(","):
        try:
            config_of(row, {})
        except (InputError, ValueError) as error:
            parser.error(f"row {row!r}: {error}")
    records = [json.loads(line) for line in options.keep.read_text().splitlines()] if options.keep.exists() else []
    done = {(r["setting"], r["seed"], r["row"]) for r in records}
    sizes = tuple(int(n) for n in options.sizes.split(","))
    wanted = [
        (setting, seed, [row for row in options.rows.split(",") if _to_do(setting, seed, row, done)])
        for seed in range(options.seeds)
        for setting in options.settings.split(",")
    ]
    if not options.tables:
        jobs = [(*job, sizes, options.epochs) for job in wanted if job[2]]
        for record in itertools.chain(_synth_runs(jobs, options.jobs), _cxr_runs(options, done)):
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
