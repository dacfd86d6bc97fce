"""Time of page reruns, on workspaces of a given size that are made without training.

    python benchmarks/pages.py                       # 10,000 pairs × 20 epochs × 20 runs
    python benchmarks/pages.py --pairs 100000 --runs 2

Half of the runs belong to a second method. Times are those of whole reruns in this process (Streamlit's AppTest), without
the browser's drawing: "first" with empty caches, "again" with full ones, then one interaction after another. The second
column is processor time, which other work on the machine does not change. To measure another page, add it to `PAGES`.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402, TID251
from streamlit.testing.v1 import AppTest  # noqa: E402, TID251

from fairvlm_core.analysis.held_out import held_out_report, held_out_rows  # noqa: E402
from fairvlm_core.analysis.projection import COLUMNS  # noqa: E402
from fairvlm_core.config import RunConfig  # noqa: E402
from fairvlm_core.ledger import PairLossLedger  # noqa: E402
from fairvlm_core.pairs import PairTable  # noqa: E402
from fairvlm_core.runs import Run, RunStore, now  # noqa: E402

ATTRIBUTES = {
    "race": (["Asian", "Black", "White"], [0.08, 0.15, 0.77]),
    "gender": (["Female", "Male"], [0.56, 0.44]),
    "language": (["English", "Other", "Spanish", "Unknown"], [0.925, 0.05, 0.017, 0.008]),
}
WIDTH = 64


@dataclass(frozen=True)
class Interaction:
    """An action on a page and its name in the table."""

    name: str
    act: Callable[[AppTest], AppTest]


@dataclass(frozen=True)
class Page:
    """A page file (None: the entry page) with its address and the interactions that are timed."""

    name: str
    file: str | None
    address: dict[str, list[str]] = field(default_factory=dict)
    interactions: tuple[Interaction, ...] = ()


def _slide(key: str, value: float) -> Callable[[AppTest], AppTest]:
    return lambda app: app.slider(key=key).set_value(value).run()


def _choose(key: str, value: str) -> Callable[[AppTest], AppTest]:
    return lambda app: app.selectbox(key=key).select(value).run()


def _press(key: str) -> Callable[[AppTest], AppTest]:
    return lambda app: app.button(key=key).click().run()


ONE, LOSS = {"run": ["1"]}, "4_Loss_and_Sinkhorn.py"
PAGES = (
    Page("Overview", None, ONE),
    Page("Data, who", "1_Data.py", ONE, (Interaction("across language", _choose("data.second.race", "language")),)),
    Page("Data, intake", "1_Data.py", ONE | {"view": ["Intake report"]}),
    Page("Data, browse", "1_Data.py", ONE | {"view": ["Browse pairs"]}, (Interaction("next pair", _press("data.next")),)),
    Page(
        "Fine-tune, set up", "2_Fine_tune.py", ONE | {"view": ["Set up"]},
        (Interaction("preset clip", lambda app: app.radio(key="finetune.preset").set_value("clip").run()),),
    ),
    Page("Fine-tune, watch", "2_Fine_tune.py", ONE | {"view": ["Watch"]}),
    Page(
        "Bad pairs",
        "3_Bad_pairs.py",
        {"run": ["1"]},
        (
            Interaction("β_f to 2.0", _slide("bad_pairs.faulty_sd", 2.0)),
            Interaction("β_n to 1.5", _slide("bad_pairs.noisy_sd", 1.5)),
            Interaction("β_f to 0.5", _slide("bad_pairs.faulty_sd", 0.5)),
            Interaction("colour by loss", _choose("bad_pairs.colour", "loss")),
            Interaction("colour by split", _choose("bad_pairs.colour", "split")),
            Interaction("next pair", _press("inspector.next")),
        ),
    ),
    Page("Loss, distributions", LOSS, ONE, (Interaction("by gender", _choose("attribute", "gender")),)),
    Page("Loss, quantiles", LOSS, ONE | {"view": ["Quantiles"]}),
    Page(
        "Loss, fairness", LOSS, ONE | {"view": ["Distance and fairness"]},
        (Interaction("by gender", _choose("attribute", "gender")),),
    ),
    Page(
        "Compare runs", "6_Compare_runs.py", {},
        (
            Interaction("AUC by gender", _choose("attribute", "gender")),
            Interaction("plane by gender", _choose("tradeoff.attribute", "gender")),
            Interaction("threshold to 0.3", _slide("thresholds.value", 0.3)),
            Interaction("rule", _choose("thresholds.rule", "group")),
        ),
    ),
    Page("Review", "7_Review.py", ONE),
    Page("Report", "8_Report.py", ONE),
)  # fmt: skip


def make_workspace(folder: Path, n: int, epochs: int, runs: int) -> None:
    """A data folder of `n` training pairs (validation and test: a tenth of that each) and finished runs on it."""
    rng = np.random.default_rng(0)
    held_out = max(40, n // 10)
    total = n + 2 * held_out
    data = folder / "data"
    data.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (128, 128), np.uint8)).save(data / "one.png")
    frame = pd.DataFrame(
        {
            "pair_id": [f"data_{i:06d}" for i in range(total)],
            "patient_id": [f"patient_{i:06d}" for i in range(total)],
            "image": "one.png",
            "text": [f"{40 + i % 50}-year-old patient, cup-disc ratio 0.{i % 9}, visit {i}." for i in range(total)],
            "label": rng.integers(0, 2, total),
            "split": np.repeat(["train", "val", "test"], [n, held_out, held_out]),
        }
    )
    for name, (groups, shares) in ATTRIBUTES.items():
        frame[name] = rng.choice(groups, total, p=shares)
    frame.to_csv(data / "manifest.csv", index=False)
    kinds = np.where(
        np.arange(total) < n, rng.choice(["clean", "mismatch", "shortcut"], total, p=[0.82, 0.15, 0.03]), "clean"
    )
    pd.DataFrame({"pair_id": frame["pair_id"], "kind": kinds}).to_csv(data / "planted.csv", index=False)
    table = PairTable.read(data, check_images=False)

    store = RunStore(folder / "workspace")
    first = _run(store, table, kinds[:n], epochs, rng)
    for seed in range(1, runs):
        config = RunConfig.build(("robustfair", "clip")[seed % 2], {"seed": seed // 2, "epochs": epochs})
        other = store.create(config, _data(table), first.pairs())
        for path in first.path.iterdir():
            if (
                path.is_file()
                and path not in (first.files.config, first.files.data)
                and not (other.path / path.name).exists()
            ):
                shutil.copyfile(path, other.path / path.name)
        shutil.copyfile(first.files.status, other.files.status)


def _data(table: PairTable) -> dict:
    return {
        "folder": str(table.root),
        "read_options": {},
        "fingerprint": table.fingerprint,
        "name": table.info.name,
        "prompts": list(table.info.prompts),
        "attributes": list(table.attributes),
        "n": {split: int((table.frame["split"] == split).sum()) for split in ("train", "val", "test")},
        "warnings": [],
    }


def _run(store: RunStore, table: PairTable, kinds: np.ndarray, epochs: int, rng: np.random.Generator) -> Run:
    n, total = len(kinds), len(table)
    config = RunConfig.build("robustfair", {"seed": 0, "epochs": epochs})
    run = store.create(
        config, _data(table), table.frame[["pair_id", "patient_id", "split", "label", *table.attributes]]
    )
    shift = np.select([kinds == "mismatch", kinds == "shortcut"], [1.5, -1.0], 0.0)
    losses = 4 + shift + rng.gamma(2, 0.3, n) + 0.3 * rng.normal(size=(epochs, n))
    ledger = PairLossLedger(table.pair_ids[:n], ("loss", "similarity", "margin"))
    for epoch, line in enumerate(losses.astype(np.float32)):
        ledger.record(epoch, np.arange(n), loss=line, similarity=-line, margin=line)
    run.write_parquet(run.files.ledger, ledger.to_wide_frame())
    run.write_metrics([_line(table, epoch, epochs) for epoch in range(1, epochs + 1)])
    image, text = (rng.normal(size=(total, WIDTH)) for _ in range(2))
    run.write_embeddings(*(side / np.linalg.norm(side, axis=1, keepdims=True) for side in (image, text)))
    points = pd.DataFrame(rng.uniform(-1, 1, (total, 4)).astype(np.float32), columns=list(COLUMNS))
    points.insert(0, "pair_id", table.pair_ids)
    run.write_parquet(run.files.projection, points.assign(method="UMAP"))
    scored = table.frame[table.frame["split"] != "train"].drop(columns=["text", "image"]).reset_index(drop=True)
    scored["score"] = 1 / (1 + np.exp(-(2 * scored["label"].to_numpy() - 1 + rng.normal(size=len(scored)))))
    scored["probe_score"] = scored["score"]
    run.write_parquet(run.files.predictions, scored)
    report = held_out_report(held_out_rows(scored, run.id), table.attributes).to_dict()
    run.write_report({"best_epoch": epochs, "test": report, "test_with_intervals": report, "val": {}, "probe": None})
    run.set_status(state="finished", epoch=epochs, message="finished", finished=now())
    return run


def _line(table: PairTable, epoch: int, epochs: int) -> dict:
    """Metrics of one epoch, with a divergence that falls."""
    attributes = {name: {"es_auc": 0.7 + 0.1 * epoch / epochs} for name in table.attributes}
    sinkhorn = [
        {"quantity": quantity, "attribute": name, "group": group, "n": 1, "value": 0.4 / epoch}
        for quantity in ("loss", "similarity")
        for name in table.attributes
        for group in np.unique(table.attribute(name))
    ]
    return {
        "epoch": epoch, "train_loss": 3 + 1 / epoch, "val_loss": 3.2 + 1 / epoch, "sinkhorn": sinkhorn,
        "val": {"overall": {"auc": 0.8}, "attributes": attributes}, "flagged": {"faulty": 50, "noisy": 5},
        "mean_weight": 0.99, "learning_rate": 1e-4, "seconds": 4.0, "step_seconds": 0.1, "best": epoch == epochs,
    }  # fmt: skip


def timed(act: Callable[[], AppTest]) -> tuple[float, float]:
    """Wall seconds and processor seconds of a rerun; an exception or an error on the page ends the benchmark."""
    started, busy = time.perf_counter(), time.process_time()
    app = act()
    seconds = (time.perf_counter() - started, time.process_time() - busy)
    if app.exception or app.error:
        raise SystemExit(f"the page failed: {[element.value for element in (*app.exception, *app.error)]}")
    return seconds


def measure(page: Page) -> list[tuple[str, tuple[float, float]]]:
    """Times of the first rerun, the second rerun and each interaction of a page."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    app.run()  # imports are not counted for any page
    if page.file is not None:
        app.switch_page(f"pages/{page.file}")
    for name, value in page.address.items():
        app.query_params[name] = value
    app.run()
    st.cache_data.clear()
    st.cache_resource.clear()
    times = [("first", timed(app.run)), ("again", timed(app.run))]
    return times + [(step.name, timed(lambda step=step: step.act(app))) for step in page.interactions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="names of pages")
    options = parser.parse_args()
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    # The form's standby worker may still write into the folder while it is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        make_workspace(Path(folder), options.pairs, options.epochs, options.runs)
        os.environ["FAIRVLM_WORKSPACE"] = str(Path(folder) / "workspace")
        print(f"{options.pairs:,} training pairs x {options.epochs} epochs x {options.runs} runs")
        for page in PAGES:
            if options.only and page.name not in options.only:
                continue
            for name, (seconds, busy) in measure(page):
                print(f"{page.name:<21}{name:<18}{seconds:7.2f} s {busy:7.2f} s")


if __name__ == "__main__":
    main()
