"""Bring your data: a folder is looked at, its description is proposed, changed, checked and saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fairvlm_core.cells import typed_path
from fairvlm_core.errors import InputError
from fairvlm_core.intake.assemble import label_coder
from fairvlm_core.intake.describe import DATASET, Proposal, describe_folder, place_in_workspace, write_description
from fairvlm_core.intake.description import LabelRule, parse_description, read_description
from fairvlm_core.intake.groups import edges_for
from fairvlm_core.intake.guess import Column, columns_of, label_entries
from fairvlm_core.intake.layouts import MANIFESTS
from fairvlm_core.intake.tables import read_tables
from fairvlm_core.pairs import PairTable
from fairvlm_core.words import many

from . import data_page, widgets
from .entries import FINE_TUNE
from .frame import Here, errors
from .reads import tables_stamp
from .words import literal

FOLDER, CONTENT, ROUND = "bring.folder", "bring.content", "bring.round"
CHECKED = 1000
SHOWN = 10
MAX_VALUES = 200
NONE = "(none)"
ABOUT = (
    "fairvlm looks which table the folder holds, which column names images (by trying to find them), and which columns "
    "hold notes, labels, patients, splits and groups. Every guess can be changed below; the check follows. **?** marks "
    "guesses that need your decision. Nothing is written before you save, and no data leave this machine.",
    None,
)


def asked() -> str | None:
    """The folder to describe: in the address as ``?bring=``."""
    return st.query_params.get("bring")


def show(here: Here, folder: str) -> None:
    """Proposal, changes, check, and the buttons that save it."""
    state, place = st.session_state, Path(folder)
    if state.get(FOLDER) != folder:
        state.update({FOLDER: folder, CONTENT: None, ROUND: state.get(ROUND, 0) + 1})
    widgets.section(f"Bring your data: {literal(place.name)}", *ABOUT)
    images = st.text_input(
        "Folder of the images, if they lie elsewhere", key="bring.elsewhere", placeholder="the same folder",
        help="Its images are read in place. Links in the data folder may lead there.",
    )  # fmt: skip
    proposal = _proposal(folder, str(typed_path(images)) if images.strip() else None, tables_stamp(place))
    if state.get("bring.images") != images or state[CONTENT] is None:
        own = None if images.strip() else _own(here, place)
        content = deepcopy(proposal.description if own is None else own)
        state.update({"bring.images": images, CONTENT: content, ROUND: state[ROUND] + 1})
    left, right = st.columns([1, 1], gap="large")
    with left:
        _reasons(proposal)
        content = _changed(folder, state[CONTENT])
    table = None
    with right, errors():
        table = _checked(folder, json.dumps(content), tables_stamp(place))
        _seen(table)
        _save(here, place, content)
    if table is not None:
        with errors():
            _pairs(table)


@st.cache_data(max_entries=8, show_spinner="Looking at the folder …")
def _proposal(folder: str, images: str | None, stamps: Any) -> Proposal:  # noqa: ARG001 - part of the key
    return describe_folder(folder, images)


@st.cache_resource(max_entries=4, show_spinner=False)
def _columns(folder: str, tables: str, stamps: Any) -> dict[str, Column]:  # noqa: ARG001 - part of the key
    described = parse_description(json.loads(tables), DATASET)
    names = described.table or next((name for name in MANIFESTS if Path(folder, name).is_file()), None)
    if names is None:
        return {}
    table = read_tables(Path(folder), names, described.group_by, described.join)
    return {column.name: column for column in columns_of(table)}


@st.cache_resource(max_entries=4, show_spinner="Checking …")
def _checked(folder: str, content: str, stamps: Any) -> PairTable:  # noqa: ARG001 - part of the key
    table = PairTable.read(folder, description=json.loads(content), check_images=False)
    if len(table) <= CHECKED:
        return PairTable.read(folder, description=json.loads(content), max_refused_share=1.0)
    return table


def _own(here: Here, folder: Path) -> dict[str, Any] | None:
    """The description that the folder has already, beside the data or in the workspace."""
    for path in (folder / DATASET, place_in_workspace(here.store.workspace, folder)):
        if path.is_file():
            read_description(path)
            return json.loads(path.read_text(encoding="utf-8-sig"))
    return None


def _reasons(proposal: Proposal) -> None:
    unsure = [reason for reason in proposal.reasons if not reason.sure]
    title = f"Why: {many(len(proposal.reasons), 'reason')}, {len(unsure)} to look at"
    with st.expander(title, expanded=bool(unsure), icon=":material/help:"):
        for reason in (*unsure, *(reason for reason in proposal.reasons if reason.sure)):
            mark = ":green[:material/check:]" if reason.sure else ":orange[**?**]"
            entry = f"**{literal(reason.entry)}**: " if reason.entry else ""
            st.markdown(f"{mark} {entry}{literal(reason.text)}")
            if reason.examples:
                st.caption(literal("  ·  ".join(reason.examples)))


def _changed(folder: str, content: dict[str, Any]) -> dict[str, Any]:
    """The description with the changes made in the form."""
    form = _Form(content, st.session_state[ROUND])
    tables = {name: content[name] for name in ("table", "group_by", "join") if name in content}
    columns = _columns(folder, json.dumps(tables), tables_stamp(Path(folder)))
    if columns and isinstance(content.get("columns", {}), dict):
        form.columns(columns)
        form.label(columns)
        form.attributes(columns)
        if not form.content["columns"]:
            del form.content["columns"]
    form.classes()
    with st.expander("All entries as JSON", icon=":material/data_object:"):
        text = json.dumps(form.content, indent=1, ensure_ascii=False)
        typed = st.text_area(
            "dataset.json", text, height=380, key=f"bring.json.{hash(text)}", label_visibility="collapsed"
        )
        if typed != text and st.button("Use this text", key="bring.use"):
            st.session_state.update({CONTENT: _parsed(typed), ROUND: st.session_state[ROUND] + 1})
            st.rerun()
        st.download_button("Download", text, DATASET, "application/json", key="bring.download", on_click="ignore")
    return form.content


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{DATASET}: not valid JSON ({error})") from None
    parse_description(content, DATASET)
    return content


class _Form:
    """Widgets for the entries of a description; `content` follows them. Entries that nobody changes stay as they are."""

    def __init__(self, content: Mapping[str, Any], version: int):
        self.content = deepcopy(dict(content))
        self._version = version
        self._label = ""

    def _key(self, name: str) -> str:
        return f"bring.{name}.{self._version}"

    def columns(self, columns: Mapping[str, Column]) -> None:
        """Where images, notes, patients and splits are."""
        named = self.content.setdefault("columns", {})
        for role, label, text in (
            ("image", "Images", "A column, or a template such as {image_id}.jpg. Names without ending are found, too."),
            ("text", "Notes", "A column, or a template such as {dx}, on the {site}; parts with empty cells are left out."),
            ("patient_id", "Patients", "Pairs of one patient stay in one split."),
            ("split", "Splits", "Train, val and test. Without a column they are made by patient."),
        ):  # fmt: skip
            before = _said(named.get(role) or "")
            if role in ("image", "text"):
                chosen = st.text_input(label, before, key=self._key(role), help=text, placeholder=role).strip()
            else:
                options = list(dict.fromkeys([before, "", *columns]))
                chosen = st.selectbox(
                    label, options, key=self._key(role), help=text, format_func=lambda name: name or NONE
                )
            if chosen == before:
                continue
            named.pop(role, None)
            if chosen:
                named[role] = json.loads(chosen) if chosen.startswith("[") else chosen
                if role == "patient_id":
                    self.content.pop("patient_pattern", None)
        with st.expander(f"Columns of the table: {len(columns)}", icon=":material/view_column:"):
            seen = {"Column": list(columns), "Values": [len(column.counts) for column in columns.values()]}
            examples = {"Examples": ["  ·  ".join(column.examples) for column in columns.values()]}
            widgets.table(pd.DataFrame(seen | examples), key="bring.columns")

    def label(self, columns: Mapping[str, Column]) -> None:
        """The label's column, and which of its cells are positive."""
        named = self.content["columns"]
        rule = self.content.get("label") or {}
        if "any_of" in rule:
            st.caption(f"Label: 1 where one of these columns says so: {literal(', '.join(rule['any_of']))}.")
            return
        before = named.get("label") or rule.get("column") or ("label" if "label" in columns else NONE)
        name = st.selectbox("Label", list(dict.fromkeys([before, *columns])), key=self._key("label"))
        column, self._label = columns.get(name), name
        if name != before and column is not None:
            named["label"] = name
            self.content = {k: v for k, v in self.content.items() if k not in ("label", "label_names", "prompts")}
            self.content |= label_entries(column)
            rule = self.content.get("label") or {}
        if column is not None and len(column.counts) <= MAX_VALUES:
            self._sides(column, rule)

    def _sides(self, column: Column, rule: Mapping[str, Any]) -> None:
        values = list(column.counts)
        code = label_coder(LabelRule.model_validate(rule) if rule else None)
        now = {side: [value for value in values if code(value) == side] for side in (1, -1)}

        def written(value: str) -> str:
            return f"{value} ({column.counts[value]:,})"

        one, two = st.columns(2)
        chosen = {
            side: box.multiselect(
                title, values, now[side], key=self._key(f"label.{side}.{column.name}"), format_func=written, help=text,
            )
            for side, box, title, text in (
                (1, one, "Positive", "Cells that mean label 1; all others are 0."),
                (-1, two, "Left out", "Cells that mean neither, such as uncertain: their pairs are left out."),
            )
        }  # fmt: skip
        if not chosen[1]:
            st.caption(":orange[Choose which values are positive.]")
        elif any(set(chosen[side]) != set(now[side]) for side in chosen) or (column.gaps and not rule):
            self.content["label"] = {"positive": chosen[1], "left_out": chosen[-1]}

    def attributes(self, columns: Mapping[str, Column]) -> None:
        """Columns that name groups of patients."""
        rules = self.content.get("attributes") or {}
        rules = {name: {"column": name} for name in rules} if not isinstance(rules, dict) else rules
        taken = {rule if isinstance(rule, str) else rule["column"] for rule in rules.values()}
        others = [c.name for c in columns.values() if 1 < len(c.counts) <= MAX_VALUES and c.name not in taken]
        chosen = st.multiselect(
            "Attributes (groups of patients)", [*rules, *others], list(rules), key=self._key("attributes"),
            help="Fairness is measured between the groups of each. Numbers such as ages are cut into bands.",
        )  # fmt: skip
        if list(chosen) == list(rules):
            return
        self.content["attributes"] = {name: rules.get(name) or _rule(columns[name]) for name in chosen}

    def classes(self) -> None:
        """Names of the labels, and prompts."""
        names = self.content.get("label_names") or ["negative", "positive"]
        prompts = [
            [one] if isinstance(one, str) else list(one) for one in self.content.get("prompts") or [[n] for n in names]
        ]
        for side, box in enumerate(st.columns(2)):
            with box:
                key = f"{side}.{self._label}"
                name = st.text_input(f"Name of label {side}", names[side], key=self._key(f"name.{key}")).strip()
                lines = st.text_area(
                    f"Prompts of label {side}, one a line", "\n".join(prompts[side]), key=self._key(f"prompts.{key}"),
                    height=110, help="Zero-shot scores compare an image with these. Write them as the notes are written.",
                )  # fmt: skip
                if name and name != names[side]:
                    self.content["label_names"] = names = [name if i == side else names[i] for i in (0, 1)]
                said = [line.strip() for line in lines.splitlines() if line.strip()]
                if said and said != prompts[side]:
                    prompts[side] = said
                    self.content["prompts"] = prompts


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _rule(column: Column) -> dict[str, Any]:
    """A new attribute: bands where there are many numbers."""
    import pyarrow as pa

    edges = edges_for(pa.array([value for value, n in column.counts.items() for _ in range(n)], pa.large_string()))
    return {"column": column.name, "bins": edges} if edges else {"column": column.name}


