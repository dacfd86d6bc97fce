"""The Story page: what came out, the trade-off, the pairs that were found, and the page as a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from recipes import add_run, words_of
from recorded import record
from serving import chromium, in_a_browser, serve

from fairvlm_core.analysis.comparison import compare_methods
from fairvlm_core.analysis.divergences import MEAN, Counted, bands, divergences
from fairvlm_core.analysis.entries import RunEntry, read_entry
from fairvlm_core.analysis.methods import Method, methods_of, reference_first
from fairvlm_core.analysis.note_words import NoteWords, marked
from fairvlm_core.analysis.story import front_methods, front_of
from fairvlm_core.analysis.verdict import best_method
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore
from ui import compare, story, story_charts

STORY = "9_Story.py"
BAR_TEXTS = "document.querySelectorAll('.js-plotly-plot')[1].querySelectorAll('.barlayer text')"


@pytest.fixture(scope="module")
def along_lambda(table: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clip with seeds 0 and 1, and robustfair with λ = 0, 1 (seed 0) and 3 (seeds 0 and 1); larger λ is better."""
    store = RunStore(tmp_path_factory.mktemp("story") / "workspace")
    for seed in (0, 1):
        record(add_run(store, table, "robustfair", seed, shift=3.2))
        record(add_run(store, table, "clip", seed, shift=1.0), fall=0.1)
    for weight, shift in ((0.0, 2.0), (1.0, 2.6)):
        record(add_run(store, table, "robustfair", 0, shift=shift, **{"fairness.weight": weight}))
    return store.workspace


def compared(workspace: Path):
    runs = {run.id: run for run in RunStore(workspace).runs()}
    methods = reference_first(methods_of([read_entry(run) for run in runs.values()]))
    return methods, runs, compare_methods(methods, runs, n_resamples=200)


def test_the_reference_is_plain_fine_tuning_and_the_best_method_won_most(along_lambda: Path) -> None:
    methods, _, result = compared(along_lambda)
    assert methods[0].name == result.methods[0].name == "clip"
    best = best_method(result)
    assert best.difference.b.name == "robustfair (λ=6)"
    assert len(best.won) > len(best.lost) == 0
    title, line = story.headline(best.difference, "gender")
    value = result.methods[0].value("gender").mean
    assert "clip" in title
    assert f"ES-AUC: {value:.3f} →" in line
    assert ("more than chance" in line) == any(
        one.reliable for one in (best.difference.comparison.overall, best.difference.comparison["gender"])
    )


def test_the_front_compares_the_same_seeds(along_lambda: Path) -> None:
    methods, runs, result = compared(along_lambda)
    grid, members = front_methods(methods, ["robustfair (λ=6)", "clip"])
    assert grid.weights == (0.0, 1.0, 6.0)
    assert [method.seeds for method in members] == [[0], [0], [0]]  # λ = 6 has seed 1, too
    front = front_of(compare_methods(members, runs, n_resamples=20), grid, "gender")
    assert [point.weight for point in front.points] == [0.0, 1.0, 6.0]
    auc = [point.auc.mean for point in front.points]
    assert auc == sorted(auc)
    chart = story_charts.front_chart(front, "gender", 2)
    shown = [(frame.data[0].x[0], frame.data[1].text[0]) for frame in chart.frames]
    assert shown == [(value, f"{value:.3f}") for value in auc]  # ring and bars move together
    assert len(chart.frames[0].data) == 1 + 2 + len(result.groups("gender"))


def test_without_several_lambdas_there_is_no_front() -> None:
    one = Method("clip", (RunEntry("1", "finished", settings={"fairness.weight": 0.0}),))
    assert front_methods([one], ["clip"]) is None


def test_planted_contradictions_are_the_rare_words() -> None:
    sick, well = "Severe glaucoma with notching, pressure 30.", "Healthy disc, pressure 15."
    notes = [sick] * 60 + [well] * 140
    found = NoteWords(notes).rare(well, np.arange(60))  # a healthy note whose image is like the sick ones
    assert {one.word for one in found} == {"healthy", "disc"}
    assert all(one.n == 0 for one in found)
    assert NoteWords(notes).rare(sick, np.arange(60)) == []
    assert [text for text, rare in marked(well, ["healthy"]) if rare] == ["Healthy"]
    assert "".join(text for text, _ in marked(well, ["healthy", "disc"])) == well


