"""What the columns of an unknown table probably mean: notes, label, patients, splits, attributes.

Each guess is a part of a ``dataset.json`` with the reason for it, so that a person can change it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..cells import is_missing, number, round_edges, spelling, zero_one
from ..words import listed
from .csvtable import StringTable
from .files import shown
from .identity import repeated_names
from .locate import IMAGE_ENDINGS

SAMPLE_ROWS = 20_000
_NOTE = (
    r"note|report|text|caption|impression|findings?$|description|narrative|history|comment|keyword|summary|conclusion"
)
_NOTE_ONLY = (
    r"^(?:(?:clinical |radiology )?(?:notes?|reports?)|text|caption|impression)$"  # a note, however often repeated
)
_LABEL = r"label|target|diagnos|\bdx\b|finding|class|disease|outcome|pathology|condition|status|category|problem|mesh"
_DISEASE = (
    r"malignan|cancer|tumou?r|carcinoma|melanoma|glaucoma|retinopath|edema|oedema|cataract|macular|\bamd\b|myopia|pneumo|"
    r"effusion|cardiomegal|atelecta|consolidat|covid|tubercul|ha?emorrhage|bleed|fracture|nodule|stroke|lesion$|abnormal"
)
_PATIENT = r"patient|subject|person|participant|\bmrn\b|\bpid\b"
_UNIT = r"lesion_?id|study_?id|case_?id|exam_?id"
_SPLIT = r"split|fold|subset|partition|\bset\b|\buse\b|dataset_?type"
_ATTRIBUTES = {
    "sex": r"\bsex\b|gender",
    "race": r"\brace\b|ethnic group",
    "ethnicity": r"ethnicit|hispanic",
    "skin_type": r"skin[_ ]?(?:type|tone|colou?r)|fit[sz]patrick|monk",
    "age_band": r"\bage\b",
    "language": r"language",
    "insurance": r"insurance|payer",
    "view": r"\bview|projection|orientation",
    "site": r"anatom|locali[sz]ation|\blocation\b|\bsite\b|body[_ ]?part|region",
    "hospital": r"hospital|\bcent(?:er|re)\b|institution|clinic$",
    "device": r"device|camera|scanner|manufacturer|vendor",
}
_SPLIT_WORDS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_NEGATIVE = re.compile(
    r"normal|healthy|no(?:ne)?\b.*|no[ _-](?:finding|disease|abnormalit).*|benign|negative.*|control|absent|without.*"
    r"|non[-_ ].+"
)
_MALIGNANT = re.compile(r"malignan|melanom|carcinom|cancer|lymphom|sarcom|^(?:mel|bcc|scc|akiec)$")
_UNSURE = re.compile(r"inconclusive|uncertain|suspect.*|indeterminate|unsure|equivocal|borderline|ungradable|not sure")
_SKIN = {
    "mel": "melanoma", "nv": "melanocytic nevus", "nev": "melanocytic nevus", "bcc": "basal cell carcinoma",
    "scc": "squamous cell carcinoma", "ak": "actinic keratosis", "akiec": "actinic keratosis", "ack": "actinic keratosis",
    "bkl": "benign keratosis", "sek": "seborrheic keratosis", "df": "dermatofibroma", "vasc": "vascular lesion",
}  # fmt: skip
_BOOLEAN = ({"0", "1"}, {"true", "false"}, {"yes", "no"})
_SAID = {"site": "on the {%s}", "view": "{%s} view", "age_band": "[{%s}-year-old ]", "sex": "{%s}"}
_SEXES = {"m": "Male", "f": "Female", "male": "Male", "female": "Female", "man": "Male", "woman": "Female"}


@dataclass(frozen=True)
class Reason:
    """Why an entry of a description was proposed.

    Attributes
    ----------
    entry
        Such as "columns.image"; empty for a remark on the whole folder.
    text
        One sentence.
    sure
        Whether the guess rests on more than a name; a person should look at the others first.
    examples
        A few cells or files.
    """

    entry: str
    text: str
    sure: bool = True
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"entry": self.entry, "reason": self.text, "sure": self.sure, "examples": list(self.examples)}


@dataclass(frozen=True)
class Column:
    """A column in short: its first cells, and how often each value occurs that is not missing."""

    name: str
    cells: tuple[str, ...]
    counts: Mapping[str, int] = field(repr=False)
    gaps: bool = False
    """Whether a cell is missing."""

    @property
    def n(self) -> int:
        """Cells that are not missing."""
        return sum(self.counts.values())

    @property
    def examples(self) -> tuple[str, ...]:
        """Up to four values, the most frequent first."""
        return tuple(value if len(value) < 60 else f"{value[:57]}..." for value in list(self.counts)[:4])

    @property
    def words(self) -> set[str]:
        """The different values in one spelling."""
        return {spelling(value) for value in self.counts}

    def named(self, pattern: str) -> bool:
        """Whether the name fits a pattern; underscores and capitals divide words."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name)
        return any(re.search(pattern, one.casefold()) for one in (name.replace("_", " "), self.name))


