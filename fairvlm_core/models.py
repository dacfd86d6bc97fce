"""Image-text models: open_clip's, by name, from local weights, or the built-in `tiny`.

A model arrives as a :class:`Clip`: the module, its tokenizer and its own preprocessing, which belong together. Nothing is
fetched unless the name asks for it; without a network such a name is one clear line.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Sequence
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

from . import hf_models
from .errors import InputError
from .safeio import sha256

_LONGEST_WORD = 64
_ADAPTER = "adapter/adapter.safetensors"  # below a folder: open_clip looks for weights beside its configuration only
_EXPECTED = re.compile(r"#sha256=([0-9a-f]{64})$")
_WEIGHTS = (".safetensors", ".bin", ".pth")  # what open_clip looks for in a folder
_SPECIAL = re.compile(r"<(start_of_text|end_of_text|\|startoftext\||\|endoftext\|)>", re.IGNORECASE)


class ResidualAdapter(nn.Module):
    """A small correction of both embeddings: x + up(gelu(down(x))), to unit norm again; no change at the start.

    Parameters
    ----------
    dimension : int
        D, of the shared embedding.
    width : int
        Of the bottleneck.
    seed : int
        Of the downward weights; the upward ones are 0.
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
        """Unit-norm features (N, D) of unit-norm features (N, D); `side` is "image" or "text"."""
        down, up = getattr(self, f"{side}_down"), getattr(self, f"{side}_up")
        return F.normalize(features + F.gelu(features @ down) @ up, dim=-1)


