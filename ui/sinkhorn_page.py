"""Parts of the page on losses: the divergence over training, and whether fairness improved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from fairvlm_core.analysis import divergences
from fairvlm_core.analysis.comparison import pairing_words
from fairvlm_core.analysis.divergences import MEAN, Counted
from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.analysis.methods import Method, methods_of
from fairvlm_core.errors import InputError
from fairvlm_core.words import listed

from . import sinkhorn, sinkhorn_charts, widgets
from .frame import Here
from .losses_reads import run_metrics
from .reads import difference, fairness_report
from .words import literal

ABOUT_DIVERGENCE = (
    "How far the distribution of a group's losses (or similarities) is from everyone's at the end of each epoch, above the "
    "level by chance: the mean when the same values are put into groups of the same sizes at random. 0 means that the "
    "group differs no more than a random group; small groups can be a little below 0. Pairs count **by the miner's "
    "weights** or **all alike**: where pairs are down-weighted, their losses stay high, and a group with more of them "
    "looks far away over all pairs. Differences smaller than the **blur** (√ε) are smoothed away; it is given in standard "
    "deviations of everyone's values, so that one setting fits losses of any size. The unit is that of the values "
    "squared. The divergence also shrinks when all losses shrink, so a falling curve alone does not show fairness. For a "
    "method with several seeds the line is their mean, and the band goes from the smallest to the largest seed.",
    r"S_\varepsilon(P_g, P) = \mathrm{OT}_\varepsilon(P_g, P) - \tfrac12 \mathrm{OT}_\varepsilon(P_g, P_g) - \tfrac12 "
    r"\mathrm{OT}_\varepsilon(P, P), \quad c(x, y) = \tfrac12 (x - y)^2, \quad \varepsilon = \mathrm{blur}^2",
)
ABOUT_ANSWER = (
    "The fairness term makes the divergence small; here it is the distance above the level by chance. What matters is "
    "whether all groups are served equally well. Left: the "
    "epochs of each run on validation, from the open mark to the star, the epoch that validation selected. Right: every "
    "run at its selected epoch, with the test ES-AUC, its 95 % interval, and the level that groups of these sizes reach "
    "by chance. The sentence compares two methods on the same test patients.",
    r"\text{ES-AUC} = \frac{\mathrm{AUC}}{1 + \sum_g \left|\mathrm{AUC} - \mathrm{AUC}_g\right|}",
)
_MOST = 4
_COUNTED = {Counted.WEIGHTED.value: "By the miner's weights", Counted.ALL.value: "All alike"}


def choose_methods(here: Here, entry: RunEntry) -> tuple[list[Method], dict[str, list[dict[str, Any]]]]:
    """Methods on the same data that have recorded epochs, the selected run's first, and their metrics by run id."""
    metrics: dict[str, list[dict[str, Any]]] = {}
    usable = []
    for other in here.entries:
        if other.fingerprint != entry.fingerprint or other.state == "damaged":
            continue
        try:
            lines = run_metrics(here.run_of(other))
        except InputError as error:
            st.error(literal(f"Left out: {error}"), icon=":material/broken_image:")
            continue
        if lines:
            metrics[other.id] = lines
            usable.append(other)
    methods = methods_of(usable)
    methods.sort(key=lambda method: entry not in method.runs)
    names = [method.name for method in methods]
    if len(methods) > 1:
        chosen = st.multiselect(
            "Methods (runs that differ by the seed alone)", names, default=names[:_MOST], key="sinkhorn.methods",
            format_func={m.name: m.label for m in methods}.__getitem__,
        )  # fmt: skip
        methods = [method for method in methods if method.name in chosen]
    return methods, metrics


def choose_counted(methods: Sequence[Method], metrics: Mapping[str, Any]) -> Counted:
    """How pairs count; asked where a chosen run mines. Without the weights of a run, all pairs count alike."""
    runs = [run for method in methods for run in method.runs]
    if not any(run.settings.get("mining.enabled") for run in runs):
        return Counted.ALL
    without = [run.id for run in runs if divergences.recorded(metrics[run.id]) is Counted.ALL]
    usual = Counted.ALL if without else Counted.WEIGHTED
    asked = st.segmented_control(
        "Pairs count", list(_COUNTED), default=usual.value, key="pairs_count", bind="query-params", required=True,
        format_func=_COUNTED.__getitem__,
    )  # fmt: skip
    counted = Counted(asked)
    if without and counted is Counted.WEIGHTED:
        st.caption(literal(f"Left out, recorded without the miner's weights by an older version: {listed(without)}."))
    return counted


