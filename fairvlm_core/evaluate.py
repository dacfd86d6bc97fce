"""Scores of a model for the label: zero-shot by the data set's two prompts, and a linear probe on frozen features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError
from .models import Clip

_NARROW = 512  # features; wider ones need a stronger penalty
_STRENGTH, _STRENGTH_WIDE = 0.1, 0.001  # C of the probe


@torch.inference_mode()
def zero_shot(clip: Clip, image_features: Tensor, prompts: tuple[Sequence[str], Sequence[str]]) -> np.ndarray:
    """Probability of the positive class by the softmax over two classes (Radford et al., arXiv 2103.00020, section 3.1).

    A class is the mean of its prompts' unit-norm features, normalised (prompt ensembling, section 3.1.4 there).

    Parameters
    ----------
    image_features : Tensor of shape (N, D)
        Unit norm.
    prompts : (prompts of the negative class, prompts of the positive class)

    Returns
    -------
    float64 ndarray of shape (N,), in [0, 1]
    """
    was_training = clip.module.training
    clip.module.eval()
    classes = torch.stack([_class_feature(clip, one) for one in prompts])
    clip.module.train(was_training)
    logits = clip.scale.detach().float().cpu() * image_features @ classes.T
    return logits.double().softmax(1)[:, 1].numpy()


def _class_feature(clip: Clip, prompts: Sequence[str]) -> Tensor:
    features = clip.encode_notes(clip.tokens(list(prompts))[0]).float().cpu()
    return features[0] if len(features) == 1 else F.normalize(features.mean(0), dim=0)


def linear_probe(features: Tensor, label: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Probability of the positive class by logistic regression on standardised frozen image features.

    Parameters
    ----------
    features : Tensor of shape (N, D)
    label : int ndarray of shape (N,), 0 or 1
    train : int ndarray
        Rows that the regression is fitted on.

    Returns
    -------
    float64 ndarray of shape (N,), in [0, 1]

    Raises
    ------
    InputError
        The training labels are all one class.
    """
    if len(np.unique(label[train])) < 2:
        raise InputError("the linear probe needs both labels among the training pairs")
    values = features.double().numpy()
    strength = _STRENGTH if values.shape[1] <= _NARROW else _STRENGTH_WIDE
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=strength))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(values[train], label[train])
    return probe.predict_proba(values)[:, 1]
