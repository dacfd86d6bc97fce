"""What clinicians' verdicts add to mining: simulated readers judge a queue, and the next model trains with their verdicts.

    python benchmarks/review_loop.py [--seeds 5] [--keep FILE] [--tables]

SynthFundus with planted wrong notes, evenly spread. A first run mines; simulated readers with 90 % correct verdicts judge a
queue of that run in the review log; the second run trains with their verdicts. Each seed changes the data set, the training
seed and the readers. Finished runs are stored in --keep, one a line; the next call continues from there. Prints the tables
of docs/benchmark_review.md: means and Student's 95 % intervals over seeds, differences within a seed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import average_precision_score

from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.adapt import embeddings
from fairvlm_core.features import PairArrays, pair_arrays
from fairvlm_core.models import load_clip
from fairvlm_core.review import (
    ChainHead,
    PairVerdict,
    QueueSettings,
    ReviewStore,
    Verdict,
    VerdictSet,
    apply_verdicts,
    plan_queue,
)
from fairvlm_core.synth import SynthConfig, synthesize, write_synth
from fairvlm_core.train import FitResult

ALONE, ALL = "mining alone", "every pair, always right"
ORDERS = ("suspicious", "informative", "balanced", "random")
BUDGETS = (100, 200, 400)
METRICS = ("ap", "auc", "es_auc")
KEPT = Path(__file__).with_suffix(".jsonl")
Record = dict[str, Any]


@dataclass(frozen=True)
class World:
    """The data of one seed, its planted pairs and the first run."""

    table: PairTable
    arrays: PairArrays
    bad: dict[str, bool]
    right_note: dict[str, str]
    first: FitResult
    rows: pd.DataFrame


def make_world(folder: Path, options: argparse.Namespace, seed: int) -> World:
    config = SynthConfig(
        n_train=options.pairs, n_val=max(100, options.pairs // 5), n_test=options.test, seed=300 + seed,
        mismatch_rate=options.rate, shortcut_rate=0.0,
    )  # fmt: skip
    table = PairTable.read(write_synth(synthesize(config, workers=1), folder))
    planted = table.planted()
    wrong = planted[planted["kind"] == "mismatch"]
    clip = load_clip("tiny")
    arrays = pair_arrays(table, clip)
    if options.trainable == "head":  # the embeddings are computed once for all runs of a seed
        arrays = embeddings(clip, arrays)
    first = fit(table, run_config(options, seed), arrays=arrays)
    rows = first.mining.to_frame()[["pair_id", "kind", "mean_loss", "z", "weight"]].assign(
        posterior=first.mining.posterior
    )
    rows = rows.merge(table.frame[["pair_id", *table.attributes]], on="pair_id", how="left", validate="1:1")
    return World(
        table=table,
        arrays=arrays,
        bad={pair_id: False for pair_id in rows["pair_id"]} | dict.fromkeys(wrong["pair_id"], True),
        right_note=dict(zip(wrong["donor_pair_id"], wrong["pair_id"], strict=True)),
        first=first,
        rows=rows,
    )


def run_config(options: argparse.Namespace, seed: int) -> RunConfig:
    settings = {"seed": seed, "epochs": options.epochs, "trainable": options.trainable}
    return RunConfig.build(options.preset, settings)


def review(world: World, order: str, budget: int, options: argparse.Namespace, seed: int) -> VerdictSet:
    """Simulated readers judge a whole queue; each verdict is right with the given probability."""
    settings = QueueSettings(
        order=order, size=budget, kinds=("faulty", "noisy", "clean"), control_share=options.controls, second_share=0,
        balance_by=options.attribute if order == "balanced" else None, seed=seed,
    )  # fmt: skip
    mining = world.first.mining
    plan = plan_queue(world.rows, settings, faulty_above=mining.faulty_above, noisy_below=mining.noisy_below)
    rng = np.random.default_rng([seed, budget, ORDERS.index(order)])
    with tempfile.TemporaryDirectory() as folder, ReviewStore.open(folder, url="") as store:
        queue = store.make_queue(order, plan, by="Bench", run_id="first", data=world.table.fingerprint)
        while (task := store.next_pair(queue.queue_id, "Reader")) is not None:
            bad = world.bad[task.pair_id] == (rng.random() < options.accuracy)
            better = world.right_note.get(task.pair_id) if bad and options.repair else None
            verdict = Verdict("wrong_note", better_pair_id=better) if bad else Verdict("fits")
            store.judge(queue.queue_id, task.pair_id, "Reader", verdict)
        return store.verdicts()


def all_right(world: World) -> VerdictSet:
    """The true verdict for every training pair (the ceiling)."""
    data = world.table.fingerprint
    said = (
        PairVerdict(data, pair_id, "wrong_note" if bad else "fits", "single", None, None, 1)
        for pair_id, bad in world.bad.items()
    )
    return VerdictSet(tuple(said), ChainHead(0, ""))


def ranking(world: World, verdicts: VerdictSet) -> float:
    """Average precision for planted wrong notes of the first run's ranking, judged pairs first or last."""
    score = world.rows.set_index("pair_id")["z"].fillna(0.0).astype(float)
    for verdict in verdicts.verdicts:
        score[verdict.pair_id] = math.copysign(1e9, 1 if verdict.bad else -1) + score[verdict.pair_id]
    return float(average_precision_score([world.bad[pair_id] for pair_id in score.index], score))


