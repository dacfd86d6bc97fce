"""The report: what it says is what was computed, small cells stay hidden, and the file asks for nothing."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fairvlm_core import InputError, PairLossLedger, RunConfig, RunStore, safeio
from fairvlm_core.analysis.comparison import compare_runs
from fairvlm_core.fairness import compare_paired
from fairvlm_core.intake import warning
from fairvlm_core.intake.warning import IntakeWarning, WarningKind
from fairvlm_core.report import ReportOptions, build_content, hidden_cells, render_html
from fairvlm_core.report.cohort import group_cells
from fairvlm_core.report.svg import Dot, Line, dot_chart, line_chart
from fairvlm_core.words import number

QUICK = ReportOptions(n_resamples=100)
REPEATED = "90 of 280 pairs repeat the note of another pair: they are no negatives of each other"
HOSTILE = "<script>window.taken=1</script><img src=http://example.invalid/x.png onerror=alert(1)> & \"q\" 'p' {{7*7}}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PAPER = {"mining.history": "mean", "mining.spread": "sd", "mining.faulty_sd": 3.0, "mining.weights": "bounded"}


# A run with planted counts: 200 training, 40 validation and 100 test pairs, two pairs a patient in training -------------


def cohort() -> pd.DataFrame:
    rows = []
    for split, n in (("train", 200), ("val", 40), ("test", 100)):
        for i in range(n):
            patient = i // 2 if split == "train" else i
            rows.append((f"{split}-{i:03d}", f"secret-{split}-{patient:03d}", split, (i // 2) % 2, "ABC"[i % 3]))
    frame = pd.DataFrame(rows, columns=["pair_id", "patient_id", "split", "label", "site"])
    frame["tongue"] = "English"
    frame.loc[(frame["split"] == "test") & (frame.index % 100 < 43) & (frame.index % 100 >= 40), "tongue"] = "Rare"
    frame.loc[frame["pair_id"].isin([f"test-{i:03d}" for i in range(60, 80)]), "tongue"] = "Other"
    return frame


def add(
    store: RunStore, seed: int = 0, *, name: str = "Planted", shift: float = 1.5, folder: str = "/nowhere", **settings
):
    frame = cohort()
    if name == HOSTILE:
        frame["site"] = frame["site"].replace({"A": HOSTILE})
    data = {
        "folder": folder, "read_options": {}, "fingerprint": f"{len(frame):064x}", "name": name,
        "prompts": ["no", "yes"], "attributes": ["site", "tongue"], "n": {},
        "warnings": ["attribute tongue, split test: fewer than 10 pairs in group Rare (n=3)", REPEATED],
    }  # fmt: skip
    run = store.create(RunConfig.build("dbpm", {"seed": seed, "epochs": 3} | PAPER | settings), data, frame)
    random = np.random.default_rng(seed)
    train = frame[frame["split"] == "train"]
    ledger = PairLossLedger(train["pair_id"], ("loss",))
    for epoch in range(3):
        loss = random.normal(2, 0.1, len(train))
        loss[:6] += 5  # six planted bad pairs
        ledger.record(epoch, np.arange(len(train)), loss=loss)
        ledger.close_epoch(epoch)
    run.write_parquet(run.files.ledger, ledger.to_wide_frame())
    lines = [
        {
            "epoch": e, "train_loss": 3.0 - e / 2, "val_loss": 3.1 - e / 2, "best": e == 2, "mean_weight": 0.97,
            "flagged": {"faulty": 6, "noisy": 0}, "val": {"overall": {"auc": 0.7 + e / 100}, "attributes": {}},
            "sinkhorn": [
                {"quantity": "loss", "attribute": "site", "group": g, "n": 66, "value": 0.1 / e} for g in "ABC"
            ],
        }
        for e in (1, 2, 3)
    ]  # fmt: skip
    run.write_metrics(lines)
    held_out = frame[frame["split"] != "train"].copy()
    noise = random.normal(size=len(held_out))
    held_out["score"] = 1 / (1 + np.exp(-(shift * (held_out["label"].to_numpy() - 0.5) + noise)))
    run.write_parquet(run.files.predictions, held_out.reset_index(drop=True))
    run.set_status(state="finished", epoch=3)
    return run


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "workspace")


class Page(HTMLParser):
    """Tables as lists of rows of cell texts, all tags with their attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self._caption: str | None = None
        self._rows: list[list[str]] = []
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self._rows, self._caption = [], None
        elif tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag) -> None:
        if tag in ("td", "th"):
            self._cell = False
        elif tag == "caption":
            self._named, self._caption = self._caption or "", None
        elif tag == "table":
            self.tables[" ".join(self._named.split())] = self._rows

    def handle_data(self, data) -> None:
        self.words.append(data)
        if self._caption is not None:
            self._caption += data
        elif self._cell:
            self._rows[-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.words)

    def table(self, start: str) -> dict[str, list[str]]:
        """The rows of the table whose caption begins so, by their first cell, without the head."""
        rows = next(rows for caption, rows in self.tables.items() if caption.startswith(start))
        return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[1:]}


