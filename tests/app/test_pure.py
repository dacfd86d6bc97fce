"""Decisions of the pages, without Streamlit."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from recipes import add_run, set_running
from scipy.stats import binomtest

from fairvlm_core.analysis.cohort import group_counts, intersections, matching, split_counts
from fairvlm_core.analysis.entries import read_entry
from fairvlm_core.fairness.intervals import wilson
from fairvlm_core.report import svg
from fairvlm_core.runs import RunStore
from fairvlm_core.words import points, undefined
from ui import charts, compare_charts, compare_plane, data_page, entries, palette, selection, words
from ui.frame import page_names

# Palette


def _linear(colour: str) -> np.ndarray:
    channel = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio."""
    low, high = sorted(float(_linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Full protanopia, deuteranopia and tritanopia (Machado, Oliveira & Fernandes 2009, table 1), on linear RGB.
_VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize(
    "colour", [*palette.COLOURS, *palette.METHOD_COLOURS, palette.UNKNOWN_COLOUR, palette.ACCENT, palette.NEUTRAL]
)
@pytest.mark.parametrize("background", [palette.LIGHT_BACKGROUND, palette.DARK_BACKGROUND])
def test_colours_stand_out_from_both_backgrounds(colour: str, background: str) -> None:
    assert _contrast(colour, background) >= 3.0


@pytest.mark.parametrize("vision", _VISION)
def test_first_four_groups_differ_for_every_kind_of_colour_vision(vision: str) -> None:
    seen = {c: _lab(np.asarray(_VISION[vision]) @ _linear(c)) for c in palette.COLOURS[:4]}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)


def test_a_group_keeps_its_colour_and_marker() -> None:
    everyone = ["White", "Black", "Asian", "Unknown"]
    assert palette.group_colours(everyone) == palette.group_colours(reversed(everyone))
    assert palette.group_colours(everyone)["Unknown"] == palette.UNKNOWN_COLOUR
    assert len(set(palette.group_colours(everyone).values())) == 4
    assert len(set(palette.group_symbols(everyone).values())) == 4
    assert list(palette.group_colours(f"g{i:02d}" for i in range(20)).values())[16] == palette.COLOURS[0]


# Words


@pytest.mark.parametrize(
    "text",
    ["![x](http://a/b.png)", "<script>alert(1)</script>", "$x^2$", ":red[a] :material/home:", "a\n# b", "`c` _d_ *e*"],
)
def test_literal_leaves_no_markdown(text: str) -> None:
    escaped = words.literal(text)
    bare = escaped.replace("\\\\", "")
    for mark in "`*_[]()<>#$:!":
        assert bare.count(mark) == bare.count("\\" + mark)
    assert "\n" not in escaped


def test_undefined_is_said_with_counts() -> None:
    assert undefined(0, 12) == "undefined (n+ = 0, n− = 12)"
    assert points(-0.00001) == "0.0 pp"


# Selection and navigation


def test_runs_are_found_by_id_number_and_latest() -> None:
    known = ["0001-clip-s0", "0002-dbpm-s0", "0010-clip-s1"]
    assert selection.find_runs(["10", "0002-dbpm-s0", "latest"], known).chosen == ("0010-clip-s1", "0002-dbpm-s0")
    assert selection.find_runs(["3", "../x", "²"], known) == selection.RunChoice((), ("3", "../x", "²"))
    assert selection.find_runs(["latest"], []).unknown == ("latest",)


def test_pages_are_named_after_their_files(tmp_path) -> None:
    for name in ("6_Compare_runs.py", "1_Data.py", "4_Loss_and_Sinkhorn.py", "helper.py", "10_Later.py"):
        (tmp_path / name).touch()
    assert list(page_names(tmp_path)) == ["Data", "Loss & Sinkhorn", "Compare runs", "Later"]


# Groups


def test_wilson_equals_scipy() -> None:
    n = np.array([1, 3, 10, 250])
    positive = np.array([0, 3, 4, 17])
    low, high = wilson(positive / n, n)
    for i in range(len(n)):
        expected = binomtest(int(positive[i]), int(n[i])).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert np.isnan(wilson(np.nan, np.array([0]))[0]).all()


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pair_id": [f"p{i}" for i in range(24)],
            "patient_id": [f"q{i // 2}" for i in range(24)],
            "split": ["train"] * 12 + ["val"] * 4 + ["test"] * 8,
            "label": [0, 1] * 12,
            "text": ["Large cup, IOP 30", "Healthy rim. (C++)"] * 12,
            "race": ["White"] * 20 + ["Black"] * 3 + ["Unknown"],
            "sex": ["F", "F", "M", "M"] * 6,
        }
    )


