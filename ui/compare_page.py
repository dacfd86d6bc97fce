"""Parts of the page that compares runs."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fairvlm_core.analysis.comparison import RunComparison, pairing_words
from fairvlm_core.analysis.divergences import at_selected_epoch, validation_es_auc
from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.analysis.thresholds import GroupThresholds, choose_thresholds, effect_on, threshold_sweep
from fairvlm_core.analysis.tradeoff import plane, weight_grids
from fairvlm_core.analysis.verdict import best_method
from fairvlm_core.errors import InputError
from fairvlm_core.fairness import roc_by_group

from . import compare, compare_thresholds, compare_tradeoff, widgets
from .compare_charts import difference_chart, epochs_chart, es_auc_chart, group_auc_chart
from .compare_plane import plane_chart, roc_chart, sweep_chart
from .frame import Here, errors
from .losses_reads import run_metrics
from .reads import difference, held_out
from .words import literal

ABOUT_METHODS = (
    "Runs that differ only by their seed are one method; values are mean ± standard deviation over seeds. All values are "
    "zero-shot on the test pairs (with folds: all pairs, each scored by the model that did not see its patient), with the "
    "epoch that validation selected. A single seed says nothing about chance between seeds.",
    None,
)
ABOUT_ES_AUC = (
    "ES-AUC lowers the AUC by the distances of the groups' AUCs from it. The bar is a 95 % interval, for other patients "
    "and, with several seeds, for other seeds. The small vertical mark is the value that the same models would get if "
    "patients were put into groups at random: small groups lower ES-AUC by chance alone, so only values left of the mark "
    "show a difference between groups. p is from shuffled groups, corrected over attributes (Holm).",
    r"\text{ES-AUC} = \frac{\mathrm{AUC}}{1 + \sum_g \left|\mathrm{AUC} - \mathrm{AUC}_g\right|}",
)
ABOUT_DISTANCES = (
    "How far the losses of a group's training pairs are from everyone's (Sinkhorn divergence, mean over groups) at the "
    "selected epoch, above the level that groups of these sizes reach by chance; 0 means no more than by chance. Over all "
    "pairs alike a method that down-weights pairs looks worse, because it no longer fits them. See *Loss & Sinkhorn*.",
    None,
)
ABOUT_GROUPS = (
    "The AUC of each group alone, with a 95 % interval; n+ and n− are its test pairs with and without the finding. "
    "The dotted line is the AUC of everyone. A group with one label only has no AUC and is shown as undefined.",
    r"\mathrm{AUC}_g = P(s_i > s_j) + \tfrac{1}{2} P(s_i = s_j), \quad y_i = 1,\; y_j = 0,\; i, j \in g",
)


ABOUT_PAIRED = (
    "Both methods are tested on the same patients. What they share cancels, so smaller differences can be found than the "
    "two separate intervals suggest. One run each: DeLong's test for AUC, resampled patients for ES-AUC. Several seeds: "
    "the interval covers chance between seeds and between patients. p of ES-AUC is corrected over attributes (Holm). If "
    "the interval contains zero, the data do not show which method is better; this is no proof that they are equal. "
    "Differences are in percentage points (pp).",
    r"\bar d \pm t_{\nu} \sqrt{s^2 / k + \hat\sigma^2_{\text{patients}}}",
)


ABOUT_TRADEOFF = (
    "Each point is a method: mean and standard deviation over its seeds. Further right is a better AUC, further up is "
    "fairer. Filled points are on the Pareto front: no other method is as good in both and better in one. The worst group "
    "may be small: check its n and interval under *AUC by group*. Methods that differ only in λ, the weight of the "
    "fairness term, are joined by a line; the slider selects one of them.",
    r"L = \overline{w\,\ell} + \lambda \sum_a \overline{S_\varepsilon(P_g, P)}",
)
ABOUT_THRESHOLDS = (
    "A score at or above the threshold counts as positive. With one threshold, groups whose scores differ get different "
    "sensitivity and specificity. A threshold per group can make them equal, but needs the group for the decision. "
    "Thresholds by specificity are chosen on validation and tested on test. DPD is the largest difference in the share "
    "called positive, DEOdds the largest difference in sensitivity or in false positive rate. This is not a "
    "recommendation.",
    r"\mathrm{DPD} = \max_{g,h} \left|P(\hat y{=}1 \mid g) - P(\hat y{=}1 \mid h)\right|, \quad "
    r"\mathrm{DEOdds} = \max_{g,h} \max_{y} \left|P(\hat y{=}1 \mid y, g) - P(\hat y{=}1 \mid y, h)\right|",
)


def readable_runs(here: Here, entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Runs whose predictions can be read; the others are named."""
    readable = []
    for entry in entries:
        try:
            held_out(here.run_of(entry))
        except InputError as error:
            st.error(literal(f"Left out: {error}"), icon=":material/broken_image:")
        else:
            readable.append(entry)
    return readable