# Small cells


def possible(column: tuple[int, ...], hidden: list[str], small: int, k: int) -> set[int]:
    """Values of one small cell that agree with the column's total, the shown cells and the words in the hidden ones."""
    places = [i for i, cell in enumerate(hidden) if cell]
    total = sum(column[i] for i in places)
    reach = {i: range(k) if hidden[i] == "small" else range(k, total + 1) for i in places}
    found = set()
    for guess in itertools.product(*(reach[i] for i in places)):
        if sum(guess) == total:
            found.add(guess[places.index(small)])
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_no_hidden_cell_can_be_computed(n: int) -> None:
    k = 3
    for column in itertools.product(range(8 if n < 4 else 6), repeat=n):
        hidden = hidden_cells(column, min_cell=k)
        below = [value < k for value in column]
        if not any(below):
            assert hidden == [""] * n
            continue
        assert all(cell for cell, small in zip(hidden, below, strict=True) if small)
        if "small" not in hidden:
            assert set(hidden) == {"withheld"}  # nothing is said about any of them
            continue
        assert [cell == "small" for cell in hidden] == below
        for i in (i for i, small in enumerate(below) if small):
            assert possible(column, hidden, i, k) == set(range(k)), (column, hidden)


@pytest.mark.parametrize(
    ("columns", "k", "expected"),
    [
        (([10, 20, 30],), 5, ["", "", ""]),
        (([5, 20],), 5, ["", ""]),
        (([4, 20, 30],), 5, ["small", "withheld", ""]),
        (([4, 30, 20],), 5, ["small", "", "withheld"]),
        (([0, 40, 50],), 5, ["small", "withheld", ""]),
        (([2, 2, 50],), 5, ["small", "small", ""]),
        (([4, 4, 50],), 5, ["small", "small", "withheld"]),
        (([0, 0, 50],), 5, ["small", "small", "withheld"]),
        (([1, 2],), 5, ["withheld", "withheld"]),
        (([3],), 5, ["withheld"]),
        (([20, 30, 40], [2, 20, 30], [18, 10, 10]), 5, ["small", "withheld", ""]),
        (([1, 2, 30],), 0, ["", "", ""]),
        (([0, 2, 30],), 1, ["", "", ""]),
        (([],), 5, []),
    ],
)
def test_which_rows_are_hidden(columns, k: int, expected: list[str]) -> None:
    assert hidden_cells(*columns, min_cell=k) == expected


