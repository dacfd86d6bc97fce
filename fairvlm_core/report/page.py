"""A report's content as one HTML file: no scripts, no references to other files, everything escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..cells import UNKNOWN
from ..words import count, number, p_value, percent, setting, span, utc_time
from .svg import UNKNOWN_PLACE, Dot, Line, dot_chart, line_chart

_KINDS = {"faulty": "wrong note", "noisy": "shared marker"}
_SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


def render_html(content: Mapping[str, Any]) -> str:
    """The content from `build_content` as HTML; nothing is computed here.

    Names, ids and notes are escaped. A content security policy inside the file forbids scripts and requests in any case.
    """
    loader = PackageLoader("fairvlm_core.report", "templates")
    world = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters |= {
        "number": number,
        "percent": partial(percent, digits=1),
        "p": p_value,
        "count": count,
        "moment": utc_time,
        "value": setting,
        "span": span,
    }
    return world.get_template("report.html").render(
        report=content, splits=_SPLITS, kinds=_KINDS, charts=_charts(content)
    )


def _charts(content: Mapping[str, Any]) -> dict[str, Any]:
    attributes = content["results"]["attributes"]
    epochs = content["training"]["epochs"]
    losses = []
    for key, name in (("train_loss", "training"), ("val_loss", "validation")):
        known = [(line["epoch"], line[key]) for line in epochs if line[key] is not None]
        if known:
            epoch, loss = zip(*known, strict=True)
            losses.append(Line(name, epoch, loss))
    divergences = [
        Line(one["attribute"], [p["epoch"] for p in one["points"]], [p["distance"] for p in one["points"]])
        for one in content["divergence"]
    ]
    undefined = "undefined: fewer than two groups have an AUC"
    es_auc = [Dot(a["attribute"], a["es_auc"], a["low"], a["high"], a["chance"], undefined) for a in attributes]
    return {
        "tradeoff": line_chart(
            _tradeoff(content["comparison"]), title="From the baseline to this method: AUC of everyone and ES-AUC",
            x_title="Test AUC of everyone", y_title="Test ES-AUC", x_whole=False, end_mark=True,
        ),
        "loss": line_chart(
            losses, title="Mean loss by epoch, training and validation", x_title="Epoch", y_title="Mean loss"
        ),
        "divergence": line_chart(
            divergences, title="Sinkhorn divergence of the loss above chance by epoch, mean over each attribute's groups",
            x_title="Epoch", y_title="Above chance (loss²)",
        ),
        "es_auc": dot_chart(
            es_auc, title="Test ES-AUC by attribute with 95 % interval; the vertical mark is the chance level",
            x_title="Test ES-AUC",
        ),
        "groups": [(facts["attribute"], _group_chart(facts)) for facts in attributes],
        "roc": [(facts["attribute"], _roc_chart(facts)) for facts in content["roc"]],
    }  # fmt: skip


def _tradeoff(comparison: Mapping[str, Any] | None) -> list[Line]:
    """For each attribute, AUC and ES-AUC of the baseline and of this method."""
    if comparison is None:
        return []
    auc, *others = (row for row in comparison["rows"] if not row["group"])
    ends = ("baseline", "run")
    known = [row for row in others if None not in [one[end] for one in (auc, row) for end in ends]]
    return [Line(row["attribute"], [auc[end] for end in ends], [row[end] for end in ends]) for row in known]


def _group_chart(facts: Mapping[str, Any]) -> Markup:
    if all(row["hidden"] for row in facts["groups"]):
        return Markup()
    dots = []
    for i, row in enumerate(facts["groups"]):
        place = UNKNOWN_PLACE if row["group"] == UNKNOWN else i
        if row["hidden"]:
            dots.append(Dot(row["group"], note="hidden, see the table", place=place))
        else:
            name, note = f"{row['group']} (n = {row['n']:,})", f"undefined: {row['undefined']}"
            dots.append(Dot(name, row["auc"], row["low"], row["high"], note=note, place=place))
    return dot_chart(dots, title=f"Test AUC by {facts['attribute']} with 95 % interval", x_title="Test AUC")


def _roc_chart(facts: Mapping[str, Any]) -> Markup:
    lines = [
        Line(
            one["group"], facts["false_positive_rate"], one["true_positive_rate"],
            UNKNOWN_PLACE if one["group"] == UNKNOWN else place,
        )
        for place, one in enumerate(facts["groups"])
    ]  # fmt: skip
    return line_chart(
        lines, title=f"ROC curves of the test pairs by {facts['attribute']}", x_title="False positive rate",
        y_title="True positive rate", y_range=(0.0, 1.0), diagonal=True, x_whole=False,
    )  # fmt: skip