def over_training(
    entry: RunEntry,
    methods: Sequence[Method],
    metrics: Mapping[str, Any],
    attribute: str,
    quantity: str,
    counted: Counted,
) -> None:
    """Which group is farthest from everyone and whether that shrinks, in a sentence; then every group's gap by epoch."""
    band = divergences.bands(divergences.divergences(_runs(methods), metrics, attribute, quantity, counted))
    if band.empty:
        widgets.empty("Nothing to show", "Choose a method above whose runs have finished an epoch.")
        return
    own = next((method.name for method in methods if entry in method.runs), methods[0].name)
    st.subheader(literal(sinkhorn.first_answer(band[band["method"] == own], attribute, quantity)), anchor=False)
    widgets.section("Gap of every group over training", *ABOUT_DIVERGENCE)
    logarithmic = st.toggle("Logarithmic axis", key="sinkhorn.log")
    widgets.chart(
        sinkhorn_charts.divergence_chart(band, f"Above chance ({quantity}²)", logarithmic=logarithmic),
        "sinkhorn.over_training",
        f"Sinkhorn divergence of the {quantity} by {attribute} over epochs",
    )
    if (band["n_runs"] > 1).any():
        st.caption("Lines are means over seeds; bands go from the smallest to the largest seed.")
    if logarithmic and (band["low"] <= 0).any():
        st.caption("A logarithmic axis cannot show 0 or less: epochs at the level by chance or below are left out.")
    if band["chance"].isna().any():
        st.caption("Runs of an older version recorded no level by chance: their divergence is shown as it is.")
    for rise in divergences.mining_rises(_runs(methods), metrics, attribute, quantity):
        st.caption(literal(sinkhorn.rise_words(rise)))
    saved = band.assign(group=band["group"].where(band["group"] != MEAN, "mean over groups"))
    widgets.chart_table(sinkhorn.divergence_table(band), saved, f"divergence-{attribute}.csv".replace("/", "-"))


def against_fairness(
    here: Here, entry: RunEntry, methods: Sequence[Method], metrics: Mapping[str, Any], attribute: str, quantity: str,
    counted: Counted,
) -> None:  # fmt: skip
    """The divergence against ES-AUC, and whether fairness improved."""
    widgets.section("The divergence changed: did fairness improve?", *ABOUT_ANSWER)
    walked = divergences.paths(_runs(methods), metrics, attribute, quantity, counted)
    if walked.empty:
        widgets.empty("Nothing to show", f"No chosen run has a validation ES-AUC for {literal(attribute)}.")
        return
    reports: dict[str, Mapping[str, Any]] = {}
    finished = [run for method in methods for run in method.runs if run.state == "finished"]
    with st.spinner("Resampling patients …"):
        for run in finished:
            try:
                reports[run.id] = fairness_report(here.run_of(run))
            except InputError as error:
                st.error(literal(f"Left out: {error}"), icon=":material/broken_image:")
    end = divergences.ends(walked, reports, attribute)
    _answer(here, methods, end, attribute)
    if line := sinkhorn.within_run(walked[walked["run"] == entry.id]):
        st.caption(literal(line))
    left, right = st.columns(2)
    with left:
        widgets.chart(
            sinkhorn_charts.path_chart(walked, quantity),
            "sinkhorn.paths",
            "Divergence against validation ES-AUC by epoch",
        )
    with right:
        if end.empty:
            widgets.empty("No finished run", "Test metrics are computed once, at the end of a run.")
        else:
            widgets.chart(
                sinkhorn_charts.end_chart(end, quantity, list(dict.fromkeys(walked["method"]))),
                "sinkhorn.ends",
                "Divergence against test ES-AUC by run",
            )
    widgets.chart_table(walked, walked, f"divergence-and-es-auc-{attribute}.csv".replace("/", "-"))


def _runs(methods: Sequence[Method]) -> dict[str, tuple[RunEntry, ...]]:
    return {method.name: method.runs for method in methods}


def _answer(here: Here, methods: Sequence[Method], end: Any, attribute: str) -> None:
    """Two finished methods on the same test patients, in a sentence."""
    done = [
        Method(m.name, tuple(run for run in m.runs if run.id in set(end["run"])))
        for m in methods
        if m.name in set(end["method"])
    ]
    if len(done) < 2:
        st.info("Choose two methods with finished runs above to see whether fairness improved.")
        return
    by_name = {method.name: method for method in done}
    weights = {m.name: here.run_of(m.runs[0]).config.fairness.weight for m in done}
    reference = min(by_name, key=lambda name: weights[name])  # the least fairness term; the first among equals
    left, right = st.columns(2)
    first = left.selectbox("Reference", list(by_name), index=list(by_name).index(reference), key="sinkhorn.a")
    others = [name for name in by_name if name != first]
    second = right.selectbox("Compared with it", others, key=f"sinkhorn.b.{first}")
    with st.spinner("Resampling patients …"):
        found = difference(here.store.root, by_name[first], by_name[second])
    with st.container(border=True):
        st.markdown(literal(sinkhorn.answer(divergences.effect_of(found, end, attribute))))
        st.caption(literal(pairing_words(found)))