def ranking_of_rest(world: World, result: FitResult, rest: list[str]) -> float:
    """Average precision of a run's own ranking among unjudged pairs; NaN if none of them is bad."""
    score = pd.Series(result.mining.z, index=result.mining.pair_ids).loc[rest]
    bad = [world.bad[pair_id] for pair_id in rest]
    return float(average_precision_score(bad, score)) if any(bad) else math.nan


def train_again(world: World, verdicts: VerdictSet, options: argparse.Namespace, seed: int) -> FitResult:
    applied = apply_verdicts(world.table, verdicts)
    place = pd.Index(world.table.pair_ids).get_indexer(pd.Index(applied.table.pair_ids))
    arrays = world.arrays
    arrays = replace(arrays, pixels=arrays.pixels[place], tokens=arrays.tokens[place], cut=arrays.cut[place])
    if options.repair:
        tokens, cut = load_clip("tiny").tokens(list(applied.table.frame["text"]))
        arrays = replace(arrays, tokens=tokens, cut=cut)
    return fit(applied.table, run_config(options, seed), arrays=arrays, trusted=applied.trusted)


def scores(result: FitResult) -> Record:
    """Test AUC and ES-AUC, mean over attributes."""
    report = result.test.to_dict()
    es_auc = [a["es_auc"] for a in report["attributes"].values() if a["es_auc"] is not None]
    return {"auc": report["overall"]["auc"], "es_auc": float(np.mean(es_auc))}


def one_seed(options: argparse.Namespace, seed: int, wanted: list[tuple[str, int]]) -> Iterator[Record]:
    """Train the first run, then one run for each wanted order and budget."""
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch) / "data", options, seed)
    for order, budget in wanted:
        record = {"seed": seed, "order": order, "budget": budget}
        if order == ALONE:
            bad = sum(world.bad.values())
            alone = {"ap": ranking(world, VerdictSet((), ChainHead(0, ""))), "n_bad": bad}
            yield record | scores(world.first) | alone | {"flagged": float(world.first.mining.flagged.mean())}
            continue
        verdicts = all_right(world) if order == ALL else review(world, order, budget, options, seed)
        again = train_again(world, verdicts, options, seed)
        record |= scores(again) | {"ap": ranking(world, verdicts), "n_judged": len(verdicts.verdicts)}
        judged = {verdict.pair_id for verdict in verdicts.verdicts}
        record["n_bad"] = sum(world.bad[pair_id] for pair_id in judged)
        if rest := [pair_id for pair_id in world.bad if pair_id not in judged]:
            record["ap_rest"] = ranking_of_rest(world, again, rest)
            record["ap_rest_alone"] = ranking_of_rest(world, world.first, rest)
        yield record


# The tables ---------------------------------------------------------------------------------------------------------