def test_people_are_counted_not_pairs() -> None:
    frame = pd.DataFrame(
        {
            "patient_id": ["p"] * 6 + [f"q{i}" for i in range(20)], "split": "test",
            "label": [0, 1] * 3 + [0, 1] * 10, "sex": ["F"] * 6 + ["M"] * 20,
        }
    )  # fmt: skip
    cells = {cell.group: cell for cell in group_cells(frame, ["sex"], 5) if cell.split == "test"}
    assert cells["F"].hidden == "small"
    assert (cells["F"].n, cells["M"].n) == (None, None)
    assert {c.group: c.n for c in group_cells(frame, ["sex"], 0) if c.split == "test"} == {"F": 6, "M": 20}


def test_a_negative_size_is_refused(store) -> None:
    with pytest.raises(InputError, match="min_cell: -1 is negative"):
        build_content(add(store), options=ReportOptions(min_cell=-1))


def test_small_groups_are_nowhere_in_the_report(store) -> None:
    run = add(store)
    content = build_content(run, options=QUICK)
    rows = {
        row["group"]: row for row in content["data"]["groups"] if (row["split"], row["attribute"]) == ("test", "tongue")
    }
    assert [rows[name]["hidden"] for name in ("Rare", "Other", "English")] == ["small", "withheld", ""]
    assert {rows["Rare"][key] for key in ("n", "n_positive", "n_negative", "n_patients")} == {None}
    result = next(a for a in content["results"]["attributes"] if a["attribute"] == "tongue")
    assert {"group": "Rare", "hidden": "small"} in result["groups"]
    roc = next(r for r in content["roc"] if r["attribute"] == "tongue")
    assert [curve["group"] for curve in roc["groups"]] == ["English"]
    assert content["data"]["warnings"] == [
        REPEATED,
        "1 warning left out, because counts of hidden groups could be in them",
    ]
    page = Page(render_html(content))
    assert page.table("Test AUC by tongue")["Rare"] == ["< 5"]
    assert page.table("Test AUC by tongue")["Other"] == ["withheld"]
    open_to_all = build_content(run, options=ReportOptions(min_cell=0, n_resamples=0))
    assert "(n=3)" in open_to_all["data"]["warnings"][0]
    assert Page(render_html(open_to_all)).table("Test AUC by tongue")["Rare"][0] == "3"


@pytest.mark.parametrize("typed", [False, True])
def test_a_reworded_warning_leaks_no_hidden_count(store, monkeypatch, typed: bool) -> None:
    """A warning is hidden by its kind; the sentence of an old run is shown only if it is a known harmless one."""
    kind = WarningKind.GROUPS_SMALL
    monkeypatch.setitem(warning._TEMPLATES, kind, "Few people in {split}, less than {limit}: {groups}")
    small = IntakeWarning(kind, "tongue", "test", {"groups": "Rare (n=3)", "limit": 10})
    harmless = IntakeWarning(WarningKind.REPEATED_NOTES, values={"n": 90, "total": 280})
    run = add(store)
    stored = [one.to_dict() if typed else str(one) for one in (small, harmless)]
    safeio.write_json(run.path / "data.json", run.data | {"warnings": stored})
    run = store.get("1")
    content = build_content(run, options=QUICK)
    assert content["data"]["warnings"][0] == REPEATED
    assert len(content["data"]["warnings"]) == 2
    assert "n=3" not in json.dumps(content) + render_html(content)
    shown = build_content(run, options=ReportOptions(min_cell=0, n_resamples=0))["data"]["warnings"]
    assert shown == ["Few people in test, less than 10: Rare (n=3)", REPEATED]


def test_few_flagged_people_of_a_group_stay_hidden(store) -> None:
    audit = {a["attribute"]: a["groups"] for a in build_content(add(store), options=QUICK)["mining"]["audit"]}
    # Six flagged pairs of three patients, two a site: each cell is below five.
    assert {row["flagged_hidden"] for row in audit["site"]} <= {"small", "withheld"}
    assert all("n_flagged" not in row and "rate" not in row for row in audit["site"])
    content = build_content(store.get("1"), options=QUICK)
    # With the margins known, an exact p-value is as good as the counts.
    assert all(a["p_holm"] is None and a["depends"] in (None, False) for a in content["mining"]["audit"])
    assert "not below 0.05" in render_html(content)
    shown = build_content(store.get("1"), options=ReportOptions(min_cell=0, n_resamples=0))["mining"]["audit"]
    assert [row["n_flagged"] for row in shown[0]["groups"]] == [2, 2, 2]
    assert shown[0]["p_holm"] is not None


