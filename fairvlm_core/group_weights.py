"""How groups count in training. Presets differ in the group method that they use.

The loop takes its batches from a `GroupWeights`, and multiplies each pair's loss by the weight that it gives. Weights have
the mean 1, so that learning rate and λ mean the same for every method. They are not the miner's weights: both are
multiplied. `GroupWeights` itself changes nothing; `InverseFrequency` weighs groups, `BalancedBatches` draws them equally
often, `GroupDRO` weighs the worst group up, and `InferredGroups` does so for clusters of images instead of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from .config import GroupsConfig
from .objective import Groups

Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Sampling:
    """What batches are drawn from.

    Attributes
    ----------
    n : int
        Number of training pairs N.
    batch_size : int
        B, at most N.
    generator_of : callable (epoch) -> numpy Generator
        For the batches of an epoch.
    """

    n: int
    batch_size: int
    generator_of: Callable[[int], np.random.Generator]


class GroupWeights:
    """Every pair counts alike and comes once an epoch. Base class of the others."""

    observes_pretrained = False  # whether `observe` is to be called before the first epoch

    def __init__(self, sampling: Sampling):
        self._sampling = sampling

    def batches(self, epoch: int) -> Iterator[Batch]:
        """⌈N/B⌉ batches: the rows of each, and the rows that fill it up to B as negatives."""
        order = self._sampling.generator_of(epoch).permutation(self._sampling.n)
        return filled_batches(order, self._sampling.batch_size, order)

    def weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:  # noqa: ARG002
        """Weights (B,) of a batch's pairs, without gradient."""
        return torch.ones_like(losses)

    def observe(self, image: Tensor) -> None:
        """Take in the pretrained model's image features (N, D)."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `load` continues."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass


class InverseFrequency(GroupWeights):
    """A pair counts as the inverse of its group's share: all groups of an attribute have the same total weight.

    Parameters
    ----------
    weight : float64 ndarray of shape (N,)
        As `inverse_frequency` gives it.
    """

    def __init__(self, sampling: Sampling, weight: np.ndarray):
        super().__init__(sampling)
        self._weight = torch.from_numpy(weight)

    def weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:
        return self._weight[rows].to(losses)


class BalancedBatches(GroupWeights):
    """Group-balanced sampling: as many batches an epoch as otherwise, but all groups of an attribute come equally often.

    A pair's chance is proportional to its inverse group frequency. So one attribute is balanced exactly as far as the cap
    and the size of its groups allow, and several are balanced on average over them. No pair comes twice in a batch, since
    a copy would be a negative of its own pair.

    Parameters
    ----------
    weight : float64 ndarray of shape (N,)
        As `inverse_frequency` gives it.
    """

    def __init__(self, sampling: Sampling, weight: np.ndarray):
        super().__init__(sampling)
        self._share = inclusion(weight, sampling.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        generator = self._sampling.generator_of(epoch)
        for _ in range(-(-self._sampling.n // self._sampling.batch_size)):
            yield systematic_draw(self._share, generator), np.array([], np.int64)


class GroupDRO(GroupWeights):
    """Group distributionally robust optimisation, online (Sagawa et al., ICLR 2020, arXiv 1911.08731, algorithm 1).

    Each attribute has a distribution q over its groups, at first uniform. In every step, with L_g the mean loss of the
    batch's pairs of group g,

        q_g ← q_g exp(η L_g), divided by Σ q;        loss = Σ_g q_g L_g.

    Groups that are not in the batch keep their q. The others share what is left of 1, and their shares are scaled to the
    sum 1 in the loss. Several attributes are averaged. Unlike the paper's, batches are not drawn by group.

    Parameters
    ----------
    groups : Groups
        Over the N training pairs.
    step_size : float
        η, above 0.
    """

    q: Tensor

    def __init__(self, sampling: Sampling, groups: Groups, step_size: float):
        super().__init__(sampling)
        self._step_size = step_size
        self._use(groups)

    def weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:
        live, member = losses.detach().to("cpu", torch.float64), self._member[:, rows]
        count = member.sum(1)
        mean = member @ live / count.clamp_min(1)
        present = count > 0
        grown = self._normalised(torch.where(present, self.q * torch.exp(self._step_size * (mean - mean.max())), 0.0))
        self.q = torch.where(present, grown * self._total(self.q * present), self.q)
        each = grown / count.clamp_min(1)
        return (len(rows) / len(self._of_attribute) * (each @ member)).to(losses)

    def state(self) -> dict[str, Any]:
        return {"q": self.q}

    def load(self, state: dict[str, Any]) -> None:
        self.q = state["q"].clone()

    def _use(self, groups: Groups) -> None:
        """Start with these groups, their q uniform."""
        attributes = dict.fromkeys(attribute for attribute, _ in groups.names)
        of = [[attribute == name for attribute, _ in groups.names] for name in attributes]
        self._of_attribute = torch.tensor(of, dtype=torch.float64)  # (attributes, G)
        self._member = groups.membership.double()
        self.q = self._normalised(torch.ones(len(groups.names), dtype=torch.float64))

    def _total(self, q: Tensor) -> Tensor:
        """For each group (G,) the sum over the groups of its attribute."""
        return self._of_attribute.T @ (self._of_attribute @ q)

    def _normalised(self, q: Tensor) -> Tensor:
        return q / self._total(q)


class InferredGroups(GroupDRO):
    """Group DRO over groups that are inferred from the images: no attribute is used (after arXiv 2508.09087).

    Akash et al. cluster image embeddings into proxy groups and weigh clusters up that are served worse. Taken from them:
    the clusters (here k-means of the pretrained model's image features, once), and that the worst count more. Simplified:
    the weights are those of group DRO. Theirs come from the similarity of the gradients of two losses, of which the second
    compares images with images, and only the top k enter.

    Parameters
    ----------
    clusters : int
        At most N are used.
    step_size : float
        η of group DRO.
    seed : int
        For k-means.
    """

    observes_pretrained = True

    def __init__(self, sampling: Sampling, clusters: int, step_size: float, seed: int):
        GroupWeights.__init__(self, sampling)
        self._clusters, self._step_size, self._seed = min(clusters, sampling.n), step_size, seed

    def observe(self, image: Tensor) -> None:
        means = KMeans(self._clusters, n_init=10, random_state=self._seed)
        self._found(means.fit_predict(image.detach().cpu().double().numpy()))

    def state(self) -> dict[str, Any]:
        return super().state() | {"cluster": self._cluster}

    def load(self, state: dict[str, Any]) -> None:
        self._found(state["cluster"].numpy())
        super().load(state)

    def _found(self, cluster: np.ndarray) -> None:
        self._cluster = torch.from_numpy(cluster.astype(np.int64))
        self._use(Groups.of({"cluster": cluster.astype(str).tolist()}))


def make_group_weights(config: GroupsConfig, sampling: Sampling, groups: Groups, seed: int) -> GroupWeights:
    """The group method of a configuration; `groups` are those of the N training pairs."""
    if config.method == "none":
        return GroupWeights(sampling)
    if config.method == "inferred":
        return InferredGroups(sampling, config.clusters, config.step_size, seed)
    if config.method == "dro":
        return GroupDRO(sampling, groups, config.step_size)
    kind = InverseFrequency if config.method == "reweight" else BalancedBatches
    return kind(sampling, inverse_frequency(groups, config.cap))


def inverse_frequency(groups: Groups, cap: float) -> np.ndarray:
    """N / (K n_g) for a pair of a group of n_g, where its attribute has K groups; averaged over attributes.

    Parameters
    ----------
    groups : Groups
    cap : float
        Weights above it are set to it, 1 or more. Then all are divided by their mean.

    Returns
    -------
    float64 ndarray of shape (N,)
        Mean 1.

    Examples
    --------
    >>> inverse_frequency(Groups.of({"race": ["a", "a", "a", "b"]}), cap=10).round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]
    """
    member = groups.membership.numpy()
    attributes = [attribute for attribute, _ in groups.names]
    k = np.array([attributes.count(attribute) for attribute in attributes])
    weight = (1 / (k * member.sum(1))) @ member * member.shape[1] / len(set(attributes))
    weight = np.minimum(weight, cap)
    return weight / weight.mean()


def inclusion(weight: np.ndarray, size: int) -> np.ndarray:
    """Chance of each pair to be in a batch of `size`: proportional to its weight (N,) and at most 1; the sum is `size`.

    >>> inclusion(np.array([1.0, 1.0, 1.0, 5.0]), 2).round(2).tolist()
    [0.33, 0.33, 0.33, 1.0]
    """
    share, certain = np.zeros(len(weight)), np.zeros(len(weight), bool)
    while True:
        rest = np.where(certain, 0.0, weight)
        share = np.where(certain, 1.0, (size - certain.sum()) * rest / max(rest.sum(), 1e-300))
        if not (share > 1).any():
            return share
        certain |= share >= 1


def systematic_draw(share: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Distinct rows, each with its chance: systematic sampling in random order (Madow, Ann. Math. Stat. 20, 1949).

    Parameters
    ----------
    share : float64 ndarray of shape (N,)
        As `inclusion` gives it; the sum is the number of rows drawn.
    """
    order = generator.permutation(len(share))
    ends = np.cumsum(share[order])
    points = generator.random() + np.arange(round(ends[-1]))
    return order[np.minimum(np.searchsorted(ends, points, side="right"), len(order) - 1)]


def filled_batches(rows: np.ndarray, batch_size: int, others: np.ndarray) -> Iterator[Batch]:
    """Parts of `rows` of the batch's size, each with rows from `others` that fill up a short one.

    In-batch losses grow with log B. The last batch is filled with pairs that serve as negatives and count neither in the
    loss nor in the ledger, so that its pairs are comparable with all others.
    """
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield part, others[: batch_size - len(part)]
