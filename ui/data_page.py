"""Pieces of the data page: who is in the set, and what the intake saw."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fairvlm_core.analysis.cohort import SMALL_CELL, group_counts, intersections, split_counts
from fairvlm_core.config import choose_model
from fairvlm_core.pairs import PairTable
from fairvlm_core.words import SPLITS, many, percent, slug

from . import widgets
from .browse import split_name
from .charts import group_chart, intersection_chart
from .entries import Headline
from .palette import UNKNOWN
from .words import literal

ABOUT_RATES = (
    "How many pairs each group has, and which share of them has the positive label, with its 95 % Wilson interval. "
    "Where label rates differ between groups, a model can gain by guessing the group. Where a group is small, every "
    "metric of it is uncertain.",
    r"\frac{\hat p + \frac{z^2}{2n} \pm z\sqrt{\frac{\hat p(1-\hat p)}{n} + \frac{z^2}{4n^2}}}{1 + \frac{z^2}{n}}",
)
ABOUT_CELLS = (
    f"Each cell counts the pairs that belong to both groups, with their label rate. Dotted red: fewer than {SMALL_CELL} "
    "pairs. A model can look fair for each attribute alone and still fail where two of them meet.",
    None,
)
ABOUT_INTAKE = (
    "What reading the folder found. Rows with an image that cannot be used are left out and listed; above 5 % of all rows "
    "the whole folder is refused. Likely identifiers are counted by patterns (dates, phone and record numbers, names "
    "after a title). None is shown, and some may be missed.",
    None,
)


def totals(table: PairTable) -> list[Headline]:
    """Pairs, patients, label rate, attributes, pairs with an unknown group."""
    report, frame = table.report, table.frame
    positive = int(frame["label"].sum())
    unknown = np.zeros(len(frame), bool)
    for name in table.attributes:
        unknown |= (frame[name] == UNKNOWN).to_numpy(bool)
    negative_name, positive_name = table.info.label_names
    return [
        Headline("Pairs", f"{len(frame):,}", f"from {many(report.n_rows, 'row')}, {table.info.layout} layout"),
        Headline("Patients", f"{report.n_patients:,}", f"{len(frame) / max(report.n_patients, 1):.2f} pairs each"),
        Headline(
            f"Label: {positive_name}", percent(positive / max(len(frame), 1), 1),
            f"{positive:,} of {len(frame):,} pairs",
            f"Share of pairs labelled {literal(positive_name)}; the others are {literal(negative_name)}.",
        ),
        Headline("Attributes", str(len(table.attributes)), ", ".join(table.attributes) or "none"),
        Headline("Unknown", f"{int(unknown.sum()):,}", "pairs without a value in some attribute"),
    ]  # fmt: skip


def who(table: PairTable) -> None:
    """Splits, groups with label rates, intersections."""
    name = table.info.name
    widgets.section("Splits")
    counts = split_counts(table.frame)
    rates = 100 * counts["Positive rate"].astype(float)
    widgets.table(counts.assign(**{"Positive rate": rates}), _RATE, key="data.splits")
    widgets.download(counts, f"{slug(name)}-splits.csv")
    if not table.attributes:
        widgets.empty("No attributes", "This data set has no column that names groups of patients.")
        return

    widgets.section("Groups and label rates", *ABOUT_RATES)
    chosen = st.segmented_control(
        "Split", ["all", *SPLITS], default="all", key="data.groups.split", format_func=split_name, required=True
    )
    part = table if chosen == "all" else table.only(chosen)
    groups = group_counts(part.frame, table.attributes)
    if len(part):
        widgets.chart(group_chart(groups), "data.groups", f"Pairs and label rate of {len(groups)} groups")
        st.caption(f"{split_name(chosen)}: n = {len(part):,} pairs of {part.frame['patient_id'].nunique():,} patients.")
    else:
        st.info("This split is empty.")
    widgets.download(groups, f"{slug(name)}-groups-{chosen}.csv")

    if len(table.attributes) < 2:
        return
    widgets.section("Intersections", *ABOUT_CELLS)
    left, right = st.columns(2)
    first = left.selectbox("Down", table.attributes, key="data.first")
    second = right.selectbox("Across", [a for a in table.attributes if a != first], key=f"data.second.{first}")
    cells = intersections(part.frame, first, second)
    if len(part):
        widgets.chart(
            intersection_chart(cells, first, second), "data.cells", f"Pairs by {first} and {second}, {len(cells)} cells"
        )
    st.caption(f"{split_name(chosen)}, n = {len(part):,}. {small_cells(cells)}")
    widgets.download(cells, f"{slug(name)}-{slug(first)}-{slug(second)}-{chosen}.csv")


def small_cells(cells: pd.DataFrame) -> str:
    """A sentence on the small cells, or nothing.

    >>> small_cells(pd.DataFrame({"n": [0, 4, 50], "small": [True, True, False]}))
    '2 of 3 cells have fewer than 10 pairs, 1 of them none: label rates there are very uncertain.'
    """
    small, empty = int(cells["small"].sum()), int((cells["n"] == 0).sum())
    if not small:
        return ""
    none = f", {empty} of them none" if empty else ""
    return (
        f"{small} of {len(cells)} cells have fewer than {SMALL_CELL} pairs{none}: label rates there are very uncertain."
    )


def intake(table: PairTable) -> None:
    """Warnings, what was left out, images, notes, identifiers."""
    report = table.report
    widgets.section("Intake report", *ABOUT_INTAKE)
    widgets.warnings([str(warning) for warning in report.warnings])
    left, right = st.columns(2)
    with left:
        st.markdown("**Notes**")
        facts = {_NOTE_FACTS.get(key, _spaced(key)): value for key, value in report.notes.items()}
        facts |= {f"Repeated {_spaced(key).lower()}": value for key, value in report.duplicates.items()}
        widgets.table(_facts(facts), key="data.notes")
        truncation(table)
    with right:
        st.markdown("**Images**")
        widgets.table(_facts(_image_facts(report.images)), key="data.images")
        st.markdown("**Likely identifiers in notes**")
        found = {_spaced(key): value for key, value in report.identifiers.items()}
        widgets.table(_facts(found, "Notes"), key="data.identifiers")
    st.download_button(
        "Download the report (JSON)", json.dumps(report.to_dict(), indent=1, ensure_ascii=False),
        file_name=f"{slug(report.name)}-intake.json", mime="application/json", key="download.intake", on_click="ignore",
        icon=":material/download:", type="tertiary",
    )  # fmt: skip
    refused = [*report.refused, *report.left_out]
    st.markdown(f"**Rows left out: {len(refused):,} of {report.n_rows:,}**")
    if refused:
        frame = pd.DataFrame(refused)
        widgets.table(frame, key="data.refused", height=min(38 + 35 * len(frame), 300))
        widgets.download(frame, f"{slug(report.name)}-left-out.csv")
    for column, why in report.columns_left_out.items():
        st.caption(f"Column {literal(column)} is not an attribute: {literal(why)}")


def truncation(table: PairTable) -> None:
    """Notes that a model's context would cut; counted when asked for, since it loads a tokenizer."""
    st.markdown("**Truncation**")
    key = f"data.truncation.{table.fingerprint}"
    if key not in st.session_state:
        if not st.button("Count notes that the built-in model would cut", key="data.truncate"):
            st.caption("Notes longer than a model's context lose their end.")
            return
        with st.spinner("Counting tokens …"):
            st.session_state[key] = _count_truncated(table)
    counted = st.session_state[key]
    st.caption(
        f"{counted.n_truncated:,} of {counted.n:,} notes have more than {counted.context_length} tokens; "
        f"the longest has {counted.longest:,}."
    )