def test_counts_add_up() -> None:
    frame = _frame()
    splits = split_counts(frame).set_index("Split")
    assert splits.loc["All", ["Pairs", "Patients", "Positive", "Negative"]].tolist() == [24, 12, 12, 12]
    assert splits.loc["Test", "Pairs"] == 8
    counts = group_counts(frame, ["race", "sex"])
    assert counts.groupby("attribute")["n"].sum().to_dict() == {"race": 24, "sex": 24}
    assert counts["group"].tolist() == ["Black", "White", "Unknown", "F", "M"]
    cells = intersections(frame, "race", "sex")
    assert cells["n"].sum() == 24
    assert len(cells) == 6
    assert cells["small"].sum() == 4
    assert data_page.small_cells(cells) == (
        "4 of 6 cells have fewer than 10 pairs, 1 of them none: label rates there are very uncertain."
    )


def test_filters_combine() -> None:
    frame = _frame()
    kind = pd.Series(["clean", "mismatch"] * 12)
    assert len(matching(frame)) == 24
    assert matching(frame, splits=["test"], labels=[1]).tolist() == [17, 19, 21, 23]
    assert matching(frame, groups={"race": ["Unknown"]}).tolist() == [23]
    assert len(matching(frame, kind=kind, kinds=["mismatch"])) == 12
    assert len(matching(frame, words="(c++ RIM")) == 12
    assert len(matching(frame, words="rim iop")) == 0


# Entries


def test_every_state_has_an_entry_and_a_next_step(table, tmp_path) -> None:
    store = RunStore(tmp_path)
    run = add_run(store, table, "clip", 0)
    finished = read_entry(run)
    assert (finished.state, finished.preset, finished.seed, finished.epochs) == ("finished", "clip", 0, 2)
    assert finished.label == "1 · clip · seed 0"
    step = entries.next_step([finished])
    assert step.command == f"fairvlm train {table.root} --preset robustfair"
    other = read_entry(add_run(store, table, "robustfair", 0))
    step = entries.next_step([finished, other])
    assert step.page == "6_Compare_runs.py"
    assert step.runs == (finished.id, other.id)
    assert "1 seed" in step.text

    set_running(run)
    assert read_entry(run).state == "running"
    run.set_status(pid=2**22 + 5)
    interrupted = read_entry(run)
    assert interrupted.state == "interrupted"
    assert entries.next_step([interrupted]).command == f"fairvlm train --resume {run.id}"
    assert interrupted.note.startswith("stopped after epoch 1 of 2")
    run.set_status(state="queued", pid=None)
    assert "waits" in entries.next_step([read_entry(run)]).text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", '{"state": "fini'),
        ("status.json", "[1]"),
        ("status.json", '{"state": "asleep"}'),
        ("status.json", '{"state": "finished", "surprise": 1}'),
        ("status.json", None),
        ("config.json", '{"epochs": "many"}'),
        ("config.json", "7"),
        ("data.json", "{}"),
        ("report.json", None),
        ("report.json", '{"test": {}}'),
        ("report.json", '{"test": {"overall": {"n": null}}}'),
    ],
)
def test_a_damaged_run_is_an_entry(table, tmp_path, name: str, content: str | None) -> None:
    run = add_run(RunStore(tmp_path), table, "clip", 0)
    if content is None:
        (run.path / name).unlink()
    else:
        (run.path / name).write_text(content)
    entry = read_entry(run)
    assert entry.state == "damaged"
    assert entry.message
    assert "Traceback" not in entry.message
    frame = entries.runs_table([entry])
    assert frame.loc[0, "State"] == ["damaged"]
    assert entries.next_step([entry]).command