# What it says


def test_planted_pairs_are_listed_without_patients_or_notes(store) -> None:
    content = build_content(add(store), options=QUICK)
    assert {row["pair_id"] for row in content["mining"]["pairs"]} == {f"train-{i:03d}" for i in range(6)}
    assert (content["mining"]["faulty"], content["mining"]["n"]) == (6, 200)
    html = render_html(content)
    for text in (html, json.dumps(content)):
        assert "secret-" not in text
        assert "/nowhere" not in text
        assert "note" not in {key for row in content["mining"]["pairs"] for key in row}
    without = build_content(store.get("1"), options=ReportOptions(pair_ids=False, n_resamples=0))
    assert without["mining"]["pairs"] == []
    assert "train-0" not in render_html(without)


def test_the_html_shows_the_numbers_of_the_json(store) -> None:
    run = add(store)
    content = json.loads(json.dumps(build_content(run, baseline=add(store, 1, shift=1.0), options=QUICK)))
    page = Page(render_html(content))
    es_auc = page.table("ES-AUC by attribute")
    for row in content["results"]["attributes"]:
        name = row["attribute"] + (" (partial)" if row["partial"] else "")
        assert es_auc[name][0] == number(row["es_auc"])
        assert es_auc[name][1] == f"{number(row['low'])} to {number(row['high'])}"
        assert es_auc[name][2] == number(row["chance"])
    site = page.table("Test AUC by site")
    for row in content["results"]["attributes"][0]["groups"]:
        assert site[row["group"]] == [
            str(row["n"]), str(row["n_positive"]), str(row["n_negative"]), number(row["auc"]),
            f"{number(row['low'])} to {number(row['high'])}",
        ]  # fmt: skip
    compared = page.table("Differences: ")
    for row in content["comparison"]["rows"]:
        assert compared[row["figure"]][1:4] == [number(row[key]) for key in ("baseline", "run", "difference")]
    splits = page.table("Splits")
    assert splits["Training"] == ["200", "100", "100", "100", "50.0 %"]
    assert splits["Test"][0] == "100"
    epochs = page.table("Training by epoch")
    assert epochs["2"] == ["2.000", "2.100", "0.720", "6", "0.970"]


def test_the_comparison_is_the_paired_one(store) -> None:
    run, baseline = add(store), add(store, 1, shift=1.0)
    content = build_content(run, baseline=baseline, options=QUICK)
    a, b = (
        r.predictions().query("split == 'test'").sort_values("pair_id").reset_index(drop=True) for r in (baseline, run)
    )
    exact = compare_paired(
        a["label"], a["score"], b["score"], {name: a[name].to_numpy(str) for name in ("site", "tongue")},
        metric="es_auc", patients=a["patient_id"].to_numpy(str), n_resamples=100,
    )  # fmt: skip
    rows = {row["figure"]: row for row in content["comparison"]["rows"]}
    assert rows["AUC, everyone"]["difference"] == exact.overall.difference
    assert rows["ES-AUC, site"]["low"] == exact["site"].interval.low
    assert not any("Rare" in name or "Other" in name for name in rows)
    assert "same test patients (n = 100)" in content["comparison"]["sentence"]


