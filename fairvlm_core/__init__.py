"""fairvlm: robust and fair fine-tuning of vision-language models on medical image-note pairs.

The names below are the public interface. They are imported on first use: commands that need no model, such as
``fairvlm metrics``, do not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "InputError": "errors",
    "PairTable": "pairs",
    "PairLossLedger": "ledger",
    "RunConfig": "config",
    "PRESETS": "config",
    "Run": "runs",
    "RunStore": "runs",
    "FairnessReport": "fairness",
    "equity_scaled_auc": "fairness",
    "bands": "cells",
    "audit_mining": "mining",
    "mine_bad_pairs": "mining",
    "sinkhorn_divergence": "sinkhorn",
    "fit": "train",
}
__all__ = [
    "PRESETS",
    "FairnessReport",
    "InputError",
    "PairLossLedger",
    "PairTable",
    "Run",
    "RunConfig",
    "RunStore",
    "audit_mining",
    "bands",
    "equity_scaled_auc",
    "fit",
    "mine_bad_pairs",
    "sinkhorn_divergence",
]

if TYPE_CHECKING:
    from .cells import bands
    from .config import PRESETS, RunConfig
    from .errors import InputError
    from .fairness import FairnessReport, equity_scaled_auc
    from .ledger import PairLossLedger
    from .mining import audit_mining, mine_bad_pairs
    from .pairs import PairTable
    from .runs import Run, RunStore
    from .sinkhorn import sinkhorn_divergence
    from .train import fit


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
