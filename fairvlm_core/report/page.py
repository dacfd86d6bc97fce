"""A report's content as one HTML file: no script, no reference to anything outside itself, everything escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..words import NOTHING, count, number, p_value, percent, setting, span, utc_time
from .svg import Dot, Line, dot_chart, line_chart

_SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


def render_html(content: Mapping[str, Any]) -> str:
    """The HTML of what `build_content` gave; every figure in it is one of the content's.

    Names, ids and notes are escaped. A content security policy inside the file forbids scripts and requests, whatever a
    browser would make of the text.
    """
    loader = PackageLoader("fairvlm_core.report", "templates")
    world = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters |= {
        "figure": number,
        "percent": partial(percent, digits=1),
        "p": p_value,
        "count": count,
        "moment": utc_time,
        "value": setting,
        "reach": span,
    }
    return world.get_template("report.html").render(
        report=content, splits=_SPLITS, charts=_charts(content), nothing=NOTHING
    )


def _charts(content: Mapping[str, Any]) -> dict[str, Any]:
    attributes = content["results"]["attributes"]
    return {
        "loss": _loss_chart(content["training"]["epochs"]),
        "divergence": _divergence_chart(content["divergence"]),
        "es_auc": _es_auc_chart(attributes),
        "groups": [(facts["attribute"], _group_chart(facts)) for facts in attributes],
        "roc": [(facts["attribute"], _roc_chart(facts)) for facts in content["roc"]],
    }


def _loss_chart(epochs: Sequence[Mapping[str, Any]]) -> Markup:
    lines = []
    for key, name in (("train_loss", "training"), ("val_loss", "validation")):
        known = [(line["epoch"], line[key]) for line in epochs if line[key] is not None]
        if known:
            lines.append(Line(name, *zip(*known, strict=True)))
    return _drawn(lines, title="Mean loss by epoch, training and validation", x_title="Epoch", y_title="Mean loss")


def _divergence_chart(divergence: Sequence[Mapping[str, Any]]) -> Markup:
    lines = [
        Line(one["attribute"], [p["epoch"] for p in one["points"]], [p["value"] for p in one["points"]])
        for one in divergence
    ]
    title = "Sinkhorn divergence of the loss by epoch, mean over the groups of each attribute"
    return _drawn(lines, title=title, x_title="Epoch", y_title="Divergence (loss²)")


def _drawn(lines: Sequence[Line], **how: Any) -> Markup:
    return _svg(line_chart(lines, **how) if lines else "")


def _svg(chart: str) -> Markup:
    """A chart for the template to take as it is: every text in it was escaped when it was drawn (svg.py)."""
    return Markup(chart)  # nosec B704


def _es_auc_chart(attributes: Sequence[Mapping[str, Any]]) -> Markup:
    dots = [
        Dot(
            a["attribute"],
            a["es_auc"],
            a["low"],
            a["high"],
            a["chance"],
            "undefined: fewer than two groups have an AUC",
        )
        for a in attributes
    ]
    title = "Test ES-AUC by attribute with 95 % interval; the upright mark is the level by chance"
    return _svg(dot_chart(dots, title=title, x_title="Test ES-AUC") if dots else "")


def _group_chart(facts: Mapping[str, Any]) -> Markup:
    if all(row["hidden"] for row in facts["groups"]):
        return _svg("")
    dots = []
    for place, row in enumerate(facts["groups"]):
        if row["hidden"]:
            dots.append(Dot(row["group"], note="hidden, see the table", place=place))
        else:
            name = f"{row['group']} (n = {row['n']:,})"
            dots.append(
                Dot(name, row["auc"], row["low"], row["high"], note=f"undefined: {row['undefined']}", place=place)
            )
    title = f"Test AUC by {facts['attribute']} with 95 % interval"
    return _svg(dot_chart(dots, title=title, x_title="Test AUC"))


def _roc_chart(facts: Mapping[str, Any]) -> Markup:
    lines = [Line(one["group"], facts["false_positive_rate"], one["true_positive_rate"]) for one in facts["groups"]]
    return _drawn(
        lines, title=f"ROC curves of the test split by {facts['attribute']}", x_title="False positive rate",
        y_title="True positive rate", y_range=(0.0, 1.0), diagonal=True, x_whole=False,
    )  # fmt: skip
