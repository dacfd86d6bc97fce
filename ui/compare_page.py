"""Pieces of the page that compares runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from fairvlm_core.errors import InputError

from . import compare, widgets
from .compare import Method
from .compare_charts import difference_chart, es_auc_chart, group_auc_chart
from .entries import RunEntry
from .frame import Here
from .paired import difference_figures, difference_table, pair_runs, summary
from .reads import fairness_report, paired
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
                st.caption("Their settings are the same apart from the preset's name.")
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
    attribute = st.segmented_control(
        "Attribute", attributes, default=attributes[0], key="attribute", bind="query-params", required=True
    )
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