def test_headlines_name_the_groups_without_auc() -> None:
    group = {"n": 12, "n_positive": 0, "auc": None}
    test = {
        "overall": {"n": 40, "n_positive": 20, "auc": 0.9},
        "attributes": {
            "race": {"es_auc": 0.8, "groups": {"A": {"n": 20, "auc": 0.95}, "B": {"n": 20, "auc": 0.75}}},
            "sex": {"es_auc": 0.9, "groups": {"F": {"n": 28, "auc": 0.9}, "M": group}},
        },
    }
    cards = entries.headlines(test)
    assert [card.value for card in cards] == ["0.900", "0.800", "0.900"]
    assert cards[0].below == "40 pairs, 20 positive"
    assert cards[1].below == "lowest: B 0.750 (n = 20)"
    assert cards[2].below == "partial: no AUC for M (n = 12)"


# Charts


def test_charts_show_every_group_and_survive_foreign_text() -> None:
    frame = _frame().assign(race=lambda f: f["race"].replace("White", "<img src=x> $a$"))
    counts = group_counts(frame, ["race", "sex"])
    chart = charts.group_chart(counts)
    text = json.dumps(chart.to_plotly_json(), default=lambda value: np.asarray(value).tolist())
    assert "<img" not in text
    assert "$a$" not in text
    bars = [trace for trace in chart.data if trace.type == "bar"]
    assert sum(len(bar.x) for bar in bars) == 5
    assert chart.layout.height >= 26 * 5
    cells = intersections(frame, "race", "sex")
    heat = charts.intersection_chart(cells, "race", "sex")
    assert len(heat.layout.shapes) == int(cells["small"].sum())


def test_error_bars_are_distances_from_the_point() -> None:
    figures = pd.DataFrame(
        {"method": ["clip"] * 2, "group": ["", "A"], "value": [0.8, 0.7], "low": [0.7, 0.6], "high": [0.9, 0.75]}
    ).assign(n_positive=5, n_negative=6, n_runs=1)
    point = next(trace for trace in compare_charts.group_auc_chart(figures, "race").data if trace.mode == "markers")
    assert point.error_x.array[0] == pytest.approx(0.05)
    assert point.error_x.arrayminus[0] == pytest.approx(0.1)


def test_no_method_or_rate_has_the_colour_of_a_group() -> None:
    groups = {*palette.COLOURS, palette.UNKNOWN_COLOUR}
    assert not groups & set(palette.METHOD_COLOURS)
    swept = pd.DataFrame({name: [0.1, 0.9] for name in ("threshold", "sensitivity", "specificity", "dpd", "deodds")})
    assert not groups & {trace.line.color for trace in compare_plane.sweep_chart(swept, []).data}
    assert svg.UNKNOWN_COLOUR == palette.UNKNOWN_COLOUR
    assert svg.COLOURS == palette.COLOURS
    dots = [svg.Dot("Asian", 0.8, place=0), svg.Dot("Unknown", 0.7, place=svg.UNKNOWN_PLACE)]
    assert f'fill="{palette.UNKNOWN_COLOUR}"' in svg.dot_chart(dots, title="AUC", x_title="AUC")


def test_a_value_without_an_interval_is_an_open_mark_that_says_so() -> None:
    row = {"attribute": "race", "a": 0.9, "b": 0.9, "p": None, "outcome": "no_interval", "verdict": "", "n_seeds": 1}
    rows = [
        row | {"measure": "AUC, Few", "group": "Few", "difference": 0.0, "low": np.nan, "high": np.nan, "n_positive": 2,
               "n_negative": 1},
        row | {"measure": "AUC, Many", "group": "Many", "difference": 0.1, "low": 0.05, "high": 0.15, "n_positive": 50,
               "n_negative": 50},
    ]  # fmt: skip
    chart = compare_charts.difference_chart(pd.DataFrame(rows), "a", "b")
    symbols = [trace.marker.symbol for trace in chart.data]
    assert [symbol.endswith("-open") for symbol in symbols] == [True, False]
    assert "no interval (n+ = 2, n− = 1)" in [note.text for note in chart.layout.annotations]
