"""What learns: everything, the towers, the last blocks, low-rank updates, or a head on embeddings computed once.

`prepare` is called before the loop and `finished` after it; the loop itself is the same for all five. For ``head`` the
towers run once (see cache.py for the form kept on disk), and what trains is the model's own projections, in place, and a
small residual adapter on top of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import RunConfig
from .errors import InputError
from .features import PairArrays, PairEmbeddings
from .models import Clip, ResidualAdapter

# Parts of open_clip's and timm's towers that come after their blocks.
_AFTER_BLOCKS = frozenset(
    {"ln_post", "ln_final", "attn_pool", "norm", "fc_norm", "head", "proj", "text_projection", "logit_scale"}
    | {"logit_bias", "fairvlm_adapter"}
)
_PROJECTIONS = frozenset({"logit_scale", "logit_bias", "text_projection", "text.text_projection", "visual.proj"})


@dataclass(frozen=True)
class Prepared:
    """What the loop trains, and on what."""

    clip: Clip
    arrays: PairArrays


def prepare(clip: Clip, arrays: PairArrays, config: RunConfig) -> Prepared:
    """Choose what learns, by `config.trainable`; the model is changed in place.

    Raises
    ------
    InputError
        The model has no blocks to choose from, `arrays` were made for another model, or peft is missing.
    """
    module = clip.module
    if config.trainable == "head":
        _add_adapter(clip, config.adapter_width, config.seed)
        head = HeadClip.of(clip)
        return Prepared(head, embeddings(clip, arrays))
    arrays.check(clip)
    if config.trainable == "towers":
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name not in _PROJECTIONS)
    elif config.trainable == "last-k":
        _last_blocks(clip, config.last_blocks)
    elif config.trainable == "lora":
        _add_lora(clip, config)
    return Prepared(clip, arrays)


def finished(clip: Clip) -> Clip:
    """The whole model after training: low-rank updates merged into its weights, a head put back on its towers."""
    if isinstance(clip, HeadClip):
        return clip.whole
    _merge_lora(clip.module)
    return clip


# The head ---------------------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """What trains on embeddings: projections (the model's own), residual adapter, logit scale and bias."""

    def __init__(self, module: nn.Module):
        super().__init__()
        image, text = _projections(module)
        self.image_projection = None if image is None else image.get()
        self.text_projection = None if text is None else text.get()
        self.adapter = getattr(module, "fairvlm_adapter", None)
        self.logit_scale = module.logit_scale
        self.logit_bias = getattr(module, "logit_bias", None)


@dataclass(frozen=True)
class HeadClip(Clip):
    """A model whose towers have already run: it takes their outputs instead of images and tokens.

    Attributes
    ----------
    whole : Clip
        The model with its towers; it shares the head's parameters.
    """

    whole: Clip | None = None

    @classmethod
    def of(cls, clip: Clip) -> HeadClip:
        head = Head(clip.module)
        if not any(True for part in (head.image_projection, head.text_projection, head.adapter) if part is not None):
            raise InputError(
                f"model {clip.name.partition('@')[0]!r} has no projection that could learn: set adapter_width above 0"
            )
        for parameter in head.parameters():
            parameter.requires_grad_(True)
        clip.module.eval()
        return cls(clip.name, head, clip.tokenizer, clip.preprocess, clip.config, clip.vocabulary, clip)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit-norm features (N, D) of what the image tower gave, (N, width)."""
        return self._encode(pixels, self.module.image_projection, "image")

    def encode_notes(self, tokens: Tensor) -> Tensor:
        """Unit-norm features (N, D) of what the text tower gave, (N, width)."""
        return self._encode(tokens, self.module.text_projection, "text")

    def tokens(self, notes: list[str]) -> tuple[Tensor, np.ndarray]:
        """What the text tower gives for notes, float32 (N, width), and whether each was cut."""
        tokens, cut = self.whole.tokens(notes)
        with towers(self.whole):
            return self.whole.raw_notes(tokens).float().cpu(), cut

    def _encode(self, values: Tensor, projection: nn.Module | nn.Parameter | None, side: str) -> Tensor:
        values = values.to(self.device)
        if isinstance(projection, nn.Module):
            values = projection(values)
        elif projection is not None:
            values = values @ projection
        values = F.normalize(values, dim=-1)
        return values if self.module.adapter is None else self.module.adapter(values, side)


@contextmanager
def towers(clip: Clip) -> Iterator[None]:
    """Inside, `Clip.raw_images` and `Clip.raw_notes` give what the towers give, without projection and gradient."""
    was_training = clip.module.training
    clip.module.eval()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for place in _projections(clip.module):
            if place is not None:
                stack.enter_context(place.away())
        try:
            yield
        finally:
            clip.module.train(was_training)


def embeddings(
    clip: Clip,
    arrays: PairArrays,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> PairEmbeddings:
    """What both towers give for every pair, in memory; embeddings that are already there are taken as they are."""
    if isinstance(arrays, PairEmbeddings):
        return arrays
    arrays.check(clip)
    images, notes = [], []
    with towers(clip):
        for start in range(0, len(arrays), batch_size):
            part = slice(start, start + batch_size)
            images.append(clip.raw_images(arrays.pixels[part]).float().cpu())
            notes.append(clip.raw_notes(arrays.tokens[part]).float().cpu())
            if progress is not None:
                progress(min(start + batch_size, len(arrays)), len(arrays))
    return PairEmbeddings(torch.cat(images), torch.cat(notes), arrays.cut)


@dataclass(frozen=True)
class _Place:
    """Where a projection hangs: a parameter or a module that its owner's forward pass applies last."""

    owner: nn.Module
    name: str

    def get(self) -> nn.Module | nn.Parameter:
        return getattr(self.owner, self.name)

    @contextmanager
    def away(self) -> Iterator[None]:
        projection = self.get()
        none_is_fine = isinstance(projection, nn.Parameter) or self.name == "text_projection"
        setattr(self.owner, self.name, None if none_is_fine else nn.Identity())
        try:
            yield
        finally:
            setattr(self.owner, self.name, projection)


def _projections(module: nn.Module) -> tuple[_Place | None, _Place | None]:
    """Of images and of notes; None where the tower's output is the embedding itself."""
    text = getattr(module, "text", module)
    return _first(module.visual, ("proj", "head")), _first(text, ("text_projection", "proj"))


def _first(owner: nn.Module, names: tuple[str, ...]) -> _Place | None:
    for name in names:
        found = getattr(owner, name, None)
        if isinstance(found, nn.Parameter) or (isinstance(found, nn.Module) and any(True for _ in found.parameters())):
            return _Place(owner, name)
    return None


def _add_adapter(clip: Clip, width: int, seed: int) -> None:
    """A new adapter that changes nothing yet; one that came with the model goes on learning."""
    there = clip.adapter
    if there is None and width:
        clip.module.fairvlm_adapter = ResidualAdapter(int(clip.config["model_cfg"]["embed_dim"]), width, seed).to(
            clip.device
        )
    elif there is not None and width != there.width:
        raise InputError(f"setting adapter_width: the model comes with an adapter of width {there.width}, not {width}")


# Blocks and low-rank updates --------------------------------------------------------------------------------------------


def _blocks(module: nn.Module) -> list[tuple[str, nn.ModuleList | nn.Sequential]]:
    """Name and blocks of the image and the text tower: in each, the longest row of modules of one kind."""
    found = []
    for tower, within in (("visual", module.visual), ("text", getattr(module, "text", module))):
        rows = [
            (name, part)
            for name, part in within.named_modules()
            if isinstance(part, (nn.ModuleList, nn.Sequential))
            and len(part) > 0
            and len({type(block) for block in part}) == 1
            and not (within is module and name.startswith(("visual", "text_decoder")))
            and any("attn" in child for child, _ in part[0].named_children())
        ]
        if not rows:
            raise InputError(f"the {tower} tower has no row of transformer blocks: set trainable=all or trainable=head")
        found.append((tower, max(rows, key=lambda row: len(row[1]))[1]))
    return found


def _last_blocks(clip: Clip, k: int) -> None:
    for name, parameter in clip.module.named_parameters():
        parts = set(name.split("."))
        inside = "resblocks" in parts or "blocks" in parts or "text_decoder" in parts
        parameter.requires_grad_(not inside and bool(parts & _AFTER_BLOCKS))
    for tower, blocks in _blocks(clip.module):
        if k > len(blocks):
            raise InputError(f"setting last_blocks: {k} is more than the {len(blocks)} blocks of the {tower} tower")
        for block in list(blocks)[len(blocks) - k :]:
            block.requires_grad_(True)


def _add_lora(clip: Clip, config: RunConfig) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError("trainable=lora needs peft: install it with pip install 'fairvlm[lora]'") from None
    module = clip.module
    inside = {id(part) for _, blocks in _blocks(module) for part in blocks.modules()}
    within_attention = {
        id(part) for found in module.modules() if isinstance(found, nn.MultiheadAttention) for part in found.modules()
    }
    targets = [
        name
        for name, part in module.named_modules()
        if id(part) in inside and isinstance(part, nn.Linear) and id(part) not in within_attention
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        inject_adapter_in_model(
            LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=targets), module
        )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" in name or name in _PROJECTIONS)


def _merge_lora(module: nn.Module) -> None:
    """Add low-rank updates to the weights they belong to, and leave plain layers behind."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A") and hasattr(child, "get_base_layer"):
                child.merge()
                setattr(parent, name, child.get_base_layer())
