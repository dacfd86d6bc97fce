"""The table of an experiment as text cells, LaTeX, HTML and CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from .. import safeio
from ..fairness import METRICS
from ..fairness.outcomes import Outcome, outcome_words
from ..intake.csvsafe import write_csv
from ..words import listed, many, number, points_span, signed
from .table import TEST_CHOSEN, Entry, ExperimentTable

NAMES = ("table.csv", "table.tex", "table.html")
_MARKS = {Outcome.BETTER.value: "▲", Outcome.WORSE.value: "▼"}
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$",
    "λ": r"$\lambda$", "β": r"$\beta$", "·": r"$\cdot$", "▲": r"$^{\blacktriangle}$", "▼": r"$^{\blacktriangledown}$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:90rem}"
    "table{border-collapse:collapse;margin:.5rem 0 2rem}"
    "th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}caption{text-align:left;font-weight:600;padding:.3rem 0}"
    "@media (prefers-color-scheme:dark){body{background:#111;color:#eee}th,td{border-color:#444}}"
)


def title_of(entry: Entry) -> str:
    """The heading of an entry's column.

    >>> title_of(Entry("tiny", "probe", "race", "clip", "auc", "Asian", 1, 9, 4, 0.8))
    'AUC Asian'
    """
    if entry.metric == TEST_CHOSEN:
        return "AUC, chosen on test"
    title = METRICS[entry.metric].title
    return f"{title} {entry.group}" if entry.group else title


def heading(model: str, score: str, attribute: str, entries: Sequence[Entry]) -> str:
    """What a block of the table is about."""
    everyone = next((entry for entry in entries if not entry.group), entries[0])
    by = f" · by {attribute}" if attribute else ""
    return f"{score}{by} · {model} · {everyone.n} test pairs, {everyone.n_positive} positive"


def wide(entries: Sequence[Entry], *, intervals: bool = True, groups: bool = True) -> pd.DataFrame:
    """Values as text cells: one row a method; metrics of everyone, then those of groups. ▲ and ▼: against the baseline."""
    shown = [entry for entry in entries if groups or not entry.group]
    return _pivot(shown, lambda entry: _value(entry, intervals))


def changes(entries: Sequence[Entry], *, groups: bool = True) -> pd.DataFrame:
    """Differences from the baseline as text cells; without its row, and without metrics that are not compared."""
    return _pivot([entry for entry in entries if entry.outcome and (groups or not entry.group)], _difference)


def _pivot(entries: Sequence[Entry], cell: Callable[[Entry], str]) -> pd.DataFrame:
    columns = dict.fromkeys(title_of(entry) for entry in sorted(entries, key=lambda entry: bool(entry.group)))
    rows: dict[str, dict[str, str]] = {}
    for entry in entries:
        row = rows.setdefault(entry.method, {"seeds": str(entry.seeds)})
        row[title_of(entry)] = cell(entry)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["seeds", *columns]).fillna("–")
    frame.index.name = "method"
    return frame


def _value(entry: Entry, intervals: bool) -> str:
    if entry.mean is None:
        return "undefined"
    reach = f" [{number(entry.low)}, {number(entry.high)}]" if intervals and entry.low is not None else ""
    return f"{number(entry.mean)}{reach} {_MARKS.get(entry.outcome, '')}".rstrip()


def _difference(entry: Entry) -> str:
    if entry.difference is None:
        return "undefined"
    text = signed(entry.difference)
    if entry.difference_low is None:
        return text
    reach = f"{signed(entry.difference_low)}, {signed(entry.difference_high)}"
    return f"{text} [{reach}] {_MARKS.get(entry.outcome, '')}".rstrip()


def notes(table: ExperimentTable, *, intervals: bool = True) -> list[str]:
    """What a reader must know to read the table."""
    found = [
        "Means over seeds; in brackets 95 % intervals, over seeds and patients (one seed: over patients)."
        + ("" if intervals else " Intervals of the means are in the files."),
        f"Differences are from {table.baseline}, on the same patients; ▲ better, ▼ worse, after Holm's correction over "
        "attributes; no mark: no reliable difference.",
    ]
    if any(entry.metric == TEST_CHOSEN for entry in table.entries):
        found.append(
            "AUC, chosen on test: what choosing the epoch on the test pairs would report, as the released code "
            "does; all other columns use the epoch that validation chose."
        )
    if table.missing:
        found.append(f"{many(len(table.missing), 'run')} missing: {listed(table.missing, limit=5)}.")
    return found


def summary(table: ExperimentTable) -> list[str]:
    """What came out, zero-shot: a sentence for each model and attribute on ES-AUC, and one on AUC."""
    found = []
    for model, score, attribute, entries in table.blocks():
        if score != "zero-shot":
            continue
        by_metric: dict[str, dict[str, Entry]] = {}
        for entry in entries:
            if not entry.group:
                by_metric.setdefault(entry.metric, {})[entry.method] = entry
        of_es = by_metric.get("es_auc", {})
        better = [entry for entry in of_es.values() if entry.outcome == Outcome.BETTER.value]
        where = f" ({model})" if len({entry.model for entry in table.entries}) > 1 else ""
        if table.baseline not in of_es:
            continue
        if not better:
            found.append(f"No method is reliably better than {table.baseline} in ES-AUC by {attribute}{where}.")
            continue
        best = max(better, key=lambda entry: entry.mean or 0.0)
        found.append(_sentence(f"ES-AUC by {attribute}{where}", best, of_es[table.baseline]))
        if "auc" in by_metric:
            found.append(_sentence(f"AUC{where}", by_metric["auc"][best.method], by_metric["auc"][table.baseline]))
    return list(dict.fromkeys(found))


def _sentence(what: str, entry: Entry, baseline: Entry) -> str:
    said = outcome_words(Outcome(entry.outcome), entry.method)
    reach = f": {points_span(entry.difference_low, entry.difference_high)}" if entry.difference_low is not None else ""
    values = f"{number(entry.mean)} with {entry.method} and {number(baseline.mean)} with {baseline.method}"
    return f"{what} is {values} ({said}{reach})."


def write_formats(table: ExperimentTable, folder: Path) -> list[Path]:
    """Write the table as CSV (one row a number), LaTeX and HTML; returns the three paths."""
    csv, tex, html = (folder / name for name in NAMES)
    with safeio.storing(folder):
        write_csv(table.frame(), csv)
        safeio.write_text(tex, latex(table))
        safeio.write_text(html, html_page(table))
    return [csv, tex, html]


def latex(table: ExperimentTable) -> str:
    """A table environment for each block (booktabs), with values; differences from the baseline are marked."""
    parts = []
    for model, score, attribute, entries in table.blocks():
        frame = wide(entries)
        lines = [
            r"\begin{table}",
            rf"\caption{{{_tex(heading(model, score, attribute, entries))}}}",
            rf"\begin{{tabular}}{{l{'r' * frame.shape[1]}}}",
            r"\toprule",
            " & ".join(map(_tex, ["method", *frame.columns])) + r" \\",
            r"\midrule",
        ]
        for method, row in frame.iterrows():
            lines.append(" & ".join(map(_tex, [str(method), *row])) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    head = [table.title or table.name, table.data, *notes(table), "Needs the packages booktabs and amssymb."]
    return "\n".join(f"% {line}" for line in head) + "\n\n" + "\n\n".join(parts) + "\n"


def _tex(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def html_page(table: ExperimentTable) -> str:
    """One page without scripts that needs no other file."""
    parts = []
    for model, score, attribute, entries in table.blocks():
        head = heading(model, score, attribute, entries)
        parts.append(_html(wide(entries), head))
        if not (change := changes(entries)).empty:
            parts.append(_html(change, f"{head}: difference from {table.baseline}"))
    said = "".join(f"<p>{escape(note)}</p>" for note in notes(table))
    title = escape(table.title or table.name)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(table.data)}</p>{said}{''.join(parts)}</html>\n"
    )


def _html(frame: pd.DataFrame, caption: str) -> str:
    text = frame.reset_index().to_html(index=False, border=0, escape=True)
    return text.replace(">", f"><caption>{escape(caption)}</caption>", 1)
