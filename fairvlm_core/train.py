"""Fine-tuning, top to bottom: one loop for every preset.

Presets differ in three objects of the loop: the miner (`miners.py`), which gives pairs their weights, the fairness term
(`fairness_terms.py`), and the group method (`group_weights.py`), which draws batches and weighs groups. All random draws
come from (seed, epoch): a run that stopped after any epoch continues bit for bit from that epoch's `TrainState`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from .adapt import Prepared, finished, prepare
from .config import RunConfig
from .distributed import ALONE, Team, device_of, embed_together, encode, set_checkpointing, set_up
from .errors import InputError, TrainingError
from .evaluate import linear_probe, zero_shot
from .fairness import FairnessReport
from .fairness_terms import FairnessTerm, LedgerTerm, ReleasedTerm
from .features import PairArrays, PairEmbeddings, pair_arrays
from .group_weights import GroupWeights, Sampling, filled_batches, make_group_weights
from .ledger import PairLossLedger
from .miners import Miner, make_miner
from .mining import MiningResult, margin
from .model_state import ChosenEpoch, WeightAverage, copied
from .models import Clip, choose_model, load_clip
from .objective import Groups, PairLosses, group_distances, pair_losses
from .pairs import PairTable
from .validation import point_report, selecting, standard_error, validate

_LARGEST_LOGIT_SCALE = math.log(100.0)


@dataclass(frozen=True)
class EpochReport:
    """What is recorded after an epoch: plain values, one line of metrics.jsonl.

    `val` holds AUC, ES-AUC and group AUC of the validation split; `sinkhorn` one entry a quantity, attribute and group: its
    `n` pairs and the values of `GroupDistances`, by the weights that the miner gave at the start of the epoch.
    `test_auc` is None unless `test_every_epoch` is set.
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
    test_auc: float | None = None