def test_the_first_part_says_the_verdict_and_the_lowest_group(store) -> None:
    run, baseline = add(store), add(store, 1, shift=1.0)
    content = build_content(run, baseline=baseline, options=QUICK)
    page = render_html(content)
    part = page[page.index('<section id="glance">') : page.index('<section id="results">')]
    glance = " ".join(Page(part).words)
    assert content["comparison"]["sentence"] in " ".join(glance.split())
    shown = [g for one in content["results"]["attributes"] for g in one["groups"] if not g["hidden"]]
    worst = min((g for g in shown if g["auc"] is not None), key=lambda g: g["auc"])
    assert f"Worst served: {worst['group']}" in " ".join(glance.split())
    assert "Trade-off" in glance
    assert part.count("<li><strong>") == len(content["found"]) == min(6, len(content["mining"]["pairs"]))
    assert "<img" not in part
    for facts in content["results"]["attributes"]:
        shown = [row for row in facts["groups"] if not row["hidden"] and row["auc"] is not None]
        lowest = min(shown, key=lambda row: row["auc"])
        assert f"lowest group {lowest['group']}, AUC {number(lowest['auc'])}" in glance
        assert not [
            row["group"] for row in facts["groups"] if row["hidden"] and f"lowest group {row['group']}" in glance
        ]


def test_the_comparison_uses_every_seed_of_both_methods(store) -> None:
    """One seed alone may say "better" where the methods do not differ reliably."""
    base = [add(store, seed, shift=1.0) for seed in (0, 1)]
    runs = [add(store, seed, shift=1.5, **{"mining.faulty_sd": 2.5}) for seed in (0, 1)]
    report = build_content(runs[0], baseline=base[1], options=QUICK)["comparison"]
    (found,) = compare_runs([*base, *runs], n_resamples=QUICK.n_resamples).differences.values()
    assert report["seeds"] == [[0, 0], [1, 1]]
    assert report["pairing"] == "Paired by seed: 0 and 1."
    rows = {row["figure"]: row for row in report["rows"]}
    for title, exact in (("AUC, everyone", found.comparison.overall), ("ES-AUC, site", found.comparison["site"])):
        row = rows[title]
        assert (row["low"], row["high"], row["p"]) == (exact.interval.low, exact.interval.high, exact.p)
        assert (row["outcome"], row["n_seeds"]) == (exact.outcome.value, 2)
    single = build_content(base[1], baseline=base[0], options=QUICK)["comparison"]
    assert (single["seeds"], single["rows"][0]["n_seeds"]) == ([[0, 1]], 1)  # of one method: the two runs alone


def test_the_configuration_names_what_differs_and_makes_the_run_again(store) -> None:
    content = build_content(add(store, 4, **{"mining.faulty_sd": 2.5}), options=QUICK)
    changed = {row["setting"]: (row["value"], row["preset"]) for row in content["configuration"]["changed"]}
    assert changed == {
        "seed": (4, 0), "epochs": (3, 6), "mining.faulty_sd": (2.5, 2.0), "mining.history": ("mean", "last"),
        "mining.spread": ("sd", "mad"), "mining.weights": ("bounded", "left-out"),
    }  # fmt: skip
    words = content["reproduce"][0].split()
    assert words[:5] == ["fairvlm", "train", "DATA", "--preset", "dbpm"]
    assert "mining.faulty_sd=2.5" in words
    assert words[words.index("--seed") + 1] == "4"
    assert content["data"]["fingerprint"] in content["reproduce"][1]


def test_no_path_of_a_model_is_told(store) -> None:
    told = json.dumps(build_content(add(store, model="ViT-B-32@/home/someone/weights.pt"), options=QUICK))
    assert "ViT-B-32@weights.pt" in told
    assert "someone" not in told