def _count_truncated(table: PairTable) -> Any:
    # Imported here, because both import torch, which this page needs for nothing else.
    from fairvlm_core.intake.text import count_truncated
    from fairvlm_core.models import load_clip

    clip = load_clip(choose_model(table))
    return count_truncated(list(table.frame["text"]), clip.token_lengths, clip.context_length)


_RATE = {"Positive rate": st.column_config.NumberColumn(format="%.1f %%")}


_NOTE_FACTS = {
    "shortest": "Shortest (characters)",
    "median": "Median (characters)",
    "longest": "Longest (characters)",
    "without_spaces": "More than 30 characters without a space",
    "replacement_characters": "With unreadable characters",
    "control_characters": "With control characters",
}


def _facts(values: dict[str, Any], title: str = "Number") -> pd.DataFrame:
    """Names and values as a frame of text: some values are counts, some are lists of formats."""
    said = [f"{value:,}" if isinstance(value, int) else str(value) for value in values.values()]
    return pd.DataFrame({"What": list(values), title: said})


def _image_facts(images: dict[str, Any]) -> dict[str, Any]:
    if not images["checked"]:
        return {"Checked": "none"}
    names = {"formats": "Formats", "modes": "Colour modes", "sizes": "Sizes"}
    counts = {title: ", ".join(f"{name} ({n:,})" for name, n in images[kind].items()) for kind, title in names.items()}
    odd = {f"Odd: {_spaced(kind).lower()}": n for kind, n in images["odd"].items()}
    return {"Checked": f"{images['checked']:,}", **counts, **odd}


def _spaced(name: str) -> str:
    words = str(name).replace("_", " ")
    return words[:1].upper() + words[1:]
