"""Sinkhorn divergences between distributions of numbers: of two samples, of all groups against everyone, of millions.

    S_ε(a, b) = OT_ε(a, b) − ½ OT_ε(a, a) − ½ OT_ε(b, b),     cost (x − y)²/2,  ε = blur²,

with OT_ε the entropic problem with KL to the product measure (Feydy et al., AISTATS 2019). It is 0 for equal distributions,
positive otherwise, smooth, and tends to half the squared Wasserstein distance as blur → 0.
"""

from __future__ import annotations

from .divergence import ConvergenceWarning, SinkhornResult, sinkhorn_divergence
from .groups import GroupSinkhorn, group_sinkhorn

__all__ = ["ConvergenceWarning", "GroupSinkhorn", "SinkhornResult", "group_sinkhorn", "sinkhorn_divergence"]
