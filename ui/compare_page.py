"""Pieces of the page that compares runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.errors import InputError
from fairvlm_core.fairness import roc_by_group

from . import compare, compare_thresholds, compare_tradeoff, widgets
from .compare import Method
from .compare_charts import difference_chart, es_auc_chart, group_auc_chart
from .compare_plane import plane_chart, roc_chart, sweep_chart
from .frame import Here, errors
from .paired import difference_figures, difference_table, pair_runs, summary
from .reads import fairness_report, held_out, paired
from .words import literal, many

ABOUT_METHODS = (
    "Runs that differ by their seed alone are one method: a figure is their mean ± standard deviation over seeds. "
    "All figures are of the test split, zero-shot, by the epoch that validation chose. With a single seed nothing is known "
    "about chance between seeds.",
    None,
)
ABOUT_ES_AUC = (
    "ES-AUC lowers the AUC by how far the groups are from it. The bar is a 95 % interval from resampling patients "
    "(for several seeds: the mean of their intervals). The small upright mark is what the same model would get if "
    "patients were dealt into the groups at random: small groups lower ES-AUC by chance alone, so only what lies left of "
    "the mark speaks of a difference between groups. p is from shuffling group labels, corrected over attributes (Holm).",
    r"\text{ES-AUC} = \frac{\mathrm{AUC}}{1 + \sum_g \left|\mathrm{AUC} - \mathrm{AUC}_g\right|}",
)
ABOUT_GROUPS = (
    "The AUC of each group alone, with a 95 % interval; n+ and n− are its test pairs with and without the finding. "
    "The dotted line is the AUC of everyone. A group with one label only has no AUC: it is shown as undefined, never "
    "as 0 and never left out.",
    r"\mathrm{AUC}_g = P(s_i > s_j) + \tfrac{1}{2} P(s_i = s_j), \quad y_i = 1,\; y_j = 0,\; i, j \in g",
)


ABOUT_PAIRED = (
    "Both methods are judged on the same test patients, so what they share cancels and a smaller difference can be seen "
    "than the two intervals above suggest. One run each: DeLong's test for AUC, resampled patients for ES-AUC. Several "
    "seeds: the interval holds chance between seeds and between patients. p of ES-AUC is corrected over attributes "
    "(Holm). Where the interval holds zero, the data do not say which method is better; that is not proof that they are "
    "equal. Differences are in percentage points (pp).",
    r"\bar d \pm t_{\nu} \sqrt{s^2 / k + \hat\sigma^2_{\text{patients}}}",
)


ABOUT_TRADEOFF = (
    "Each point is a method, the mean of its seeds with a standard deviation. Right is better for everyone together, up is "
    "fairer. A filled point is on the Pareto front: no other method is as good in both and better in one. The worst group "
    "may be small; look at its n and interval under *AUC by group*. Runs that differ by λ alone, the weight of the "
    "fairness term, are joined by a line: the slider walks along it.",
    r"L = \overline{w\,\ell} + \lambda \sum_a \overline{S_\varepsilon(P_g, P)}",
)
ABOUT_THRESHOLDS = (
    "A score at or above the threshold counts as positive. One threshold gives groups different sensitivity and "
    "specificity where their scores differ; a threshold a group can make them alike, but needs the group at decision time. "
    "Thresholds by specificity are chosen on validation and judged on test. DPD is the largest difference in the share "
    "called positive, DEOdds the largest difference in sensitivity or in false positive rate. A what-if, no advice.",
    r"\mathrm{DPD} = \max_{g,h} \left|P(\hat y{=}1 \mid g) - P(\hat y{=}1 \mid h)\right|, \quad "
    r"\mathrm{DEOdds} = \max_{g,h} \max_{y} \left|P(\hat y{=}1 \mid y, g) - P(\hat y{=}1 \mid y, h)\right|",
)


def reports_of(here: Here, entries: Sequence[RunEntry]) -> tuple[list[RunEntry], dict[str, Mapping[str, Any]]]:
    """Reports with intervals by run id; a run that cannot be read is named and left out."""
    reports: dict[str, Mapping[str, Any]] = {}
    with st.spinner("Resampling patients …"):
        for entry in entries:
            try:
                reports[entry.id] = fairness_report(here.run_of(entry))
            except InputError as error:
                st.error(literal(f"Left out: {error}"), icon=":material/broken_image:")
    return [entry for entry in entries if entry.id in reports], reports


def methods(chosen: Sequence[Method], reports: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> None:
    """One row a method, and the settings in which they differ."""
    widgets.section("Methods", *ABOUT_METHODS)
    frame = compare.method_table(chosen, reports)
    widgets.table(frame, key="compare.methods")
    varied = compare.differences({method.name: configs[method.runs[0].id] for method in chosen})
    left, right = st.columns([4, 1])
    if len(chosen) > 1:
        with left.expander(f"What they differ in: {many(len(varied), 'setting')}", icon=":material/difference:"):
            if len(varied):
                widgets.table(varied, key="compare.settings")
            else:
                st.caption("Their settings are the same; the preset's name or the verdicts differ.")
    with right:
        widgets.download(frame, "methods.csv")


def es_auc(chosen: Sequence[Method], reports: Mapping[str, Any]) -> None:
    """ES-AUC by attribute with intervals and what chance would give."""
    figures = compare.es_auc_figures(chosen, reports)
    if figures.empty:
        widgets.empty("No attributes", "This data set has no groups of patients to compare.")
        return
    widgets.section("ES-AUC by attribute", *ABOUT_ES_AUC)
    widgets.chart(es_auc_chart(figures), "compare.es_auc", "ES-AUC by attribute and method with intervals")
    if line := compare.partial_line(figures):
        st.caption(literal(line), help="ES-AUC is then made of the other groups alone.")
    widgets.chart_table(compare.es_auc_table(figures), figures, "es-auc.csv")


def groups(chosen: Sequence[Method], reports: Mapping[str, Any]) -> None:
    """AUC of each group of one attribute."""
    attributes = list(next(iter(reports.values()))["attributes"])
    if not attributes:
        return
    widgets.section("AUC by group", *ABOUT_GROUPS)
    # A name is foreign text: a selectbox shows it as it is, other choices would read markdown in it.
    attribute = st.selectbox("Attribute", attributes, key="attribute", bind="query-params", width=320)
    figures = compare.group_figures(chosen, reports, attribute)
    widgets.chart(
        group_auc_chart(figures, attribute), "compare.groups", f"Test AUC by {attribute} and method with intervals"
    )
    widgets.chart_table(compare.group_table(figures), figures, f"auc-by-{attribute}.csv".replace("/", "-"))


def paired_difference(here: Here, chosen: Sequence[Method]) -> None:
    """Two methods, head to head, with a verdict in words."""
    widgets.section("Paired difference", *ABOUT_PAIRED)
    if len(chosen) < 2:
        widgets.empty(
            "One method only",
            "Choose runs of a second method above, or train one on the same data.",
            f"fairvlm train {chosen[0].runs[0].folder} --preset "
            f"{'robustfair' if chosen[0].runs[0].preset == 'clip' else 'clip'}",
        )
        return
    by_name = {method.name: method for method in chosen}
    left, right = st.columns(2)
    first = left.selectbox("Reference", list(by_name), key="compare.a", format_func=lambda name: by_name[name].label)
    others = [name for name in by_name if name != first]
    second = right.selectbox(
        "Compared with it", others, index=len(others) - 1, key=f"compare.b.{first}",
        format_func=lambda name: by_name[name].label,
    )  # fmt: skip
    pairing = pair_runs(by_name[first], by_name[second])
    with st.spinner("Resampling patients …"):
        compared = paired([here.run_of(e) for e in pairing.a], [here.run_of(e) for e in pairing.b])
    figures = difference_figures(compared)
    with st.container(border=True):
        for line in summary(figures, second):
            st.markdown(literal(line))
        st.caption(literal(pairing.line))
    title = f"Differences of {second} and {first} with intervals"
    widgets.chart(difference_chart(figures, first, second), "compare.paired", title)
    widgets.chart_table(difference_table(figures, first, second), figures, "paired-differences.csv")


def tradeoff(chosen: Sequence[Method], reports: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> None:
    """AUC against fairness, with the front and the way along λ."""
    attributes = list(next(iter(reports.values()))["attributes"])
    if not attributes:
        return
    widgets.section("Trade-off between AUC and fairness", *ABOUT_TRADEOFF)
    grids = {grid.name: grid for grid in compare_tradeoff.weight_grids(chosen, configs)}

    @st.fragment
    def drawn() -> None:
        left, middle, right = st.columns([2, 2, 3], vertical_alignment="bottom")
        attribute = left.selectbox("Attribute", attributes, key="tradeoff.attribute")
        measure = middle.selectbox(
            "Fairness by", list(compare_tradeoff.MEASURES), key="tradeoff.measure",
            format_func=compare_tradeoff.MEASURES.__getitem__,
        )  # fmt: skip
        frame = compare_tradeoff.plane(chosen, reports, attribute, measure)
        if frame.empty:
            widgets.empty("Nothing to show", "This figure is undefined for every chosen method.")
            return
        grid, weight = None, None
        if grids:
            grid = next(iter(grids.values()))
            if len(grids) > 1:
                grid = grids[st.selectbox("Grid of λ", list(grids), key="tradeoff.grid")]
            weight = right.select_slider(
                "λ", grid.weights, key=f"tradeoff.weight.{grid.name}", format_func="{:g}".format
            )
        widgets.chart(
            plane_chart(frame, measure, attribute, grid, weight), "compare.plane", "Test AUC against fairness by method"
        )
        if grid is not None and weight is not None:
            st.markdown(literal(compare_tradeoff.walk_line(frame, grid, weight, measure)))
        else:
            st.caption(
                "Train with several values of `fairness.weight` and choose those runs: a slider then walks along λ."
            )
        st.caption(literal(compare_tradeoff.front_line(frame, measure)))
        widgets.chart_table(frame, frame, f"trade-off-{attribute}.csv".replace("/", "-"))

    drawn()


def thresholds(here: Here, readable: Sequence[RunEntry], reports: Mapping[str, Any]) -> None:
    """ROC by group of one run, and what a threshold does."""
    attributes = list(next(iter(reports.values()))["attributes"])
    if not attributes:
        return
    widgets.section("ROC by group and thresholds", *ABOUT_THRESHOLDS)
    by_id = {entry.id: entry for entry in readable}

    @st.fragment
    def drawn() -> None:
        with errors():
            left, middle, right, last = st.columns([3, 2, 3, 3], vertical_alignment="bottom")
            run_id = left.selectbox(
                "Run", list(by_id), key="thresholds.run", format_func=lambda name: by_id[name].label
            )
            attribute = middle.selectbox("Attribute", attributes, key="thresholds.attribute")
            rules = compare_thresholds.RULES
            rule = right.selectbox("Rule", list(rules), key="thresholds.rule", format_func=rules.__getitem__)
            if rule == "threshold":
                value = last.slider("Threshold", 0.0, 1.0, 0.5, 0.01, key="thresholds.value")
            else:
                value = last.slider("Specificity kept", 0.5, 1.0, 0.9, 0.01, key="thresholds.specificity")
            val, test = held_out(here.run_of(by_id[run_id]))
            picked = compare_thresholds.choose(val, test, attribute, rule, value)
            effect = compare_thresholds.effect_of(test, attribute, picked)
            one, other = st.columns(2)
            with one:
                groups = test[attribute].astype(str).to_numpy()
                curves = roc_by_group(test["label"].to_numpy(), test["score"].to_numpy(float), groups)
                widgets.chart(roc_chart(curves, effect, attribute), "compare.roc", f"ROC by {attribute}")
            with other:
                swept = compare_thresholds.sweep(test, attribute)
                cuts = list(picked.thresholds.values())
                widgets.chart(sweep_chart(swept, cuts), "compare.sweep", "Rates and differences over the threshold")
            st.markdown(literal(compare_thresholds.gap_line(effect, picked)))
            shown = compare_thresholds.effect_table(effect)
            widgets.table(shown, key="thresholds.table")
            widgets.download(shown, f"thresholds-{attribute}.csv".replace("/", "-"))

    drawn()
