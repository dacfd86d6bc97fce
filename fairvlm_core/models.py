"""Image-text models: open_clip's, by name, from local weights, or the built-in `tiny` and `base`.

A :class:`Clip` holds a module with its own tokenizer and preprocessing. Weights are downloaded only if the name asks for
it; without a network such a name is refused.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from . import base_model, hf_models
from .config import BUILT_IN as BUILT_IN
from .config import choose_model as choose_model
from .errors import InputError
from .safeio import sha256

_LONGEST_WORD = 64
_CONFIG = "open_clip_config.json"
_STATE = "open_clip_model.safetensors"
_ADAPTER = "adapter/adapter.safetensors"  # in a subfolder, because open_clip loads any weights beside its configuration
_EXPECTED = re.compile(r"#sha256=([0-9a-f]{64})$")
_WEIGHTS = (".safetensors", ".bin", ".pth")  # what open_clip looks for in a folder
_SPECIAL = re.compile(r"<(start_of_text|end_of_text|\|startoftext\||\|endoftext\|)>", re.IGNORECASE)


class ResidualAdapter(nn.Module):
    """A small correction of both embeddings: x + up(gelu(down(x))), normalised. It starts as the identity.

    Parameters
    ----------
    dimension : int
        D of the shared embedding.
    width : int
        Of the bottleneck.
    seed : int
        Of the initial `down` weights; `up` starts at 0.
    """

    def __init__(self, dimension: int, width: int, seed: int = 0):
        super().__init__()
        self.width = width
        generator = torch.Generator().manual_seed(seed)
        for side in ("image", "text"):
            down = torch.randn(dimension, width, generator=generator) * dimension**-0.5
            setattr(self, f"{side}_down", nn.Parameter(down))
            setattr(self, f"{side}_up", nn.Parameter(torch.zeros(width, dimension)))

    def forward(self, features: Tensor, side: str) -> Tensor:
        """Unit-norm features (N, D) from unit-norm features (N, D); `side` is "image" or "text"."""
        down, up = getattr(self, f"{side}_down"), getattr(self, f"{side}_up")
        return F.normalize(features + F.gelu(features @ down) @ up, dim=-1)


@dataclass(frozen=True)
class Clip:
    """A model with its tokenizer and preprocessing.

    Attributes
    ----------
    name : str
        As given to `load_clip`.
    module : nn.Module
        An open_clip model (`encode_image`, `encode_text`, `logit_scale`).
    tokenizer : callable
        From a list of N notes to int64 (N, context_length).
    preprocess : dict
        open_clip's preprocessing of this model: size, mean, std, interpolation, resize_mode.
    config : dict
        `model_cfg` and `preprocess_cfg`, as in `open_clip_config.json` of a saved model.
    vocabulary : Path, optional
        A file that the tokenizer needs and `save` copies.
    """

    name: str
    module: Any
    tokenizer: Any
    preprocess: dict[str, Any]
    config: dict[str, Any]
    vocabulary: Path | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of input images in pixels."""
        size = self.preprocess["size"]
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of a note, start and end included."""
        return int(
            self.config["model_cfg"]["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        )

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalised float input on the model's device, from uint8 images (N, 3, H, W)."""
        mean = torch.tensor(self.preprocess["mean"], device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(self.preprocess["std"], device=self.device).view(1, 3, 1, 1)
        return (pixels.to(self.device, non_blocking=True).float() / 255 - mean) / std

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit-norm features (N, D) of uint8 images (N, 3, H, W)."""
        return self._unit(self.raw_images(pixels), "image")

    def encode_notes(self, tokens: Tensor) -> Tensor:
        """Unit-norm features (N, D) of tokens (N, context_length)."""
        return self._unit(self.raw_notes(tokens), "text")

    def _unit(self, features: Tensor, side: str) -> Tensor:
        features = F.normalize(features, dim=-1)
        return features if self.adapter is None else self.adapter(features, side)

    def raw_images(self, pixels: Tensor) -> Tensor:
        """Output of the image tower (N, D), not normalised."""
        return _features(self.module.encode_image(self.normalise(pixels), normalize=False))

    def raw_notes(self, tokens: Tensor) -> Tensor:
        """Output of the text tower (N, D), not normalised."""
        return _features(self.module.encode_text(tokens.to(self.device, torch.long), normalize=False))

    @property
    def adapter(self) -> ResidualAdapter | None:
        """The correction on top of both towers, if the model has one."""
        return getattr(self.module, "fairvlm_adapter", None)

    @property
    def scale(self) -> Tensor:
        return self.module.logit_scale.exp()

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.module, "logit_bias", None)

    def tokens(self, notes: Sequence[str]) -> tuple[Tensor, np.ndarray]:
        """Tokens int32 (N, context_length), and whether each note was cut, bool (N,).

        Special tokens in a note are read as plain words. Very long words are split, because the time of byte-pair encoding
        is quadratic in the length of a word.
        """
        pieces = [self._words(note) for note in notes]
        clean, cut = [text for text, _ in pieces], np.array([was_cut for _, was_cut in pieces], bool)
        tokens = torch.empty(len(clean), self.context_length, dtype=torch.int32)
        for start in range(0, len(clean), 4096):
            tokens[start : start + 4096] = self.tokenizer(clean[start : start + 4096])
        full = np.flatnonzero((tokens[:, -1] != 0).numpy())
        if len(full):  # exactly full, or cut: one token more tells
            longer = self._lengths([clean[i] for i in full], self.context_length + 1)
            cut[full] |= longer > self.context_length
        return tokens, cut

    def token_lengths(self, notes: list[str]) -> np.ndarray:
        """Number of tokens of each note, start and end included, int (N,); at most 16 times the context length."""
        lengths = []
        for start in range(0, len(notes), 256):
            part = [self._words(note)[0] for note in notes[start : start + 256]]
            lengths.append(self._lengths(part, 16 * self.context_length))
        return np.concatenate(lengths) if lengths else np.zeros(0, int)

    def _lengths(self, texts: list[str], limit: int) -> np.ndarray:
        """Number of tokens of each text, at most `limit`. Tokenizers of the hub may pad with another value than 0."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            return (self.tokenizer(texts, context_length=limit) != 0).sum(1).numpy()
        texts = [self.tokenizer.clean_fn(text) for text in texts]
        ids = inner(texts, truncation=True, max_length=limit, padding=False)["input_ids"]
        return np.array([len(one) for one in ids], int)

    def _words(self, note: str) -> tuple[str, bool]:
        """The note without special tokens and long words, and whether its end was left out."""
        limit, used, words, cut = 16 * self.context_length, 0, [], False
        for word in _SPECIAL.sub(r"\1", note).split():
            words += [word[k : k + _LONGEST_WORD] for k in range(0, min(len(word), limit), _LONGEST_WORD)]
            used += len(word) + 1
            if used > limit:
                cut = True
                break
        return " ".join(words), cut

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB image as uint8 input (3, H, W): resized and cropped by open_clip, not normalised."""
        for step in image_transform_v2(PreprocessCfg(**self.preprocess), is_train=False).transforms:
            if type(step).__name__ not in ("MaybeToTensor", "ToTensor", "Normalize"):
                image = step(image)
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))

    def save(self, folder: Path) -> None:
        """Write a folder that `load_clip` and open_clip's ``local-dir:`` scheme load; for BLIP-2, one for transformers.

        Of `base` only what differs from the installed weights is written, for `load_clip` alone. A residual adapter,
        which neither open_clip nor transformers knows, is written to `adapter/`.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if self.vocabulary is not None and not (folder / self.vocabulary.name).exists():
            (folder / self.vocabulary.name).write_bytes(self.vocabulary.read_bytes())
        with _system_errors():
            if isinstance(self.module, hf_models.Blip2Towers):
                hf_models.save_blip2(self.module, self.tokenizer, self.context_length, self.preprocess, folder)
            else:
                (folder / _CONFIG).write_text(json.dumps(self.config, indent=2))
                hf_models.save_text_side(self.module, self.tokenizer, folder)
                of_base = isinstance(self.module, base_model.BaseTowers)
                state = base_model.changed(self.module) if of_base else hf_models.stored(self.module)
                state = {name: value for name, value in state.items() if not name.startswith(hf_models.ADAPTER)}
                save_file(state, folder / _STATE)
            if self.adapter is not None:
                (folder / _ADAPTER).parent.mkdir(exist_ok=True)
                save_file(hf_models.stored(self.adapter), folder / _ADAPTER)


def load_clip(name: str = "tiny", *, device: str | torch.device = "cpu", seed: int = 0) -> Clip:
    """Load a model by name.

    Parameters
    ----------
    name : str
        ``tiny`` · ``base`` (base_model.py) · an open_clip architecture ``NAME`` (with its first published weights),
        ``NAME:TAG``, ``NAME:random`` or
        ``NAME@FILE`` (local .safetensors, or .pt/.pth/.bin read without pickle) · ``NAME:TAG@FILE`` where the weights
        published for NAME differ in their preprocessing · ``…@FILE#sha256=HEX`` to check the file first ·
        ``hf-hub:ORG/NAME`` · a folder with ``open_clip_config.json``, such as a run's checkpoint · a folder of BLIP-2 as
        transformers writes it (see hf_models.py).
    seed : int
        For ``NAME:random``.

    Raises
    ------
    InputError
        The name is unknown, the weights do not fit or have another hash, the file is not safe to read, or a hub name is
        given without a network.
    """
    architecture, weights, expected = _parts(name)
    if expected and (arrived := sha256(Path(weights).expanduser())) != expected[1]:
        raise InputError(
            f"weights {Path(weights).name!r} have SHA-256 {arrived[:12]}…, not {expected[1][:12]}… as expected: copy the "
            "file again"
        )
    folder = Path(name).expanduser()
    if architecture == "tiny":
        clip = _from_folder(name, tiny_folder())
    elif architecture == "base":
        clip = _from_base(name)
    elif not name.startswith("hf-hub:") and (folder / _CONFIG).is_file():
        clip, weights = _from_folder(name, folder), ""
    elif hf_models.is_blip2(folder):
        clip, weights = _from_blip2(name, folder), ""
    else:
        clip = _from_open_clip(name, architecture, bool(weights), seed)
    if weights:
        _load_weights(clip, Path(weights).expanduser())
    clip.module.to(device)
    return clip


def check_name(name: str) -> None:
    """Raise the `InputError` of `load_clip` for an unknown name, without reading weights."""
    architecture, weights, _ = _parts(name)
    folder = Path(name).expanduser()
    there = architecture in BUILT_IN or (folder / _CONFIG).is_file() or hf_models.is_blip2(folder)
    if not there and not name.startswith("hf-hub:"):
        _known(architecture, bool(weights))


def _parts(name: str) -> tuple[str, str, re.Match[str] | None]:
    """Architecture, weights file (checked to exist) and expected SHA-256 of ``ARCHITECTURE@FILE#sha256=HEX``."""
    architecture, _, weights = name.partition("@")
    expected = _EXPECTED.search(weights)
    weights = weights[: expected.start()] if expected else weights
    if weights and not Path(weights).expanduser().is_file():
        raise InputError(f"model {name!r}: there is no weights file {weights!r}")
    return architecture, weights, expected


def tiny_folder() -> Path:
    """Folder of the built-in model: in the checkout's assets/, or inside the installed package."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "assets" / "tiny", here / "_assets" / "tiny"):
        if (folder / _CONFIG).is_file():
            return folder
    raise InputError("the built-in model is missing (assets/tiny): install fairvlm again, or name another --model")


def _from_folder(name: str, folder: Path) -> Clip:
    scheme = f"local-dir:{folder}"
    if not any(path.suffix in _WEIGHTS for path in folder.iterdir()):  # open_clip would use random ones
        raise InputError(f"model folder {folder.name!r} has no weights: it needs a {' or '.join(_WEIGHTS)} file")
    with _loading(folder):
        config = json.loads((folder / _CONFIG).read_text())
        if base_model.is_base(config["model_cfg"]):
            return _from_base(name, folder)
        text = config["model_cfg"]["text_cfg"]
        if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
            hf_models.need_transformers(folder.name)
        vocabularies = sorted(folder.glob("*.txt.gz"))
        extra = {"bpe_path": str(vocabularies[0])} if vocabularies else {}
        with _quiet(), _offline(True):
            module = open_clip.create_model(
                scheme, weights_only=True, **hf_models.text_tower(config["model_cfg"], folder)
            )
            tokenizer = open_clip.get_tokenizer(scheme, **extra)
    _load_adapter(module, folder)
    preprocess = open_clip.get_model_preprocess_cfg(module)
    vocabulary = vocabularies[0] if vocabularies else None
    return _bundle(name, module, tokenizer, config.get("model_cfg", config), preprocess, vocabulary)


def _from_base(name: str, folder: Path | None = None) -> Clip:
    """`base` as installed, or as a run's checkpoint in `folder` changed it."""
    module, tokenizer, model_cfg = base_model.read_base()
    if folder is not None:
        from safetensors.torch import load_file

        unknown = module.load_state_dict(load_file(folder / _STATE), strict=False).unexpected_keys
        if unknown:
            raise InputError(f"model folder {folder.name!r}: {unknown[0]!r} is no part of the model 'base'")
        _load_adapter(module, folder)
    return _bundle(name, module, tokenizer, model_cfg, base_model.PREPROCESS)


def _from_blip2(name: str, folder: Path) -> Clip:
    with _loading(folder), _quiet(), _offline(True):
        module, tokenizer, preprocess, model_cfg = hf_models.read_blip2(folder)
    _load_adapter(module, folder)
    return _bundle(name, module, tokenizer, model_cfg, preprocess)


def _load_adapter(module: nn.Module, folder: Path) -> None:
    if not (folder / _ADAPTER).is_file():
        return
    from safetensors.torch import load_file

    with _loading(folder, _ADAPTER):
        state = load_file(folder / _ADAPTER)
        adapter = ResidualAdapter(*state["image_down"].shape)
        adapter.load_state_dict(state)
    module.fairvlm_adapter = adapter


@contextmanager
def _loading(folder: Path, file: str = "") -> Iterator[None]:
    """Turn any error inside the block into an `InputError` that names the folder."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        what = f"model folder {folder.name!r}" + (f": {file}" if file else "")
        raise InputError(f"{what} cannot be loaded: {_first_line(error)}") from error


def _from_open_clip(name: str, architecture: str, own_weights: bool, seed: int) -> Clip:
    base, tag, published = (architecture, None, {}) if name.startswith("hf-hub:") else _known(architecture, own_weights)
    online = _hub_is_reachable() if tag or base.startswith("hf-hub:") else True
    try:
        with torch.random.fork_rng(devices=[]), _quiet(), _offline(not online):
            torch.manual_seed(seed)
            module = open_clip.create_model(
                base, pretrained=tag, weights_only=True, force_preprocess_cfg=published or None
            )
            tokenizer = open_clip.get_tokenizer(base)
            config = open_clip.get_model_config(base)
    except Exception as error:
        reason = _first_line(error) if online else "its weights are not on this machine and the hub cannot be reached"
        raise InputError(f"model {name!r} could not be loaded: {reason}. {_to_fetch(base, tag)}") from error
    return _bundle(name, module, tokenizer, config, open_clip.get_model_preprocess_cfg(module))


def _to_fetch(base: str, tag: str | None) -> str:
    """How to bring a model here from a machine with a network: a folder of the hub, or its weights where they suffice."""
    repository = base.removeprefix("hf-hub:")
    if not base.startswith("hf-hub:"):
        text_cfg = (open_clip.get_model_config(base) or {}).get("text_cfg", {})
        if not (text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name")):
            known = f"{base}:{tag}" if tag else base
            return (
                "Fetch its weights beforehand on a machine with a network, copy the file here and name it: "
                f"--model {known}@FILE"
            )
        repository = str(open_clip.get_pretrained_cfg(base, tag).get("hf_hub", "ORG/NAME")).rstrip("/")
    folder = repository.rpartition("/")[2]
    return (
        f"Fetch it beforehand on a machine with a network (hf download {repository} --local-dir {folder}), copy the folder "
        f"here and name it: --model {folder}"
    )


def _known(architecture: str, own_weights: bool) -> tuple[str, str | None, dict[str, Any]]:
    """Name, tag of published weights, and for weights from a file their preprocessing, of ``NAME`` or ``NAME:TAG``."""
    base, _, tag = architecture.partition(":")
    known = open_clip.list_models()
    if base not in known:
        import difflib

        near = difflib.get_close_matches(base, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "`fairvlm models` lists the names"
        raise InputError(f"model {base!r} is neither a folder with open_clip_config.json nor an open_clip name; {hint}")
    if tag == "random" and not own_weights:
        return base, None, {}
    tags = open_clip.list_pretrained_tags_by_model(base)
    if tag and tag not in tags:
        raise InputError(f"model {base!r} has no weights {tag!r}; there are {', '.join(tags) or 'none'}")
    if own_weights:
        return base, None, _preprocessing(base, [tag] if tag else tags)
    if not tags:
        raise InputError(f"model {base!r} has no published weights: name a local file with {base}@FILE")
    return base, tag or tags[0], {}


def _preprocessing(base: str, tags: list[str]) -> dict[str, Any]:
    """The preprocessing that all these published weights share; a local file is assumed to be one of them."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    found = []
    for tag in tags:
        values = open_clip.get_pretrained_cfg(base, tag)
        found.append({key: values[key] for key in keys if key in values})
    if any(one != found[0] for one in found):
        raise InputError(
            f"model {base!r}: its published weights differ in their preprocessing; name those of the file, "
            f"as in {base}:{tags[0]}@FILE (there are {', '.join(tags)})"
        )
    return found[0] if found else {}


def _bundle(
    name: str,
    module: nn.Module,
    tokenizer: Any,
    model_cfg: dict[str, Any],
    preprocess: dict[str, Any],
    vocabulary: Path | None = None,
) -> Clip:
    config = {"model_cfg": model_cfg, "preprocess_cfg": {k: v for k, v in preprocess.items() if k != "size"}}
    return Clip(name, module, tokenizer, preprocess, config, vocabulary)


def _load_weights(clip: Clip, path: Path) -> None:
    _check_stored_preprocessing(clip, path)
    try:
        with _quiet():
            open_clip.load_checkpoint(clip.module, str(path), weights_only=True)
    except Exception as error:
        reason = _first_line(error)
        if "weights_only" in str(error) or "Unsupported" in str(error) or "pickle" in str(error).lower():
            reason = "it holds more than tensors; only .safetensors and weights-only .pt files are read"
        raise InputError(f"weights {path.name!r} do not load into {clip.name.partition('@')[0]!r}: {reason}") from error


def _check_stored_preprocessing(clip: Clip, path: Path) -> None:
    """Refuse weights whose own configuration, in the same folder, has another preprocessing than `clip`."""
    try:
        stored = json.loads((path.parent / _CONFIG).read_text())
        wanted = dict(stored.get("preprocess_cfg", {}))
        size = stored["model_cfg"]["vision_cfg"].get("image_size")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return
    here = json.loads(json.dumps(clip.preprocess))
    differs = [key for key, value in wanted.items() if key in here and here[key] != value]
    if size is not None and (size, size) != clip.image_size and tuple(np.ravel(size)) != clip.image_size:
        differs.append("size")
    if differs:
        raise InputError(
            f"weights {path.name!r} were stored with another preprocessing than that of {clip.name.partition('@')[0]!r} "
            f"(it differs in {', '.join(differs)}): name their folder instead, which has their configuration"
        )


def _features(features: Any) -> Tensor:
    """Some models (CoCa) return a tuple of features and tokens."""
    return features[0] if isinstance(features, tuple) else features


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]


def _hub_is_reachable() -> bool:
    """One connection attempt instead of the hub client's minute of retries."""
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    if huggingface_hub.constants.HF_HUB_OFFLINE or not address.hostname:
        return False
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def _system_errors() -> Iterator[None]:
    """Turn an error of safetensors into an `OSError` with its number."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else 0, str(error)) from error


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Let the hub client use only its cache."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip, which reports its steps through the root logger."""
    import logging

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
