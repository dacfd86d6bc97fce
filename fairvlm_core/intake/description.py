"""``dataset.json``: what a table's columns mean, so that a foreign CSV needs no rewriting."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from ..cells import UNKNOWN, is_missing
from ..errors import InputError
from .files import open_regular, path_fault, shown
from .template import template_fault

SCHEMA = 1
MAX_DESCRIPTION_BYTES = 4 * 2**20
DEFAULT_PROMPTS = ("A photo of non-glaucoma", "A photo of glaucoma")
DEFAULT_LABEL_NAMES = ("negative", "positive")
DEFAULT_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}

_Text = Annotated[str, Field(min_length=1, max_length=500)]
_Prompts = _Text | Annotated[tuple[_Text, ...], Field(min_length=1, max_length=200)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Columns(_Model):
    """What the table calls each column; None means our own name (and, for the last three, only if it is there).

    Each may also be a template, "{dx}, on the {site}" (`template.Template`), and `text` a list of columns and templates,
    which are joined as sentences.
    """

    image: _Text | None = None
    text: _Text | tuple[_Text, ...] | None = None
    label: _Text | None = None
    pair_id: _Text | None = None
    patient_id: _Text | None = None
    split: _Text | None = None

    @field_validator("*")
    @classmethod
    def _templates(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if value == ():
            raise ValueError("the list of columns is empty")
        for text in (value,) if isinstance(value, str) else value or ():
            if fault := template_fault(text):
                raise ValueError(fault)
        return value


class LabelRule(_Model):
    """How a cell becomes 0 or 1. Without a rule it must say 0 or 1, false or true itself.

    ``column``: the column, as in ``columns``. ``any_of``: several columns of 0 and 1, one for each class; 1 where any of
    them says 1. ``contains``: 1 where the cell holds this text, in any case; ``lacks``: 1
    where it does not. ``positive``: 1 where the cell is one of these, ``negative``: 0 where it is one of these; with one
    of the two lists, any other cell is on the other side. An empty cell is no label, nor is one of ``left_out``: such
    pairs are left out.
    """

    column: _Text | None = None
    any_of: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=200)] | None = None
    contains: _Text | None = None
    lacks: _Text | None = None
    positive: tuple[str, ...] | None = None
    negative: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the rule only names the column: its cells say 0 or 1."""
        return self.contains is self.lacks is self.positive is self.negative is None

    @model_validator(mode="after")
    def _one_rule(self) -> LabelRule:
        if self.plain and (self.column is None) != (self.any_of is None):
            return self
        if self.any_of is not None:
            raise ValueError('"any_of" stands alone: its columns say 0 and 1')
        lists = bool(self.positive or self.negative)
        if (self.contains is not None) + (self.lacks is not None) + lists != 1:
            raise ValueError('give either "contains" or "lacks", or a list under "positive"')
        if not lists and (self.positive, self.negative) != (None, None):
            raise ValueError('"negative" goes with "positive", not with "contains"')
        return self


class AttributeRule(_Model):
    """How a column becomes groups.

    ``names`` gives codes a name; ``bins`` cuts numbers into bands, each from one edge up to but without the next;
    ``unknown`` lists cells that mean "not known", beside those that always do (`cells.MISSING`).
    """

    column: _Text
    names: dict[str, _Text] | None = None
    bins: tuple[float, ...] | None = None
    unknown: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> AttributeRule:
        if self.names is not None and self.bins is not None:
            raise ValueError('give "names" or "bins", not both')
        for name in (self.names or {}).values():
            if is_missing(name) and name != UNKNOWN:
                raise ValueError(f'the name {name!r} would count as missing; use another, such as "no finding"')
        if self.bins is not None:
            rising = all(a < b for a, b in pairwise(self.bins))
            if not self.bins or not rising or not all(map(math.isfinite, self.bins)):
                raise ValueError('"bins" needs at least one edge, in rising order')
        return self


class JoinRule(_Model):
    """A further table whose columns are added: the row whose cells under ``on`` (one column, or several) are the same."""

    table: _Text
    on: _Text | Annotated[tuple[_Text, ...], Field(min_length=1, max_length=10)]

    @field_validator("table")
    @classmethod
    def _below(cls, value: str) -> str:
        if fault := path_fault(value):
            raise ValueError(fault)
        return value