@dataclass(frozen=True)
class Clip:
    """A model with what belongs to it.

    Attributes
    ----------
    name : str
        As it was asked for.
    module : nn.Module
        An open_clip model (`encode_image`, `encode_text`, `logit_scale`).
    tokenizer : callable
        List of N notes to int64 (N, context_length).
    preprocess : dict
        open_clip's preprocessing of this model: size, mean, std, interpolation, resize_mode.
    config : dict
        `model_cfg` and `preprocess_cfg`: what `open_clip_config.json` of a saved model holds.
    """

    name: str
    module: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    preprocess: dict[str, Any]
    config: dict[str, Any]
    vocabulary: Path | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images the model takes, in pixels."""
        size = self.preprocess["size"]
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def context_length(self) -> int:
        """Tokens of a note, start and end included; the rest is cut off."""
        return int(
            self.config["model_cfg"]["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        )

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 images (N, 3, H, W) as the float input the model was trained on, on the model's device."""
        mean = torch.tensor(self.preprocess["mean"], device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(self.preprocess["std"], device=self.device).view(1, 3, 1, 1)
        return (pixels.to(self.device, non_blocking=True).float() / 255 - mean) / std

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit-norm features (N, D) of uint8 images (N, 3, H, W)."""
        features = F.normalize(self.raw_images(pixels), dim=-1)
        return features if self.adapter is None else self.adapter(features, "image")

    def encode_notes(self, tokens: Tensor) -> Tensor:
        """Unit-norm features (N, D) of tokens (N, context_length)."""
        features = F.normalize(self.raw_notes(tokens), dim=-1)
        return features if self.adapter is None else self.adapter(features, "text")

    def raw_images(self, pixels: Tensor) -> Tensor:
        """What the image tower gives (N, D), of no particular norm."""
        return _tensor(self.module.encode_image(self.normalise(pixels), normalize=False))

    def raw_notes(self, tokens: Tensor) -> Tensor:
        """What the text tower gives (N, D), of no particular norm."""
        return _tensor(self.module.encode_text(tokens.to(self.device, torch.long), normalize=False))

    @property
    def adapter(self) -> ResidualAdapter | None:
        """On top of both towers, where the model was trained with one."""
        return getattr(self.module, "fairvlm_adapter", None)

    @property
    def scale(self) -> Tensor:
        return self.module.logit_scale.exp()

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.module, "logit_bias", None)

    def tokens(self, notes: Sequence[str]) -> tuple[Tensor, np.ndarray]:
        """Tokens int32 (N, context_length) and, for each note, whether it was cut (bool (N,)).

        Special tokens written out in a note are taken as plain words, and words of absurd length are broken, since
        byte-pair encoding is quadratic in the length of a word.
        """
        pieces = [self._words(note) for note in notes]
        clean, cut = [text for text, _ in pieces], np.array([was_cut for _, was_cut in pieces], bool)
        tokens = torch.empty(len(clean), self.context_length, dtype=torch.int32)
        for start in range(0, len(clean), 4096):
            tokens[start : start + 4096] = self.tokenizer(clean[start : start + 4096])
        full = np.flatnonzero((tokens[:, -1] != 0).numpy())
        if len(full):  # exactly full or cut? ask for one token more
            longer = self._lengths([clean[i] for i in full], self.context_length + 1)
            cut[full] |= longer > self.context_length
        return tokens, cut

    def token_lengths(self, notes: list[str]) -> np.ndarray:
        """Tokens of each note, start and end included, int (N,); counted up to 16 times the model's context."""
        lengths = []
        for start in range(0, len(notes), 256):
            part = [self._words(note)[0] for note in notes[start : start + 256]]
            lengths.append(self._lengths(part, 16 * self.context_length))
        return np.concatenate(lengths) if lengths else np.zeros(0, int)

    def _lengths(self, texts: list[str], limit: int) -> np.ndarray:
        """Tokens of each text, counted up to `limit`; what a tokenizer of the hub pads with need not be 0."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            return (self.tokenizer(texts, context_length=limit) != 0).sum(1).numpy()
        texts = [self.tokenizer.clean_fn(text) for text in texts]
        ids = inner(texts, truncation=True, max_length=limit, padding=False)["input_ids"]
        return np.array([len(one) for one in ids], int)

    def _words(self, note: str) -> tuple[str, bool]:
        """The note as the tokenizer may safely see it, and whether its end was left out."""
        limit, used, words, cut = 16 * self.context_length, 0, [], False
        for word in _SPECIAL.sub(r"\1", note).split():
            words += [word[k : k + _LONGEST_WORD] for k in range(0, min(len(word), limit), _LONGEST_WORD)]
            used += len(word) + 1
            if used > limit:
                cut = True
                break
        return " ".join(words), cut

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB image as the model's uint8 input (3, H, W): open_clip's own resizing and cropping, not yet normalised."""
        return _resize(self)(image)

    def save(self, folder: Path) -> None:
        """Write `open_clip_config.json` and weights, so that open_clip's ``local-dir:`` scheme loads the folder.

        BLIP-2 becomes a folder for transformers. A residual adapter, which neither knows, is
        written to `adapter/`; `load_clip` puts it back.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        blip2 = isinstance(self.module, hf_models.Blip2Towers)
        if not blip2:
            (folder / "open_clip_config.json").write_text(json.dumps(self.config, indent=2))
            hf_models.save_text_side(self.module, self.tokenizer, folder)
        if self.vocabulary is not None and not (folder / self.vocabulary.name).exists():
            (folder / self.vocabulary.name).write_bytes(self.vocabulary.read_bytes())
        state = {k: v.detach().cpu().contiguous().clone() for k, v in self.module.state_dict().items()}
        adapter = {k: state.pop(k) for k in list(state) if k.startswith("fairvlm_adapter.")}
        try:
            if blip2:
                hf_models.save_blip2(self.module, self.tokenizer, self.context_length, self.preprocess, folder)
            else:
                save_file(state, folder / "open_clip_model.safetensors")
            if adapter:
                (folder / _ADAPTER).parent.mkdir(exist_ok=True)
                save_file({k.partition(".")[2]: v for k, v in adapter.items()}, folder / _ADAPTER)
        except SafetensorError as error:
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else 0, str(error)) from error


def load_clip(name: str = "tiny", *, device: str | torch.device = "cpu", seed: int = 0) -> Clip:
    """A model by name.

    Parameters
    ----------
    name : str
        ``tiny`` · an open_clip architecture ``NAME`` (its first published weights), ``NAME:TAG``, ``NAME:random`` or
        ``NAME@FILE`` (local .safetensors, or .pt/.pth/.bin read without pickle), ``NAME:TAG@FILE`` where the weights
        published for NAME differ in their preprocessing, ``…@FILE#sha256=HEX`` to check the file first ·
        ``hf-hub:ORG/NAME`` · a folder with ``open_clip_config.json``, such as a run's checkpoint, or of BLIP-2 as
        transformers keeps it (see hf_models.py).
    seed : int
        For ``NAME:random``.

    Raises
    ------
    InputError
        Unknown name, weights that do not fit or are not the expected ones, an unsafe file, or a hub name without a
        network.
    """
    architecture, weights, expected = _parts(name)
    if expected and (arrived := sha256(Path(weights).expanduser())) != expected[1]:
        raise InputError(
            f"weights {Path(weights).name!r} have SHA-256 {arrived[:12]}…, not {expected[1][:12]}… as expected: copy the "
            "file again"
        )
    if architecture == "tiny":
        clip = _from_folder(name, tiny_folder())
    elif not name.startswith("hf-hub:") and (Path(name).expanduser() / "open_clip_config.json").is_file():
        clip, weights = _from_folder(name, Path(name).expanduser()), ""
    elif hf_models.is_blip2(Path(name).expanduser()):
        clip, weights = _from_blip2(name, Path(name).expanduser()), ""
    else:
        clip = _from_open_clip(name, architecture, bool(weights), seed)
    if weights:
        _load_weights(clip, Path(weights).expanduser())
    clip.module.to(device)
    return clip


def check_name(name: str) -> None:
    """`InputError` where `load_clip` would refuse a name before it reads any weights: nothing of that name is known."""
    architecture, weights, _ = _parts(name)
    folder = Path(name).expanduser()
    there = architecture == "tiny" or (folder / "open_clip_config.json").is_file() or hf_models.is_blip2(folder)
    if not there and not name.startswith("hf-hub:"):
        _known(architecture, bool(weights))


def _parts(name: str) -> tuple[str, str, re.Match[str] | None]:
    """What stands before the @ and after it, and the SHA-256 that the file is to have; the file is there."""
    architecture, _, weights = name.partition("@")
    expected = _EXPECTED.search(weights)
    weights = weights[: expected.start()] if expected else weights
    if weights and not Path(weights).expanduser().is_file():
        raise InputError(f"model {name!r}: there is no weights file {weights!r}")
    return architecture, weights, expected


def tiny_folder() -> Path:
    """Where the built-in model lies: in the checkout's assets/, or inside the installed package."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "assets" / "tiny", here / "_assets" / "tiny"):
        if (folder / "open_clip_config.json").is_file():
            return folder
    raise InputError("the built-in model is missing (assets/tiny): install fairvlm again, or name another --model")


def _from_folder(name: str, folder: Path) -> Clip:
    scheme = f"local-dir:{folder}"
    if not any(path.suffix in _WEIGHTS for path in folder.iterdir()):  # open_clip would go on with random ones
        raise InputError(f"model folder {folder.name!r} has no weights: a {' or '.join(_WEIGHTS)} file is wanted")
    try:
        config = json.loads((folder / "open_clip_config.json").read_text())
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
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model folder {folder.name!r} cannot be loaded: {_first_line(error)}") from error
    _load_adapter(module, folder)
    return _bundle(name, module, tokenizer, config.get("model_cfg", config), vocabularies[0] if vocabularies else None)


def _from_blip2(name: str, folder: Path) -> Clip:
    try:
        with _quiet(), _offline(True):
            module, tokenizer, preprocess, model_cfg = hf_models.read_blip2(folder)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model folder {folder.name!r} cannot be loaded: {_first_line(error)}") from error
    _load_adapter(module, folder)
    config = {"model_cfg": model_cfg, "preprocess_cfg": {k: v for k, v in preprocess.items() if k != "size"}}
    return Clip(name, module, tokenizer, preprocess, config)


def _load_adapter(module: nn.Module, folder: Path) -> None:
    if not (folder / _ADAPTER).is_file():
        return
    from safetensors.torch import load_file

    try:
        state = load_file(folder / _ADAPTER)
        adapter = ResidualAdapter(*state["image_down"].shape)
        adapter.load_state_dict(state)
    except Exception as error:
        raise InputError(f"model folder {folder.name!r}: {_ADAPTER} cannot be loaded: {_first_line(error)}") from error
    module.fairvlm_adapter = adapter


def _from_open_clip(name: str, architecture: str, own_weights: bool, seed: int) -> Clip:
    base, tag, published = (name, None, {}) if name.startswith("hf-hub:") else _known(architecture, own_weights)
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
        raise InputError(
            f"model {name!r} could not be loaded: {reason}. Fetch the weights beforehand on a machine with a network, "
            f"copy them here and name them with {base.removeprefix('hf-hub:')}@FILE or as a folder"
        ) from error
    return _bundle(name, module, tokenizer, config, None)


def _known(architecture: str, own_weights: bool) -> tuple[str, str | None, dict[str, Any]]:
    """Of `NAME` or `NAME:TAG`: name, tag of published weights, and preprocessing where a local file takes their place."""
    base, _, tag = architecture.partition(":")
    known = open_clip.list_models()
    if base not in known:
        import difflib

        near = difflib.get_close_matches(base, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "`fairvlm models` lists the names"
        raise InputError(f"model {base!r} is neither a folder with open_clip_config.json nor an open_clip name; {hint}")
    tags = open_clip.list_pretrained_tags_by_model(base)
    if own_weights:
        return base, None, _preprocessing(base, tag, tags)
    if tag == "random":
        return base, None, {}
    if not tag and not tags:
        raise InputError(f"model {base!r} has no published weights: name a local file with {base}@FILE")
    if tag and tag not in tags:
        raise InputError(f"model {base!r} has no weights {tag!r}; there are {', '.join(tags) or 'none'}")
    return base, tag or tags[0], {}


def _preprocessing(base: str, tag: str | None, tags: list[str]) -> dict[str, Any]:
    """That of the published weights of an architecture, of which a local file is taken to be one."""
    if tag and tag not in tags:
        raise InputError(f"model {base!r} has no weights {tag!r}; there are {', '.join(tags) or 'none'}")
    keys = ("mean", "std", "interpolation", "resize_mode")
    found = {}
    for each in [tag] if tag else tags:
        values = open_clip.get_pretrained_cfg(base, each)
        found[each] = {key: values[key] for key in keys if key in values}
    if any(one != next(iter(found.values())) for one in found.values()):
        raise InputError(
            f"model {base!r}: its published weights differ in their preprocessing; name the ones that the file holds, "
            f"as in {base}:{tags[0]}@FILE (there are {', '.join(tags)})"
        )
    return next(iter(found.values()), {})


def _bundle(name: str, module: nn.Module, tokenizer: Any, model_cfg: dict[str, Any], vocabulary: Path | None) -> Clip:
    preprocess = open_clip.get_model_preprocess_cfg(module)
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
    """`InputError` where the configuration that lies beside weights prepares images in another way than `clip` does."""
    try:
        stored = json.loads((path.parent / "open_clip_config.json").read_text())
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
            f"weights {path.name!r} were stored with another preprocessing than {clip.name.partition('@')[0]!r} has (it "
            f"differs in {', '.join(differs)}): name their folder instead, whose configuration belongs to them"
        )


def _resize(clip: Clip) -> Callable[[Image.Image], np.ndarray]:
    preprocess = clip.preprocess
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    steps = [
        step for step in transform.transforms if type(step).__name__ not in {"MaybeToTensor", "ToTensor", "Normalize"}
    ]

    def apply(image: Image.Image) -> np.ndarray:
        for step in steps:
            image = step(image)
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))

    return apply


def _tensor(features: Any) -> Tensor:
    """Some models (CoCa) return features with tokens beside them."""
    return features[0] if isinstance(features, tuple) else features


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]


def _hub_is_reachable() -> bool:
    """One quick look, instead of the hub client's minute of retries."""
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    if huggingface_hub.constants.HF_HUB_OFFLINE or not address.hostname:
        return False
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def _offline(wanted: bool):
    """Let the hub client look at its cache only."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


@contextmanager
def _quiet():
    """open_clip reports what it does through the root logger; here errors carry what matters."""
    import logging

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