def test_notes_only_when_asked_for_and_then_labelled(store, synth_folder) -> None:
    from fairvlm_core import PairTable
    from fairvlm_core.launch import create_run, execute

    shutil.copytree(synth_folder, store.workspace.parent / "data")
    folder = store.workspace.parent / "data"
    manifest = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    manifest.loc[manifest["split"] == "train", "text"] += f" {HOSTILE}"
    manifest.to_csv(folder / "manifest.csv", index=False)
    table = PairTable.read(folder)
    run = create_run(
        table, RunConfig.build("dbpm", {"epochs": 2, "batch_size": 16, "mining.faulty_sd": 0.5}), store, read_options={}
    )
    execute(run, table=table)
    silent = build_content(run, options=ReportOptions(n_resamples=0))
    assert silent["mining"]["pairs"]
    notes = list(table.frame["text"])
    assert not any(note[:40] in render_html(silent) for note in notes)
    assert "Notes are left out" in render_html(silent)
    spoken = build_content(run, options=ReportOptions(n_resamples=0, notes=True))
    page = Page(render_html(spoken))
    first = spoken["mining"]["pairs"][0]
    assert first["note"] == table.frame.set_index("pair_id")["text"][first["pair_id"]]
    assert first["note"] in page.text
    assert "contains full clinical notes" in page.text
    assert_harmless(page)
    seen = build_content(run, options=ReportOptions(n_resamples=0, images=True))
    assert render_html(seen).count('<img src="data:image/jpeg;base64,') == len(seen["found"]) > 0
    with pytest.raises(InputError, match="ask for pair ids as well"):
        build_content(run, options=ReportOptions(notes=True, pair_ids=False))
    manifest.iloc[1:].to_csv(folder / "manifest.csv", index=False)
    with pytest.raises(InputError, match="has changed since"):
        build_content(run, options=ReportOptions(n_resamples=0, notes=True))


def assert_harmless(page: Page) -> None:
    """No tag that loads or runs anything, no handler, no link that leaves the file."""
    names = {tag for tag, _ in page.tags}
    assert not names & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "video",
        "audio",
        "source",
        "image",
    }
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            assert key not in ("src", "srcset", "xlink:href", "background", "action"), (tag, key)
            if key == "href":
                assert value.startswith("#")
            assert "url(" not in (value or "")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def test_foreign_text_is_shown_and_does_nothing(store) -> None:
    html = render_html(build_content(add(store, name=HOSTILE), options=QUICK))
    page = Page(html)
    assert_harmless(page)
    assert HOSTILE in page.text
    assert any(HOSTILE in row for row in page.table("Test AUC by site"))
    assert not re.search(r"@import|url\(", html)


def test_every_table_has_a_caption_and_every_chart_a_name(store) -> None:
    page = Page(render_html(build_content(add(store), options=QUICK)))
    count = [tag for tag, _ in page.tags]
    assert count.count("table") == count.count("caption") >= 8
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) >= 5
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    assert count.count("h1") == 1
    assert ("html", {"lang": "en"}) in page.tags
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for tag, a in page.tags if tag == "a"} <= ids


def test_it_is_small(store) -> None:
    assert len(render_html(build_content(add(store), options=QUICK)).encode()) < 200_000


# Charts