def test_the_distance_is_said_and_drawn_by_method(along_lambda: Path) -> None:
    _, runs, result = compared(along_lambda)
    names = ["clip", "robustfair (λ=6)"]
    of = {m.name: m.method.runs for m in result.methods if m.name in names}
    metrics = {run_id: run.metrics() for run_id, run in runs.items()}
    band = bands(divergences(of, metrics, "gender", "loss", Counted.ALL))
    line = story.distance_line(band, names)
    assert "0.40 → 0.32 with clip" in line
    assert "0.40 → 0.10 with robustfair (λ=6)" in line
    chart = story_charts.distance_chart(band, names, "loss²")
    drawn = {trace.name: list(trace.y) for trace in chart.data if trace.name}
    expected = band[(band["method"] == "clip") & (band["group"] == MEAN)]["mean"].tolist()
    assert drawn["clip"] == pytest.approx(expected)


def test_bars_start_at_chance_and_have_their_intervals(along_lambda: Path) -> None:
    _, _, result = compared(along_lambda)
    values = compare.group_values(result, "gender")
    chart = story_charts.before_after_chart([values[values["method"] == "clip"]], "gender")
    everyone = values[(values["method"] == "clip") & (values["group"] == "")].iloc[0]
    assert chart.data[0].base == 0.5
    assert chart.data[0].y[0] + 0.5 == pytest.approx(everyone["value"])
    assert chart.data[0].error_y.array[0] == pytest.approx(everyone["high"] - everyone["value"])


def test_the_page_tells_the_story(open_page, along_lambda: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(along_lambda, tmp_path / "workspace")
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "workspace"))
    app = open_page(STORY)
    text = words_of(app).replace("\\", "")
    for words in ("Before and after, group by group", "What more weight on fairness does", "over training"):
        assert words in text
    assert app.selectbox(key="before").value == "clip"
    assert app.selectbox(key="after").value == "robustfair (λ=6)"
    app = open_page(STORY, before="robustfair (λ=0)", after="clip")
    assert app.selectbox(key="after").value == "clip"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


@pytest.mark.browser
@in_a_browser[1]
def test_the_slider_moves_all_numbers_and_the_file_works_from_disk(along_lambda: Path, browser, tmp_path: Path) -> None:
    with serve(along_lambda) as address:
        page = browser.new_context(accept_downloads=True).new_page()
        page.goto(f"{address}/Story")
        save = page.get_by_role("button", name="Save as one HTML file")
        save.wait_for(timeout=120_000)
        with page.expect_download() as download:
            save.click()
        file = tmp_path / "story.html"
        download.value.save_as(file)
        page.goto(f"{address}/Story?full=true")
        save.wait_for(timeout=120_000)
        page.wait_for_timeout(300)
        assert not page.locator("[data-testid=stSidebar]").is_visible()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_function(f"() => {BAR_TEXTS}.length > 3")
    texts = f"() => [...{BAR_TEXTS}].map(one => one.textContent)"
    before = page.evaluate(texts)
    rail = page.locator(".slider-rail-touch-rect").first
    rail.scroll_into_view_if_needed()
    box = rail.bounding_box()
    page.mouse.click(box["x"] + 3, box["y"] + box["height"] / 2)
    page.wait_for_function(
        f"before => [...{BAR_TEXTS}].every((one, i) => i > 1 || one.textContent != before[i])", arg=before
    )
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}


def test_the_verdict_names_the_best_method_and_what_it_won(along_lambda: Path) -> None:
    _, _, result = compared(along_lambda)
    title, numbers = compare.verdict_words(result)
    best = best_method(result)
    assert title.startswith("robustfair (λ=6) is best: against clip it is better in ")
    for one in best.won:
        assert (f"ES-AUC by {one.attribute}" if one.attribute else "AUC") in title
        assert f"{float(one.a):.3f} → {float(one.b):.3f}" in numbers
    table = compare.method_table(result).set_index("Method")
    assert table.loc["clip", "Against clip"] == "reference"
    assert table.loc["robustfair (λ=6)", "Against clip"].startswith("better: ")


def test_the_overview_says_the_best_method_first(open_page, along_lambda: Path, monkeypatch) -> None:
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(along_lambda))
    app = open_page()
    text = words_of(app).replace("\\", "")
    assert text.index("robustfair (λ=6) is best") >= 0
    assert {"robustfair (λ=0)", "robustfair (λ=6)", "clip"} <= set(app.dataframe[0].value["Method"])
    labels = app.selectbox(key="frame.run").options
    assert len(set(labels)) == len(labels)
    assert any("robustfair (λ=1) · seed 0" in label for label in labels)  # runs that differ by λ are named by it