class Description(_Model):
    """The content of a ``dataset.json``; every entry may be left out.

    Attributes
    ----------
    schema_version
        Written ``"schema"``: 1.
    name
        What pages and reports call the data.
    table
        The file, below the folder (see `tablefile`), or several of them. Without it ``manifest.csv`` or
        ``manifest.parquet``.
    join
        Further tables whose columns are added, see `JoinRule`.
    group_by
        A column (or template): rows with the same value are one pair. Their different cells are joined by "; ".
    images
        The folder that image paths start from, below the data folder; or the absolute path of a folder elsewhere.
    notes
        The folder of note files, one .txt a row; then `columns.text` holds their paths, with or without ".txt", and
        without `columns.text` a note file is named like its image.
    names
        Column name to code to name, for composed notes and for attributes whose rule has no names of its own.
    prompts
        For label 0, then label 1: a prompt, or several; `class_prompts` gives them as lists.
    label_names
        For label 0, then label 1.
    columns
        See `Columns`; several make several pairs of each row (two eyes), where their image is not empty.
    label, attributes, splits
        See `LabelRule`, `AttributeRule`; attributes may also be a plain list of columns. `splits` are the
        shares of patients for tables without a split column.
    patient_pattern
        For tables without a patient column: a regular expression (RE2, no groups); what it matches in an image's path is
        the patient.
    note_source
        Of a Harvard-FairVLMed folder: "summarized", "original" or "npz"; "auto" takes the first of these that is there.
    recognise
        For descriptions that come with fairvlm: the columns by which a table is known.

    >>> Description.model_validate({"schema": 1, "attributes": {"sex": {"column": "Sex"}}}).attributes["sex"].column
    'Sex'
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: _Text | None = None
    about: str | None = None
    table: _Text | Annotated[tuple[_Text, ...], Field(min_length=1, max_length=1000)] | None = None
    join: tuple[JoinRule, ...] = ()
    group_by: _Text | None = None
    images: str = ""
    notes: str | None = None
    prompts: tuple[_Prompts, _Prompts] | None = None
    label_names: tuple[_Text, _Text] | None = None
    columns: Columns | Annotated[tuple[Columns, ...], Field(min_length=1, max_length=20)] = Columns()
    names: dict[_Text, dict[str, str]] | None = None
    label: LabelRule | None = None
    patient_pattern: _Text | None = None
    attributes: dict[_Text, AttributeRule] | tuple[_Text, ...] | None = None
    splits: dict[Literal["train", "val", "test"], float] | None = None
    note_source: Literal["auto", "summarized", "original", "npz"] = "auto"
    recognise: tuple[str, ...] = ()

    @property
    def class_prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The prompts of label 0, then of label 1, each at least one; None where none are given.

        >>> Description(prompts=("a nevus", ["a melanoma", "a dark melanoma"])).class_prompts
        (('a nevus',), ('a melanoma', 'a dark melanoma'))
        """
        if self.prompts is None:
            return None
        negative, positive = ((one,) if isinstance(one, str) else one for one in self.prompts)
        return negative, positive

    @property
    def column_sets(self) -> tuple[Columns, ...]:
        """The column names, once for each pair of a row."""
        return (self.columns,) if isinstance(self.columns, Columns) else self.columns

    @model_validator(mode="after")
    def _one_label_column(self) -> Description:
        column = self.label and (self.label.column or (self.label.any_of and ", ".join(self.label.any_of)))
        if any(one.label and column and one.label != column for one in self.column_sets):
            raise ValueError('"label" names another column than "columns"; name it once')
        return self

    @field_validator("table", "images", "notes")
    @classmethod
    def _below(cls, value: str | tuple[str, ...] | None, info: ValidationInfo) -> str | tuple[str, ...] | None:
        if isinstance(value, tuple):
            return tuple(str(cls._below(one, info)) for one in value)
        if value and info.field_name != "table" and Path(value).expanduser().is_absolute():
            return value
        if value and (fault := path_fault(value)):
            raise ValueError(fault)
        return value

    @field_validator("attributes", mode="before")
    @classmethod
    def _short_rules(cls, value: object) -> object:
        """``{"sex": "Sex"}`` is short for ``{"sex": {"column": "Sex"}}``."""
        if isinstance(value, Mapping):
            return {name: {"column": rule} if isinstance(rule, str) else rule for name, rule in value.items()}
        return value

    @field_validator("splits")
    @classmethod
    def _shares(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return None
        shares = {name: float(value.get(name, 0.0)) for name in ("train", "val", "test")}
        if not all(0 <= share <= 1 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError("shares must lie within 0 to 1 and add up to 1")
        if shares["train"] == 0:
            raise ValueError("the training split needs a share above 0")
        return shares


def parse_description(content: object, place: str) -> Description:
    """A description from JSON-like content, or one `InputError` that names the entry.

    >>> parse_description({"schema": 1, "colour": "red"}, "dataset.json")
    Traceback (most recent call last):
        ...
    fairvlm_core.errors.InputError: dataset.json: entry "colour": not known; see docs/data.md for the entries
    """
    if isinstance(content, Description):
        return content
    if not isinstance(content, Mapping):
        raise InputError(f"{place}: an object {{...}} is expected, not {type(content).__name__}")
    version = content.get("schema", content.get("schema_version", SCHEMA))
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA:
        raise InputError(f"{place}: schema {version} is newer than the {SCHEMA} this version reads; update fairvlm")
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        # Where a value may take several forms the place names the form too; a person knows the entry without it.
        entry = ".".join(str(part) for part in first["loc"] if not re.search(r"\[|function-|^Columns$", str(part)))
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            reason = "not known; see docs/data.md for the entries"
        raise InputError(f'{place}: entry "{shown(entry, 60)[1:-1]}": {reason}') from None


def read_description(path: Path, *, name: str | None = None) -> Description:
    """Read and check a description file; errors name the file and the entry."""
    path = Path(path)
    name = name or path.name
    try:
        with open_regular(path, max_bytes=MAX_DESCRIPTION_BYTES) as file:
            content = json.loads(file.read().decode("utf-8-sig"), object_pairs_hook=_no_twins)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{name} line {error.lineno}: not valid JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise InputError(f"{name}: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{name}: not valid JSON ({error})") from None
    return parse_description(content, name)


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"entry {shown(twice)} is given twice")
    return content


def known_descriptions() -> dict[str, Description]:
    """The descriptions that come with fairvlm, by file name without ending.

    >>> {"chexpert", "covid-chestxray"} <= set(known_descriptions())
    True
    """
    folder = Path(__file__).with_name("known")
    return {path.stem: read_description(path) for path in sorted(folder.glob("*.json"))}