def columns_of(table: StringTable) -> list[Column]:
    """The columns of a table, from its first 20,000 rows."""
    found = []
    for name, cells in table.columns.items():
        texts = [cell.strip() for cell in cells.slice(0, SAMPLE_ROWS).to_pylist()]
        counts = Counter(text for text in texts if not is_missing(text))
        found.append(Column(name, tuple(texts[:200]), dict(counts.most_common()), sum(counts.values()) < len(texts)))
    return found


@dataclass
class Guess:
    """Entries of a description and the reasons for them, as they are found."""

    entries: dict[str, Any] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    classes: list[list[str]] = field(default_factory=list)
    """Names of the classes of label 0 and of label 1, where each has a column."""
    parts: list[str] = field(default_factory=list)
    """The parts of a composed note for them."""

    def put(self, entry: str, value: Any, text: str, *, sure: bool = True, column: Column | None = None) -> None:
        """Set an entry ("columns.image" goes to "image" of "columns") and note why."""
        outer, _, inner = entry.partition(".")
        if inner:
            self.entries.setdefault(outer, {})[inner] = value
        else:
            self.entries[outer] = value
        self.reasons.append(Reason(entry, text, sure, column.examples if column else ()))
        if column is not None:
            self.used.add(column.name)


def guess_notes(guess: Guess, columns: Sequence[Column]) -> bool:
    """Columns of free text; False where there is none."""
    free = [column for column in columns if column.name not in guess.used and _is_free_text(column)]
    named = [column for column in free if column.named(_NOTE)]
    few = [c for c in columns if c.name not in guess.used and c.named(_NOTE_ONLY) and _mean_words(c) >= 1.5]
    chosen = named or few or free[:1]
    if not chosen:
        return False
    sections = [column for name in ("findings", "impression") for column in chosen if column.named(rf"\b{name}\b")]
    if len(sections) == 2:
        text = "two columns of free text, joined as sentences"
        guess.put("columns.text", [column.name for column in sections], text, column=sections[0])
        guess.used.add(sections[1].name)
        return True
    best = max(chosen, key=lambda column: (bool(column.named(r"note|report")), _mean_words(column)))
    guess.put("columns.text", best.name, f"free text, {_mean_words(best):.0f} words a cell", column=best)
    return True


def _mean_words(column: Column) -> float:
    return float(np.mean([len(value.split()) for value in list(column.counts)[:500]])) if column.counts else 0.0


def _is_free_text(column: Column) -> bool:
    values = list(column.counts)[:500]
    if not values or any(value.startswith(("http://", "https://")) for value in values[:5]):
        return False
    if any(value.lower().endswith(tuple(IMAGE_ENDINGS)) for value in values[:5]):
        return False
    least = 1.5 if column.named(_NOTE) else 4.0
    return _mean_words(column) >= least and len(column.counts) >= min(20, 0.1 * column.n)


def guess_label(guess: Guess, columns: Sequence[Column]) -> Column | None:
    """The column of the label, with a rule where its cells are not 0 and 1."""
    free = [c for c in columns if c.name not in guess.used and 2 <= len(c.counts) <= 200 and not _is_free_text(c)]
    free = [c for c in free if not c.named(r"\bid\b|_id$|date|time\b|url|\bpath\b|" + _PATIENT)]
    ranked = sorted(free, key=lambda column: -_label_score(column))
    if not ranked or _label_score(ranked[0]) < 2:
        ranked = [c for c in free if c.words in _BOOLEAN]
        if len(ranked) == 1:
            guess.put("columns.label", ranked[0].name, "the only column of yes and no", sure=False, column=ranked[0])
            _label_rule(guess, ranked[0])
            return ranked[0]
        guess.reasons.append(
            Reason("columns.label", "no column looks like a label; name one, and a rule if it is not 0 and 1", False)
        )
        return None
    best = ranked[0]
    others = [column.name for column in ranked[1:] if _label_score(column) >= 2][:5]
    also = f"; {listed([shown(name) for name in others])} could be one, too" if others else ""
    sure = not others or _label_score(best) > _label_score(ranked[1])
    guess.put("columns.label", best.name, f"{len(best.counts)} different values{also}", sure=sure, column=best)
    _label_rule(guess, best)
    return best