def test_charts_are_drawn_to_scale_and_escaped() -> None:
    root = ElementTree.fromstring(
        line_chart([Line(HOSTILE, [0, 1, 2], [0.0, 0.5, 1.0])], title=HOSTILE, x_title="x", y_title="y", y_range=(0, 1))
    )
    points = [tuple(map(float, p.split(","))) for p in root.find("polyline").get("points").split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y2 < y0
    assert root.find("title").text == HOSTILE
    assert {child.tag for child in root.iter()} <= {"svg", "title", "line", "text", "polyline", "circle"}
    dots = ElementTree.fromstring(
        dot_chart([Dot("a", 0.5, 0.4, 0.7, 0.45), Dot("b", None, note="undefined")], title="t", x_title="x")
    )
    assert len(dots.findall("circle")) == 1
    assert "undefined" in [text.text for text in dots.findall("text")]
    alone = ElementTree.fromstring(line_chart([Line("one", [1], [2.0])], title="t", x_title="x", y_title="y"))
    assert len(alone.findall("circle")) == 1


# What is refused


def test_only_finished_runs_have_a_report(store) -> None:
    run = add(store)
    run.set_status(state="failed")
    with pytest.raises(InputError, match="is failed: a report needs a finished run"):
        build_content(run)


def test_damage_and_wrong_baselines_are_one_line(store) -> None:
    run, other = add(store), add(store, 1)
    with pytest.raises(InputError, match="cannot be its own baseline"):
        build_content(run, baseline=run, options=QUICK)
    frame = other.predictions()
    other.write_parquet(other.files.predictions, frame.iloc[:-3])
    with pytest.raises(InputError, match="not scored on the same test pairs"):
        build_content(run, baseline=other, options=QUICK)
    other.write_parquet(other.files.predictions, frame.drop(columns="score"))
    with pytest.raises(InputError, match="no column 'score'"):
        build_content(other, options=QUICK)
    values = safeio.read_json(run.path / "data.json")
    safeio.write_json(run.path / "data.json", {k: v for k, v in values.items() if k != "warnings"})
    with pytest.raises(InputError, match="do not have the expected content"):
        build_content(store.get("1"), options=QUICK)


# The command


@pytest.fixture
def fairvlm(zygote):
    return lambda *arguments, cwd: zygote.run([*map(str, arguments)], cwd=str(cwd), stdout="out")


def test_the_command_writes_a_file_or_prints_the_same(fairvlm, store, tmp_path) -> None:
    add(store)
    add(store, 1)
    options = ("--workspace", store.workspace, "--resamples", 50)
    done = fairvlm("report", "1", *options, "--baseline", "2", cwd=tmp_path)
    assert (done.code, done.out.strip()) == (0, "0001-dbpm-s0-report.html"), done.said
    html = (tmp_path / "0001-dbpm-s0-report.html").read_text(encoding="utf-8")
    printed = json.loads(fairvlm("report", "1", *options, "--baseline", "2", "--json", cwd=tmp_path).out)
    made = datetime.strptime(re.search(r"made (.+?) UTC by", html)[1], "%d %B %Y, %H:%M").replace(tzinfo=UTC)
    assert render_html(printed | {"created": made.isoformat()}) == html
    both = fairvlm(
        "report", "1", *options, "--json", "--out", "both.html", "--min-cell", "0", "--no-pair-ids", cwd=tmp_path
    )
    assert json.loads(both.out)["privacy"] == {
        "min_cell": 0, "groups_hidden": False, "pair_ids": False, "notes": False, "images": False
    }  # fmt: skip
    assert (tmp_path / "both.html").exists()
    for wrong, said in (
        (("--out", "x.pdf"), "name it FILE.html"),
        (("--out", "missing/x.html"), "there is no folder missing"),
        (("--baseline", "9"), "there is no run '9'"),
        (("--min-cell", "-2"), "min_cell: -2 is negative"),
    ):
        refused = fairvlm("report", "1", *options, *wrong, cwd=tmp_path)
        assert refused.code == 2
        assert refused.out == ""
        assert said in refused.said
        assert len(refused.said.strip().splitlines()) == 1


# From disk, in a browser


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_opened_from_disk_it_asks_for_nothing(store, tmp_path, theme: str) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'")
    path = tmp_path / "report.html"
    path.write_text(render_html(build_content(add(store, name=HOSTILE), options=QUICK)), encoding="utf-8")
    asked, said = [], []
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = browser.new_page(color_scheme=theme, viewport={"width": 1000, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto(path.as_uri())
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        taken = page.evaluate("window.taken")
        charts = page.evaluate(
            "[...document.querySelectorAll('svg')].every(e => e.getBoundingClientRect().height > 40)"
        )
        page.get_by_role("link", name="Limits").click()
        moved = page.evaluate("window.scrollY")
        browser.close()
    assert asked == [path.as_uri()]
    assert said == []
    assert taken is None
    assert not wide
    assert charts
    assert moved > 0
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[theme]