@dataclass
class TrainState:
    """What a run needs to continue after `epoch` epochs; tensors and plain values only, safe to load without pickle.

    `on_epoch` gets it by reference: save or copy it before the next step changes it.
    """

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    ledger: dict[str, Any]
    miner: dict[str, Any]
    average: dict[str, Any]
    best: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> TrainState:
        """A state from stored values, also as version 0.1 stored them."""
        values = dict(values)
        if "best_epoch" in values:
            slots, mismatch = values.pop("slots"), values.pop("mismatch", None)
            values["miner"] = {"slots": slots} | (mismatch or {})
            values["average"] = values.get("average") or {}
            values["best"] = {name: values.pop(f"best_{name}") for name in ("epoch", "value", "model")}
        return cls(**values)


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
        Validation and test pairs: pair_id, patient_id, split, label, attributes, and probabilities of the positive class:
        score (zero-shot), probe_score (linear probe), both from the image; note_score and note_probe_score from image and
        note.
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
        Continue from here; the result equals that of a run without interruption.
    arrays, clip : optional
        Model input and model prepared beforehand, for several runs on the same data; `clip` is trained in place.
    trusted : collection of str, optional
        Pair ids whose weight stays 1 whatever their loss, since a reviewer judged them to be right.
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
        A split is empty, or validation or test has one label only; there are fewer than two training pairs; an attribute
        is unknown; `state` is of other pairs; `select_by` is es_auc and validation has none.
    TrainingError
        The loss is not finite (step and pairs are named), or another process of the team has ended.
    """
    config = RunConfig.build(config, {"model": choose_model(table)}) if isinstance(config, str) else config
    rows_of = _split_rows(table)
    train, n = rows_of["train"], len(rows_of["train"])
    ready, device = _model_and_input(table, train, config, clip, arrays, team)
    clip, arrays = ready.clip, ready.arrays
    batch_size = min(config.batch_size, n)
    steps_per_epoch = -(-n // batch_size)
    steps = steps_per_epoch * config.epochs
    set_up(clip, config, batch_size, team)
    term = _fairness_term(table, train, config, batch_size, clip, arrays, team)
    parts = _parts(table, rows_of, config, batch_size, ready, trusted)
    miner, ledger, optimizer, average = parts.miner, parts.ledger, parts.optimizer, parts.average
    if state is not None:
        parts.load(state)
        ledger = parts.ledger
    else:
        parts.observe_pretrained(lambda: embed_together(clip, arrays, train, team))
    forward = _forward(clip, arrays, train, parts.notes, config, device, team)
    check = partial(validate, clip, arrays, table, rows_of["val"], batch_size, team, _tested(rows_of, config))

    for epoch in range(ledger.n_epochs, config.epochs):
        started = time.perf_counter()
        torch.manual_seed(_mix(config.seed, epoch) + team.rank)  # for dropout, where a model has it
        clip.module.train()
        weights = parts.begin_epoch()
        term.begin_epoch(ledger, weights)
        visits = _Visits(ledger, epoch, forward, int(clip.config["model_cfg"]["embed_dim"]))
        used_weight, drawn, step_times = 0.0, 0, []

        for slot, (rows, fill) in enumerate(parts.groups.batches(epoch)):
            tick = time.perf_counter()
            step = epoch * steps_per_epoch + slot
            rate = _set_learning_rate(optimizer, config, step, steps)
            image, text, pairs = forward(np.concatenate([rows, fill]))
            loss = pairs.loss[: len(rows)]  # the pairs that fill up the batch are negatives only
            _check_losses(loss, ledger.pair_ids[rows], step, steps)

            weight = miner.weigh(rows, loss)
            objective = (weight * parts.groups.weigh(rows, loss) * loss).mean() + term(rows, pairs)
            _check_objective(objective, step, steps)
            optimizer.zero_grad(set_to_none=True)
            objective.backward()
            team.average_gradients(clip.module)
            torch.nn.utils.clip_grad_norm_(clip.module.parameters(), config.gradient_clip)
            optimizer.step()
            with torch.no_grad():
                clip.module.get_parameter("logit_scale").clamp_(0, _LARGEST_LOGIT_SCALE)
            average.add(clip.module)

            visits.record(rows, image, text, pairs)
            used_weight, drawn = used_weight + float(weight.sum()), drawn + len(rows)
            step_times.append(time.perf_counter() - tick)
            if on_step is not None:
                on_step(step + 1, steps)

        visits.complete(batch_size, np.random.default_rng(_mix(config.seed, epoch, 4)))
        image, text = visits.features
        margins = margin(image, text, float(clip.scale.detach()), seed=config.seed, notes=parts.notes)
        ledger.record(epoch, np.arange(n), margin=margins, **miner.observe(image, text, ledger.losses[epoch]))
        ledger.close_epoch(epoch)
        team.agree(epoch + 1, ledger.losses[epoch], clip.module)
        with average.better(clip.module, check, lambda validation: float(validation.loss.mean())) as validation:
            is_best = parts.chosen.offer(epoch + 1, *selecting(config, validation), clip.module)
        report = EpochReport(
            epoch=epoch + 1,
            train_loss=float(np.mean(ledger.losses[epoch])),
            val_loss=float(validation.loss.mean()),
            val=validation.report.to_dict(),
            sinkhorn=_sinkhorn_lines(table, train, ledger, weights, config),
            flagged=miner.n_flagged,
            mean_weight=used_weight / drawn,
            learning_rate=rate,
            seconds=time.perf_counter() - started,
            step_seconds=float(np.median(step_times)),
            best=is_best,
            test_auc=validation.test_auc,
        )
        parts.history.append(report)
        if on_epoch is not None:
            on_epoch(report, parts.state())

    parts.chosen.restore(clip.module)
    return _evaluate(clip, arrays, table, rows_of, config, parts, team)


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


def _tested(rows_of: dict[str, np.ndarray], config: RunConfig) -> np.ndarray | None:
    return rows_of["test"] if config.test_every_epoch else None


def _attributes(table: PairTable, config: RunConfig) -> tuple[str, ...]:
    chosen = config.fairness.attributes or table.attributes
    for name in (*chosen, *config.fairness.attribute_weights):
        if name not in table.attributes:
            why = table.report.columns_left_out.get(name)
            raise InputError(
                f"attribute {name!r} is not in the data{f', because {why}' if why else ''}; there are "
                f"{', '.join(table.attributes) or 'none'}"
            )
    if config.groups.needs_attribute and not chosen:
        raise InputError(f"setting groups.method: {config.groups.method} needs an attribute and the data have none")
    return chosen[:1] if config.fairness.only_first else chosen


def _groups(table: PairTable, train: np.ndarray, config: RunConfig) -> Groups:
    chosen = {name: table.attribute(name)[train] for name in _attributes(table, config)}
    return Groups.of(chosen, config.fairness.attribute_weights)


@dataclass
class _Parts:
    """What training changes from epoch to epoch, and `TrainState` holds."""

    module: torch.nn.Module
    optimizer: torch.optim.Optimizer
    ledger: PairLossLedger
    miner: Miner
    average: WeightAverage
    chosen: ChosenEpoch
    groups: GroupWeights
    notes: np.ndarray
    history: list[EpochReport]
    refit: Callable[[np.ndarray], None] | None = None

    def begin_epoch(self) -> np.ndarray:
        """The miner's weights (N,) for the coming epoch; projections in closed form are fitted again with them."""
        weights = self.miner.begin_epoch(self.ledger)
        if self.refit is not None:
            self.refit(weights)
        return weights

    def state(self) -> TrainState:
        return TrainState(
            epoch=self.ledger.n_epochs,
            model=copied(self.module.state_dict()),
            optimizer=self.optimizer.state_dict(),
            ledger=self.ledger.state_dict(),
            miner=self.miner.state(),
            average=self.average.state(),
            best=self.chosen.state(),
            groups=self.groups.state(),
            history=[asdict(line) for line in self.history],
        )

    def load(self, state: TrainState) -> None:
        ledger = PairLossLedger.from_state_dict(state.ledger)
        if not np.array_equal(ledger.pair_ids, self.ledger.pair_ids):
            raise InputError("state: it belongs to other training pairs than those of this table")
        self.module.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        self.ledger = ledger
        self.miner.load(state.miner)
        self.average.load(state.average)
        self.chosen.load(state.best)
        self.groups.load(state.groups)
        self.history = [EpochReport(**line) for line in state.history]

    def observe_pretrained(self, features: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Show the pretrained model's features (N, D) to the parts that need them, before the first epoch."""
        if self.miner.observes_pretrained or self.groups.observes_pretrained:
            image, text = features()
            self.miner.observe(image, text)
            self.groups.observe(image)


def _parts(
    table: PairTable,
    rows_of: dict[str, np.ndarray],
    config: RunConfig,
    batch_size: int,
    ready: Prepared,
    trusted: Collection[str] | None,
) -> _Parts:
    train, clip = rows_of["train"], ready.clip
    pair_ids = table.pair_ids[train]
    steps_per_epoch = -(-len(train) // batch_size)
    groups = _groups(table, train, config)
    released = config.fairness.estimator == "released"  # it has equal notes as negatives of each other
    drawn = Sampling(len(train), batch_size, lambda epoch: np.random.default_rng(_mix(config.seed, epoch, 2)))
    miner = make_miner(
        config.mining,
        np.isin(pair_ids, list(trusted or ())),
        np.asarray(table.frame["text"], str)[train],
        groups.membership.numpy(),
        slots=steps_per_epoch,
        epochs=config.epochs,
        seed=config.seed,
    )
    return _Parts(
        module=clip.module,
        optimizer=_optimizer(clip, config),
        ledger=PairLossLedger(pair_ids, channels=("loss", "similarity", "margin", *miner.channels)),
        miner=miner,
        average=WeightAverage(clip.module, config.averaging * steps_per_epoch * config.epochs),
        chosen=ChosenEpoch(standard_error(table, rows_of["val"], config) if config.choose == "latest" else None),
        groups=make_group_weights(config.groups, drawn, groups, config.seed),
        notes=np.arange(len(train)) if released else table.note_ids[train],
        history=[],
        refit=ready.refit,
    )


def _model_and_input(
    table: PairTable, train: np.ndarray, config: RunConfig, clip: Clip | None, arrays: PairArrays | None, team: Team
) -> tuple[Prepared, torch.device]:
    device = device_of(config.device, team)
    clip = clip if clip is not None else load_clip(config.model, device=device, seed=config.seed)
    clip.module.to(device)
    arrays = arrays if arrays is not None else pair_arrays(table, clip)
    patients = np.asarray(table.frame["patient_id"], str)[train]
    return prepare(clip, arrays, config, train, patients), device


def _fairness_term(
    table: PairTable,
    train: np.ndarray,
    config: RunConfig,
    batch_size: int,
    clip: Clip,
    arrays: PairArrays,
    team: Team,
) -> FairnessTerm:
    groups = _groups(table, train, config)
    if config.fairness.weight == 0 or not groups.names:
        return FairnessTerm()
    if config.fairness.estimator == "ledger":
        return LedgerTerm(config.fairness, groups)

    def logits_of(rows: np.ndarray) -> Tensor:
        image, text = encode(clip, arrays, train[rows], team, config.chunk_size)
        return pair_losses(image, text, clip.scale, clip.bias).logits

    def generator_of(epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(_mix(config.seed, epoch, 1))

    return ReleasedTerm(config.fairness, groups, batch_size, logits_of, generator_of)


_Forward = Callable[[np.ndarray], tuple[Tensor, Tensor, PairLosses]]


def _forward(
    clip: Clip,
    arrays: PairArrays,
    train: np.ndarray,
    notes: np.ndarray,
    config: RunConfig,
    device: torch.device,
    team: Team,
) -> _Forward:
    """Rows of training pairs as one batch: features of both sides, and the pairs' losses."""

    def forward(rows: np.ndarray) -> tuple[Tensor, Tensor, PairLosses]:
        with torch.autocast(device.type, torch.bfloat16, enabled=_bf16(config, device)):
            image, text = encode(clip, arrays, train[rows], team, config.chunk_size)
            return image, text, pair_losses(image, text, clip.scale, clip.bias, torch.from_numpy(notes[rows]))

    return forward


def _bf16(config: RunConfig, device: torch.device) -> bool:
    if config.precision == "bf16":
        return True
    return config.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()


def _optimizer(clip: Clip, config: RunConfig) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": config.learning_rate, "betas": config.adam_betas, "eps": config.adam_epsilon}
    if config.optimizer == "adam":
        learning = [parameter for parameter in clip.module.parameters() if parameter.requires_grad]
        return torch.optim.Adam(learning, weight_decay=config.weight_decay, fused=True, **options)
    decay: list[Tensor] = []
    plain: list[Tensor] = []
    for parameter in clip.module.parameters():
        if parameter.requires_grad:
            (decay if parameter.ndim >= 2 else plain).append(parameter)
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, fused=True, **options)


def _set_learning_rate(optimizer: torch.optim.Optimizer, config: RunConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero, or a constant rate."""
    warmup = max(1, round(config.warmup_share * steps))
    if step < warmup:
        rate = config.learning_rate * (step + 1) / warmup
    elif config.schedule == "constant":
        rate = config.learning_rate
    else:
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class _Visits:
    """Records every training pair once in an epoch, at its first visit."""

    def __init__(self, ledger: PairLossLedger, epoch: int, forward: _Forward, width: int):
        self._ledger, self._epoch, self._forward = ledger, epoch, forward
        self._seen = np.zeros(len(ledger), bool)
        self.features = torch.zeros(2, len(ledger), width)

    def record(self, rows: np.ndarray, image: Tensor, text: Tensor, pairs: PairLosses) -> None:
        """Take in a batch; its first entries are those of the rows."""
        new = np.flatnonzero(~self._seen[rows])
        if len(new) == 0:
            return
        loss, similarity = _numpy(pairs.loss)[new], _numpy(pairs.similarity)[new]
        self._ledger.record(self._epoch, rows[new], loss=loss, similarity=similarity)
        for side, values in enumerate((image, text)):
            self.features[side, rows[new]] = values[new].detach().float().cpu()
        self._seen[rows] = True

    @torch.no_grad()
    def complete(self, batch_size: int, generator: np.random.Generator) -> None:
        """Visit the pairs that were not drawn, in batches that are filled with pairs that were."""
        missing, drawn = (generator.permutation(np.flatnonzero(self._seen == seen)) for seen in (False, True))
        for rows, fill in filled_batches(missing, batch_size, drawn):
            self.record(rows, *self._forward(np.concatenate([rows, fill])))


def _check_losses(loss: Tensor, pair_ids: np.ndarray, step: int, steps: int) -> None:
    finite = torch.isfinite(loss)
    if not bool(finite.all()):
        broken = pair_ids[~finite.cpu().numpy()]
        raise TrainingError(
            f"loss is not finite at step {step + 1} of {steps} for pairs {', '.join(broken[:5])}"
            f"{' and others' if len(broken) > 5 else ''}: lower learning_rate, or check these pairs"
        )


def _check_objective(objective: Tensor, step: int, steps: int) -> None:
    if not bool(torch.isfinite(objective)):
        raise TrainingError(f"the fairness term is not finite at step {step + 1} of {steps}: lower fairness.weight")


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _sinkhorn_lines(
    table: PairTable, train: np.ndarray, ledger: PairLossLedger, weights: np.ndarray, config: RunConfig
) -> list[dict[str, Any]]:
    """Every group's distance from everyone in the latest epoch, as plain values (see `GroupDistances`)."""
    groups = Groups.of({name: table.attribute(name)[train] for name in table.attributes})
    sizes, lines = groups.membership.sum(1).tolist(), []
    for quantity in ("loss", "similarity") if groups.names else ():
        values = torch.from_numpy(ledger.channel(quantity)[-1])
        found = group_distances(groups, values, weights, blur=config.fairness.blur, seed=_mix(config.seed, 0, 3))
        for g, (attribute, group) in enumerate(groups.names):
            named = {"quantity": quantity, "attribute": attribute, "group": group, "n": sizes[g]}
            numbers = {name: float(column[g]) for name, column in vars(found).items()}
            lines.append(named | {name: value if math.isfinite(value) else None for name, value in numbers.items()})
    return lines


def _evaluate(
    clip: Clip,
    arrays: PairArrays,
    table: PairTable,
    rows_of: dict[str, np.ndarray],
    config: RunConfig,
    parts: _Parts,
    team: Team,
) -> FitResult:
    """Score the test split once, by the model that validation selected."""
    if config.checkpointing:
        set_checkpointing(clip, False)
    image, text = embed_together(clip, arrays, team=team)
    prompts = table.info.class_prompts
    score = zero_shot(clip, image, prompts)
    held_out = np.concatenate([rows_of["val"], rows_of["test"]])
    label = table.labels
    frame = table.frame.iloc[held_out]
    predictions = frame[["pair_id", "patient_id", "split", "label"]].reset_index(drop=True)
    predictions["score"] = score[held_out]
    predictions["note_score"] = zero_shot(clip, F.normalize(image + text, dim=1), prompts)[held_out]
    before = arrays.before if isinstance(arrays, PairEmbeddings) else None
    seen = image if before is None else torch.cat([image, before], dim=1)
    train, can_probe = rows_of["train"], len(np.unique(label[rows_of["train"]])) == 2
    for name, features in (("probe_score", seen), ("note_probe_score", torch.cat([seen, text], dim=1))):
        predictions[name] = linear_probe(features, label, train)[held_out] if can_probe else np.nan
    for name in table.attributes:
        predictions[name] = table.attribute(name)[held_out]
    return FitResult(
        clip=finished(clip),
        ledger=parts.ledger,
        mining=config.mining.mine(parts.ledger),
        history=parts.history,
        predictions=predictions,
        image_features=image.numpy(),
        text_features=text.numpy(),
        val=point_report(table, rows_of["val"], score[rows_of["val"]]),
        test=point_report(table, rows_of["test"], score[rows_of["test"]]),
        best_epoch=parts.chosen.epoch,
    )
