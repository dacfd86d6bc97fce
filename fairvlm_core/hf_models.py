"""Models that need transformers: hub text towers inside open_clip models (BiomedCLIP, SigLIP's tokenizer), and BLIP-2.

Both are read from a local folder, never from the network. BLIP-2's image-text retrieval model is wrapped as two encoders
with a projection each and a logit scale, as open_clip models have them.

BLIP-2 (Li et al., arXiv 2301.12597, section 3.1) compares a note with each query output and takes the maximum. Maps,
neighbours and mining need one vector per image, so here it is the projection of the mean query output. Scores before
fine-tuning therefore differ from the paper's.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import InputError

BLIP2 = "Blip2ForImageTextRetrieval"
TEXT_CONFIG = "text/config.json"  # of a hub text tower, in the folder of an open_clip model
ADAPTER = "fairvlm_adapter."  # prefix of the names of a residual adapter's parameters
_OURS = "fairvlm_blip2.json"
_TEMPERATURE = 0.07  # of the published pre-training; not stored by transformers
_LONGEST_CONTEXT = 256
_RENAMED = {"visual.trunk.": "vision_model.", "visual.proj.": "vision_projection."}


def need_transformers(name: str) -> None:
    """`InputError` where transformers is missing."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise InputError(f"model {name!r} needs transformers: install it with pip install 'fairvlm[hf]'") from None


def is_blip2(folder: Path) -> bool:
    """Whether a folder contains BLIP-2's image-text retrieval model as transformers writes it."""
    try:
        return BLIP2 in json.loads((folder / "config.json").read_text(encoding="utf-8-sig")).get("architectures", ())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def text_tower(model_cfg: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Arguments by which open_clip finds the configuration of a hub text tower in `folder` instead of on the hub.

    Raises
    ------
    InputError
        The configuration is missing.
    """
    text = model_cfg.get("text_cfg") or {}
    if not text.get("hf_model_name"):
        return {}
    if not (folder / TEXT_CONFIG).is_file():
        raise InputError(
            f"model folder {folder.name!r}: its text tower is {text['hf_model_name']!r}, whose config.json is missing: "
            f"fetch it beforehand and put it at {TEXT_CONFIG}"
        )
    place = str((folder / TEXT_CONFIG).parent)
    return {"text_cfg": text | {"hf_model_name": place, "hf_model_pretrained": False}}


def save_text_side(module: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer and the text tower's configuration of a hub model; nothing for other models."""
    if hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)
    config = getattr(getattr(module, "text", None), "config", None)
    if config is not None and hasattr(config, "save_pretrained"):
        config.save_pretrained(folder / "text")


def stored(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers as safetensors takes them: contiguous copies on the CPU."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}


class _Visual(nn.Module):
    def __init__(self, trunk: Any, proj: Any):
        super().__init__()
        self.trunk, self.proj = trunk, proj


class Blip2Towers(nn.Module):
    """BLIP-2's retrieval model with open_clip's interface: two encoders with a projection each and `logit_scale`."""

    def __init__(self, model: Any, logit_scale: float):
        super().__init__()
        self.hf_config, self.pad = model.config, int(model.config.qformer_config.pad_token_id or 0)
        self.visual = _Visual(model.vision_model, model.vision_projection)
        self.query_tokens, self.qformer, self.embeddings = model.query_tokens, model.qformer, model.embeddings
        self.text_projection, self.itm_head = model.text_projection, model.itm_head
        self.itm_head.requires_grad_(False)  # it reads image and text together; the encoders do not use it
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale))

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Features (N, D) of normalised images (N, 3, H, W)."""
        seen = self.visual.trunk(pixel_values=image).last_hidden_state
        queries = self.query_tokens.expand(len(seen), -1, -1)
        mask = torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device)
        out = self.qformer(query_embeds=queries, encoder_hidden_states=seen, encoder_attention_mask=mask)
        features = self.visual.proj(out.last_hidden_state.mean(1))
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Features (N, D) of tokens (N, context_length)."""
        mask = (tokens != self.pad).long()
        out = self.qformer(query_embeds=self.embeddings(input_ids=tokens), query_length=0, attention_mask=mask)
        features = out.last_hidden_state[:, 0]
        features = features if self.text_projection is None else self.text_projection(features)
        return F.normalize(features, dim=-1) if normalize else features


def read_blip2(folder: Path) -> tuple[Blip2Towers, Any, dict[str, Any], dict[str, Any]]:
    """Module, tokenizer, preprocessing and `model_cfg` of a BLIP-2 folder; weights in safetensors only.

    Raises
    ------
    InputError
        transformers is missing, or the folder does not define the preprocessing of images.
    """
    need_transformers(folder.name)
    from open_clip.tokenizer import HFTokenizer
    from transformers import Blip2ForImageTextRetrieval
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model: Any = Blip2ForImageTextRetrieval.from_pretrained(  # nosec B615: a local folder
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    finally:
        if was_shown:
            logging.enable_progress_bar()
    ours = json.loads((folder / _OURS).read_text(encoding="utf-8-sig")) if (folder / _OURS).is_file() else {}
    longest = int(model.config.qformer_config.max_position_embeddings)
    context = int(ours.get("context_length", min(_LONGEST_CONTEXT, longest)))
    module = Blip2Towers(model, float(ours.get("logit_scale", -math.log(_TEMPERATURE))))
    tokenizer = HFTokenizer(str(folder), context_length=context, local_files_only=True)
    config = {"embed_dim": int(model.config.image_text_hidden_size), "text_cfg": {"context_length": context}}
    return module, tokenizer, _preprocessing(folder, int(model.config.vision_config.image_size)), {"hf": BLIP2} | config


def save_blip2(module: Blip2Towers, tokenizer: Any, context: int, preprocess: dict[str, Any], folder: Path) -> None:
    """Write a folder that transformers and `read_blip2` load."""
    from safetensors.torch import save_file

    state = {}
    for name, value in stored(module).items():
        for ours, theirs in _RENAMED.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        if name != "logit_scale" and not name.startswith(ADAPTER):
            state[name] = value
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    module.hf_config.architectures = [BLIP2]
    module.hf_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = preprocess["size"] if isinstance(preprocess["size"], (list, tuple)) else [preprocess["size"]] * 2
    values = {
        "image_processor_type": "BlipImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"height": size[0], "width": size[1]},
        "resample": 3,
        "image_mean": list(preprocess["mean"]),
        "image_std": list(preprocess["std"]),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(values, indent=2))
    extra = {"logit_scale": float(module.logit_scale.detach()), "context_length": context}
    (folder / _OURS).write_text(json.dumps(extra, indent=2))


def _preprocessing(folder: Path, size: int) -> dict[str, Any]:
    """The values of `preprocessor_config.json` under open_clip's names."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise InputError(f"model folder {folder.name!r}: preprocessor_config.json is missing: copy it, too")
    values = json.loads(path.read_text(encoding="utf-8-sig"))
    asked = values.get("size", {})
    if [asked.get("height"), asked.get("width")] != [size, size]:
        raise InputError(
            f"model folder {folder.name!r}: preprocessor_config.json makes images of {asked}, the model takes "
            f"{size} x {size}: they belong to different models"
        )
    if values.get("resample", 3) != 3:
        raise InputError(
            f"model folder {folder.name!r}: preprocessor_config.json has resample={values['resample']}; only 3 "
            "(bicubic) is supported"
        )
    return {
        "size": size,
        "mode": "RGB",
        "mean": tuple(values["image_mean"]),
        "std": tuple(values["image_std"]),
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "fill_color": 0,
    }