def label_entries(column: Column) -> dict[str, Any]:
    """The entries "label" and "label_names" for a column that a person chose.

    >>> label_entries(Column("dx", (), {"nevus": 5, "melanoma": 2}))
    {'label': {'positive': ['melanoma']}, 'label_names': ['benign', 'malignant']}
    """
    guess = Guess()
    _label_rule(guess, column)
    return guess.entries


def _label_score(column: Column) -> float:
    boolean = column.words in _BOOLEAN
    clinical = not boolean and any(_NEGATIVE.fullmatch(_bare(word)) or _MALIGNANT.search(word) for word in column.words)
    plain = bool(re.fullmatch(r"label|target|y|class", column.name.casefold()))
    spoken = not all(number(value) is not None for value in column.counts)
    named = bool(column.named(_LABEL)) + 1.2 * bool(column.named(_DISEASE))
    if not (named or (clinical and spoken)):
        return 0.0
    few = boolean or len(column.counts) == 2
    return 2 * named + few + 1.5 * clinical + 2 * plain + (len(column.counts) <= 30) - (not spoken and not few)


def _answer(value: str) -> int | None:
    """1 or 0 for yes and no in any spelling; None for any other cell."""
    return {"yes": 1, "no": 0}.get(spelling(value), zero_one(value))


def _bare(word: str) -> str:
    """A word without the brackets and quotes of a list."""
    return re.sub(r"[\[\]'\"]", "", word).strip()


def spoken_name(column: Column) -> str:
    """A column's name as words.

    >>> spoken_name(Column("any_Hemorrhage", (), {}))
    'any hemorrhage'
    """
    return re.sub(r"[_\W]+", " ", column.name).strip().lower()


def _label_rule(guess: Guess, column: Column) -> None:
    name = spoken_name(column)
    if all(_answer(value) is not None for value in column.counts):
        text = "the cells say yes and no"
        if column.gaps or any(zero_one(value) is None for value in column.counts):
            sides = {"positive": 1, "negative": 0}
            rule = {key: [value for value in column.counts if _answer(value) == side] for key, side in sides.items()}
            guess.put("label", rule, f"{text}; pairs without a label are left out")
        plain = re.fullmatch(r"label|target|y|class|outcome|status", name)
        guess.put("label_names", ["negative", "positive"] if plain else [f"no {name}", name], text)
        return
    unsure = [value for value in column.counts if _UNSURE.fullmatch(_bare(spelling(value)))]
    known = [value for value in column.counts if value not in unsure]
    if len(known) < 2:
        unsure, known = [], list(column.counts)
    side = _sides(known, name)
    guess.put("label", side.rule | ({"left_out": unsure} if unsure else {}), side.text, sure=side.sure)
    guess.put("label_names", side.names, "as in the label")


@dataclass(frozen=True)
class _Sides:
    """Which of the values of a label are positive, what the two sides are called, and why."""

    rule: dict[str, list[str]]
    names: list[str]
    text: str
    sure: bool = True

    def positive(self, values: Sequence[str]) -> list[str]:
        return self.rule.get("positive") or [value for value in values if value not in self.rule["negative"]]


def _sides(values: Sequence[str], name: str) -> _Sides:
    """The sides of two values or more, the most frequent first."""
    if all(number(value) is not None for value in values):
        low = min(values, key=lambda value: number(value) or 0)
        text = f"grades: {low} is negative, higher ones are positive"
        return _Sides({"negative": [low]}, [f"{name} {low}", f"{name} above {low}"], text, False)
    cancer = [value for value in values if _MALIGNANT.search(spelling(value)) and not spelling(value).startswith("non")]
    if cancer:
        said = listed([shown(value) for value in cancer], limit=6)
        return _Sides({"positive": cancer}, ["benign", "malignant"], f"malignant: {said}")
    if negative := _negatives(values):
        rest = [value for value in values if value not in negative]
        names = [_bare(negative[0]), _bare(rest[0]) if len(rest) == 1 else "other"]
        return _Sides({"negative": negative}, names, f"negative: {listed([shown(v) for v in negative], limit=6)}")
    # The most frequent class is more often the normal one than any other.
    text = f"a guess: {shown(values[1])} is positive; choose which values are"
    names = [values[0] if len(values) == 2 else "other", values[1]]
    return _Sides({"positive": [values[1]]}, names, text, False)


