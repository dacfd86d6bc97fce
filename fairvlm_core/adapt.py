"""Which parameters are trained: all, the towers, the last blocks, low-rank updates, or a head on embeddings.

`prepare` is called before the training loop and `finished` after it. For ``head`` the towers run once (cache.py keeps their
output on disk); the model's own projections and a small residual adapter on top of them are trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base_model import BaseTowers
from .closed_form import ProjectionFit
from .config import RunConfig
from .errors import InputError
from .features import PairArrays, PairEmbeddings
from .models import Clip, ResidualAdapter
from .objective import pair_losses

# Parts of open_clip's and timm's towers after their blocks.
_AFTER_BLOCKS = frozenset(
    {"ln_post", "ln_final", "attn_pool", "norm", "fc_norm", "head", "proj", "text_projection", "logit_scale"}
    | {"logit_bias", "fairvlm_adapter"}
)
_SCALES = (1.0, 2.0, 3.5, 5.0, 7.0, 10.0, 14.0, 20.0, 28.0)  # exp of the logit scale of a model fitted in closed form
_PROJECTIONS = frozenset({"logit_scale", "logit_bias", "text_projection", "text.text_projection", "visual.proj"})


@dataclass(frozen=True)
class Prepared:
    """The model and the input of the training loop.

    Attributes
    ----------
    refit : callable (counts (N,) of the training pairs), optional
        Fits projections in closed form again, each pair counting as much as given.
    """

    clip: Clip
    arrays: PairArrays
    refit: Callable[[np.ndarray], None] | None = None


def prepare(clip: Clip, arrays: PairArrays, config: RunConfig, train: np.ndarray, patients: Sequence[str]) -> Prepared:
    """Select the trained parameters by `config.trainable`; the model is changed in place.

    Towers that were not trained together (`base`) first get their projections, by ridge regression on the training pairs
    (`closed_form.ProjectionFit`).

    Parameters
    ----------
    train : int ndarray of shape (N,)
        Rows of the training pairs.
    patients : sequence of str, length N
        Their patients.

    Raises
    ------
    InputError
        The model has no transformer blocks, `arrays` were made for another model, or peft is missing.
    """
    module = clip.module
    if config.trainable == "head":
        _add_adapter(clip, config.adapter_width, config.seed)
    if isinstance(module, BaseTowers) and not module.fitted:
        fitted = _FittedProjection(module, embeddings(clip, arrays), train, patients)
        if config.trainable == "head":
            return Prepared(ProjectedHeadClip.of(clip, fitted.projection), fitted.arrays, fitted.refit)
    if config.trainable == "head":
        return Prepared(HeadClip.of(clip), embeddings(clip, arrays))
    arrays.check(clip)
    if config.trainable == "towers":
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name not in _PROJECTIONS)
    elif config.trainable == "last-k":
        _last_blocks(clip, config.last_blocks)
    elif config.trainable == "lora":
        _add_lora(clip, config)
    return Prepared(clip, arrays)


class FoldProjection(nn.Module):
    """Image projections by regressions: one for each fold of the training pairs, without these pairs, and one of all.

    A training pair's own note has then no part in its features. Otherwise every training pair would seem to fit its note,
    a wrong note as well.

    Attributes
    ----------
    weights : float Tensor of shape (folds + 1, P + 1, D)
        See `ProjectionFit.weights`.
    counts : float Tensor of shape (N,)
        What each training pair counted.
    """

    weights: Tensor
    counts: Tensor

    def __init__(self, weights: Tensor, counts: Tensor):
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("counts", counts)

    def forward(self, values: Tensor) -> Tensor:
        """Features (N, D) of outputs of the image tower, then the pair's fold (0 outside training), (N, P + 1)."""
        images, fold = values[:, :-1], values[:, -1]
        features = values.new_empty(len(values), self.weights.shape[2])
        for k in fold.unique().int().tolist():
            features[fold == k] = images[fold == k] @ self.weights[k, :-1] + self.weights[k, -1]
        return features

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, value in self.named_buffers():  # a state of an earlier version had all pairs count alike
            state.setdefault(prefix + name, value)
        super()._load_from_state_dict(state, prefix, *rest)


_LEAST_CHANGE = 0.01  # mean change of the counts, as a share of their mean, that is worth another fit


