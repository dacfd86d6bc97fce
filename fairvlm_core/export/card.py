"""A model card in Markdown, made from the run's report, small cells hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..words import SPLITS, count, number, p_value, percent, setting, span

_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~$<>&])")
_HIDDEN = {"small": "hidden: few people", "withheld": "hidden to protect a small group"}


def model_card(content: Mapping[str, Any], remarks: Sequence[str] = ()) -> str:
    """The card of a finished run.

    Parameters
    ----------
    content
        As from `report.build_content`; nothing is computed here.
    remarks
        What a user of the exported model must know.
    """
    data, results, configuration = content["data"], content["results"], content["configuration"]
    blocks = [
        f"# {_text(content['title'])}",
        f"A model fine-tuned from {_code(configuration['model'])} by the preset {_code(configuration['preset'])} "
        f"({_text(configuration['summary'])}), seed {configuration['seed']}.",
        "## Intended use",
        _text(content["intended_use"]),
        "## Test results",
        _overall(results),
        _table(("attribute", "ES-AUC", "95 % interval", "by chance", "p (Holm)", "DPD", "DEOdds"), _summary(results)),
        _table(("attribute", "group", "n", "positive", "AUC", "95 % interval"), _groups(results)),
        *(["\\* partial: a group has no AUC and is not in its ES-AUC."] if _partial(results) else []),
        "## Data",
        f"{_text(data['name'])}, fingerprint {_code(data['fingerprint'])}. Classes by prompt: "
        + " against ".join(_code(prompt) for prompt in data["prompts"])
        + ".",
        _table(
            ("split", "pairs", "patients", "positive", "rate"),
            (
                (
                    SPLITS[s["split"]],
                    *(count(s[key]) for key in ("n", "n_patients", "n_positive")),
                    percent(s["rate"], 1),
                )
                for s in data["splits"]
            ),
        ),
        _table(("attribute", "group", "split", "pairs", "patients", "positive"), _cohort(data["groups"])),
        *([_list(data["warnings"])] if data["warnings"] else []),
        "## Training",
        f"Epoch {setting(content['training']['selected_epoch'])} of {len(content['training']['epochs'])} was selected on "
        f"validation. {_mining(content['mining'])}",
        _table(
            ("setting", "value", "preset's"),
            (
                (_code(row["setting"]), _text(setting(row["value"])), _text(setting(row["preset"])))
                for row in configuration["changed"]
                if row["setting"] != "model"
            ),
        ),
        *(["## The exported model", _list(remarks)] if remarks else []),
        "## Limits",
        _list(content["limits"]),
        "## How to reproduce",
        "\n".join(f"    {line}" for line in content["reproduce"]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _overall(results: Mapping[str, Any]) -> str:
    all_ = results["overall"]
    interval = f", 95 % interval {span(all_['low'], all_['high'])}" if all_["low"] is not None else ", no interval"
    return (
        f"AUC {number(all_['auc'])}{interval}; n = {count(all_['n'])} pairs of {count(all_['n_patients'])} patients, "
        f"{count(all_['n_positive'])} positive. Zero-shot by the two prompts, on patients that were not trained on."
    )


def _summary(results: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for facts in results["attributes"]:
        star = "\\*" if facts["partial"] and facts["es_auc"] is not None else ""
        gaps = (number(facts[key]) for key in ("demographic_parity_difference", "equalized_odds_difference"))
        chance = (number(facts["chance"]), p_value(facts["p_holm"]))
        es_auc = number(facts["es_auc"]) + star
        yield _text(facts["attribute"]), es_auc, span(facts["low"], facts["high"]), *chance, *gaps


def _groups(results: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for facts in results["attributes"]:
        for row in facts["groups"]:
            name = (_text(facts["attribute"]), _text(row["group"]))
            if row["hidden"]:
                yield *name, _HIDDEN[row["hidden"]], "", "", ""
            else:
                auc = number(row["auc"]) if row["auc"] is not None else _text(setting(row["undefined"]))
                yield *name, count(row["n"]), count(row["n_positive"]), auc, span(row["low"], row["high"])


def _partial(results: Mapping[str, Any]) -> bool:
    return any(facts["partial"] and facts["es_auc"] is not None for facts in results["attributes"])


def _cohort(groups: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    for cell in groups:
        name = (_text(cell["attribute"]), _text(cell["group"]), SPLITS[cell["split"]])
        if cell["hidden"]:
            yield *name, _HIDDEN[cell["hidden"]], "", ""
        else:
            yield *name, count(cell["n"]), count(cell["n_patients"]), count(cell["n_positive"])


def _mining(mining: Mapping[str, Any]) -> str:
    use = "they were down-weighted" if mining["enabled"] else "none was down-weighted"
    return (
        f"Of {count(mining['n'])} training pairs {count(mining['faulty'])} are flagged as wrong notes and "
        f"{count(mining['noisy'])} as shared markers; {use}."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *lines]) if lines else ""


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"* {_text(line)}" for line in lines)


def _text(value: str) -> str:
    """Foreign text as one line of plain Markdown, without links, images, markup or table cells.

    >>> print(_text("<b>|A|</b>  [x](y)"))
    \\<b\\>\\|A\\|\\</b\\> \\[x\\]\\(y\\)
    """
    return _MARKS.sub(r"\\\1", " ".join(str(value).split()))


def _code(value: str) -> str:
    text = " ".join(str(value).split())
    return _text(text) if "`" in text or "|" in text else f"`{text}`"