def _seen(table: PairTable) -> None:
    """Counts, and what will be left out."""
    report = table.report
    widgets.cards(data_page.totals(table)[:4])
    counts = {split: facts["n"] for split, facts in report.splits.items()}
    st.caption(f"Train {counts['train']:,} · validation {counts['val']:,} · test {counts['test']:,} pairs.")
    gone = [*report.refused, *report.left_out]
    if gone:
        st.markdown(f":orange[:material/filter_alt_off:] **{many(len(gone), 'row')} will be left out**")
        frame = pd.DataFrame(gone)
        widgets.table(frame[["row", "pair_id", "reason"]], key="bring.gone", height=min(38 + 35 * len(frame), 180))
    else:
        st.caption("No row will be left out.")
    if not report.images["checked"]:
        st.caption(f"Above {CHECKED:,} pairs the images are checked when the data are opened.")
    with st.expander(f"{many(len(report.warnings), 'warning')}", icon=":material/warning:"):
        st.markdown("\n".join(f"- {literal(line)}" for line in map(str, report.warnings)) or "none")


def _pairs(table: PairTable) -> None:
    """Ten pairs, both labels, as the model will see them."""
    widgets.section("Ten pairs")
    rows = _ten(table.labels)
    for start in range(0, len(rows), 5):
        for box, row in zip(st.columns(5), rows[start : start + 5], strict=False):
            pair = table.frame.iloc[row]
            with box, st.container(border=True, height="stretch"):
                try:
                    image = table.image(row)
                    image.thumbnail((260, 260))
                    st.image(image, alt=f"Image of pair {pair['pair_id']}")
                except InputError as error:
                    st.error(literal(error))
                st.badge(literal(table.info.label_names[int(pair["label"])]), color="blue" if pair["label"] else "gray")
                text = str(pair["text"])
                st.text(text if len(text) <= 160 else f"{text[:160]} …")
                st.caption(literal(" · ".join(str(pair[name]) for name in table.attributes)))