def verdict(result: RunComparison) -> None:
    """The best method and what it won, before everything else."""
    if result.differences:
        title, numbers = compare.verdict_words(result)
        with st.container(border=True):
            st.subheader(literal(title), anchor=False)
            if numbers:
                st.markdown(literal(numbers))


def over_epochs(here: Here, result: RunComparison) -> None:
    """Validation ES-AUC of one attribute over the epochs, a line a method."""
    attribute = st.session_state.get("attribute")
    if attribute not in result.attributes:
        return
    runs = {scored.name: scored.method.runs for scored in result.methods}
    try:
        metrics = {run.id: run_metrics(here.run_of(run)) for members in runs.values() for run in members}
    except InputError:
        return  # said by `distances`
    values = validation_es_auc(runs, metrics, attribute)
    if len(values):
        widgets.section("ES-AUC over the epochs, on validation")
        picture = epochs_chart(values, list(runs), attribute)
        widgets.chart(picture, "compare.epochs", f"Validation ES-AUC by {attribute} over epochs, a line a method")


def methods(result: RunComparison) -> None:
    """One row per method, and the settings in which they differ."""
    widgets.section("Methods", *ABOUT_METHODS)
    frame = compare.method_table(result)
    widgets.table(frame, key="compare.methods")
    left, right = st.columns([4, 1])
    if len(result.methods) > 1:
        varied = compare.settings_table([method.method for method in result.methods])
        with left.expander(f"Settings that differ: {len(varied)}", icon=":material/difference:"):
            if len(varied):
                widgets.table(varied, key="compare.settings")
            else:
                st.caption("Their settings are the same; the preset's name or the verdicts differ.")
    with right:
        widgets.download(frame, "methods.csv")
    if line := compare.unfinished_line(result):
        st.caption(literal(line))


def es_auc(result: RunComparison) -> None:
    """ES-AUC by attribute with intervals and chance levels."""
    if not result.attributes:
        widgets.empty("No attributes", "This data set has no groups of patients to compare.")
        return
    values = compare.es_auc_values(result)
    widgets.section("ES-AUC by attribute", *ABOUT_ES_AUC)
    widgets.chart(es_auc_chart(values), "compare.es_auc", "ES-AUC by attribute and method with intervals")
    if line := compare.partial_line(values):
        st.caption(literal(line), help="ES-AUC is then made of the other groups alone.")
    widgets.chart_table(compare.es_auc_table(values), values, "es-auc.csv")


def distances(here: Here, result: RunComparison) -> None:
    """How far the groups' losses are from everyone's, by attribute and method."""
    runs = {scored.name: scored.method.runs for scored in result.methods}
    metrics = {}
    for run in (run for members in runs.values() for run in members):
        try:
            metrics[run.id] = run_metrics(here.run_of(run))
        except InputError as error:
            st.error(literal(f"Left out: {error}"), icon=":material/broken_image:")
    found = at_selected_epoch(runs, metrics, result.attributes)
    if len(found):
        widgets.section("Distance between the groups' losses", *ABOUT_DISTANCES)
        widgets.table(compare.distance_table(found), key="compare.distances")


def groups(result: RunComparison) -> None:
    """AUC of each group of one attribute."""
    if not result.attributes:
        return
    widgets.section("AUC by group", *ABOUT_GROUPS)
    # A selectbox shows an attribute's name as it is; other widgets would read Markdown in it.
    attribute = st.selectbox("Attribute", result.attributes, key="attribute", bind="query-params", width=320)
    values = compare.group_values(result, attribute)
    widgets.chart(
        group_auc_chart(values, attribute), "compare.groups", f"Test AUC by {attribute} and method with intervals"
    )
    widgets.chart_table(compare.group_table(values), values, f"auc-by-{attribute}.csv".replace("/", "-"))


