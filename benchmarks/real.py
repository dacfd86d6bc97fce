"""What the model `base` and the presets reach on real images: skin lesions and chest X-rays.

    python benchmarks/real.py [--sets derm,skin,cxr] [--seeds 5] [--first-seed 0] [--keep FILE] [--into docs/benchmark.md]

derm: 3,421 dermatoscopic images (part of HAM10000), splits by lesion, one for each seed. skin: 206 phone photographs (part
of PAD-UFES-20) and cxr: 141 chest images (Cohen et al., arXiv 2006.11988), 5-fold cross-validation by patient, other folds
for each seed. Descriptions are those that `fairvlm describe` proposes. `derm-swapped` is derm with 15 % of the training
notes replaced by those of other patients, every second one by a note of the other label; in `derm-device` all images of
women are from a device with less resolution, other colours and noise (`worlds.from_other_device`). Images are read from
../shared/data beside the checkout, or from $FAIRVLM_REAL_DATA. Finished runs are stored in --keep; the next call
continues from there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.planted import LEMON_GRID, mean_interval
from benchmarks.worlds import from_other_device, real_data, swap
from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.adapt import towers
from fairvlm_core.cache import cached_embeddings
from fairvlm_core.cross_validation import cross_validate
from fairvlm_core.fairness import roc_auc
from fairvlm_core.features import PairEmbeddings
from fairvlm_core.intake.describe import describe_folder
from fairvlm_core.mining import RANKING_RULES, lemon_scores
from fairvlm_core.models import load_clip
from fairvlm_core.train import FitResult

SETS = ("derm", "derm-swapped", "derm-device", "skin", "cxr")
PRESETS = ("clip", "robustfair-plus")
COLOURS = {"clip": "#0072b2", "robustfair-plus": "#d55e00"}
FOLDS = 5
MARKS = ("<!-- real begin -->", "<!-- real end -->")
KEPT = Path(__file__).with_name("real.jsonl")
Record = dict[str, Any]


def run_set(name: str, seed: int, presets: Sequence[str], cache: Path) -> Iterator[Record]:
    """Train the presets on one set with one seed."""
    table, kind = _read(name, seed, cache), np.full(1, "clean")
    if name.endswith("swapped"):
        notes, kind = swap(table, seed)
        table = replace(table, frame=table.frame.assign(text=pd.array(notes, dtype=table.frame["text"].dtype)))
    arrays = _arrays(table, _read(name, 0, cache), cache)
    for preset in presets:
        folds = 0 if name.startswith("derm") else FOLDS
        config = RunConfig.build(preset, {"model": "base", "seed": seed, "folds": folds})
        started = time.perf_counter()
        result = _result(table, config, arrays)
        record = {"set": name, "seed": seed, "preset": preset}
        yield record | {"training_s": time.perf_counter() - started} | scores(result) | found(result, table, kind)


def _read(name: str, seed: int, cache: Path) -> PairTable:
    folder = real_data(None) / name.split("-")[0]
    table = PairTable.read(folder, description=describe_folder(folder).description, seed=seed, check_images=False)
    return from_other_device(table, cache / name) if name.endswith("device") else table


def _arrays(table: PairTable, first: PairTable, cache: Path) -> PairEmbeddings:
    """Embeddings of a table; its images, those of `first`, are embedded once for all splits and notes."""
    clip = load_clip("base")
    if list(first.pair_ids) != list(table.pair_ids):
        raise ValueError("the order of the pairs depends on the seed")
    images = cached_embeddings(first, clip, cache).pixels
    tokens, cut = clip.tokens(list(table.frame["text"]))
    with towers(clip):
        return PairEmbeddings(images, clip.raw_notes(tokens), cut)


def _result(table: PairTable, config: RunConfig, arrays: PairEmbeddings) -> FitResult:
    if not config.folds:
        return fit(table, config, arrays=arrays, clip=load_clip("base"))
    return cross_validate(table, config, arrays=arrays, clip_of_fold=lambda: load_clip("base")).result


def scores(result: FitResult) -> Record:
    """Zero-shot and probe AUC, ES-AUC and worst group by attribute, share of pairs flagged."""
    test = result.predictions[result.predictions["split"] == "test"]
    probe = float(roc_auc(test["label"].to_numpy(), test["probe_score"].to_numpy(float)))
    attributes = {}
    for attribute, facts in result.test.attributes.items():
        groups = {g: one.auc for g, one in facts.groups.items() if isinstance(one.auc, float) and g != "Unknown"}
        es = facts.es_auc if isinstance(facts.es_auc, float) else None
        attributes[attribute] = {"es": es, "worst": min(groups, key=groups.__getitem__), "auc": min(groups.values())}
    flagged = {name: float((np.asarray(result.mining.kind) == name).mean()) for name in ("faulty", "noisy")}
    return {"auc": result.test.overall.auc, "probe": probe, "attributes": attributes, "flagged": flagged}


def found(result: FitResult, table: PairTable, kind: np.ndarray) -> Record:
    """Average precision of the ranking for swapped notes, by the preset's own rule and by others on the same run."""
    if not (kind == "mismatch").any():
        return {}
    train = np.flatnonzero(np.asarray(table.frame["split"], str) == "train")
    wrong = kind[train] == "mismatch"
    image, text = (torch.from_numpy(one[train]) for one in (result.image_features, result.text_features))
    mining = result.mining
    own = result.ledger.channel("margin")[-1] if RANKING_RULES[mining.rule].ranks_loss else mining.z
    faulty = np.asarray(mining.kind) == "faulty"
    rankings = {
        "own": own,
        "mean loss": result.ledger.losses.mean(0),
        "similarity": -(image * text).sum(1).numpy(),
    }
    record: Record = {name: float(average_precision_score(wrong, one)) for name, one in rankings.items()}
    record["LEMoN, tuned on the truth"] = max(
        float(average_precision_score(wrong, lemon_scores(image, text, beta=beta, gamma=gamma)))
        for beta in LEMON_GRID
        for gamma in LEMON_GRID
    )
    precision = float(wrong[faulty].mean()) if faulty.any() else None
    return {"ap": record, "precision": precision, "recall": float(faulty[wrong].mean())}


