"""What clinicians' verdicts add to mining: simulated readers judge a queue, their verdicts train the next model.

python benchmarks/review_loop.py [--pairs 2000] [--seeds 3] [--budgets 100,200,400] [--orders suspicious,informative,...]

SynthFundus with an even share of planted wrong notes. A first run mines; readers, right in 90 % of their verdicts, judge a
queue of that run in the review log; the second run trains with their verdicts. Reported beside mining alone: average
precision of the ranking for planted wrong notes with verdicts put in (judged bad on top, judged to fit at the bottom), test
AUC, and test ES-AUC (mean over attributes) of the second run. Differences are within a seed; mean ± standard deviation over
seeds.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from fairvlm_core import InputError, PairTable, RunConfig, fit
from fairvlm_core.features import PairArrays, pair_arrays
from fairvlm_core.models import load_clip
from fairvlm_core.review import (
    AppliedVerdicts,
    ChainHead,
    QueueSettings,
    ReviewStore,
    Verdict,
    VerdictSet,
    apply_verdicts,
    plan_queue,
)
from fairvlm_core.synth import SynthConfig, synthesize, write_synth
from fairvlm_core.train import FitResult

ALONE = "mining alone"


@dataclass(frozen=True)
class World:
    """One seed: the data, what is planted in it, and the first run."""

    table: PairTable
    arrays: PairArrays
    bad: dict[str, bool]
    right_note: dict[str, str]
    first: FitResult
    rows: pd.DataFrame


@dataclass(frozen=True)
class Figures:
    """Of one run: average precision of the ranking, test AUC, mean test ES-AUC."""

    ap: float
    auc: float
    es_auc: float


def make_world(folder: Path, arguments: argparse.Namespace, seed: int) -> World:
    config = SynthConfig(
        n_train=arguments.pairs, n_val=max(100, arguments.pairs // 5), n_test=max(150, 3 * arguments.pairs // 10),
        seed=300 + seed, mismatch_rate=arguments.rate, shortcut_rate=0.0,
    )  # fmt: skip
    table = PairTable.read(write_synth(synthesize(config), folder))
    planted = table.planted()
    wrong = planted[planted["kind"] == "mismatch"]
    arrays = pair_arrays(table, load_clip("tiny"))
    first = fit(table, run_config(arguments, seed), arrays=arrays)
    rows = first.mining.to_frame()[["pair_id", "kind", "mean_loss", "z", "weight"]]
    rows = rows.merge(table.frame[["pair_id", *table.attributes]], on="pair_id", how="left", validate="1:1")
    return World(
        table=table,
        arrays=arrays,
        bad={pair_id: False for pair_id in rows["pair_id"]} | dict.fromkeys(wrong["pair_id"], True),
        right_note=dict(zip(wrong["donor_pair_id"], wrong["pair_id"], strict=True)),
        first=first,
        rows=rows,
    )


def run_config(arguments: argparse.Namespace, seed: int) -> RunConfig:
    settings = {"seed": seed} | ({} if arguments.epochs is None else {"epochs": arguments.epochs})
    return RunConfig.build(arguments.preset, settings)


def review(world: World, order: str, budget: int, arguments: argparse.Namespace, seed: int) -> VerdictSet:
    """Readers work a queue to its end, each verdict right with the given chance."""
    settings = QueueSettings(
        order=order, size=budget, kinds=("faulty", "noisy", "clean"), control_share=arguments.controls, second_share=0,
        balance_by=arguments.attribute if order == "balanced" else None, seed=seed,
    )  # fmt: skip
    mining = world.first.mining
    plan = plan_queue(world.rows, settings, faulty_above=mining.faulty_above, noisy_below=mining.noisy_below)
    rng = np.random.default_rng([seed, budget])
    with tempfile.TemporaryDirectory() as folder, ReviewStore.open(folder, url="") as store:
        queue = store.make_queue(order, plan, by="Bench", run_id="first", data=world.table.fingerprint)
        while (task := store.next_pair(queue.queue_id, "Reader")) is not None:
            bad = world.bad[task.pair_id] == (rng.random() < arguments.accuracy)
            better = world.right_note.get(task.pair_id) if bad and arguments.repair else None
            verdict = Verdict("wrong_note", better_pair_id=better) if bad else Verdict("fits")
            store.judge(queue.queue_id, task.pair_id, "Reader", verdict)
        return store.verdicts()


def ranking(world: World, verdicts: VerdictSet) -> float:
    """Average precision for planted wrong notes, with judged pairs where their verdict puts them."""
    score = world.rows.set_index("pair_id")["z"].fillna(0.0).astype(float)
    for verdict in verdicts.verdicts:
        score[verdict.pair_id] = math.copysign(1e9, 1 if verdict.bad else -1) + score[verdict.pair_id]
    return float(average_precision_score([world.bad[pair_id] for pair_id in score.index], score))


def train_again(world: World, applied: AppliedVerdicts, arguments: argparse.Namespace, seed: int) -> FitResult:
    place = pd.Index(world.table.pair_ids).get_indexer(pd.Index(applied.table.pair_ids))
    tokens, cut = load_clip("tiny").tokens(list(applied.table.frame["text"]))
    arrays = PairArrays(world.arrays.pixels[place], tokens, cut)
    return fit(applied.table, run_config(arguments, seed), arrays=arrays, trusted=applied.trusted)


def figures(ap: float, result: FitResult) -> Figures:
    report = result.test.to_dict()
    es_auc = [a["es_auc"] for a in report["attributes"].values() if a["es_auc"] is not None]
    return Figures(ap, report["overall"]["auc"], float(np.mean(es_auc)))


def one_seed(arguments: argparse.Namespace, seed: int) -> dict[tuple[str, int], Figures]:
    found: dict[tuple[str, int], Figures] = {}
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch) / "data", arguments, seed)
        found[ALONE, 0] = figures(ranking(world, VerdictSet((), ChainHead(0, ""))), world.first)
        for order in arguments.orders.split(","):
            for budget in map(int, arguments.budgets.split(",")):
                try:
                    verdicts = review(world, order, budget, arguments, seed)
                except InputError as error:
                    print(f"seed {seed}, {order}, {budget}: left out, {error}", flush=True)
                    continue
                again = train_again(world, apply_verdicts(world.table, verdicts), arguments, seed)
                found[order, budget] = figures(ranking(world, verdicts), again)
    return found


def print_table(results: list[dict[tuple[str, int], Figures]]) -> None:
    def spread(values: list[float], sign: str = "") -> str:
        sd = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        return f"{np.mean(values):{sign}.3f}{sd}"

    names = ("ap", "auc", "es_auc")
    print("| order | pairs judged | seeds | AP | ΔAP | AUC | ΔAUC | ES-AUC | ΔES-AUC |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for key in dict.fromkeys(key for result in results for key in result):
        own = [(result[key], result[ALONE, 0]) for result in results if key in result]
        cells = []
        for name in names:
            values = [getattr(after, name) for after, _ in own]
            gains = [getattr(after, name) - getattr(before, name) for after, before in own]
            cells += [spread(values), "–" if key[0] == ALONE else spread(gains, "+")]
        print(f"| {key[0]} | {key[1]} | {len(own)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000, help="training pairs")
    parser.add_argument("--epochs", type=int, help="the preset's by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.15, help="share of planted wrong notes")
    parser.add_argument("--preset", default="robustfair-plus")
    parser.add_argument("--budgets", default="100,200,400")
    parser.add_argument("--orders", default="suspicious,informative,balanced,random")
    parser.add_argument("--attribute", default="race", help="for the order balanced")
    parser.add_argument("--accuracy", type=float, default=0.9, help="share of verdicts that are right")
    parser.add_argument("--controls", type=float, default=0.1, help="share of random unflagged pairs in a queue")
    parser.add_argument(
        "--repair", action="store_true", help="readers name the pair that has the right note, where one has"
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    results = [one_seed(arguments, seed) for seed in range(arguments.seeds)]
    print_table(results)
    print(
        f"\n{arguments.pairs} training pairs, {arguments.rate:.0%} wrong notes, {arguments.preset}, readers right in "
        f"{arguments.accuracy:.0%}, {arguments.controls:.0%} controls, seeds 0 to {arguments.seeds - 1}; "
        f"{time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
