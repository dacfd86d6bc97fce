"""Parts of the Fine-tune page: the form, the cost, and the launch."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from fairvlm_core import jobs
from fairvlm_core.analysis.without_effect import without_effect
from fairvlm_core.config import BUILT_IN, RunConfig, choose_model
from fairvlm_core.errors import InputError
from fairvlm_core.jobs import StepTime
from fairvlm_core.jobs.plan import changed_from_preset
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import Run, RunStore
from fairvlm_core.words import NOTHING, duration, many

from . import finetune, widgets
from .datasets import DataSet
from .entries import Headline
from .finetune import Knob
from .frame import Here, errors
from .server import is_serving
from .words import literal

_START = "robustfair"
_FORM, _STEPS, _PRESET, _MODEL = "finetune.form", "finetune.steps", "finetune.preset", "finetune.model"
_CHOSEN = "finetune.model.chosen"  # for the data set shown last
_MEASURE_SECONDS = 300
_FIRST_PAINT = 3.0
_GROUPS = {
    "mining": ("Mining: which pairs are flagged", ":material/troubleshoot:"),
    "fairness": ("Fairness: what is kept equal, and how", ":material/balance:"),
    "groups": ("Groups: how much each of them counts", ":material/groups:"),
    "advanced": ("Advanced: optimiser, device, selection", ":material/settings:"),
}
_CARDS = """<style>
.st-key-finetune-preset [role="radiogroup"] {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 0.6rem;
}
.st-key-finetune-preset [role="radiogroup"] > * {
  border: 1px solid rgba(128, 136, 148, 0.35); border-radius: 6px; padding: 0.5rem 0.6rem; margin: 0;
  align-items: flex-start; height: 100%;
}
.st-key-finetune-preset [role="radiogroup"] > *:has(input:checked) {border: 2px solid var(--st-primary-color, #2E7DA6);}
.st-key-finetune-preset [role="radiogroup"] > * p:first-child {font-weight: 600;}
.st-key-finetune-preset [role="radiogroup"] [data-testid="stCaptionContainer"] p {font-weight: 400;}
</style>"""
ABOUT_FORM = (
    "A **preset** is a method: how bad pairs are mined, which fairness term is added, and how groups count. Choosing a "
    "preset changes the settings of the method and leaves the others. Every setting can be changed; the differences from "
    "the preset are stored with the run. Several seeds or several λ make one run each.",
    r"\text{loss} = \operatorname{mean}_i\, w_i \ell_i + \lambda \sum_{\text{attributes}} \operatorname{mean}_g\, "
    r"S_\varepsilon(P_g, P)",
)


def form(here: Here, data: DataSet, launched: Callable[[Run], None]) -> None:
    """Everything that a launch needs; a change of a setting redraws only this part."""
    table = data.table()
    _warm_up(here.store)

    @st.fragment
    def drawn() -> None:
        with errors():
            typed, preset, wrong = _typed(table)
            if wrong:
                st.markdown(":material/error: Correct the marked field; then the cost and *Launch* appear here.")
            else:
                _launch(here, data, table, preset, typed, launched)

    drawn()


def _typed(table: PairTable) -> tuple[dict[str, Any], str, bool]:
    """The values of the form, which stay when another page is opened; its preset; whether a field is marked as wrong."""
    state = st.session_state
    model = choose_model(table)
    state.setdefault(_FORM, finetune.shown(finetune.usual(_START, model)) | {"model": model})
    state.setdefault(_PRESET, state.get(f"{_PRESET}.kept", _START))
    if state[_FORM]["model"] == state.get(_CHOSEN) != model:  # other data; a model that the user typed is kept
        _set(finetune.with_model(state[_PRESET], state[_FORM], model))
    state[_CHOSEN] = model
    kept = state[_FORM]
    widgets.section("Method", *ABOUT_FORM)
    st.html(_CARDS)
    with st.container(horizontal=True, horizontal_alignment="right"):
        every = st.toggle("Also methods for comparison", key="finetune.every", persist_state="page")
    names = finetune.preset_order(every, state[_PRESET])
    captions = [literal(finetune.preset_line(name)) for name in names]
    preset = st.radio(
        "Preset", names, captions=captions, key=_PRESET, on_change=_preset_chosen, label_visibility="collapsed"
    )
    state[f"{_PRESET}.kept"] = preset
    knobs = finetune.knobs()
    wrong = finetune.problems(preset, {k.name: state.get(f"finetune.{k.name}", kept[k.name]) for k in knobs})
    _grid([knob for knob in knobs if knob.group == "essential"], kept, table, wrong)
    if kept["model"] == model:
        st.caption(f"Model {model} for this data: {finetune.MODEL_WHY[model]}.")
    else:
        st.caption(f"For this data, the model {model} is usual: {finetune.MODEL_WHY[model]}.")
    for group, (title, icon) in _GROUPS.items():
        within = [knob for knob in knobs if knob.group == group]
        with st.expander(title, icon=icon, expanded=any(knob.name in wrong for knob in within)):
            _grid(within, kept, table, wrong)
    return dict(kept), preset, bool(wrong)


def _grid(
    knobs: Sequence[Knob], kept: dict[str, Any], table: PairTable, wrong: dict[str, str], width: int = 4
) -> None:  # fmt: skip
    for start in range(0, len(knobs), width):
        for column, knob in zip(st.columns(width), knobs[start : start + width], strict=False):
            with column:
                kept[knob.name] = _widget(knob, kept[knob.name], table)
                if knob.name in wrong:
                    st.error(literal(wrong[knob.name]))


def _widget(knob: Knob, value: Any, table: PairTable) -> Any:
    key = f"finetune.{knob.name}"
    if knob.kind == "names":
        value = [name for name in value if name in table.attributes]
        st.session_state[key] = [n for n in st.session_state.get(key, value) if n in table.attributes]
    elif key not in st.session_state:
        st.session_state[key] = value
    asked = {"key": key, "help": literal(knob.help)}
    if knob.kind == "switch":
        return st.toggle(knob.label, **asked)
    if knob.kind == "choice":
        return st.selectbox(knob.label, knob.options, **asked)
    if knob.kind == "whole":
        return st.number_input(knob.label, min_value=knob.low, max_value=knob.high, step=1, **asked)
    if knob.kind == "names":
        return st.multiselect(knob.label, table.attributes, placeholder="all", **asked)
    return st.text_input(knob.label, on_change=_model_typed if key == _MODEL else None, **asked)


def _set(values: dict[str, Any]) -> None:
    st.session_state[_FORM] = st.session_state.get(_FORM, {}) | values
    for name, value in values.items():
        st.session_state[f"finetune.{name}"] = value


def _model_typed() -> None:
    state = st.session_state
    _set(finetune.with_model(state[_PRESET], state[_FORM], state[_MODEL]))


def _preset_chosen() -> None:
    values = finetune.shown(finetune.usual(st.session_state[_PRESET], st.session_state[_MODEL]))
    _set({name: value for name, value in values.items() if name in finetune.method_settings()})


def fill_from(run: Run) -> None:
    """Put the settings of a run into the form, and show it."""
    try:
        config = run.config
    except InputError as error:
        st.session_state["finetune.failed"] = str(error)
        return
    st.session_state[_PRESET] = st.session_state[f"{_PRESET}.kept"] = config.preset
    _set(finetune.shown(config))
    st.session_state.pop(_CHOSEN, None)
    st.session_state["finetune.view"] = "Set up"


def _launch(
    here: Here, data: DataSet, table: PairTable, preset: str, typed: dict[str, Any], launched: Callable[[Run], None]
) -> None:
    widgets.section("What it will cost")
    try:
        configs = finetune.plan(preset, typed)
        _check_attributes(configs[0], table)
    except InputError as error:
        st.error(literal(error), icon=":material/error:")
        return
    step = _known_step(here.store, data, configs[0])
    cost = jobs.estimate(configs, table.sizes, step)
    about = NOTHING if cost.seconds is None else f"about {duration(cost.seconds)}"
    epochs, runs = configs[0].epochs, len(configs)
    each = f"{cost.pairs // (epochs * runs):,} × {many(epochs, 'epoch')} × {many(runs, 'run')}"
    widgets.cards(
        [
            Headline("Runs", f"{runs:,}", f"{many(len({c.seed for c in configs}), 'seed')} × {_lambdas(configs)}"),
            Headline("Training pairs", f"{cost.pairs:,}", each),
            Headline("Estimated time", about, "one run after the other" if runs > 1 else "on this machine"),
        ]
    )  # fmt: skip
    words = st.empty()  # filled last, since it loads the model
    every = [without_effect(config, table.attributes) for config in configs]
    if idle := [one for one in every[0] if all(one in found for found in every)]:
        st.warning(literal(" ".join(f"{one}." for one in idle)), icon=":material/info:")
    changed = changed_from_preset(configs[0])
    st.caption(
        literal(finetune.cost_line(cost, step))
        + (
            f" Changed from the preset: {literal(', '.join(f'{n} = {v}' for n, v in changed.items()))}."
            if changed
            else ""
        )
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        label = "Launch" if runs == 1 else f"Launch {runs} runs"
        if st.button(label, type="primary", icon=":material/rocket_launch:", key="finetune.launch"):
            with st.spinner("Launching …"):
                first = launch_all(here.store, table, configs, dict(data.options))
            launched(first)
            st.rerun()
        if step is None and st.button("Measure a step", icon=":material/timer:", key="finetune.measure"):
            with st.spinner("Training a few steps …"):
                st.session_state.setdefault(_STEPS, {})[_step_key(data, configs[0])] = measured(data, configs[0])
            st.rerun(scope="fragment")
    if configs[0].model in BUILT_IN and (found := _vocabulary(configs[0].model, table.fingerprint, table)):
        words.warning(literal(" ".join(f"{one[:1].upper()}{one[1:]}." for one in found)), icon=":material/dictionary:")


@st.cache_data(max_entries=32, show_spinner=False)
def _vocabulary(model: str, fingerprint: str, _table: PairTable) -> list[str]:  # noqa: ARG001
    """What the model does not know of the notes."""
    from fairvlm_core.analysis.vocabulary import vocabulary_warnings
    from fairvlm_core.models import load_clip

    return [str(one) for one in vocabulary_warnings(_table, load_clip(model))]


def _lambdas(configs: Sequence[RunConfig]) -> str:
    weights = list(dict.fromkeys(config.fairness.weight for config in configs))
    return f"λ = {weights[0]:g}" if len(weights) == 1 else f"{len(weights)} values of λ"


def _check_attributes(config: RunConfig, table: PairTable) -> None:
    for name in (*config.fairness.attributes, *config.fairness.attribute_weights):
        if name not in table.attributes:
            raise InputError(
                f"attribute {name!r} is not in the data; there are {', '.join(table.attributes) or 'none'}"
            )


def launch_all(store: RunStore, table: PairTable, configs: Sequence[RunConfig], read_options: dict[str, Any]) -> Run:
    """Register a run for each configuration, put all into the queue, and give the first."""
    from fairvlm_core.launch import create_run

    runs = [create_run(table, config, store, read_options=read_options) for config in configs]
    jobs.launch(store, runs)
    return runs[0]


def _step_key(data: DataSet, config: RunConfig) -> tuple[Any, ...]:
    return (
        data.folder,
        config.model,
        config.trainable,
        config.batch_size,
        config.device,
        config.precision,
        config.preset,
    )


def _known_step(store: RunStore, data: DataSet, config: RunConfig) -> StepTime | None:
    here = st.session_state.get(_STEPS, {}).get(_step_key(data, config))
    return here or jobs.known_step(store, config)


def measured(data: DataSet, config: RunConfig) -> StepTime:
    """A step measured in another process: the page's server does not import torch.

    Raises
    ------
    InputError
        The configuration cannot be trained on this data, or the measurement took too long.
    """
    command = [sys.executable, "-m", "fairvlm_core", "cost", data.folder, "--preset", config.preset, "--json"]
    command += ["--set", f"model={config.model}"]
    for name, value in changed_from_preset(config).items():
        command += ["--set", f"{name}={','.join(value) if isinstance(value, list) else value}"]
    options = dict(data.options)
    for name in ("description", "images"):
        command += [f"--{name}", str(options[name])] if options.get(name) else []
    command += ["--allow-shared-patients"] if options.get("allow_shared_patients") else []
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MEASURE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"measuring a step took longer than {_MEASURE_SECONDS} s: lower batch_size") from None
    if done.returncode != 0:
        raise InputError(f"no step could be measured: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found = json.loads(done.stdout)
    return StepTime(*(float(found[f"{name}_seconds"]) for name in ("step", "between", "once")))


def _warm_up(store: RunStore) -> None:
    """Prepare a launch while the user reads the form; it takes seconds."""
    if is_serving():
        timer = threading.Timer(_FIRST_PAINT, _make_ready, (store,))
        timer.daemon = True
        timer.start()


def _make_ready(store: RunStore) -> None:
    with contextlib.suppress(InputError):  # a launch will report it
        jobs.stand_by(store, jobs.device_of(RunConfig()))
    importlib.import_module("fairvlm_core.launch")
