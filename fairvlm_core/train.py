"""Fine-tuning, top to bottom: one loop for every preset.

What a preset changes are three small objects made before the loop: who mines (`_Miner`), which Sinkhorn term there is, and
which parameters learn. All random draws come from (seed, epoch), so a run that stopped after any epoch goes on bit for bit
from that epoch's :class:`TrainState`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .adapt import finished, prepare
from .config import RunConfig
from .distributed import ALONE, Team, device_of, embed_together, encode, set_checkpointing, set_up
from .errors import InputError, TrainingError
from .evaluate import linear_probe, zero_shot
from .fairness import FairnessReport
from .features import PairArrays, pair_arrays
from .ledger import PairLossLedger
from .mining import MiningResult, margin, mine_bad_pairs, outlyingness, pair_weights, word_features
from .models import Clip, load_clip
from .objective import Groups, LedgerDivergence, ReleasedDivergence, pair_losses
from .pairs import PairTable
from .running import RunningMismatch, WeightAverage, copied

_LARGEST_LOGIT_SCALE = math.log(100.0)
_RELEASED_SD = 3.0


@dataclass(frozen=True)
class EpochReport:
    """What is known after an epoch; plain values, one line of a run's metrics.

    `val` holds AUC, ES-AUC and group AUC of the validation split; `sinkhorn` one entry a quantity, attribute and group.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val: dict[str, Any]
    sinkhorn: list[dict[str, Any]]
    flagged: dict[str, int]
    mean_weight: float
    learning_rate: float
    seconds: float
    step_seconds: float
    best: bool


@dataclass
class TrainState:
    """Everything a run needs to go on after `epoch` epochs; tensors and plain values only, safe to load without pickle.

    `on_epoch` gets it by reference: save or copy it before the next step changes it.
    """

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    ledger: dict[str, Any]
    slots: Tensor
    best_epoch: int
    best_value: float
    best_model: dict[str, Tensor]
    history: list[dict[str, Any]] = field(default_factory=list)
    mismatch: dict[str, Any] | None = None
    average: dict[str, Any] | None = None


@dataclass(frozen=True)
class FitResult:
    """A finished run.

    Attributes
    ----------
    clip : Clip
        The model of the epoch that validation selected.
    ledger : PairLossLedger
        Raw losses (and similarities, margins) of every training pair in every epoch.
    mining : MiningResult
        Mined from the whole ledger with the run's settings.
    history : list of EpochReport
    predictions : DataFrame
        Validation and test pairs: pair_id, patient_id, split, label, score (zero-shot), probe_score, attributes.
    image_features, text_features : float32 ndarray of shape (N, D)
        Of all pairs of the table, by the selected model.
    val, test : FairnessReport
        Point values; intervals are added where a reader asks for them.
    best_epoch : int
    """

    clip: Clip
    ledger: PairLossLedger
    mining: MiningResult
    history: list[EpochReport]
    predictions: pd.DataFrame
    image_features: np.ndarray
    text_features: np.ndarray
    val: FairnessReport
    test: FairnessReport
    best_epoch: int


