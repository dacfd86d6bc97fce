"""Scores of a model for the label: zero-shot by the data set's two prompts, and a linear probe on frozen features."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from .errors import InputError
from .models import Clip


@torch.inference_mode()
def zero_shot(clip: Clip, image_features: Tensor, prompts: tuple[str, str]) -> np.ndarray:
    """Probability of the positive class by the softmax over two prompts (Radford et al., arXiv 2103.00020, section 3.1).

    Parameters
    ----------
    image_features : Tensor of shape (N, D)
        Unit norm.
    prompts : (negative, positive)

    Returns
    -------
    float64 ndarray of shape (N,), in [0, 1]
    """
    tokens, _ = clip.tokens(list(prompts))
    was_training = clip.module.training
    clip.module.eval()
    classes = clip.encode_notes(tokens).float().cpu()
    clip.module.train(was_training)
    logits = clip.scale.detach().float().cpu() * image_features @ classes.T
    return logits.double().softmax(1)[:, 1].numpy()


def linear_probe(train_features: Tensor, train_label: np.ndarray, features: Tensor) -> np.ndarray:
    """Probability of the positive class by logistic regression on frozen image features.

    Parameters
    ----------
    train_features : Tensor of shape (N, D)
    train_label : int ndarray of shape (N,), 0 or 1
    features : Tensor of shape (M, D)

    Returns
    -------
    float64 ndarray of shape (M,), in [0, 1]

    Raises
    ------
    InputError
        The training labels are all one class.
    """
    if len(np.unique(train_label)) < 2:
        raise InputError("the linear probe needs both labels among the training pairs")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train_features.double().numpy(), train_label)
    return probe.predict_proba(features.double().numpy())[:, 1]
