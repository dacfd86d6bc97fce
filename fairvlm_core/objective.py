"""The training objective: mean(w·ℓ) + λ · Σ_attributes mean_groups S_ε(P_g, P).

Array-level: tensors in, tensors out. The Sinkhorn term needs no extra forward pass. The ledger already holds a recent value
of every pair. The dual potentials of all groups are solved on these values every few steps, and a step interpolates the
slopes of the potentials at its live values. By the envelope theorem this is the gradient of the divergence between the
whole distributions of a group and of everyone. A batch gives an unbiased sample of it, even with few pairs of the group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .mining.margins import within_groups
from .mining.rules import location_and_spread
from .sinkhorn import group_sinkhorn


@dataclass(frozen=True)
class PairLosses:
    """Values of each pair in a batch of B pairs.

    Attributes
    ----------
    loss : Tensor of shape (B,)
        ℓ_i = ½ [CE(logits_i,:, i) + CE(logits_:,i, i)], in nats, ≥ 0; log B for a model that knows nothing. Pairs with
        the same note are no negatives of each other.
    similarity : Tensor of shape (B,)
        The diagonal of the logits s·f·tᵀ.
    logits : Tensor of shape (B, B)
        s·f·tᵀ (plus a bias where the model has one).
    """

    loss: Tensor
    similarity: Tensor
    logits: Tensor


def pair_losses(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    notes: Tensor | None = None,
) -> PairLosses:
    """The symmetric contrastive loss of CLIP, one value for each pair (Radford et al., arXiv 2103.00020).

    Parameters
    ----------
    image_features, text_features : Tensor of shape (B, D)
        Unit-norm features; row i of both belongs to pair i.
    scale : scalar Tensor
        exp of the logit scale.
    notes : int Tensor of shape (B,), optional
        Equal numbers for pairs with the same note. Of k pairs with one note each has B − k negatives instead of B − 1,
        whose sum is multiplied by (B − 1) / (B − k): the loss says how a pair fits, not how common its note is.

    Examples
    --------
    >>> import torch
    >>> same = torch.eye(4)
    >>> pair_losses(same, same, torch.tensor(0.0)).loss            # no information: log 4
    tensor([1.3863, 1.3863, 1.3863, 1.3863])
    """
    logits = scale * image_features @ text_features.T
    if bias is not None:
        logits = logits + bias
    notes = None if notes is None else notes.to(logits.device)
    rows, columns = _cross_entropy(logits.float(), notes), _cross_entropy(logits.float().T, notes)
    return PairLosses(0.5 * (rows + columns), logits.diagonal().float(), logits)


def _cross_entropy(logits: Tensor, notes: Tensor | None) -> Tensor:
    """−log of the diagonal's share of each row; pairs with the row's note have no part, and the others stand for all."""
    if notes is not None:
        repeated = notes[:, None] == notes
        negatives = (len(notes) - repeated.sum(1, keepdim=True)).clamp(min=1)
        scaled = logits + ((len(notes) - 1) / negatives).log()
        itself = torch.eye(len(notes), dtype=torch.bool, device=logits.device)
        logits = torch.where(itself, logits, scaled.masked_fill(repeated, -torch.inf))
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")


@dataclass(frozen=True)
class Groups:
    """All groups of the chosen attributes over N pairs.

    Attributes
    ----------
    names : tuple of (attribute, group), length G
    membership : bool Tensor of shape (G, N)
    coefficient : Tensor of shape (G,)
        Weight of the attribute divided by its number of groups, so that the term is Σ_attributes weight · mean_groups.
    """

    names: tuple[tuple[str, str], ...]
    membership: Tensor
    coefficient: Tensor

    @classmethod
    def of(cls, attributes: Mapping[str, Sequence[str]], weights: Mapping[str, float] | None = None) -> Groups:
        """Groups in alphabetical order of every attribute in the order given; ``weights`` default to 1."""
        names, members, coefficients = [], [], []
        for attribute, values in attributes.items():
            column = np.asarray(values)
            groups = np.unique(column)
            for group in groups:
                names.append((attribute, str(group)))
                members.append(column == group)
                coefficients.append((weights or {}).get(attribute, 1.0) / len(groups))
        membership = np.array(members, bool) if members else np.zeros((0, 0), bool)
        return cls(tuple(names), torch.from_numpy(membership), torch.tensor(coefficients))


_FEWEST = 10  # values that a group needs before it counts
# Twice the level by chance in units of σ² (1/n − 1/N). The level is 1.2 for normal values, 2 to 2.5 for skewed ones.
_TWICE_CHANCE = 3.0


class LedgerDivergence:
    """S_ε(P_g, P) of every group over the ledger's latest values, and its gradient at a batch's live values.

    Values are binned on a common grid (linear binning keeps mass and mean), so that a million pairs take as long to solve
    as a thousand.

    Parameters
    ----------
    groups : Groups
        Over the N training pairs.
    blur : float
        √ε in standard deviations of everyone's values.
    normalise : bool
        Divide each distribution by its mean (FairCLIP divides by the sum; the mean does not depend on the group's size).
    in_sd : bool
        Divide the term by the standard deviation of everyone's values. It then has the unit of the values, as the loss
        has, and λ means the same whatever the spread of the losses.
    above_chance : bool
        Multiply a group's share of the term by (1 − 2c/S)₊ for a divergence S and its level by chance c, about
        1.5 σ² (1/n − 1/N) for a group of n. A group that differs from everyone by its small size alone is left alone.
    outlier_sd : float
        Without effect if 0. Else pairs that may have a wrong note are no part of the divergence: those of a weight below
        ½, and those whose value, with the medians of the groups moved to everyone's, lies more than so many robust
        standard deviations above the median (below it, if negative).
    knots : int
        Grid points.
    refresh : int
        Number of steps between two solves.
    """

    def __init__(
        self,
        groups: Groups,
        *,
        blur: float,
        normalise: bool = False,
        in_sd: bool = False,
        above_chance: bool = False,
        outlier_sd: float = 0.0,
        knots: int = 96,
        refresh: int = 8,
    ):
        self.groups, self.blur, self.normalise = groups, blur, normalise
        self.in_sd, self.above_chance, self.outlier_sd = in_sd, above_chance, outlier_sd
        self.knots, self.refresh = knots, refresh
        self._member = groups.membership.to(torch.float64)
        self._least = self._member.sum(1).clamp(max=_FEWEST)

    def start_epoch(self, values: Tensor, weights: np.ndarray | None) -> None:
        """Start from the pairs' latest values (N,) and weights (N,), which reduce the effect of flagged pairs.

        NaN is a pair without a value yet: it counts once `term` has seen it, and a group counts from ten such values on.
        """
        self.values = values.to(torch.float64, copy=True)
        self._given = torch.ones_like(self.values) if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        self._seen = ~self.values.isnan()
        self._typical = torch.ones_like(self._seen)
        self.values.nan_to_num_(0.0)
        self._steps = 0

    def solve(self) -> Tensor:
        """Divergence of every group, shape (G,); stores the potentials' slopes for `term`."""
        if self.outlier_sd:
            self._leave_outliers_out()
        self.weights = self._given * self._typical * self._seen
        mass = self._member * self.weights
        group_mass, everyone = mass.sum(1, keepdim=True), self.weights.sum()
        present = group_mass.clamp_min(1e-12)
        total = self.weights / everyone
        centre = (total * self.values).sum().abs().clamp_min(1e-12)
        self._scale = (
            (mass @ self.values / present[:, 0]).abs().clamp_min(1e-12)
            if self.normalise
            else centre.new_ones(len(mass))
        )
        self._total_scale = centre if self.normalise else centre.new_ones(())
        known = self.values[self._seen & self._typical]
        low_to_high = torch.stack([known / s for s in (*self._scale.unique(), self._total_scale)])
        self._low, high = low_to_high.min(), low_to_high.max()
        self._step = ((high - self._low) / (self.knots - 1)).clamp_min(1e-12)
        grid = self._low + self._step * torch.arange(self.knots, dtype=torch.float64)
        masses = self._bin(self.values / self._scale[:, None], mass / present)
        everyone_mass = self._bin((self.values / self._total_scale)[None], total[None])[0]
        result = group_sinkhorn(grid, masses, everyone_mass, blur=self.blur, scale="sd")
        # The derivative by a value is the slope of the potential there, times the mass.
        enough = self._member @ self._seen.to(torch.float64) >= self._least
        sd = (total @ (self.values - total @ self.values) ** 2).sqrt() / self._total_scale if self.in_sd else 1.0
        self._coefficient = self.groups.coefficient * (~result.empty & enough) / (sd + 1e-12)
        if self.above_chance:
            self._coefficient = self._coefficient * self._above_chance(mass, total, result.value)
        coefficient = self._coefficient[:, None]
        self._group_slope = coefficient * result.group_slope
        self._total_slope = (coefficient * result.everyone_slope).sum(0)
        self._group_mass, self._everyone = present[:, 0], everyone
        self._n_seen = int(self._seen.sum())
        self.divergence = result.value
        return self.divergence

    def term(self, rows: Tensor, live: Tensor, lowest: float = -math.inf, highest: float = math.inf) -> Tensor:
        """The weighted divergence as a scalar whose gradient reaches `live` (shape (B,), on the model's device).

        The live values replace the stored ones of their rows. The gradient at a pair is clipped to `lowest` and `highest`
        times the pair's weight. Without a limit a single pair of a small group would outweigh the rest of its batch: in a
        group of 30 it represents 1/30 of the mass.
        """
        value = live.detach().to("cpu", torch.float64)
        self.values[rows] = value
        self._seen[rows] = True
        if self._steps % self.refresh == 0:
            self.solve()
        self._steps += 1
        member, weight = self._member[:, rows], self._given[rows] * self._typical[rows]
        share = self._n_seen / len(rows)  # the batch represents all pairs that the masses are of
        slope = self._slope(self._group_slope, value / self._scale[:, None]) / self._scale[:, None]
        pull = (member * weight / self._group_mass[:, None] * slope).sum(0)
        everyone_slope = self._slope(self._total_slope[None], (value / self._total_scale)[None])[0] / self._total_scale
        pull = share * (pull + weight / self._everyone * everyone_slope)
        pull = pull.maximum((lowest * weight).nan_to_num(nan=0.0)).minimum((highest * weight).nan_to_num(nan=0.0))
        surrogate = (pull.to(live) * live).sum()
        level = (self.divergence * self._coefficient).sum().to(live)
        return level + surrogate - surrogate.detach()

    def _leave_outliers_out(self) -> None:
        """Decide which of the seen pairs are part of the divergence."""
        trusted = torch.nonzero(self._seen & (self._given >= 0.5))[:, 0]
        if len(trusted) == 0:
            return
        values = math.copysign(1.0, self.outlier_sd) * self.values[trusted].numpy()
        values = within_groups(values, self.groups.membership[:, trusted].numpy())
        centre, spread = location_and_spread(values, "mad")
        self._typical = self._given >= 0.5
        self._typical[trusted] = torch.from_numpy(values <= centre + abs(self.outlier_sd) * spread)

    def _above_chance(self, mass: Tensor, total: Tensor, divergence: Tensor) -> Tensor:
        """The share (G,) of each divergence above twice its level by chance; sizes are those of equally weighted pairs."""
        variance = total @ (self.values - total @ self.values) ** 2 / self._total_scale**2
        n = mass.sum(1) ** 2 / (mass**2).sum(1).clamp_min(1e-12)
        twice = _TWICE_CHANCE * variance * (1 / n.clamp_min(1e-12) - (total**2).sum())
        return (1 - twice / divergence.clamp_min(1e-12)).clamp_min(0)

    def _bin(self, values: Tensor, masses: Tensor) -> Tensor:
        place = ((values - self._low) / self._step).clamp(0, self.knots - 1).expand(masses.shape)
        left = place.floor().clamp(max=self.knots - 2)
        right_share = place - left
        out = torch.zeros(len(masses), self.knots, dtype=torch.float64)
        out.scatter_add_(1, left.long(), masses * (1 - right_share))
        return out.scatter_add_(1, left.long() + 1, masses * right_share)

    def _slope(self, slopes: Tensor, values: Tensor) -> Tensor:
        place = ((values - self._low) / self._step).clamp(0, self.knots - 1)
        left = place.floor().clamp(max=self.knots - 2)
        share, index = place - left, left.long()
        index = index.expand(len(slopes), -1)
        return slopes.gather(1, index) * (1 - share) + slopes.gather(1, index + 1) * share


@dataclass(frozen=True)
class GroupDistances:
    """How far each of G groups is from everyone; float64 Tensors of shape (G,), in the unit of the values squared.

    Attributes
    ----------
    value, chance : Tensor
        S_ε of all pairs, and its mean when the values are shuffled over the pairs.
    weighted, weighted_chance : Tensor
        The same where each pair counts by its weight; NaN for a group without weight.
    """

    value: Tensor
    chance: Tensor
    weighted: Tensor
    weighted_chance: Tensor


def group_distances(
    groups: Groups, values: Tensor, weights: np.ndarray, *, blur: float, seed: int, n_shuffles: int = 10
) -> GroupDistances:
    """Every group's divergence from everyone, with its level by chance, over all pairs and by the pairs' weights.

    A group of n pairs differs from everyone by chance alone, the more the smaller it is. The shuffles keep the sizes of the
    groups and each value's weight. The same seed gives the same shuffles, so curves over epochs share them. They are
    solved on half the knots: the level changes by about 3 % and takes an eighth of the time.

    Parameters
    ----------
    groups : Groups
        Over N pairs.
    values : Tensor of shape (N,)
    weights : ndarray of shape (N,)
        ≥ 0, and not all 0.
    blur : float
        √ε in standard deviations of everyone's values.

    Examples
    --------
    >>> import numpy as np, torch
    >>> losses = torch.tensor([0.0, 1.0] * 50 + [5.0])              # the pair of loss 5 has no weight
    >>> race = Groups.of({"race": ["A"] * 50 + ["B"] * 51})
    >>> found = group_distances(race, losses, np.r_[np.ones(100), 0.0], blur=0.25, seed=0)
    >>> bool((found.value > 1e-4).all()), bool((found.weighted < 1e-9).all())
    (True, True)
    """
    value, chance = _with_chance(groups, values, np.ones(len(values)), blur, seed, n_shuffles)
    if np.ptp(weights) == 0:
        return GroupDistances(value, chance, value, chance)
    return GroupDistances(value, chance, *_with_chance(groups, values, weights, blur, seed, n_shuffles))


def _with_chance(
    groups: Groups, values: Tensor, weights: np.ndarray, blur: float, seed: int, n_shuffles: int
) -> tuple[Tensor, Tensor]:
    exact, fast = LedgerDivergence(groups, blur=blur), LedgerDivergence(groups, blur=blur, knots=48)
    exact.start_epoch(values, weights)
    value, chance = exact.solve(), torch.zeros(len(groups.names), dtype=torch.float64)
    rng = np.random.default_rng(seed)
    for _ in range(n_shuffles):
        order = rng.permutation(len(values))
        fast.start_epoch(values[torch.from_numpy(order)], weights[order])
        chance += fast.solve() / n_shuffles
    empty = groups.membership.to(torch.float64) @ torch.as_tensor(weights, dtype=torch.float64) <= 0
    return torch.where(empty, torch.nan, value), torch.where(empty, torch.nan, chance)


class ReleasedDivergence:
    """The fairness term of the released research code, kept for comparison; see docs/released.md.

    It runs one extra forward pass for each group and step, without gradient. Similarities are the diagonal of
    logits·logits; the group's are divided by their sum, the batch's are not. The distances are summed over groups. A blur
    of 1e-4 on values in the hundreds is the Wasserstein limit W₂²/2, which sorting computes exactly for two samples of the
    same size. Groups smaller than a batch are drawn with repetition; the released loader stops there.
    """

    def __init__(self, groups: Groups, batch_size: int, generator: torch.Generator):
        self.streams = [self._stream(torch.nonzero(m)[:, 0], batch_size, generator) for m in groups.membership]

    @staticmethod
    def _stream(rows: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        while True:
            order = rows[torch.randperm(len(rows), generator=generator)]
            repeats = -(-batch_size // len(order))
            order = order.repeat(repeats)
            for start in range(0, len(order) - batch_size + 1, batch_size):
                yield order[start : start + batch_size]

    @staticmethod
    def similarity(logits: Tensor) -> Tensor:
        """diag(logits · logits), shape (B,)."""
        return (logits * logits.T).sum(1).float()

    def distance(self, batch_logits: Tensor, group_logits: Tensor) -> Tensor:
        """Distance of one group's values to the batch's; the gradient reaches the batch only."""
        group = self.similarity(group_logits.detach())
        ordered, target = self.similarity(batch_logits).sort().values, (group / group.sum()).sort().values
        return 0.5 * ((ordered - target) ** 2).mean()
