"""Rows from one table: a manifest, or a foreign table that a description explains."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..cells import spelling, zero_one
from ..errors import InputError
from ..words import listed
from .csvtable import StringTable
from .description import AttributeRule, Columns, Description, JoinRule
from .files import DamagedFile, open_inside, resolve_inside, shown, tidy_path
from .identity import patients_from_paths
from .layouts import Layout
from .locate import NOTE_ENDINGS, FileFolder, checked
from .rows import COLUMNS, RawRows
from .tablefile import read_any_table
from .template import composed, is_template
from .warning import IntakeWarning, WarningKind

MAX_NOTE_BYTES = 4 * 2**20
_NEEDED = ("image", "text", "label")


def read_table(folder: Path, path: str) -> StringTable:
    """A CSV or Parquet table below the folder, as text."""
    try:
        real = resolve_inside(folder, path)
    except DamagedFile:
        raise InputError(
            f'{shown(path)[1:-1]}: the table is missing from the folder; correct the path under "table"'
        ) from None
    except InputError as error:
        raise InputError(f"table: {error}") from None
    return read_any_table(real, name=path)


@dataclass(frozen=True)
class ManyTables(StringTable):
    """Rows of several tables, or one row for several; `origin` gives the table and the index of a row in it."""

    origin: Callable[[int], tuple[StringTable, int]] | None = None

    def row(self, index: int) -> int:
        """The row number in its own table."""
        table, place = self._origin(index)
        return table.row(place)

    def where(self, index: int) -> str:
        """The file and row number of the row at `index`."""
        table, place = self._origin(index)
        return table.where(place)

    def _origin(self, index: int) -> tuple[StringTable, int]:
        assert self.origin is not None
        return self.origin(int(index))


def read_tables(
    folder: Path, paths: str | Sequence[str], group_by: str | None = None, join: Sequence[JoinRule] = ()
) -> StringTable:
    """One table, or several below each other, with the columns of joined ones; with `group_by` one row a value of it.

    Several tables get the columns "table" (a path without its ending) and "folder" (of the table), where there are none of
    that name: for image paths, splits and attributes that depend on the file.
    """
    if isinstance(paths, str):
        whole = read_table(folder, paths)
    else:
        tables = [read_table(folder, name) for name in paths]
        columns: dict[str, pa.Array] = {}
        for title in dict.fromkeys(title for table in tables for title in table.columns):
            empty = [pa.array([""] * table.n, pa.large_string()) for table in tables]
            columns[title] = pa.concat_arrays([t.columns.get(title, e) for t, e in zip(tables, empty, strict=True)])
        own = {
            "table": [PurePosixPath(name).with_suffix("").as_posix() for name in paths],
            "folder": [PurePosixPath(name).parent.as_posix() for name in paths],
        }
        sizes = [table.n for table in tables]
        for title, values in own.items():
            columns.setdefault(title, pa.array(np.repeat(values, sizes).tolist(), pa.large_string()))
        starts = np.concatenate([[0], np.cumsum(sizes)])

        def origin(index: int) -> tuple[StringTable, int]:
            which = int(np.searchsorted(starts, index, side="right")) - 1
            return tables[which], index - int(starts[which])

        passed = tuple(dict.fromkeys(one for table in tables for one in table.passed_over))
        whole = ManyTables(columns, int(starts[-1]), f"{len(tables)} tables", passed_over=passed, origin=origin)
    for rule in join:
        whole = _with_columns(whole, read_table(folder, rule.table), rule)
    return whole if group_by is None else _grouped(whole, group_by)


def _with_columns(table: StringTable, other: StringTable, rule: JoinRule) -> StringTable:
    """A table with the columns of another: those of the row with the same key, empty where there is none."""
    on = (rule.on,) if isinstance(rule.on, str) else rule.on
    keys = []
    for one in (table, other):
        one.need({name: name for name in on})
        cells = [[spelling(cell) for cell in one.columns[name].to_pylist()] for name in on]
        keys.append(pd.Index(list(zip(*cells, strict=True)), tupleize_cols=False))
    if not keys[1].is_unique:
        second = int(np.argmax(keys[1].duplicated()))
        raise InputError(
            f"{other.where(second)}: its {' and '.join(on)} is there before; a joined table has one row each"
        )
    rows = keys[1].get_indexer(keys[0])
    taken = pa.array(rows, mask=rows < 0)
    added = {
        title: pc.fill_null(cells.take(taken), "")
        for title, cells in other.columns.items()
        if title not in table.columns
    }
    return replace(table, columns=table.columns | added)


def _grouped(table: StringTable, group_by: str) -> StringTable:
    """One row for each value of a column or template; different cells of its rows are joined by "; "."""
    keys = composed(group_by, table.columns, {}, f'{table.file}: "group_by"')
    codes, first = np.unique(np.asarray(keys.to_pylist(), object), return_index=True, return_inverse=True)[2:0:-1]
    order = np.sort(first)
    group = np.searchsorted(order, first)[codes]
    columns = {}
    for title, cells in table.columns.items():
        pairs = pd.DataFrame({"group": group, "cell": cells.to_pylist()}).drop_duplicates()
        pairs = pairs[pairs["cell"] != ""]
        joined = pairs.groupby("group", sort=True)["cell"].agg("; ".join).reindex(range(len(order)), fill_value="")
        columns[title] = pa.array(joined.tolist(), pa.large_string())
    return ManyTables(
        columns, len(order), table.file, passed_over=table.passed_over, origin=lambda index: (table, int(order[index]))
    )


def table_rows(folder: Path, layout: Layout) -> RawRows:
    """The rows of a manifest or a foreign table, with their note files where the description names a folder of them."""
    description = layout.description
    table = read_tables(folder, layout.table or "manifest.csv", description.group_by, description.join)
    raw = rows_of(table, description, manifest=layout.kind == "manifest")
    if description.notes is None:
        return raw
    if layout.origin != "given" and Path(description.notes).expanduser().is_absolute():
        raise InputError(
            "notes: a folder elsewhere is read only where you name the description yourself: --description FILE"
        )
    notes = checked(FileFolder.of(folder, description.notes, what="notes"), "notes")
    return replace(raw, text=_note_files(notes, raw))


def _note_files(folder: FileFolder, raw: RawRows) -> pa.Array:
    """The texts of the files that the note cells name; empty where there is none.

    A cell is a path with or without ".txt", or one with another ending (an image), which is replaced.
    """
    names = [
        "" if not (name := folder.inside(tidy_path(cell))) else name if name.lower().endswith(".txt") else f"{name}.txt"
        for cell in raw.text.to_pylist()
    ]
    whole = {name: re.sub(r"(\.[^./]*)?\.txt$", ".txt", name, flags=re.I) for name in dict.fromkeys(names) if name}
    elsewhere = folder.found(names, NOTE_ENDINGS) or folder.found(whole.values(), NOTE_ENDINGS)
    seen = {"": ""}
    for index, name in enumerate(names):
        if name in seen:
            continue
        for path in (name, whole[name]):
            path = elsewhere.get(path, path)
            try:
                below = f"{folder.below}/{path}" if folder.below else path
                with open_inside(folder.root, below, max_bytes=MAX_NOTE_BYTES) as file:
                    seen[name] = file.read().decode("utf-8-sig").strip()
                break
            except DamagedFile:  # missing or empty: a pair without a note is left out and listed
                continue
            except UnicodeDecodeError:
                raise InputError(f"{raw.place(index, 'text')}: the note file is not UTF-8; save it as UTF-8") from None
            except InputError as error:
                raise InputError(f"{raw.place(index, 'text')}: {error}") from None
        seen.setdefault(name, "")
    return pa.array([seen[name] for name in names], pa.large_string())


def _composed(name: str | tuple[str, ...] | None, table: StringTable) -> bool:
    """Whether a column is composed from others: a list, or a template that is not the name of a column itself."""
    return name is not None and (not isinstance(name, str) or (is_template(name) and name not in table.columns))


def rows_of(table: StringTable, description: Description, *, manifest: bool) -> RawRows:
    """Pick the columns that the description names.

    Without a list of attributes, every further column of a manifest is one; of a foreign table, only those described.
    """
    if not isinstance(description.columns, Columns):
        sets = [description.model_copy(update={"columns": columns}) for columns in description.columns]
        return _joined([rows_of(table, one, manifest=manifest) for one in sets])
    table, named, plain, columns = _roles(table, description, description.columns)
    used = {*COLUMNS, *plain.values(), *(named["text"] if isinstance(named["text"], tuple) else ())}
    others = [name for name in table.columns if name not in used] if manifest else []
    rules, asked = _attribute_rules(description, others)
    for title, rule in rules.items():
        if rule.column not in table.columns:
            raise InputError(
                f"{table.file}: no column {shown(rule.column)} for attribute {shown(title)}; there are "
                f'{", ".join(shown(name, 30) for name in list(table.columns)[:20])}; correct "attributes" in dataset.json'
            )

    def place(index: int, role: str) -> str:
        return f"{table.where(index)}, column {plain.get(role, role)}"

    return RawRows(
        n=table.n,
        source=table.file,
        row=table.row,
        place=place,
        **columns,
        attributes={title: (table.columns[rule.column], rule) for title, rule in rules.items()},
        asked=asked,
        label_rule=description.label,
        n_found=table.n,
        columns_there=tuple(table.columns),
        warnings=[IntakeWarning(WarningKind.PASSED_OVER, values={"what": listed(table.passed_over)})]
        if table.passed_over
        else [],
    )


def _roles(
    table: StringTable, description: Description, names: Columns
) -> tuple[StringTable, dict[str, Any], dict[str, str], dict[str, Any]]:
    """The cells of each role, with the table (which may get a column), what was named for it, and the plain columns."""
    codes = description.names or {}
    table, named = _named_roles(table, description, names)
    plain = {
        role: name or role
        for role, name in named.items()
        if not _composed(name, table) and not (role == "text" and name in codes)
    }
    table.need({role: name for role, name in plain.items() if role in _NEEDED or named[role]})
    columns: dict[str, Any] = {role: table.columns.get(name) for role, name in plain.items()}
    for role in named.keys() - plain.keys():
        columns[role] = composed(named[role], table.columns, codes, f'{table.file}: "{role}" of "columns"')
    if columns["patient_id"] is None and description.patient_pattern:
        columns["patient_id"] = patients_from_paths(columns["image"], description.patient_pattern)
    return table, named, plain, columns


def _named_roles(table: StringTable, description: Description, names: Columns) -> tuple[StringTable, dict[str, Any]]:
    """What the description names for each role; several columns of a label become one, which the table gets."""
    named = {role: getattr(names, role) for role in ("pair_id", "patient_id", "split", *_NEEDED)}
    rule = description.label
    if rule is not None and rule.any_of is not None:
        named["label"] = ", ".join(rule.any_of)
        table = _any_of(table, rule.any_of)
    elif rule is not None:
        named["label"] = rule.column or named["label"]
    if description.notes is not None and named["text"] is None and "text" not in table.columns:
        named["text"] = named["image"] or "image"  # a note file is named like its image
    return table, named


def _any_of(table: StringTable, names: Sequence[str]) -> StringTable:
    """The table with a column that says 1 where any of these says so; empty where all are empty."""
    table.need({name: name for name in names})
    cells = [[zero_one(cell) for cell in table.columns[name].to_pylist()] for name in names]
    said = ["" if set(row) == {None} else str(int(1 in row)) for row in zip(*cells, strict=True)]
    return replace(table, columns={**table.columns, ", ".join(names): pa.array(said, pa.large_string())})


def _joined(parts: Sequence[RawRows]) -> RawRows:
    """The pairs that several sets of columns make of the same rows; those without an image are none."""
    first = parts[0]
    whole: dict[str, Any] = {role: _stacked([getattr(part, role) for part in parts]) for role in COLUMNS}
    kept = np.flatnonzero(pc.not_equal(pc.utf8_trim_whitespace(whole["image"]), "").to_numpy(zero_copy_only=False))

    def taken(cells: pa.Array | None) -> Any:
        return None if cells is None else cells.take(pa.array(kept))

    return replace(
        first,
        n=len(kept),
        n_found=len(kept),
        row=lambda index: first.row(int(kept[index]) % first.n),
        place=lambda index, role: parts[int(kept[index]) // first.n].place(int(kept[index]) % first.n, role),
        attributes={
            title: (taken(_stacked([part.attributes[title][0] for part in parts])), rule)
            for title, (_, rule) in first.attributes.items()
        },
        **{role: taken(cells) for role, cells in whole.items()},
    )


def _stacked(parts: Sequence[pa.Array | None]) -> pa.Array | None:
    known = [part for part in parts if part is not None]
    return pa.concat_arrays(known) if len(known) == len(parts) else None


def _attribute_rules(description: Description, others: list[str]) -> tuple[dict[str, AttributeRule], bool]:
    """Attribute name to rule, and whether the description asks for these; if not, `others` are the attributes.

    A rule without names or bands takes those that the description gives for its column.
    """
    rules, asked = _chosen_rules(description, others)
    for title, rule in rules.items():
        codes = (description.names or {}).get(rule.column)
        if codes and rule.names is None and rule.bins is None:
            rules[title] = rule.model_copy(update={"names": {code: name for code, name in codes.items() if name}})
    return rules, asked


def _chosen_rules(description: Description, others: list[str]) -> tuple[dict[str, AttributeRule], bool]:
    chosen = description.attributes
    if isinstance(chosen, dict):
        return dict(chosen), True
    if chosen is not None:
        if len(set(chosen)) != len(chosen):
            raise InputError('dataset.json: an attribute is listed twice under "attributes"; list it once')
        return {name: AttributeRule(column=name) for name in chosen}, True
    return {name: AttributeRule(column=name) for name in others}, False


def frame_rows(frame: pd.DataFrame, attributes: tuple[str, ...] | None) -> RawRows:
    """The rows of a frame in memory; without a list of attributes every further column is one."""
    names = [str(name) for name in frame.columns]
    if len(set(names)) != len(names):
        raise InputError("frame: two columns have the same name; rename one")
    for role in ("pair_id", "text", "label"):
        if role not in names:
            raise InputError(f"frame: no column {role!r}; there are {', '.join(names[:20])}")
    for name in attributes or ():
        if name not in names:
            raise InputError(f"attributes: no column {shown(name)} in the frame; there are {', '.join(names[:20])}")
    chosen = attributes if attributes is not None else [name for name in names if name not in COLUMNS]
    empty = pa.array([""] * len(frame), pa.large_string())
    orders = {
        name: [str(value) for value in frame[name].cat.categories]
        for name in chosen
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
    }

    def cells(name: str) -> pa.Array | None:
        return _cells(frame[name], name) if name in names else None

    return RawRows(
        n=len(frame),
        source="frame",
        row=lambda index: int(index),
        place=lambda index, role: f"frame row {index} (from 0), column {role}",
        text=cells("text"),
        label=cells("label"),
        image=cells("image") if "image" in names else empty,
        pair_id=cells("pair_id"),
        patient_id=cells("patient_id"),
        split=cells("split"),
        attributes={name: (cells(name), AttributeRule(column=name)) for name in chosen},
        orders=orders,
        asked=attributes is not None,
        n_found=len(frame),
        described=False,
        columns_there=tuple(names),
    )


def _cells(column: pd.Series, name: str) -> pa.Array:
    """A column of a frame as text; missing as empty, whole floats without a decimal point."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_float_dtype(column.dtype):
        text = [("" if pd.isna(v) else f"{v:.0f}" if float(v).is_integer() else str(v)) for v in column]
        return pa.array(text, pa.large_string())
    if pd.api.types.is_string_dtype(column.dtype) and not pd.api.types.is_object_dtype(column.dtype):
        return pa.array(column.fillna("").to_numpy(object), pa.large_string())
    try:
        return pa.array(["" if pd.isna(v) else str(v) for v in column], pa.large_string())
    except (ValueError, TypeError, UnicodeEncodeError):
        raise InputError(f"frame: column {name!r} holds values that are no plain text or numbers") from None