class _FittedProjection:
    """Sets the projections of `module` by regressions on training pairs, and fits them again with other counts."""

    def __init__(self, module: BaseTowers, arrays: PairEmbeddings, train: np.ndarray, patients: Sequence[str]):
        self._fit = ProjectionFit(arrays.pixels[train].numpy(), arrays.tokens[train].numpy(), patients)
        weights, centre = torch.from_numpy(self._fit.weights()).float(), torch.from_numpy(self._fit.centre).float()
        self.projection = FoldProjection(weights, torch.ones(len(train))).to(module.logit_scale.device)
        fold = torch.zeros(len(arrays), 1)
        fold[train, 0] = torch.from_numpy(self._fit.fold).float()
        images = torch.cat([arrays.pixels, fold], dim=1)
        self.arrays = PairEmbeddings(images, arrays.tokens - centre, arrays.cut, before=images[:, :-1])
        with torch.no_grad():
            image = self.projection(images[train].to(weights.device)).cpu()
        module.set_projections(weights[0, :-1], weights[0, -1], centre, _best_scale(image, self.arrays.tokens[train]))

    def refit(self, counts: np.ndarray) -> None:
        """Fit again where the counts (N,) have changed since the last fit."""
        used = self.projection.counts.cpu().numpy()
        if np.abs(counts - used).mean() > _LEAST_CHANGE * used.mean():
            self.projection.weights.copy_(torch.from_numpy(self._fit.weights(counts)))
            self.projection.counts.copy_(torch.from_numpy(counts))


def _best_scale(images: Tensor, notes: Tensor, batch_size: int = 64) -> float:
    """The factor of `_SCALES` with the lowest mean loss over batches of unit-norm features (N, D) of both sides."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    image, text = F.normalize(images[order], dim=-1), F.normalize(notes[order], dim=-1)
    which = torch.unique(notes[order], dim=0, return_inverse=True)[1]
    batches = list(zip(*(one.split(batch_size) for one in (image, text, which)), strict=True))

    def mean_loss(scale: float) -> float:
        factor = torch.tensor(scale)
        return float(torch.cat([pair_losses(i, t, factor, notes=note).loss for i, t, note in batches]).mean())

    return min(_SCALES, key=mean_loss)


def finished(clip: Clip) -> Clip:
    """The complete model after training: low-rank updates merged into the weights, a head back on its towers."""
    if isinstance(clip, HeadClip):
        return clip.complete()
    for parent in list(clip.module.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A") and hasattr(child, "get_base_layer"):
                child.merge()
                setattr(parent, name, child.get_base_layer())
    return clip


# Head


class Head(nn.Module):
    """The trained part on embeddings: the model's own projections, residual adapter, logit scale and bias."""

    def __init__(self, module: Any):
        super().__init__()
        image, text = _projections(module)
        self.image_projection = None if image is None else image.get()
        self.text_projection = None if text is None else text.get()
        self.adapter = getattr(module, "fairvlm_adapter", None)
        self.logit_scale = module.logit_scale
        self.logit_bias = getattr(module, "logit_bias", None)


@dataclass(frozen=True)
class HeadClip(Clip):
    """A model that takes the outputs of its towers instead of images and tokens.

    Attributes
    ----------
    whole : Clip
        The model with its towers; it shares the head's parameters.
    """

    whole: Clip = field(kw_only=True)

    @classmethod
    def of(cls, clip: Clip) -> HeadClip:
        head = Head(clip.module)
        if head.image_projection is None and head.text_projection is None and head.adapter is None:
            raise InputError(
                f"model {clip.name.partition('@')[0]!r} has no projection to train: set adapter_width above 0"
            )
        for parameter in head.parameters():
            parameter.requires_grad_(True)
        clip.module.eval()
        return cls(clip.name, head, clip.tokenizer, clip.preprocess, clip.config, clip.vocabulary, whole=clip)

    def raw_images(self, pixels: Tensor) -> Tensor:
        """Features (N, D) of outputs of the image tower (N, width), not normalised."""
        return _project(pixels.to(self.device), self.module.image_projection)

    def raw_notes(self, tokens: Tensor) -> Tensor:
        """Features (N, D) of outputs of the text tower (N, width), not normalised."""
        return _project(tokens.to(self.device), self.module.text_projection)

    def tokens(self, notes: Sequence[str]) -> tuple[Tensor, np.ndarray]:
        """Outputs of the text tower for notes, float32 (N, width), and whether each note was cut."""
        tokens, cut = self.whole.tokens(notes)
        with towers(self.whole):
            return self.whole.raw_notes(tokens).float().cpu(), cut

    def complete(self) -> Clip:
        """The model with its towers and the head's parameters."""
        return self.whole

    @property
    def adapter(self) -> ResidualAdapter | None:
        return self.module.adapter