def _ten(labels: np.ndarray) -> list[int]:
    """Rows of up to ten pairs, half of each label, spread over the table.

    >>> _ten(np.array([0, 0, 0, 1]))
    [0, 1, 2, 3]
    """
    chosen: list[int] = []
    for side in (0, 1):
        rows = np.flatnonzero(labels == side)
        chosen += rows[np.unique(np.linspace(0, len(rows) - 1, min(SHOWN // 2, len(rows))).astype(int))].tolist()
    return sorted(chosen)


def _save(here: Here, folder: Path, content: Mapping[str, Any]) -> None:
    beside = "Beside the data"
    where = st.segmented_control(
        "Save the description", [beside, "In the workspace"], default=beside, key="bring.where", required=True,
        help=f"As {DATASET} in the folder, where other people and programs find it; or in this workspace, if the folder "
        "must not be written to.",
    )  # fmt: skip
    if where == beside and (folder / DATASET).exists():
        st.caption(f"The {DATASET} in the folder will be replaced.")
    with st.container(horizontal=True):
        go = st.button("Save and fine-tune", type="primary", icon=":material/tune:", key="bring.go")
        look = st.button("Save and look at the data", icon=":material/groups:", key="bring.look")
        if st.button("Leave without saving", type="tertiary", key="bring.leave"):
            st.switch_page("pages/1_Data.py")
    if go or look:
        path = None if where == beside else place_in_workspace(here.store.workspace, folder)
        write_description(folder, content, path, replace=True)
        typed = st.session_state.setdefault("data.typed", [])
        if str(folder) not in typed:
            typed.append(str(folder))
        st.session_state.pop(FOLDER, None)
        address = {"folder": str(folder)} | ({"view": "Set up"} if go else {})
        st.switch_page(f"pages/{FINE_TUNE}" if go else "pages/1_Data.py", query_params=address)