def interval(values: list[float], sign: str = "") -> str:
    """Mean and Student's 95 % interval over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:{sign}.3f}"
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:{sign}.3f} [{mean - reach:{sign}.3f}, {mean + reach:{sign}.3f}]"


Found = dict[tuple[str, int], dict[int, Record]]


def tables(records: list[Record]) -> str:
    """All tables of docs/benchmark_review.md, as Markdown."""
    found: Found = {}
    for record in records:
        found.setdefault((record["order"], record["budget"]), {})[record["seed"]] = record
    keys = [(ALONE, 0), *((order, budget) for budget in BUDGETS for order in ORDERS), (ALL, 0)]
    keys = [key for key in dict.fromkeys([*keys, *found]) if key in found]
    return "\n".join([*_means(found, keys), "", *_over_mining_alone(found, keys), "", *_over_random(found, keys)])


def _means(found: Found, keys: list[tuple[str, int]]) -> list[str]:
    lines = [
        "| order | pairs judged | seeds | bad among them | AP | AUC | mean ES-AUC |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for key in keys:
        runs = list(found[key].values())
        cells = [f"{np.mean([run[name] for run in runs]):.3f}" for name in METRICS]
        bad = "–" if key[0] == ALONE else f"{np.mean([run['n_bad'] for run in runs]):.0f}"
        lines.append(f"| {key[0]} | {key[1] or '–'} | {len(runs)} | {bad} | {' | '.join(cells)} |")
    return lines


def _gains(found: Found, key: tuple[str, int], other: tuple[str, int]) -> tuple[list[Record], list[str]]:
    """Runs of `key` on the seeds that `other` has, too, and the interval of the difference for each metric."""
    base = found.get(other, {})
    runs = [run for seed, run in found[key].items() if seed in base]
    return runs, [interval([run[m] - base[run["seed"]][m] for run in runs], "+") for m in METRICS] if runs else []


def _over_mining_alone(found: Found, keys: list[tuple[str, int]]) -> list[str]:
    lines = [
        "| over mining alone | pairs judged | seeds | AP | AUC | mean ES-AUC | AP of pairs nobody judged |",
        "|---|---:|---:|---|---|---|---|",
    ]
    for key in keys:
        runs, cells = _gains(found, key, (ALONE, 0))
        if runs and key[0] != ALONE:
            rest = [r["ap_rest"] - r["ap_rest_alone"] for r in runs if not math.isnan(r.get("ap_rest", math.nan))]
            cells.append(interval(rest, "+") if rest else "–")
            lines.append(f"| {key[0]} | {key[1] or '–'} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def _over_random(found: Found, keys: list[tuple[str, int]]) -> list[str]:
    lines = [
        "| over the random order | pairs judged | seeds | AP | AUC | mean ES-AUC |",
        "|---|---:|---:|---|---|---|",
    ]
    for order, budget in keys:
        runs, cells = _gains(found, (order, budget), ("random", budget))
        if runs and order not in {ALONE, ALL, "random"}:
            lines.append(f"| {order} | {budget} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path, default=KEPT, help="file of finished runs, one a line")
    parser.add_argument("--tables", action="store_true", help="print the tables of --keep and train nothing")
    parser.add_argument("--pairs", type=int, default=1000, help="training pairs")
    parser.add_argument("--test", type=int, default=1000, help="test pairs")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--trainable", default="all", help="as in a run's settings: all, head, ...")
    parser.add_argument("--rate", type=float, default=0.15, help="share of planted wrong notes")
    parser.add_argument("--preset", default="robustfair-plus")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--orders", default=",".join(ORDERS))
    parser.add_argument("--attribute", default="race", help="for the order balanced")
    parser.add_argument("--accuracy", type=float, default=0.9, help="share of verdicts that are right")
    parser.add_argument("--controls", type=float, default=0.1, help="share of random unflagged pairs in a queue")
    parser.add_argument(
        "--repair", action="store_true", help="readers also name the pair that has the right note, if there is one"
    )
    options = parser.parse_args()
    if unknown := set(options.orders.split(",")) - set(ORDERS):
        parser.error(f"no such order: {', '.join(sorted(unknown))}")
    if options.repair and options.trainable == "head":
        parser.error("--repair needs the text tower: leave out --trainable head")
    torch.set_num_threads(1)
    records = [json.loads(line) for line in options.keep.read_text().splitlines()] if options.keep.exists() else []
    done = {(r["seed"], r["order"], r["budget"]) for r in records}
    keys = [(ALONE, 0), *((o, int(b)) for b in options.budgets.split(",") for o in options.orders.split(",")), (ALL, 0)]
    for seed in range(0 if options.tables else options.seeds):
        wanted = [key for key in keys if (seed, *key) not in done]
        for record in one_seed(options, seed, wanted) if wanted else ():
            records.append(record)
            with options.keep.open("a") as file:
                file.write(json.dumps(record) + "\n")
    print(tables(records))


if __name__ == "__main__":
    main()
