"""Mining a stored run again with other settings: that needs its ledger, but no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..config import MiningConfig
from ..ledger import PairLossLedger
from ..mining import MiningAudit, MiningResult, audit_mining
from ..runs import Run

COLUMNS = ("pair_id", "patient_id", "split", "kind", "mean_loss", "z", "weight")


@dataclass(frozen=True)
class MinedRun:
    """What mining says about a run's training pairs.

    Attributes
    ----------
    result : MiningResult
    audit : MiningAudit
        Whether one group loses more of its data than others.
    rows : DataFrame
        pair_id, patient_id, split, kind, mean_loss, z, weight and the attributes; most suspicious first (largest |z|).
    """

    run_id: str
    result: MiningResult
    audit: MiningAudit
    rows: pd.DataFrame

    def to_dict(self, rows: pd.DataFrame | None = None) -> dict[str, Any]:
        """Plain values for JSON; `rows` picks some of them."""
        rows = self.rows if rows is None else rows
        records = rows.astype(object).where(rows.notna(), None).to_dict("records")
        result = self.result
        return {
            "run_id": self.run_id,
            "n_pairs": len(self.rows),
            "n_flagged": result.n_flagged,
            "mean": result.mu,
            "spread": result.sigma,
            "faulty_above": _number(result.faulty_above),
            "noisy_below": _number(result.noisy_below),
            "message": result.message,
            "audit": self.audit.to_dict(),
            "rows": records,
        }


def mine_again(run: Run, **changes: Any) -> MinedRun:
    """Mine a run's ledger with its own settings, or with some of them changed (None: as in the run).

    Raises
    ------
    InputError
        A setting out of range, or a run without a ledger.
    """
    return mine_ledger(run.id, run.ledger(), run.pairs(), run.data["attributes"], run.config.mining, **changes)


def mine_ledger(
    run_id: str,
    ledger: PairLossLedger,
    pairs: pd.DataFrame,
    attributes: list[str],
    settings: MiningConfig,
    **changes: Any,
) -> MinedRun:
    """As `mine_again`, from the parts of a run."""
    result = settings.mine(ledger, **changes)
    frame = result.to_frame()[["pair_id", "kind", "mean_loss", "z", "weight"]]
    frame["kind"] = frame["kind"].astype(str)
    of_pair = pairs.set_index("pair_id").reindex(frame["pair_id"]).reset_index(drop=True)
    frame = pd.concat([frame, of_pair], axis=1)
    audit = audit_mining(result, {name: frame[name].astype(str).to_numpy() for name in attributes})
    order = np.lexsort((-frame["z"].abs().to_numpy(), (frame["kind"] == "clean").to_numpy()))
    rows = frame.iloc[order][[*COLUMNS, *attributes]].reset_index(drop=True)
    for name in attributes:
        rows[name] = rows[name].astype(str)
    return MinedRun(run_id, result, audit, rows)


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