def fit(
    table: PairTable,
    config: RunConfig | str = "clip",
    *,
    state: TrainState | None = None,
    arrays: PairArrays | None = None,
    clip: Clip | None = None,
    trusted: Collection[str] | None = None,
    team: Team = ALONE,
    on_step: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[EpochReport, TrainState], None] | None = None,
) -> FitResult:
    """Fine-tune a CLIP on a table's training pairs and evaluate it.

    Parameters
    ----------
    table : PairTable
        With training, validation and test pairs.
    config : RunConfig or str
        A configuration, or the name of a preset.
    state : TrainState, optional
        Go on from here; the result equals that of the run that was not interrupted.
    arrays, clip : optional
        Model input and model prepared beforehand, when several runs share them; `clip` is trained in place.
    trusted : collection of str, optional
        Pair ids whose weight stays 1 whatever their loss: judged to be right.
    team : Team
        The processes that train this run together; all call `fit` alike and get the same result.
    on_step : callable (steps done, steps in all)
    on_epoch : callable (EpochReport, TrainState)

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        A split is empty or has one label only; an attribute is unknown.
    TrainingError
        The loss is not finite: names step and pairs. Another process of the team is gone.
    """
    config = RunConfig.build(config) if isinstance(config, str) else config
    rows_of = _split_rows(table)
    device = device_of(config.device, team)
    clip = clip if clip is not None else load_clip(config.model, device=device, seed=config.seed)
    clip.module.to(device)
    arrays = arrays if arrays is not None else pair_arrays(table, clip)
    prepared = prepare(clip, arrays, config)
    clip, arrays = prepared.clip, prepared.arrays
    train = rows_of["train"]
    pair_ids = table.pair_ids[train]
    kept = np.isin(pair_ids, list(trusted or ()))
    batch_size = min(config.batch_size, len(train))
    steps_per_epoch = -(-len(train) // batch_size)
    steps = steps_per_epoch * config.epochs
    set_up(clip, config, batch_size, team)

    more = ("disagreement", "mismatch", "outlyingness") if config.mining.rule == "mismatch" else ()
    ledger = PairLossLedger(pair_ids, channels=("loss", "similarity", "margin", *more))
    optimizer = _optimizer(clip, config)
    slots = torch.full((steps_per_epoch, config.epochs), torch.nan)
    mismatch, words = None, None
    if config.mining.enabled and config.mining.rule == "mismatch":
        words = word_features(np.asarray(table.frame["text"], str)[train], seed=config.seed)
    history: list[EpochReport] = []
    best_epoch, best_value, best_model = 0, -math.inf, {}
    if state is not None:
        clip.module.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        ledger = PairLossLedger.from_state_dict(state.ledger)
        slots = state.slots.clone()
        mismatch = state.mismatch and RunningMismatch(words, config.seed, **state.mismatch)
        history = [EpochReport(**line) for line in state.history]
        best_epoch, best_value, best_model = state.best_epoch, state.best_value, state.best_model

    if words is not None and mismatch is None:
        mismatch = RunningMismatch(words, config.seed)
        mismatch.add(*embed_together(clip, arrays, train, team))  # by the model as it comes: no bad pair touched it yet
    attributes = _attributes(table, config)
    groups = Groups.of({name: table.attribute(name)[train] for name in attributes}, config.fairness.attribute_weights)
    all_groups = Groups.of({name: table.attribute(name)[train] for name in table.attributes})
    fairness_on = config.fairness.weight > 0 and len(groups.names) > 0
    term = LedgerDivergence(groups, blur=config.fairness.blur, normalise=config.fairness.normalise == "sum")
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_bf16(config, device))
    features = torch.zeros(2, len(train), _width(clip), dtype=torch.float32)
    average = None
    if config.averaging:
        decay = 1 - 1 / max(1.0, config.averaging * steps)
        average = WeightAverage(clip.module, decay, **((state and state.average) or {}))

    for epoch in range(0 if state is None else state.epoch, config.epochs):
        started = time.perf_counter()
        order = _order(config.seed, epoch, len(train))
        torch.manual_seed(_mix(config.seed, epoch) + team.rank)  # dropout and the like, where a model has it
        clip.module.train()
        mined = _mine(ledger, config, mismatch)
        weights = np.ones(len(train)) if mined is None else np.where(kept, 1.0, mined.weight)
        released = None
        if fairness_on and config.fairness.estimator == "released":
            generator = torch.Generator().manual_seed(_mix(config.seed, epoch, 1))
            released = ReleasedDivergence(groups, batch_size, generator)
        elif fairness_on and epoch > 0:
            term.start_epoch(torch.from_numpy(ledger.channel(config.fairness.quantity)[epoch - 1]), weights)
        used_weight, step_times = 0.0, []

        for slot, (rows, fill) in enumerate(_batches(order, batch_size)):
            tick = time.perf_counter()
            step = epoch * steps_per_epoch + slot
            rate = _learning_rate(config, step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = train[np.concatenate([rows, fill])]

            with autocast:  # this process's share, and with gradient those of the others
                image, text = encode(clip, arrays, batch, team, config.chunk_size)
                pairs = pair_losses(image, text, clip.scale, clip.bias)
            live = pairs.loss[: len(rows)]  # the filling pairs are negatives only
            if not bool(torch.isfinite(live).all()):
                broken = pair_ids[rows[~torch.isfinite(live).cpu().numpy()]]
                raise TrainingError(
                    f"loss is not finite at step {step + 1} of {steps} for pairs {', '.join(broken[:5])}"
                    f"{' and others' if len(broken) > 5 else ''}: lower learning_rate, or look at these pairs"
                )
            if mined is not None:
                weight = pair_weights(mined, rows, live.detach() if config.mining.channel == "loss" else None).to(live)
            elif config.mining.enabled and config.mining.key == "slot":
                weight = _slot_weight(slots, slot, epoch, live.detach().mean()).to(live).expand(len(rows))
            else:
                weight = torch.ones_like(live)
            weight = torch.where(torch.from_numpy(kept[rows]).to(live.device), 1.0, weight)
            total = (weight * live).mean()
            if config.mining.key == "slot":
                slots[slot, epoch] = total.detach().cpu()  # as released: what is remembered is already weighted
            if released is not None:
                total = total + config.fairness.weight * _released_term(
                    released, clip, arrays, train, pairs.logits, team, config.chunk_size
                )
            elif fairness_on and epoch > 0:
                values = live if config.fairness.quantity == "loss" else pairs.similarity[: len(rows)]
                limit = 1 / (config.fairness.weight * len(rows))  # what the pair's own loss pulls, at most
                total = total + config.fairness.weight * term.term(torch.from_numpy(rows), values, limit)

            if not bool(torch.isfinite(total)):
                raise TrainingError(
                    f"the fairness term is not finite at step {step + 1} of {steps}: lower fairness.weight"
                )
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            team.average_gradients(clip.module)
            torch.nn.utils.clip_grad_norm_(clip.module.parameters(), config.gradient_clip)
            optimizer.step()
            with torch.no_grad():
                clip.module.logit_scale.clamp_(0, _LARGEST_LOGIT_SCALE)
            if average is not None:
                average.add(clip.module)

            loss = live.detach().float().cpu()
            similarity = pairs.similarity[: len(rows)].detach().float().cpu()
            ledger.record(epoch, rows, loss=loss.numpy(), similarity=similarity.numpy())
            features[0, rows] = image[: len(rows)].detach().float().cpu()
            features[1, rows] = text[: len(rows)].detach().float().cpu()
            used_weight += float(weight.sum())
            step_times.append(time.perf_counter() - tick)
            if on_step is not None:
                on_step(step + 1, steps)

        every = np.arange(len(train))
        ledger.record(
            epoch, every, margin=margin(features[0], features[1], float(clip.scale.detach()), seed=config.seed)
        )
        if mismatch is not None:
            mismatch.add(features[0], features[1])
            far = outlyingness(features[0], features[1])
            ledger.record(epoch, every, disagreement=mismatch.own, mismatch=mismatch.probability, outlyingness=far)
        ledger.close_epoch(epoch)
        team.agree(epoch + 1, ledger.losses[epoch], clip.module)

        raw = None if average is None else average.swap(clip.module)
        val_loss, val = _validate(clip, arrays, table, rows_of["val"], batch_size, team)
        value = {"auc": val["overall"]["auc"], "es_auc": _mean_es_auc(val), "loss": -val_loss}[config.select_by]
        best = value is not None and value > best_value
        if best:
            best_epoch, best_value, best_model = epoch + 1, value, copied(clip.module.state_dict())
        if raw is not None:
            clip.module.load_state_dict(raw)
        report = EpochReport(
            epoch=epoch + 1,
            train_loss=float(np.mean(ledger.losses[epoch])),
            val_loss=val_loss,
            val=val,
            sinkhorn=_sinkhorn_lines(ledger, epoch, all_groups, config.fairness.blur),
            flagged={"faulty": 0, "noisy": 0} if mined is None else mined.n_flagged,
            mean_weight=used_weight / len(train),
            learning_rate=rate,
            seconds=time.perf_counter() - started,
            step_seconds=float(np.median(step_times)),
            best=best,
        )
        history.append(report)
        if on_epoch is not None:
            on_epoch(
                report,
                TrainState(
                    epoch=epoch + 1,
                    model=copied(clip.module.state_dict()),
                    optimizer=optimizer.state_dict(),
                    ledger=ledger.state_dict(),
                    slots=slots,
                    mismatch=mismatch and mismatch.state(),
                    average=average and average.state(),
                    best_epoch=best_epoch,
                    best_value=best_value,
                    best_model=best_model,
                    history=[asdict(line) for line in history],
                ),
            )

    clip.module.load_state_dict(best_model)
    if config.checkpointing:
        set_checkpointing(clip, False)
    return _evaluate(clip, arrays, table, rows_of, ledger, config, history, best_epoch, team)


def check_table(table: PairTable, config: RunConfig) -> None:
    """Refuse what `fit` would refuse, before anything is launched: empty or one-class splits, unknown attributes."""
    _split_rows(table)
    _attributes(table, config)


# The parts of the loop ------------------------------------------------------------------------------------------------


def _split_rows(table: PairTable) -> dict[str, np.ndarray]:
    rows = {}
    split, label = np.asarray(table.frame["split"], str), table.labels
    for name in ("train", "val", "test"):
        rows[name] = np.flatnonzero(split == name)
        present = np.unique(label[rows[name]])
        if len(rows[name]) == 0:
            raise InputError(f"split {name!r} is empty: training, validation and test pairs are all needed")
        if len(present) < 2 and name != "train":
            raise InputError(f"split {name!r} has label {present[0]} only: AUC needs both labels there")
    if len(rows["train"]) < 2:
        raise InputError("split 'train' has one pair only: a contrastive loss needs at least two")
    return rows


def _attributes(table: PairTable, config: RunConfig) -> tuple[str, ...]:
    chosen = config.fairness.attributes or table.attributes
    for name in (*chosen, *config.fairness.attribute_weights):
        if name not in table.attributes:
            raise InputError(
                f"attribute {name!r} is not in the data; there are {', '.join(table.attributes) or 'none'}"
            )
    return chosen[:1] if config.fairness.only_first else chosen


def _bf16(config: RunConfig, device: torch.device) -> bool:
    if config.precision == "bf16":
        return True
    return config.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()


def _width(clip: Clip) -> int:
    return int(clip.config["model_cfg"]["embed_dim"])


def _optimizer(clip: Clip, config: RunConfig) -> torch.optim.Optimizer:
    decay, plain = [], []
    for parameter in clip.module.parameters():
        if parameter.requires_grad:
            (decay if parameter.ndim >= 2 else plain).append(parameter)
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def _learning_rate(config: RunConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(config.warmup_share * steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng(_mix(seed, epoch, 2)).permutation(n)


def _batches(order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of each batch and the rows that fill a short last one up.

    In-batch losses grow with log B. The last batch is filled with pairs of the same epoch that serve as negatives and
    count neither in the loss nor in the ledger, so that its pairs look like all others.
    """
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, order[: batch_size - len(rows)]


def _mine(ledger: PairLossLedger, config: RunConfig, mismatch: RunningMismatch | None) -> MiningResult | None:
    mining = config.mining
    if not mining.enabled or mining.key == "slot" or ledger.n_epochs < max(mismatch is None, mining.warmup):
        return None
    if mismatch is not None and ledger.n_epochs == 0:
        ledger = PairLossLedger.from_values(mismatch.probability[None], ledger.pair_ids, "mismatch")
    return _mine_with(ledger, config)


def _mine_with(ledger: PairLossLedger, config: RunConfig) -> MiningResult:
    mining = config.mining
    return mine_bad_pairs(
        ledger,
        faulty_sd=mining.faulty_sd,
        noisy_sd=mining.noisy_sd,
        history=mining.history,
        spread=mining.spread,
        warmup=mining.warmup,
        channel=mining.channel if mining.channel in ledger.channels else None,
        rule=mining.rule,
        weights=mining.weights,
    )


def _slot_weight(slots: Tensor, slot: int, epoch: int, loss: Tensor) -> Tensor:
    """As released: the history is that of a position in the epoch, whatever pairs stand there now; an unbounded density."""
    if epoch == 0:
        return torch.ones(())
    means = slots[:, :epoch].mean(1)
    mean, sd = means.mean(), means.std(unbiased=False)
    if abs(means[slot] - mean) <= _RELEASED_SD * sd or sd == 0:
        return torch.ones(())
    loss = loss.cpu()
    return torch.exp(-((loss - mean) ** 2) / (2 * sd**2)) / (sd * math.sqrt(2 * math.pi))


def _released_term(
    released: ReleasedDivergence,
    clip: Clip,
    arrays: PairArrays,
    train: np.ndarray,
    batch_logits: Tensor,
    team: Team,
    chunk_size: int,
) -> Tensor:
    total = batch_logits.new_zeros((), dtype=torch.float32)
    for stream in released.streams:
        with torch.no_grad():
            image, text = encode(clip, arrays, train[next(stream).numpy()], team, chunk_size)
            logits = pair_losses(image, text, clip.scale, clip.bias).logits
        total = total + released.distance(batch_logits, logits)
    return total


def _validate(
    clip: Clip, arrays: PairArrays, table: PairTable, rows: np.ndarray, batch_size: int, team: Team
) -> tuple[float, dict[str, Any]]:
    image, text = embed_together(clip, arrays, rows, team)
    losses = []
    size = min(batch_size, len(rows))
    for start in range(0, len(rows) - size + 1, size):
        part = slice(start, start + size)
        with torch.inference_mode():
            bias = None if clip.bias is None else clip.bias.float().cpu()
            losses.append(pair_losses(image[part], text[part], clip.scale.detach().float().cpu(), bias).loss)
    score = zero_shot(clip, image, table.info.prompts)
    return float(torch.cat(losses).mean()), _report(table, rows, score).to_dict()


def _report(table: PairTable, rows: np.ndarray, score: np.ndarray) -> FairnessReport:
    return FairnessReport.from_predictions(
        table.labels[rows],
        score,
        {name: table.attribute(name)[rows] for name in table.attributes},
        patients=np.asarray(table.frame["patient_id"], str)[rows],
        n_resamples=0,
        n_permutations=0,
    )


def _mean_es_auc(report: dict[str, Any]) -> float | None:
    values = [a["es_auc"] for a in report["attributes"].values() if a["es_auc"] is not None]
    return float(np.mean(values)) if values else None


def _sinkhorn_lines(ledger: PairLossLedger, epoch: int, groups: Groups, blur: float) -> list[dict[str, Any]]:
    """The divergence of every group, unweighted, so that runs of all presets can be compared."""
    lines = []
    if not groups.names:
        return lines
    for quantity in ("loss", "similarity"):
        divergence = LedgerDivergence(groups, blur=blur)
        divergence.start_epoch(torch.from_numpy(ledger.channel(quantity)[epoch]), None)
        values = divergence.solve()
        for (attribute, group), n, value in zip(
            groups.names, groups.membership.sum(1).tolist(), values.tolist(), strict=True
        ):
            lines.append({"quantity": quantity, "attribute": attribute, "group": group, "n": n, "value": value})
    return lines


def _evaluate(
    clip: Clip,
    arrays: PairArrays,
    table: PairTable,
    rows_of: dict[str, np.ndarray],
    ledger: PairLossLedger,
    config: RunConfig,
    history: list[EpochReport],
    best_epoch: int,
    team: Team,
) -> FitResult:
    """The test split is scored here, once, by the model that validation selected."""
    image, text = embed_together(clip, arrays, team=team)
    score = zero_shot(clip, image, table.info.prompts)
    held_out = np.concatenate([rows_of["val"], rows_of["test"]])
    label = table.labels
    frame = table.frame.iloc[held_out]
    predictions = frame[["pair_id", "patient_id", "split", "label"]].reset_index(drop=True)
    predictions["score"] = score[held_out]
    if len(np.unique(label[rows_of["train"]])) == 2:
        predictions["probe_score"] = linear_probe(image[rows_of["train"]], label[rows_of["train"]], image[held_out])
    else:
        predictions["probe_score"] = np.nan
    for name in table.attributes:
        predictions[name] = table.attribute(name)[held_out]
    return FitResult(
        clip=finished(clip),
        ledger=ledger,
        mining=_mine_with(ledger, config),
        history=history,
        predictions=predictions,
        image_features=image.numpy(),
        text_features=text.numpy(),
        val=_report(table, rows_of["val"], score[rows_of["val"]]),
        test=_report(table, rows_of["test"], score[rows_of["test"]]),
        best_epoch=best_epoch,
    )