# The tables ---------------------------------------------------------------------------------------------------------


def tables(records: Sequence[Record]) -> str:
    """Markdown of all tables; intervals are 95 % Student intervals over seeds."""
    lines = [
        "| set | preset | seeds | zero-shot AUC | linear probe AUC | ES-AUC by attribute | worst group | flagged |"
    ]
    lines.append("|---|---|---:|---|---|---|---|---|")
    for name in SETS:
        for preset in PRESETS:
            runs = [one for one in records if one["set"] == name and one["preset"] == preset]
            if not runs:
                continue
            attributes = runs[0]["attributes"]
            es = ", ".join(f"{a} {_over(runs, lambda r, a=a: r['attributes'][a]['es'])}" for a in attributes)
            worst = ", ".join(f"{a} {_over(runs, lambda r, a=a: r['attributes'][a]['auc'])}" for a in attributes)
            flagged = np.mean([one["flagged"]["faulty"] + one["flagged"]["noisy"] for one in runs])
            lines.append(
                f"| {name} | `{preset}` | {len(runs)} | {_over(runs, lambda r: r['auc'], True)} | "
                f"{_over(runs, lambda r: r['probe'], True)} | {es} | {worst} | {flagged:.1%} |"
            )
    swapped = [one for one in records if one["set"] == "derm-swapped" and one["preset"] == "robustfair-plus"]
    if swapped:
        lines += [
            "",
            "| ranking of the training pairs of `derm-swapped` | average precision | `robustfair-plus` ahead by |",
        ]
        lines.append("|---|---|---|")
        for name in swapped[0]["ap"]:
            ahead = np.array([one["ap"]["own"] - one["ap"][name] for one in swapped])
            difference = "–" if name == "own" else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*mean_interval(ahead))
            title = "`robustfair-plus`" if name == "own" else name
            lines.append(f"| {title} | {_over(swapped, lambda r, n=name: r['ap'][n], True)} | {difference} |")
    return "\n".join(lines)