@dataclass(frozen=True)
class ProjectedHeadClip(HeadClip):
    """A head on notes that are projected already and images that a regression projects.

    The image side of the adapter and the logit scale are trained. Notes keep their place, so that the prompts of the
    classes, which are not among the notes, keep theirs.
    """

    @classmethod
    def of(cls, clip: Clip, projection: FoldProjection) -> ProjectedHeadClip:  # type: ignore[override]
        if clip.adapter is None:
            raise InputError(f"model {clip.name!r} has its projections in closed form: set adapter_width above 0")
        clip.module.requires_grad_(False)
        head = Head(clip.module)
        head.image_projection, head.text_projection = projection, None
        for name, parameter in head.named_parameters():
            parameter.requires_grad_(not name.startswith("adapter.text_"))
        clip.module.eval()
        return cls(clip.name, head, clip.tokenizer, clip.preprocess, clip.config, clip.vocabulary, whole=clip)

    def tokens(self, notes: Sequence[str]) -> tuple[Tensor, np.ndarray]:
        """Projected outputs of the text tower for notes, float32 (N, D), and whether each note was cut."""
        tokens, cut = self.whole.tokens(notes)
        with torch.no_grad():
            return self.whole.raw_notes(tokens).float().cpu(), cut

    @torch.no_grad()
    def complete(self) -> Clip:
        weights, place = self.module.image_projection.weights[0], self.whole.module.visual.proj
        place.weight.copy_(weights[:-1].T)
        place.bias.copy_(weights[-1])
        return self.whole


def _project(values: Tensor, projection: nn.Module | nn.Parameter | None) -> Tensor:
    if projection is None:
        return values
    return projection(values) if isinstance(projection, nn.Module) else values @ projection


@contextmanager
def towers(clip: Clip) -> Iterator[None]:
    """In the block, `Clip.raw_images` and `Clip.raw_notes` return outputs without projection and without gradient."""
    was_training = clip.module.training
    clip.module.eval()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for place in _projections(clip.module):
            if place is not None:
                stack.enter_context(place.removed())
        try:
            yield
        finally:
            clip.module.train(was_training)


def embeddings(clip: Clip, arrays: PairArrays, batch_size: int = 64) -> PairEmbeddings:
    """Outputs of both towers for every pair, in memory; `arrays` that are embeddings already are returned."""
    if isinstance(arrays, PairEmbeddings):
        return arrays
    arrays.check(clip)
    images, notes = [], []
    with towers(clip):
        for start in range(0, len(arrays), batch_size):
            part = slice(start, start + batch_size)
            images.append(clip.raw_images(arrays.pixels[part]).float().cpu())
            notes.append(clip.raw_notes(arrays.tokens[part]).float().cpu())
    return PairEmbeddings(torch.cat(images), torch.cat(notes), arrays.cut)


@dataclass(frozen=True)
class _Place:
    """A projection: the parameter or module `name` that the forward pass of `owner` applies last."""

    owner: nn.Module
    name: str

    def get(self) -> nn.Module | nn.Parameter:
        return getattr(self.owner, self.name)

    @contextmanager
    def removed(self) -> Iterator[None]:
        projection = self.get()
        none_is_fine = isinstance(projection, nn.Parameter) or self.name == "text_projection"
        setattr(self.owner, self.name, None if none_is_fine else nn.Identity())
        try:
            yield
        finally:
            setattr(self.owner, self.name, projection)


def _projections(module: Any) -> tuple[_Place | None, _Place | None]:
    """The image and the text projection; None where the tower's output is the embedding itself."""
    text = getattr(module, "text", module)
    return _first(module.visual, ("proj", "head")), _first(text, ("text_projection", "proj"))


def _first(owner: nn.Module, names: tuple[str, ...]) -> _Place | None:
    for name in names:
        found = getattr(owner, name, None)
        if isinstance(found, nn.Parameter) or (isinstance(found, nn.Module) and any(True for _ in found.parameters())):
            return _Place(owner, name)
    return None


def _add_adapter(clip: Clip, width: int, seed: int) -> None:
    """Add an adapter, unless the model has one."""
    old = clip.adapter
    if old is None and width:
        dimension = int(clip.config["model_cfg"]["embed_dim"])
        clip.module.fairvlm_adapter = ResidualAdapter(dimension, width, seed).to(clip.device)
    elif old is not None and width != old.width:
        raise InputError(f"setting adapter_width: the model comes with an adapter of width {old.width}, not {width}")


# Blocks and low-rank updates


def _blocks(module: Any) -> list[tuple[str, nn.ModuleList | nn.Sequential]]:
    """Name and blocks of the image and the text tower: in each, the longest list of transformer blocks of one type.

    `base` has the stages of its image tower only, since its text tower has no blocks.
    """
    if isinstance(module, BaseTowers):
        return [("visual", module.visual.trunk.blocks)]
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
            raise InputError(
                f"the {tower} tower has no list of transformer blocks: set trainable=all or trainable=head"
            )
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
    inside = {part for _, blocks in _blocks(module) for part in blocks.modules()}
    for part in module.modules():
        if isinstance(part, nn.MultiheadAttention):  # it reads the weights of its layers without calling them
            inside.difference_update(part.modules())
    targets = [name for name, part in module.named_modules() if part in inside and isinstance(part, nn.Linear)]
    lora: Any = {"r": config.lora_rank, "lora_alpha": config.lora_alpha, "target_modules": targets}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        inject_adapter_in_model(LoraConfig(**lora), module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" in name or name in _PROJECTIONS)
