"""Predictions with a known AUC in every group, and slow textbook forms to compare with."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


def binormal(rng, sizes, aucs, prevalence=0.5):
    """(label, score in (0, 1), group) with exactly these group sizes and, in the long run, these AUCs."""
    group = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
    label = rng.random(len(group)) < prevalence
    distance = np.repeat(np.sqrt(2) * ndtri(np.asarray(aucs)), sizes)
    score = rng.normal(size=len(group)) + distance * (label - 0.5)
    return label, 1 / (1 + np.exp(-score)), group


def auc_by_pairs(label, score):
    """Every positive against every negative."""
    label, score = np.asarray(label, bool), np.asarray(score)
    beats = score[label][:, None] - score[~label][None, :]
    return float(((beats > 0) + 0.5 * (beats == 0)).mean())
