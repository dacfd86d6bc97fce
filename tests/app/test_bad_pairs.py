"""Bad pairs: what is decided on planted losses, and the page in every state that a run can be in."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from recipes import add_run, asked, set_running, words_of

from fairvlm_core import safeio
from fairvlm_core.analysis import clean_data, mined_pairs
from fairvlm_core.analysis.mined_pairs import MinedPairs, PairFilter, RunPairs, matching_rows, usable_settings
from fairvlm_core.analysis.one_pair import near as near_pair
from fairvlm_core.analysis.planted_truth import truth_curves, truth_scores
from fairvlm_core.analysis.projection import Projection
from fairvlm_core.config import MiningConfig
from fairvlm_core.errors import InputError
from fairvlm_core.intake.csvsafe import read_csv
from fairvlm_core.jobs import maps
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.mining import RANKING_RULES, Evidence, Judgement, RankingRule, audit_mining, mine_bad_pairs
from fairvlm_core.pairs import PairTable
from fairvlm_core.review import QueueSettings, ReviewStore, queue_from_run
from fairvlm_core.runs import Run, RunStore
from ui import bad_pairs, bad_pairs_charts, inspector

PAGE = "3_Bad_pairs.py"
EPOCHS = 5
WORST, EASY = 7, 11  # rows of a pair that is much too hard, and of one that is much too easy


def planted_losses(table: PairTable) -> np.ndarray:
    """Losses (epochs, training pairs): planted wrong notes one higher, one pair far above, one far below."""
    train = (table.frame["split"] == "train").to_numpy(bool)
    kinds = table.planted().set_index("pair_id").loc[table.pair_ids[train], "kind"].to_numpy(str)
    rng = np.random.default_rng(0)
    losses = 4 + 0.3 * rng.normal(size=int(train.sum())) + (kinds == "mismatch") + 0.1 * rng.normal(size=(EPOCHS, 1))
    losses[:, WORST] = 8.0
    losses[:, EASY] = 1.0
    return losses.astype(np.float32)


PAPER = {"mining.history": "mean", "mining.spread": "sd", "mining.faulty_sd": 3.0, "mining.weights": "bounded"}


def add_bench_run(
    store: RunStore, table: PairTable, preset: str = "dbpm", seed: int = 0, *, mapped: bool = True
) -> Run:
    """A finished run with a planted ledger, embeddings and, where asked for, a map on a grid."""
    run = add_run(store, table, preset, seed, **PAPER)
    train = table.frame["split"] == "train"
    losses = planted_losses(table)
    ledger = PairLossLedger(table.pair_ids[train.to_numpy(bool)], ("loss", "similarity", "margin"))
    for epoch, line in enumerate(losses):
        ledger.record(epoch, np.arange(len(line)), loss=line, similarity=-line, margin=2 * line)
    run.write_parquet(run.files.ledger, ledger.to_wide_frame())
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(len(table), 8))
    text = image + 0.3 * rng.normal(size=image.shape)
    run.write_embeddings(*(side / np.linalg.norm(side, axis=1, keepdims=True) for side in (image, text)))
    if mapped:
        place = np.linspace(-1, 1, len(table))
        grid = np.stack([place, np.where(np.arange(len(table)) % 2 == 0, -0.5, 0.5)], 1).astype(np.float32)
        run.write_parquet(run.files.projection, Projection(grid, -grid, "UMAP").to_frame(table.pair_ids))
    return run


@pytest.fixture(scope="session")
def _bench_runs(table: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = RunStore(tmp_path_factory.mktemp("bench"))
    add_bench_run(store, table)
    add_bench_run(store, table, "clip", 1, mapped=False)
    return store.workspace


@pytest.fixture
def bench_runs(_bench_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "workspace"
    shutil.copytree(_bench_runs, path)
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(path))
    return path


@pytest.fixture(scope="session")
def bench(_bench_runs: Path) -> RunPairs:
    run = RunStore(_bench_runs).get("1")
    return RunPairs.of(run.ledger(), run.pairs(), run.data["attributes"])


def mine(bench: RunPairs, **changes) -> MinedPairs:
    return mined_pairs.mine_pairs(bench, mined_pairs.changed_settings(MiningConfig(), changes))


def flagged_by_hand(losses: np.ndarray, faulty_sd: float, noisy_sd: float) -> tuple[int, int]:
    mean = losses.astype(float).mean(0)
    high, low = mean.mean() + faulty_sd * mean.std(), mean.mean() - noisy_sd * mean.std()
    return int((mean > high).sum()), int((mean < low).sum())


# Decisions


def test_the_order_is_by_kind_then_by_distance(bench) -> None:
    now = mine(bench, faulty_sd=2.0, noisy_sd=2.0)
    assert bench.ids[now.order[0]] == bench.ids[bench.place[WORST]]
    assert sorted(now.order) == list(range(len(bench)))
    ranks = np.array([2, 0, 1, 3])[now.kind][now.order]  # wrong notes, shared markers, clean, not mined
    assert (np.diff(ranks) >= 0).all()
    for rank in range(3):
        assert (np.diff(np.abs(now.z[now.order[ranks == rank]])) <= 0).all()
    assert np.isnan(now.mean_loss[bench.splits != "train"]).all()


def test_the_list_follows_filters_and_selection(bench) -> None:
    now = mine(bench, faulty_sd=1.5)
    everyone = matching_rows(bench, now, PairFilter())
    assert set(bench.splits[everyone]) == {"train"}
    faulty = matching_rows(bench, now, PairFilter(kinds=("faulty",)))
    assert len(faulty) == now.result.n_flagged["faulty"] > 1
    race = str(bench.groups["race"][faulty[0]])
    of_race = matching_rows(bench, now, PairFilter(attribute="race", groups=(race,)))
    assert set(bench.groups["race"][of_race]) == {race}
    name = str(bench.ids[everyone[3]])
    assert bench.ids[matching_rows(bench, now, PairFilter(part=name.upper()))].tolist() == [name]
    notes = [f"note {i} of an eye" for i in range(len(bench))]
    assert matching_rows(bench, now, PairFilter(part="EYE 7 note"), None, notes).tolist() == [
        row for row in everyone.tolist() if "7" in str(row)
    ]
    held_out = str(bench.ids[bench.splits == "test"][0])
    chosen = matching_rows(bench, now, PairFilter(), [held_out, name, "no such pair"])
    assert bench.ids[chosen].tolist() == [name, held_out]  # what is not mined comes last


def test_what_is_drawn_keeps_all_flagged_and_the_shares() -> None:
    rng = np.random.default_rng(0)
    n = 5000
    strata = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    flagged, nobody = rng.random(n) < 0.02, np.zeros(n, bool)
    wanted = np.arange(n) == 4711
    found = bad_pairs.drawn(np.ones(n, bool), strata, flagged, wanted, rng.random(n), limit=1000)
    assert len(found.rows) == len(set(found.rows)) == 1000
    assert set(np.flatnonzero(flagged)) <= set(found.rows)
    assert 4711 in found.rows
    plain = found.rows[~flagged[found.rows]]
    shares = np.bincount(strata[plain]) / len(plain)
    assert np.allclose(shares, np.bincount(strata) / n, atol=0.02)
    assert f"all {flagged.sum()} flagged" in found.words
    few = bad_pairs.drawn(flagged, strata, nobody, nobody, rng.random(n), limit=1000)
    assert few.rows.tolist() == np.flatnonzero(flagged).tolist()
    assert few.words == ""
    crowded = bad_pairs.drawn(np.ones(n, bool), strata, np.ones(n, bool), nobody, rng.random(n), limit=1000)
    assert f"1,000 of {n:,} flagged" in crowded.words


def test_the_verdict_in_words_warns_of_a_group_that_loses_more(bench) -> None:
    losses = np.ones((1, 400)) + 0.01 * np.random.default_rng(0).normal(size=(1, 400))
    losses[0, :12] = 5.0
    result = mine_bad_pairs(losses)
    audit = audit_mining(result, {"race": ["A"] * 40 + ["B"] * 360, "sex": ["F", "M"] * 200})
    warned, words = bad_pairs.audit_words(audit, "race")
    assert warned
    assert "pairs of group 'A' are flagged more often" in words
    row = bad_pairs.audit_table(audit, "race").set_index("Group").loc["A"]
    assert row[["Pairs", "Flagged", "Share"]].tolist() == [40, 12, "30.0 %"]
    assert row["95 % interval"].startswith("18.1 % to")
    warned, words = bad_pairs.audit_words(audit, "sex")
    assert not warned
    assert "No group of sex is flagged more often" in words
    quiet = mine(bench, faulty_sd=50.0, noisy_sd=50.0)
    assert bad_pairs.audit_words(quiet.audit, "race") == (False, "Nothing is flagged, so no group loses data.")


def test_truth_is_scored_as_counted_by_hand(bench, table: PairTable) -> None:
    planted = table.planted().set_index("pair_id")["kind"].reindex(bench.ids).fillna("").to_numpy(str)
    now = mine(bench, faulty_sd=0.8, noisy_sd=0.8)
    scores = {s.ranking.planted: s for s in truth_scores(now, planted, truth_curves(now, planted))}
    train = bench.splits == "train"
    is_so, flagged = (planted == "mismatch") & train, now.kind == 1
    score = scores["mismatch"]
    assert score.n == is_so.sum()
    assert score.n_hit == (is_so & flagged).sum() > 0
    assert score.precision == pytest.approx((is_so & flagged).sum() / flagged.sum())
    assert score.recall == pytest.approx((is_so & flagged).sum() / is_so.sum())
    assert score.ranking.chance == pytest.approx(is_so.sum() / train.sum())
    ranked = is_so[train][np.argsort(-now.mean_loss[train], kind="stable")]
    by_hand = (np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean()
    assert score.ranking.average_precision == pytest.approx(by_hand)
    assert score.ranking.average_precision > 3 * score.ranking.chance
    assert set(scores) == {"mismatch", "shortcut"}
    text = bad_pairs.truth_table(list(scores.values()))
    assert text["Mismatch"].tolist()[0] == str(is_so.sum())


def test_the_reason_comes_from_the_numbers(bench) -> None:
    now = mine(bench, faulty_sd=3.0, noisy_sd=3.0)
    row = int(bench.place[WORST])
    line = inspector.reason(bench, now, row)[0]
    assert f"mean loss {now.mean_loss[row]:.2f} is {now.z[row]:.1f} sd above the mean {now.result.mu:.2f}" in line
    assert "flagged as a wrong note" in line
    assert "flagged as a shared marker" in inspector.reason(bench, now, int(bench.place[EASY]))[0]
    clean = int(now.order[int(now.flagged.sum())])
    assert "within the limits: not flagged" in inspector.reason(bench, now, clean)[0]
    assert (
        "Only training pairs are mined"
        in inspector.reason(bench, now, int(np.flatnonzero(bench.splits == "test")[0]))[0]
    )
    robust = mine(bench, spread="mad")
    assert "robust sd above the median" in inspector.reason(bench, robust, row)[0]


def test_the_rule_by_agreement_has_its_own_words_and_ranking(bench) -> None:
    losses = bench.ledger.losses[-1]
    ledger = PairLossLedger(bench.ledger.pair_ids, ("loss", "margin", "disagreement", "mismatch", "outlyingness"))
    unlike = np.linspace(0.0, 1.0, len(losses), dtype=np.float32)
    ledger.record(
        0,
        np.arange(len(losses)),
        loss=losses,
        margin=unlike,
        disagreement=unlike,
        mismatch=unlike,
        outlyingness=0 * unlike,
    )
    judged = replace(bench, ledger=ledger)
    own = MiningConfig(rule="mismatch", weights="posterior")
    settings = usable_settings(own, ledger.channels)
    assert settings.rule == "mismatch"
    assert usable_settings(own, bench.ledger.channels).rule == "threshold"  # that ledger has no channels of agreement
    now = mined_pairs.mine_pairs(judged, settings)
    assert now.result.n_flagged["faulty"] == (unlike > 0.4).sum()
    said = [inspector.reason(judged, now, row)[0] for row in (int(judged.place[-1]), int(judged.place[0]))]
    assert "different patients with a probability of 1.00: flagged as a wrong note. Its mean loss" in said[0]
    assert "different patients with a probability of 0.00: not flagged." in said[1]
    planted = np.full(len(bench), "", dtype="U8")
    planted[judged.place] = np.where(unlike > 0.8, "mismatch", "clean")
    assert truth_curves(now, planted)[0].average_precision == pytest.approx(1.0)


def test_the_reason_counts_better_fits(bench) -> None:
    n = len(bench)
    features = np.eye(n, dtype=np.float32)
    exchanged = features[[1, 0, *range(2, n)]]
    near = near_pair({"image": features, "text": exchanged}, 0, bench.splits == "train")
    words = " ".join(inspector.reason(bench, mine(bench), 0, near))
    assert f"1 of {(bench.splits == 'train').sum() - 1} other training images matches this note better" in words
    near = near_pair({"image": features, "text": features}, 0, bench.splits == "train")
    assert "No other training note matches this image better" in " ".join(inspector.reason(bench, mine(bench), 0, near))


def test_posterior_weights_give_way_under_the_threshold_rule(bench) -> None:
    own = MiningConfig(channel="margin", rule="mixture", weights="posterior")
    settings = usable_settings(own, bench.ledger.channels)
    assert settings.channel == "margin"
    assert settings.weights == "posterior"
    assert mined_pairs.changed_settings(own, {"rule": "threshold"}).weights == "bounded"
    assert usable_settings(own, ("loss",)).channel == "loss"


@pytest.mark.parametrize("by", ["kind", "loss", "label", "split", "group:race", "verdict"])
def test_every_colouring_has_a_colour_and_a_legend_for_every_candidate(bench, by) -> None:
    now = mine(bench, faulty_sd=2.0)
    verdicts = np.where(np.arange(len(bench)) % 2 == 0, "good", bad_pairs.NOT_REVIEWED)
    colours = bad_pairs.colouring(bench, now, by, verdicts)
    rows = np.flatnonzero(colours.candidates)
    inks, legend = bad_pairs_charts.map_colours(now, rows, colours)
    assert len(inks) == len(rows)
    assert (len(rows) == len(bench)) == (by in ("split", "verdict"))
    if by == "loss":
        worst = int(np.nanargmax(now.mean_loss[rows]))
        assert inks[worst] == legend[-1][1] != legend[0][1]
    else:
        assert set(inks) == {colour for _, colour in legend}
        assert sum(int(re.search(r"\((\d+)\)$", name)[1]) for name, _ in legend) == len(rows)


def test_the_histogram_holds_every_pair_once(bench) -> None:
    now = mine(bench, faulty_sd=2.0)
    figure = bad_pairs_charts.histogram(now, "Mean loss")
    counts = {trace.name: int(np.sum(trace.y)) for trace in figure.data}
    assert counts == {
        "Clean": int((now.kind == 0).sum()), "Wrong note": now.result.n_flagged["faulty"],
        "Shared marker": now.result.n_flagged["noisy"],
    }  # fmt: skip
    assert any(f"{now.result.faulty_above:.2f}" in note.text for note in figure.layout.annotations)


def test_a_map_of_other_pairs_is_refused(bench) -> None:
    frame = Projection(np.zeros((len(bench), 2)), np.zeros((len(bench), 2)), "UMAP").to_frame(bench.ids[::-1])
    with pytest.raises(InputError, match="make the map again"):
        mined_pairs.map_points(frame, bench)


# Export


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_clean_manifest_reads_back_as_the_table_without_its_bad_pairs(table, tmp_path, form) -> None:
    folder = tmp_path / "data"
    shutil.copytree(table.root, folder)
    frame = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    frame.loc[3, "text"] = 'Cup, "large"\nsecond line; \u7dd1\u5185\u969c'
    frame.loc[5, "race"] = ""
    frame.to_csv(folder / "manifest.csv", index=False)
    source = PairTable.read(folder)
    train = source.pair_ids[(source.frame["split"] == "train").to_numpy(bool)]
    held_out = source.pair_ids[(source.frame["split"] == "test").to_numpy(bool)]
    manifest = clean_data.clean_manifest(source, [*train[:7], held_out[0]])
    assert len(source) - len(manifest) == 7  # the test pair stays
    name = f"clean.{form}"
    (folder / name).write_bytes({"csv": clean_data.csv_bytes, "parquet": clean_data.parquet_bytes}[form](manifest))
    (folder / "clean.json").write_text(clean_data.description(source, name), encoding="utf-8")
    again = PairTable.read(folder, description=folder / "clean.json")
    kept = source.take(~np.isin(source.pair_ids, train[:7]))
    assert again.attributes == source.attributes
    assert again.info.prompts == source.info.prompts
    for column in ("pair_id", "patient_id", "split", "label", "text", "image", *source.attributes):
        assert again.frame[column].astype(str).tolist() == kept.frame[column].astype(str).tolist(), column
    assert again.image(0).tobytes() == kept.image(0).tobytes()


def test_a_formula_is_neutral_in_csv_and_whole_in_parquet(table, tmp_path) -> None:
    frame = table.frame.head(4).astype({"text": "str"}).copy()
    frame["text"] = ["=1+1", "-2", "plain", "@x"]
    part = PairTable.from_frame(frame.drop(columns="image"), attributes=list(table.attributes))
    manifest = clean_data.clean_manifest(part, [])
    path = tmp_path / "m.csv"
    path.write_bytes(clean_data.csv_bytes(manifest))
    assert "'=1+1" in path.read_text(encoding="utf-8")
    assert read_csv(path)["text"].tolist() == ["=1+1", "-2", "plain", "@x"]
    (tmp_path / "m.parquet").write_bytes(clean_data.parquet_bytes(manifest))
    assert pd.read_parquet(tmp_path / "m.parquet")["text"].tolist() == ["=1+1", "-2", "plain", "@x"]


# The page


def shown_note(app) -> str:
    """The note in the inspector, as text."""
    (note,) = [one.proto.body for one in app.get("html") if "<div class='marked-note'>" in one.proto.body]
    return html.unescape(re.sub(r"</?(div|mark)[^>]*>", "", note))


def counts_shown(app) -> str:
    return next(one.value for one in app.caption if one.value.startswith("Wrong notes"))


def numbers(app) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


@pytest.mark.usefixtures("empty_workspace")
def test_without_a_run_the_page_says_what_to_do(open_page) -> None:
    app = open_page(PAGE)
    assert "No run yet" in words_of(app)
    assert app.code[0].value.startswith("fairvlm train")
    assert not app.error


@pytest.mark.usefixtures("bench_runs")
def test_the_page_starts_at_the_runs_settings_and_mines_again(open_page, table) -> None:
    losses = planted_losses(table)
    app = open_page(PAGE, run=["1"])
    faulty, noisy = flagged_by_hand(losses, 3.0, 3.0)
    assert numbers(app)["Wrong note"] == str(faulty) == "1"
    assert numbers(app)["Shared marker"] == str(noisy)
    assert app.button(key="bad_pairs.reset").disabled
    app.slider(key="bad_pairs.faulty_sd").set_value(0.5).run()
    app.slider(key="bad_pairs.noisy_sd").set_value(1.0).run()
    faulty, noisy = flagged_by_hand(losses, 0.5, 1.0)
    assert faulty > 5
    assert numbers(app)["Wrong note"] == str(faulty)
    assert numbers(app)["Shared marker"] == str(noisy)
    assert numbers(app)["Flagged"] == f"{100 * (faulty + noisy) / losses.shape[1]:.1f} %"
    assert counts_shown(app) == f"Wrong notes {faulty} · Shared markers {noisy} · 60 training pairs"
    app.button(key="bad_pairs.reset").click().run()
    assert numbers(app)["Wrong note"] == "1"
    assert app.slider(key="bad_pairs.faulty_sd").value == 3.0
    assert not app.exception


@pytest.mark.usefixtures("bench_runs")
def test_how_strict_moves_both_limits_and_the_first_wrong_note_is_open(open_page, bench, table) -> None:
    app = open_page(PAGE, run=["1"])
    assert asked(app, "pair") == [str(bench.ids[bench.place[WORST]])]  # with nothing pressed
    app.button(key="bad_pairs.strict.0.6").click().run()
    assert app.slider(key="bad_pairs.faulty_sd").value == app.slider(key="bad_pairs.noisy_sd").value == 1.8
    faulty, noisy = flagged_by_hand(planted_losses(table), 1.8, 1.8)
    assert counts_shown(app).startswith(f"Wrong notes {faulty} · Shared markers {noisy}")
    app.button_group(key="bad_pairs.kinds").set_value("noisy").run()
    assert asked(app, "pair") == [str(bench.ids[bench.place[EASY]])]
    app.text_input(key="bad_pairs.words").input(str(bench.ids[bench.place[EASY]])).run()
    assert counts_shown(app).startswith("Wrong notes 0 · Shared markers 1 · 1 of 60 pairs")


@pytest.mark.usefixtures("bench_runs")
def test_a_reload_keeps_thresholds_and_filters(open_page) -> None:
    app = open_page(PAGE, run=["1"])
    app.slider(key="bad_pairs.faulty_sd").set_value(1.5).run()
    app.button_group(key="bad_pairs.kinds").set_value("all").run()
    app.text_input(key="bad_pairs.words").input("the").run()
    address = {name: value for name, value in app.query_params.items() if name != "pair"}
    before = counts_shown(app)
    again = open_page(PAGE, **address)  # a new session
    assert again.slider(key="bad_pairs.faulty_sd").value == 1.5
    assert again.button_group(key="bad_pairs.kinds").value == "all"
    assert counts_shown(again) == before
    strange = open_page(PAGE, run=["1"], faulty_sd="NaN", rule="no such", show="?")
    assert strange.slider(key="bad_pairs.faulty_sd").value == 3.0
    assert not strange.exception


@pytest.mark.usefixtures("bench_runs")
def test_a_rule_of_ones_own_mines_on_the_page(open_page, monkeypatch) -> None:
    def latest(evidence: Evidence) -> Judgement:
        return evidence.by_limits(evidence.latest("loss"))

    rule = RankingRule("latest", latest, title="Latest loss")
    monkeypatch.setitem(RANKING_RULES._parts, rule.name, rule)
    app = open_page(PAGE, run=["1"])
    app.button_group(key="bad_pairs.rule").set_value("latest").run()
    assert not app.exception
    assert not app.error
    assert "The rule Latest loss ranks it" in words_of(app)
    assert numbers(app)["Wrong note"] == "1"


@pytest.mark.usefixtures("bench_runs")
def test_settings_stay_on_another_page_and_start_anew_with_another_run(open_page) -> None:
    app = open_page(PAGE, run=["1"])
    app.slider(key="bad_pairs.faulty_sd").set_value(1.0).run()
    app.switch_page("pages/1_Data.py").run()
    app.switch_page(f"pages/{PAGE}").run()
    assert app.slider(key="bad_pairs.faulty_sd").value == 1.0
    app.sidebar.selectbox[0].select("0002-clip-s1").run()
    assert app.slider(key="bad_pairs.faulty_sd").value == 3.0
    assert "did not down-weight any pair" in words_of(app)


@pytest.mark.usefixtures("bench_runs")
def test_a_pair_in_the_address_is_opened_cold_and_the_next_one_follows(open_page, bench, table) -> None:
    pair = str(bench.ids[bench.place[EASY]])
    app = open_page(PAGE, run=["1"], pair=pair)
    said = words_of(app).replace("\\", "")
    assert f"**{pair}**" in said
    assert shown_note(app) == str(table.frame["text"][int(np.flatnonzero(table.pair_ids == pair)[0])])
    assert asked(app, "pair") == [pair]
    app.button_group(key="bad_pairs.kinds").set_value("all").run()
    app.query_params["pair"] = pair
    app.run()
    now = mine(bench)
    order = bench.ids[matching_rows(bench, now, PairFilter())]
    place = int(np.flatnonzero(order == pair)[0])
    app.button(key="inspector.next").click().run()
    assert asked(app, "pair") == [order[place + 1]]
    app.button(key="inspector.previous").click().run()
    app.button(key="inspector.previous").click().run()
    assert asked(app, "pair") == [order[place - 1]]


@pytest.mark.usefixtures("bench_runs")
def test_a_pair_that_is_not_there_is_said(open_page, bench) -> None:
    app = open_page(PAGE, run=["1"], pair="![x](http://example.invalid)")
    assert "no pair" in app.warning[0].value
    assert "](http" not in app.warning[0].value
    assert asked(app, "pair") == [str(bench.ids[bench.place[WORST]])]


def test_a_run_at_work_shows_what_it_has_and_says_when_that_is_nothing(open_page, bench_runs) -> None:
    run = RunStore(bench_runs).get("1")
    set_running(run)
    (run.path / "embeddings.npz").unlink()
    (run.path / "projection.parquet").unlink()
    app = open_page(PAGE, run=["1"])
    assert "run is being trained (epoch 1 of 2)" in words_of(app)
    assert numbers(app)["Wrong note"] == "1"
    assert "Neighbours appear when the run has finished" in words_of(app)
    assert not app.error
    (run.path / "ledger.parquet").unlink()
    app = open_page(PAGE, run=["1"])
    assert "No epoch yet" in words_of(app)
    assert not app.metric


def test_damaged_runs_are_one_line(open_page, bench_runs) -> None:
    run = RunStore(bench_runs).get("1")
    whole = (run.path / "ledger.parquet").read_bytes()
    (run.path / "ledger.parquet").write_bytes(whole[:200])
    app = open_page(PAGE, run=["1"])
    assert "ledger.parquet is damaged" in app.error[0].value.replace("\\", "")
    (run.path / "ledger.parquet").write_bytes(whole)
    (run.path / "projection.parquet").write_bytes(b"PAR1")
    app = open_page(PAGE, run=["1"])
    assert "projection.parquet is damaged" in app.error[0].value.replace("\\", "")
    assert numbers(app)["Wrong note"] == "1"  # the rest works
    assert "inspector.next" in [button.key for button in app.button]
    (run.path / "config.json").write_text("{")
    app = open_page(PAGE, run=["1"])
    assert len(app.error) == 1
    assert "config.json cannot be read" in app.error[0].value.replace("\\", "")


def test_without_the_data_folder_the_rest_works(open_page, tmp_path, table, monkeypatch) -> None:
    folder = tmp_path / "data"
    shutil.copytree(table.root, folder)
    add_bench_run(RunStore(tmp_path / "workspace"), PairTable.read(folder))
    shutil.rmtree(folder)
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "workspace"))
    app = open_page(PAGE)
    assert "Image and note are not available" in words_of(app)
    assert numbers(app)["Wrong note"] == "1"
    assert "mean loss" in words_of(app)
    assert not app.error
    assert not [one for one in app.get("html") if "<div class='marked-note'>" in one.proto.body]


def test_fault_18_foreign_text_is_shown_as_it_is(open_page, tmp_path, table, monkeypatch) -> None:
    note = "<script>alert(1)</script> ![x](http://example.invalid/x.png) $\\frac{1}{2}$"
    folder = tmp_path / "data"
    shutil.copytree(table.root, folder)
    frame = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    frame.loc[:, "text"] = note
    frame.loc[frame.index % 2 == 0, "race"] = "![g](http://example.invalid/g.png)"
    frame.to_csv(folder / "manifest.csv", index=False)
    add_bench_run(RunStore(tmp_path / "workspace"), PairTable.read(folder))
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "workspace"))
    app = open_page(PAGE)
    assert shown_note(app) == note
    for element in (*app.markdown, *app.caption, *app.warning, *app.error):
        assert "](http" not in element.value
        assert "<script" not in element.value


@pytest.mark.usefixtures("bench_runs")
def test_flagged_pairs_become_a_queue_that_is_selected_and_announced(open_page, bench, monkeypatch) -> None:
    monkeypatch.delenv("FAIRVLM_DATABASE_URL", raising=False)
    now = mine(bench, faulty_sd=1.0)
    flagged = bench.ids[now.order[now.flagged[now.order]]].tolist()
    with ReviewStore.open(os.environ["FAIRVLM_WORKSPACE"], url="") as store:
        old = queue_from_run(store, RunStore().get("1"), QueueSettings(size=5, control_share=0.5), name="Old", by="Bo")
        app = open_page(PAGE, run=["1"])
        app.slider(key="bad_pairs.faulty_sd").set_value(1.0).run()
        app.button(key="bad_pairs.send").click().run()
        app.switch_page("pages/7_Review.py").run()  # AppTest forgets where the page went
        app.text_input(key="review.typed").input("Ada")
        next(button for button in app.button if button.label == "Start reviewing").click()
        app.run()
        assert not app.exception
        first, queue = store.queues()
        assert first.queue_id == old.queue_id
        assert {item.pair_id for item in store.items(queue.queue_id)} >= set(flagged)
    assert app.selectbox(key="review.queue").value == queue.queue_id
    assert f"Queue {queue.queue_id} is made and selected" in app.success[0].value
    assert "read by you" in app.get("progress")[0].proto.text  # a pair to read, not the form for a new queue
    app.run()
    assert len(ReviewStore.open(os.environ["FAIRVLM_WORKSPACE"], url="").queues()) == 2  # once


@pytest.mark.usefixtures("bench_runs")
def test_a_run_without_a_map_offers_to_make_it(open_page) -> None:
    app = open_page(PAGE, run=["2"])
    assert "No map yet" in words_of(app)
    assert "bad_pairs.make_map" in [button.key for button in app.button]
    assert not app.error


# The map's process


def test_the_map_is_made_by_this_python_in_a_process_of_its_own(bench_runs) -> None:
    run = RunStore(bench_runs).get("2")
    command = maps.map_command(run)
    assert command[0] == sys.executable
    done = subprocess.run([*command[:4], "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert command[5] in done.stdout
    assert maps.map_state(run) == "none"
    maps.start_map(run, [sys.executable, "-c", "import time; print('at work', flush=True); time.sleep(60)"])
    process = psutil.Process(safeio.read_json(run.files.map_process)["pid"])
    try:
        assert maps.map_state(run) == "running"
        with pytest.raises(InputError, match="being made already"):
            maps.start_map(run)
        for _ in range(100):
            if maps.last_line(run) == "at work":
                break
            time.sleep(0.05)
        assert maps.last_line(run) == "at work"
    finally:
        process.kill()
        process.wait(10)
    assert maps.map_state(run) == "stopped"
    assert maps.map_state(RunStore(bench_runs).get("1")) == "made"