def paired_difference(here: Here, result: RunComparison) -> None:
    """Two methods on the same patients, with the result in words."""
    widgets.section("Paired difference", *ABOUT_PAIRED)
    by_name = {scored.name: scored.method for scored in result.methods}
    if len(by_name) < 2:
        run = result.methods[0].method.runs[0]
        widgets.empty(
            "One method only",
            "Choose runs of a second method above, or train one on the same data.",
            f"fairvlm train {run.folder} --preset {'robustfair' if run.preset == 'clip' else 'clip'}",
        )
        return
    left, right = st.columns(2)
    first = left.selectbox("Reference", list(by_name), key="compare.a", format_func=lambda name: by_name[name].label)
    others = [name for name in by_name if name != first]
    best = best_method(result)  # what the verdict on top is about
    start = best.difference.b.name if best is not None and best.difference.b.name in others else others[-1]
    second = right.selectbox(
        "Compared with it", others, index=others.index(start), key=f"compare.b.{first}",
        format_func=lambda name: by_name[name].label,
    )  # fmt: skip
    if first == result.methods[0].name:
        found = result.differences[second]
    else:
        with st.spinner("Resampling patients …"):
            found = difference(here.store.root, by_name[first], by_name[second])
    values = compare.difference_values(found)
    with st.container(border=True):
        for line in compare.difference_summary(found):
            st.markdown(literal(line))
        st.caption(literal(pairing_words(found)))
    title = f"Differences of {second} and {first} with intervals"
    widgets.chart(difference_chart(values, first, second), "compare.paired", title)
    widgets.chart_table(compare.difference_table(values, first, second), values, "paired-differences.csv")


def tradeoff(result: RunComparison) -> None:
    """AUC against fairness, with the Pareto front and the values of λ."""
    if not result.attributes:
        return
    widgets.section("Trade-off between AUC and fairness", *ABOUT_TRADEOFF)
    grids = {grid.name: grid for grid in weight_grids([scored.method for scored in result.methods])}
    verdict = best_method(result)
    best = verdict.difference.b.name if verdict is not None else ""

    @st.fragment
    def drawn() -> None:
        left, middle, right = st.columns([2, 2, 3], vertical_alignment="bottom")
        attribute = left.selectbox("Attribute", result.attributes, key="tradeoff.attribute")
        metric = middle.selectbox(
            "Fairness by", list(compare_tradeoff.METRIC_NAMES), key="tradeoff.measure",
            format_func=compare_tradeoff.METRIC_NAMES.__getitem__,
        )  # fmt: skip
        frame = plane(result, attribute, metric)
        if frame.empty:
            widgets.empty("Nothing to show", "This metric is undefined for every chosen method.")
            return
        grid, weight = None, None
        if grids:
            grid = next(iter(grids.values()))
            if len(grids) > 1:
                grid = grids[st.selectbox("Methods that differ in λ", list(grids), key="tradeoff.grid")]
            at = grid.methods.index(best) if best in grid.methods else -1
            weight = right.select_slider(
                "λ", grid.weights, value=grid.weights[at], key=f"tradeoff.weight.{grid.name}", format_func="{:g}".format
            )
        widgets.chart(
            plane_chart(frame, metric, attribute, [m.name for m in result.methods], grid, weight),
            "compare.plane",
            "Test AUC against fairness by method",
        )
        if grid is not None and weight is not None:
            st.markdown(literal(compare_tradeoff.weight_line(frame, grid, weight, metric)))
        else:
            st.caption("Train with several values of `fairness.weight` and choose those runs to get a slider for λ.")
        st.caption(literal(compare_tradeoff.front_line(frame, metric)))
        widgets.chart_table(frame, frame, f"trade-off-{attribute}.csv".replace("/", "-"))

    drawn()


def thresholds(here: Here, readable: Sequence[RunEntry], result: RunComparison) -> None:
    """ROC by group of one run, and what a threshold does."""
    if not result.attributes:
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
            attribute = middle.selectbox("Attribute", result.attributes, key="thresholds.attribute")
            rules = compare_thresholds.RULES
            rule = right.selectbox("Rule", list(rules), key="thresholds.rule", format_func=rules.__getitem__)
            val, test = held_out(here.run_of(by_id[run_id]))
            if rule == "threshold":
                value = last.slider("Threshold", 0.0, 1.0, 0.5, 0.01, key="thresholds.value")
                picked = GroupThresholds(dict.fromkeys(test[attribute].astype(str), value))
            else:
                value = last.slider("Specificity kept", 0.5, 1.0, 0.9, 0.01, key="thresholds.specificity")
                picked = choose_thresholds(val, test, attribute, value, by_group=rule == "group")
            effect = effect_on(test, attribute, picked.thresholds)
            one, other = st.columns(2)
            with one:
                groups = test[attribute].astype(str).to_numpy()
                curves = roc_by_group(test["label"].to_numpy(), test["score"].to_numpy(float), groups)
                widgets.chart(roc_chart(curves, effect, attribute), "compare.roc", f"ROC by {attribute}")
            with other:
                swept = threshold_sweep(test, attribute)
                cuts = list(picked.thresholds.values())
                widgets.chart(sweep_chart(swept, cuts), "compare.sweep", "Rates and differences over the threshold")
            st.markdown(literal(compare_thresholds.gap_line(effect, picked)))
            shown = compare_thresholds.effect_table(effect)
            widgets.table(shown, key="thresholds.table")
            widgets.download(shown, f"thresholds-{attribute}.csv".replace("/", "-"))

    drawn()
