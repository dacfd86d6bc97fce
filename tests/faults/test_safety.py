"""What the code may never do: unpickle, run text as code or markup, load a checkpoint that is more than tensors."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fairvlm_core import safeio
from fairvlm_core.errors import InputError
from fairvlm_core.launch import latest_state
from fairvlm_core.models import load_clip, tiny_folder
from fairvlm_core.runs import Run

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    ROOT / "app.py",
    *(path for folder in ("fairvlm_core", "ui", "pages", "benchmarks", "examples") for path in
      sorted((ROOT / folder).rglob("*.py"))),
]  # fmt: skip
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "jsonpickle"}
UNSAFE_CALLS = {"eval", "exec", "read_pickle", "to_pickle", "system", "popen"}
# Processes that draw the built-in data or train an experiment get their work from their own parent, never from a file.
OWN_PIPES = {"fairvlm_core/synth/drawing.py", "fairvlm_core/experiment/work.py"}
WANTED = {  # a call by its last name: the keyword it needs, and that keyword's value
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "open_clip.create_model": ("weights_only", True),
    "open_clip.load_checkpoint": ("weights_only", True),
}
FORBIDDEN_KEYWORDS = {
    ("unsafe_allow_html", True),
    ("unsafe_allow_javascript", True),
    ("shell", True),
    ("allow_pickle", True),
    ("weights_only", False),
    ("trust_remote_code", True),
}


def findings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                if name.split(".")[0] in UNSAFE_MODULES:
                    yield f"line {node.lineno}: imports {name}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
        builtin = isinstance(node.func, ast.Name) or called.startswith(("os.", "pd.", "pandas."))
        if builtin and called.split(".")[-1] in UNSAFE_CALLS:
            yield f"line {node.lineno}: calls {called}"
        if called in WANTED and keywords.get(WANTED[called][0], ...) is not WANTED[called][1]:
            yield f"line {node.lineno}: {called} without {WANTED[called][0]}={WANTED[called][1]}"
        for name, value in keywords.items():
            if (name, value) in FORBIDDEN_KEYWORDS:
                yield f"line {node.lineno}: {called} with {name}={value}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_fault_25_no_source_unpickles_or_runs_foreign_text(path):
    found = list(findings(path.read_text(encoding="utf-8")))
    if path.relative_to(ROOT).as_posix() in OWN_PIPES:
        assert [line.split(": ")[1] for line in found] == ["imports joblib"]
    else:
        assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "st.markdown(note, unsafe_allow_html=True)",
        "open_clip.create_model(name)",
    ],
)
def test_fault_25_the_search_for_unsafe_calls_finds_them(line):
    assert len(list(findings(line))) >= 1


class Payload:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["FAIRVLM_TEST_TRACE"],)


@pytest.fixture
def trace(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FAIRVLM_TEST_TRACE", str(tmp_path / "unpickled"))
    return tmp_path / "unpickled"


@pytest.mark.parametrize("content", ["torch", "pickle"])
def test_fault_25_a_malicious_state_is_not_resumed_from_and_does_not_run(trace, tmp_path, content):
    run = Run(tmp_path / "0001-clip-s0")
    with safeio.new_folder(run.path / "resume" / "0001") as folder:
        if content == "torch":
            torch.save({"epoch": 1, "model": Payload()}, folder / "state.pt", pickle_module=pickle)
        else:
            (folder / "state.pt").write_bytes(pickle.dumps(Payload()))
    assert safeio.check_folder(run.path / "resume" / "0001") is None, "its manifest is right: only the content is not"
    assert latest_state(run) is None
    assert not trace.exists()
    assert "state 0001 is not used: it is no state of a run" in (run.path / "log.txt").read_text()


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "other.bin", "open_clip_model.pt", "model.pth"])
def test_fault_25_a_malicious_model_folder_is_refused_and_does_not_run(trace, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(), folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    torch.save({"state_dict": Payload()}, folder / name, pickle_module=pickle)
    with pytest.raises(InputError, match=r"model folder 'model' (cannot be loaded|has no weights)") as error:
        load_clip(str(folder))
    assert "\n" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "safetensors", "npz"])
def test_fault_25_malicious_weights_are_refused_and_do_not_run(trace, tmp_path, ending):
    weights = tmp_path / f"weights.{ending}"
    weights.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(InputError, match=rf"weights 'weights\.{ending}' do not load") as error:
        load_clip(f"tiny@{weights}")
    assert "\n" not in str(error.value)
    assert not trace.exists()


def test_fault_25_the_trace_works(trace):
    """Without this the tests above could pass because the payload does nothing."""
    pickle.loads(pickle.dumps(Payload()))
    assert trace.is_dir()


def test_fault_25_a_model_configuration_of_any_content_is_one_line(tmp_path):
    for content in ("", "[]", "{}", json.dumps({"model_cfg": {"embed_dim": -1}}), "[" * 5000, '{"model_cfg": null}'):
        folder = tmp_path / f"m{abs(hash(content))}"
        folder.mkdir()
        (folder / "open_clip_config.json").write_text(content)
        with pytest.raises(InputError) as error:
            load_clip(str(folder))
        assert "\n" not in str(error.value)