def _negatives(values: Sequence[str]) -> list[str]:
    """Values that say normal, benign or none; or one that is another with "N" or "non" before it (NRG beside RG)."""
    said = {spelling(value) for value in values}
    return [value for value in values if _NEGATIVE.fullmatch(_bare(spelling(value)))] or [
        value for value in values for no in ("n", "non") if spelling(value).removeprefix(no) in said - {spelling(value)}
    ]


def guess_patients(guess: Guess, columns: Sequence[Column], paths: Sequence[str]) -> None:
    """The column of patients, else a pattern in the image paths."""
    image = next(
        (column for column in columns if column.name in str(guess.entries.get("columns", {}).get("image"))), None
    )
    if image is not None and image.named(_PATIENT):
        guess.put("columns.patient_id", image.name, "named like patients; one image each", column=image)
        return
    no_id = r"\bage\b|\bsex\b|gender|race"
    for pattern, text in (
        (_PATIENT, "named like patients"),
        (_UNIT, "no column of patients; a unit with several images"),
    ):
        for column in columns:
            if column.name in guess.used or not column.named(pattern) or column.named(no_id):
                continue
            filled = column.n >= 0.5 * max(one.n for one in columns)
            if filled and len(column.counts) >= 0.02 * column.n and not _is_free_text(column):
                each = column.n / max(len(column.counts), 1)
                said = f"{text}; {len(column.counts)} of them, {each:.1f} rows each"
                guess.put("columns.patient_id", column.name, said, column=column)
                return
    if found := repeated_names(list(paths)):
        text = "no column of patients; these names repeat in the image paths"
        guess.put("patient_pattern", found, text, sure=False)
        return
    text = "no column of patients is known: each pair counts as a patient, which makes scores too good if it is not so"
    guess.reasons.append(Reason("columns.patient_id", text, False))


def guess_split(guess: Guess, columns: Sequence[Column]) -> None:
    """The column of splits, if its cells are words for splits."""
    for column in columns:
        if column.name not in guess.used and len(column.counts) > 1 and column.words <= _SPLIT_WORDS:
            guess.put("columns.split", column.name, "its cells are words for splits", column=column)
            return
    guess.reasons.append(Reason("splits", "no split column: 70 % train, 10 % val, 20 % test are made, by patient"))


def guess_attributes(guess: Guess, columns: Sequence[Column]) -> None:
    """Columns that name groups of patients, by their names."""
    rules: dict[str, Any] = {}
    for title, pattern in _ATTRIBUTES.items():
        for column in columns:
            if title in rules or column.name in guess.used or not column.named(pattern) or len(column.counts) < 2:
                continue
            rule = _attribute_rule(title, column)
            if rule is not None:
                rules[title] = rule
                guess.reasons.append(
                    Reason(f"attributes.{title}", f"column {shown(column.name)}", True, column.examples)
                )
    guess.entries["attributes"] = rules
    if not rules:
        text = "no column that names groups of patients (sex, race, age, skin type, ...) was found; name some"
        guess.reasons.append(Reason("attributes", text, False))


def _attribute_rule(title: str, column: Column) -> dict[str, Any] | None:
    values = list(column.counts)
    numbers = [value for value in map(number, values) if value is not None]
    if len(numbers) > 0.9 * len(values) and (title == "age_band" or len(values) > 12):
        each = [float(number(value) or 0) for value in values for _ in range(column.counts[value])]
        edges = round_edges(each)
        if not edges or (title == "age_band" and max(numbers) > 130):
            return None
        return {"column": column.name, "bins": [int(edge) if edge.is_integer() else edge for edge in edges]}
    if title == "age_band" or len(values) > 30 or _is_free_text(column):
        return None
    if title == "sex" and column.words <= _SEXES.keys():
        return {"column": column.name, "names": {value: _SEXES[spelling(value)] for value in sorted(values)}}
    return {"column": column.name}


def compose_note(guess: Guess, columns: Sequence[Column], label: Column | None) -> None:
    """A note from the columns that describe the image, where no free text is there."""
    said = [
        c for c in columns if _is_spoken(c) and c.named(_LABEL + "|modality|type|histolog|laterality|severity|grade")
    ]
    first = [label] if label is not None else []
    parts = [*guess.parts]
    parts += [_of_label(guess, column) for column in [*first, *(c for c in said if c is not label)][:4]]
    parts += _context([column for column in columns if column not in (*first, *said)])
    if not parts:
        guess.reasons.append(Reason("columns.text", "no notes were found: no free text, no note files", False))
        return
    text = (
        "no free text and no note files were found; the note is composed from columns, parts with empty cells left out"
    )
    guess.put("columns.text", ", ".join(parts), text, sure=False)