def chart(records: Sequence[Record]) -> str:
    """An SVG: means and 95 % intervals over seeds of AUC by set and preset, and of average precision by ranking."""
    panels: list[tuple[str, list[tuple[str, str, np.ndarray]]]] = [("AUC (grey: linear probe)", [])]
    for name in SETS:
        for preset in PRESETS:
            runs = [one for one in records if one["set"] == name and one["preset"] == preset]
            if len(runs) > 1:
                row = (f"{name}, {preset}", COLOURS[preset], np.array([one["auc"] for one in runs]))
                probe = ("", "#999999", np.array([one["probe"] for one in runs]))
                panels[0][1].extend([row, probe])
    swapped = [one for one in records if one["set"] == "derm-swapped" and one["preset"] == "robustfair-plus"]
    if len(swapped) > 1:
        title = "Average precision for swapped notes on derm"
        names = {name: "robustfair-plus" if name == "own" else name for name in swapped[0]["ap"]}
        colours = {"own": COLOURS["robustfair-plus"]}
        rows = [(names[n], colours.get(n, "#666666"), np.array([r["ap"][n] for r in swapped])) for n in names]
        panels.append((title, rows))
    parts, y = [], 10
    for title, rows in panels:
        parts.append(f'<text x="10" y="{y + 12}" font-weight="bold">{title}</text>')
        y += 22
        for label, colour, values in rows:
            mean, low, high = (230 + 440 * (one - 0.5) / 0.5 for one in mean_interval(values))
            parts.append(f'<text x="10" y="{y + 11}">{label}</text>')
            line = f'x1="{low:.0f}" x2="{high:.0f}" y1="{y + 7}" y2="{y + 7}" stroke="{colour}" stroke-width="2"'
            parts.append(f'<line {line}/><circle cx="{mean:.0f}" cy="{y + 7}" r="4" fill="{colour}"/>')
            parts.append(f'<text x="690" y="{y + 11}">{values.mean():.3f}</text>')
            y += 16 if label else 20
        y += 12
    for value in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        x = 230 + 440 * (value - 0.5) / 0.5
        parts.insert(0, f'<line x1="{x:.0f}" x2="{x:.0f}" y1="30" y2="{y}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 14}" text-anchor="middle">{value}</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {y + 24}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _over(runs: Sequence[Record], value: Callable[[Record], float | None], interval: bool = False) -> str:
    values = np.array([one for run in runs if (one := value(run)) is not None])
    if not len(values):
        return "–"
    if not interval or len(values) < 2:
        return f"{values.mean():.3f}"
    return "{:.3f} [{:.3f}, {:.3f}]".format(*mean_interval(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=KEPT)
    parser.add_argument("--cache", type=Path, help="folder for embeddings; default: a temporary one")
    parser.add_argument("--into", type=Path, help="file whose tables are replaced")
    options = parser.parse_args()
    records = [json.loads(line) for line in options.keep.read_text().splitlines()] if options.keep.exists() else []
    done = {(one["set"], one["seed"], one["preset"]) for one in records}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.sets.split(","):
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                missing = [one for one in options.presets.split(",") if (name, seed, one) not in done]
                for record in run_set(name, seed, missing, options.cache or Path(scratch)) if missing else ():
                    records.append(record)
                    with options.keep.open("a") as file:
                        file.write(json.dumps(record) + "\n")
                    print(name, seed, record["preset"], f"{record['auc']:.3f}", record.get("ap", ""), file=sys.stderr)
    text = tables(records)
    print(text)
    if options.into is not None:
        page = options.into.read_text()
        start, end = (page.index(mark) for mark in MARKS)
        options.into.write_text(page[:start] + MARKS[0] + "\n" + text + "\n" + page[end:])
        (options.into.parent / "images" / "real.svg").write_text(chart(records))


if __name__ == "__main__":
    main()