def _context(columns: Sequence[Column]) -> list[str]:
    """The parts of a note for site, view, age and sex."""
    parts: list[str] = []
    for title, form in _SAID.items():
        column = next((c for c in columns if c.named(_ATTRIBUTES[title]) and 1 < len(c.counts) <= 200), None)
        if column is None or (title in ("sex", "site") and not _is_spoken(column)):
            continue
        if title == "sex" and parts and parts[-1].endswith("]"):
            parts[-1] += form % column.name
        else:
            parts.append(form % column.name)
    return parts


def _is_spoken(column: Column) -> bool:
    """Whether the cells are words, such as those of a diagnosis, and not numbers or identifiers."""
    words = [value for value in column.counts if number(value) is None and _answer(value) is None]
    return (
        1 < len(column.counts) <= 200 and len(words) > 0.9 * len(column.counts) and max(map(len, column.counts)) <= 80
    )


def _is_graded(column: Column) -> bool:
    """Whether the cells are numbers beyond 0 and 1."""
    return all(number(value) is not None for value in column.counts) and any(_answer(v) is None for v in column.counts)


def guess_classes(guess: Guess, columns: Sequence[Column]) -> bool:
    """One column of 0 and 1 for each class, one of them 1 in each row: label and note are made of all of them.

    `columns` have no missing cells, if they are such classes.
    """
    classes = [c for c in columns if c.name not in guess.used and c.words <= {"0", "1"} and not c.gaps]
    ones = sum(n for column in classes for value, n in column.counts.items() if spelling(value) == "1")
    if len(classes) < 3 or abs(ones - classes[0].n) > 0.02 * classes[0].n:
        return False
    names = {c.name: _SKIN.get(c.name.casefold(), spoken_name(c)) for c in classes}
    side = _sides(list(names), "")
    positive = side.positive(list(names))
    text = f"columns of 0 and 1, one for each class; positive: {listed(positive, limit=6)}"
    guess.put("label", {"any_of": positive}, text, sure=side.sure)
    guess.put("label_names", side.names, "as in the label")
    for column in classes:
        said = {value: names[column.name] if spelling(value) == "1" else "" for value in column.counts}
        guess.entries.setdefault("names", {})[column.name] = said
    guess.used |= set(names)
    guess.classes = [[names[c.name] for c in classes if (c.name in positive) == side] for side in (False, True)]
    guess.parts = [f"{{{name}}}" for name in names]
    return True


def _of_label(guess: Guess, column: Column) -> str:
    """The part of a note for a column; a 0 and 1 label gets words, a grade the name of the column."""
    if all(_answer(value) is not None for value in column.counts):
        names = guess.entries.get("label_names") or ["negative", "positive"]
        codes = {value: names[_answer(value) or 0] for value in column.counts}
        guess.entries.setdefault("names", {})[column.name] = codes
    elif _is_graded(column):
        return f"{spoken_name(column)} {{{column.name}}}"
    elif names := {value: _SKIN[spelling(value)] for value in column.counts if spelling(value) in _SKIN}:
        guess.entries.setdefault("names", {})[column.name] = names
    return f"{{{column.name}}}"


def guess_prompts(guess: Guess, label: Column | None, code: Callable[[str], int | None]) -> None:
    """Zero-shot prompts: the label's values where notes are composed of them, else the names of the labels.

    `code` gives the label of a value, as `assemble.label_coder`.
    """
    names = guess.entries.get("label_names") or ["negative", "positive"]
    prompts: list[list[str]] = [list(side[:8]) for side in guess.classes] or [[], []]
    text = guess.entries.get("columns", {}).get("text")
    composed = isinstance(text, str) and label is not None and f"{{{label.name}}}" in text
    if composed and label is not None:
        names_of = guess.entries.get("names", {}).get(label.name, {})
        before = f"{spoken_name(label)} " if _is_graded(label) else ""
        for side in (0, 1):
            of_side = [value for value in label.counts if code(value) == side][:8]
            prompts[side] += [names_of.get(value, f"{before}{value}") for value in of_side]
    for side in (0, 1):
        if not prompts[side]:
            prompts[side] = [names[side]]
    guess.put(
        "prompts",
        prompts,
        "the classes as the notes write them" if composed or guess.classes else "the names of the labels",
    )


def common(values: Iterable[Any]) -> Any | None:
    """The one value that all have, None where they differ or there is none."""
    different = set(values)
    return different.pop() if len(different) == 1 else None
