"""Batches larger than one device can process: shared among processes, or encoded in chunks.

Every process encodes its share of a batch and gathers the features of all others. Then every process computes the same from
the whole batch (losses, ledger, mining, fairness term), so nothing else has to be merged. In the backward pass each process
has the gradient through its own share; the mean over processes is the gradient of the whole batch.

The processes are started by torchrun or by SLURM's srun (see docs/distributed.md). Without them there is a :class:`Team` of
one process.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import RunConfig
from .errors import InputError, TrainingError
from .features import PairArrays, embed
from .models import Clip

TIMEOUT = 600.0  # seconds that processes wait for one another
_PATIENCE = 60.0  # seconds that a failed process waits for the first one to report the failure
_REASON = 2.0  # seconds to look for the reason after a process has ended
_ALONE = 1 << 18  # gradients with at least this many values are reduced one by one; smaller ones together
_AGREE = 1e-3  # relative; processes on the same kind of device do not differ at all


@dataclass(frozen=True)
class Team:
    """The processes that train one model together; by default a single one.

    Attributes
    ----------
    rank : int
        Of this process, 0 to size - 1. Only rank 0 writes and prints.
    size : int
    local_rank : int
        Of this process on its machine: the number of its GPU.
    store : torch.distributed.Store or None
        Where a process that fails writes the reason for the others.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    store: dist.Store | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of `rows` (N,), of length ⌈N / size⌉ in every process; the last ones are padded with the
        first rows.

        >>> [Team(rank, 2).share(np.arange(5)).tolist() for rank in (0, 1)]
        [[0, 1, 2], [3, 4, 0]]
        """
        if self.size == 1:
            return rows
        length = -(-len(rows) // self.size)
        return np.resize(rows, length * self.size)[self.rank * length : (self.rank + 1) * length]

    def gather(self, mine: Tensor, n: int) -> Tensor:
        """The first `n` rows of all processes' shares, in order of rank, with gradient.

        Every process must compute the same loss from the result. The gradient by its own share is then complete.
        """
        if self.size == 1:
            return mine
        with self._exchange():
            return _Gather.apply(mine.contiguous(), self.rank, self.size)[:n]

    def average_gradients(self, module: nn.Module) -> None:
        """Replace gradients by their mean over processes: those of the whole batch, bit for bit the same in each."""
        if self.size == 1:
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        large = [g for g in gradients if _is_large(g)]  # reduced in place, without a copy
        small = [g for g in gradients if not _is_large(g)]
        if not small:
            return self._mean(large)
        flat = torch.cat([g.reshape(-1) for g in small])
        self._mean([flat, *large])
        for gradient, part in zip(small, flat.split([g.numel() for g in small]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return None

    def _mean(self, values: list[Tensor]) -> None:
        """Replace tensors by their mean over processes."""
        with self._exchange():
            for work in [dist.all_reduce(value, async_op=True) for value in values]:
                work.wait()
        for value in values:
            value /= self.size

    def start_alike(self, module: nn.Module) -> None:
        """Copy the first process's parameters and buffers to every process."""
        if self.size > 1:
            with self._exchange():
                for value in module.state_dict().values():
                    whole = value.contiguous()
                    dist.broadcast(whole, 0)
                    value.copy_(whole)

    def tell(self, text: str) -> str:
        """The first process's `text`, in every process."""
        if self.size == 1:
            return text
        texts = [text]
        with self._exchange():
            dist.broadcast_object_list(texts, 0)
        return texts[0]

    def agree(self, epoch: int, values: np.ndarray, module: nn.Module) -> None:
        """Raise a `TrainingError` unless all processes have the same epoch, losses and weights."""
        if self.size == 1:
            return
        weights = torch.stack([p.detach().double().abs().sum().cpu() for p in module.parameters()]).sum()
        mine = torch.tensor([epoch, np.abs(values, dtype=np.float64).sum(), weights], dtype=torch.float64)
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        with self._exchange():
            dist.all_gather(everyone, mine)
        table = torch.stack(everyone)
        if bool((table.amax(0) - table.amin(0) > _AGREE * table.abs().amax(0).clamp_min(1e-12)).any()):
            raise TrainingError(
                f"the {self.size} processes no longer agree after epoch {epoch}: start all on devices of one kind, with "
                "the same data, code and settings, and resume"
            )

    # All processes end when one does

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Around every exchange with other processes: where one has ended, one line instead of a traceback."""
        try:
            yield
        except RuntimeError as error:
            raise _LostError(self._why()) from error

    def _why(self) -> str:
        until = time.monotonic() + _REASON
        with suppress(RuntimeError):
            while self.store is not None and time.monotonic() < until:
                for rank in range(self.size):
                    if rank != self.rank and self.store.check([key := f"fairvlm/error/{rank}"]):
                        return f"rank {rank} of {self.size}: {self.store.get(key).decode()}"
                time.sleep(0.05)
        return (
            f"another of the {self.size} processes ended without a reason or did not answer in time: see what it or its "
            "machine printed, and resume"
        )

    def _leave(self, error: BaseException) -> None:
        """Tell the others why this process ends. Where the first process has reported it, the others print nothing."""
        assert self.store is not None
        known = isinstance(error, InputError | TrainingError)
        line = str(error) if known else f"internal error: {type(error).__name__}"
        try:
            if not isinstance(error, _LostError):
                self.store.set(f"fairvlm/error/{self.rank}", " ".join(line.split()))
            if self.first:
                self.store.set("fairvlm/said", "1")
        except RuntimeError:
            return
        dist.destroy_process_group()  # closes the connections, which the others notice
        until = time.monotonic() + _PATIENCE
        with suppress(RuntimeError):  # without the store, the first process has ended
            while known and not self.first and time.monotonic() < until:
                if self.store.check(["fairvlm/said"]):
                    raise SystemExit(2 if isinstance(error, InputError) else 1) from error
                time.sleep(0.05)


def _is_large(gradient: Tensor) -> bool:
    return gradient.numel() >= _ALONE and gradient.is_contiguous()


class _LostError(TrainingError):
    """Another process has ended."""


ALONE = Team()


@contextmanager
def joined(timeout: float = TIMEOUT) -> Iterator[Team]:
    """The team in which torchrun or SLURM's srun started this process; a team of one without them.

    An error in one process ends all of them; only the first one prints it.

    Parameters
    ----------
    timeout : float
        Seconds that processes wait for one another before they give up.

    Raises
    ------
    TrainingError
        The processes do not find one another.
    """
    if "RANK" not in os.environ:
        os.environ |= slurm_variables(os.environ)
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    limit = timedelta(seconds=timeout)
    try:
        store, rank, size = next(iter(dist.rendezvous("env://", timeout=limit)))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise TrainingError(f"the processes did not find one another: {reason}; see docs/distributed.md") from error
    team = Team(rank, size, int(os.environ.get("LOCAL_RANK", rank)), store)
    listens = team.first and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _asked_to_end) if listens else None
    try:
        yield team
    except BaseException as error:
        team._leave(error)
        raise
    finally:
        if listens:
            signal.signal(signal.SIGTERM, before)
        if dist.is_initialized():
            dist.destroy_process_group()


def slurm_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """torchrun's variables for a process that srun started with others; empty for any other process.

    The variables of a job step are read, not those of the job: a batch script has the latter and is one process. The port
    is 15,000 plus the last four digits of the job's number, unless MASTER_PORT is set.

    >>> step = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_ID": "120042"}
    >>> slurm_variables(step | {"SLURM_STEP_NODELIST": "gpu[07-08,11]-a,login"})["MASTER_ADDR"]
    'gpu07-a'
    >>> slurm_variables({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "120042"})
    {}
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) < 2 or "SLURM_PROCID" not in environment:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST") or "localhost"
    first = re.match(r"([^,\[]+)(?:\[([^],-]+)[^]]*\])?([^,]*)", nodes)
    assert first is not None
    found = {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": "".join(part or "" for part in first.groups()),
        "MASTER_PORT": str(15_000 + int(environment.get("SLURM_JOB_ID", "0")[-4:])),
    }
    return found | {name: environment[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in environment}


def _asked_to_end(*_) -> None:
    """torchrun ends all processes after one has ended."""
    raise _LostError("another process ended or the launcher was stopped: see above what it printed, and resume")


class _Gather(torch.autograd.Function):
    """All processes' rows. Backward: the own rows times the number of processes, because gradients are averaged later."""

    @staticmethod
    def forward(ctx, mine: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size = rank, size
        parts = [torch.empty_like(mine) for _ in range(size)]
        dist.all_gather(parts, mine)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.chunk(ctx.size)[ctx.rank] * ctx.size, None, None


def encode(
    clip: Clip, arrays: PairArrays, rows: np.ndarray, team: Team = ALONE, chunk_size: int = 0
) -> tuple[Tensor, Tensor]:
    """Unit-norm image and text features (B, D) of the given rows, with gradient.

    Parameters
    ----------
    rows : int ndarray of shape (B,)
    team : Team
        Every process encodes a part and gets the features of all.
    chunk_size : int
        Above 0: activations are kept for at most so many pairs. Chunks are encoded without them, and again in the backward
        pass with the same random state (Gao et al., arXiv 2101.06983): one more forward pass, the same loss and gradient.
    """
    mine = torch.from_numpy(team.share(rows))
    image = _in_chunks(clip.encode_images, arrays.pixels[mine], chunk_size, clip.device)
    text = _in_chunks(clip.encode_notes, arrays.tokens[mine], chunk_size, clip.device)
    return _gather_both(image, text, len(rows), team)


def embed_together(
    clip: Clip, arrays: PairArrays, rows: np.ndarray | None = None, team: Team = ALONE
) -> tuple[Tensor, Tensor]:
    """As `features.embed`, shared among processes."""
    rows = np.arange(len(arrays)) if rows is None else rows
    image, text = embed(clip, arrays, team.share(rows))
    return _gather_both(image, text, len(rows), team)


def _gather_both(image: Tensor, text: Tensor, n: int, team: Team) -> tuple[Tensor, Tensor]:
    """Both sides (N, D) of all processes, in one exchange: each exchange waits for the slowest process."""
    if team.size == 1:
        return image, text
    both = team.gather(torch.cat([image, text], 1), n)
    return both[:, : image.shape[1]], both[:, image.shape[1] :]


def _in_chunks(call: Callable[[Tensor], Tensor], values: Tensor, size: int, device: torch.device) -> Tensor:
    if not 0 < size < len(values):
        return call(values)
    # Moved first: checkpoint() restores the random state of the devices of its arguments.
    return torch.cat([checkpoint(call, part.to(device), use_reentrant=False) for part in values.split(size)])


def set_up(clip: Clip, config: RunConfig, batch_size: int, team: Team = ALONE) -> None:
    """Prepare the model for batches of `batch_size` that are shared, chunked or checkpointed.

    Raises
    ------
    InputError
        The batch is smaller than the team, the model cannot recompute its activations, or its features depend on the other
        pairs of the batch.
    """
    if batch_size < team.size:
        raise InputError(f"batch of {batch_size} pairs for {team.size} processes: start fewer, or raise batch_size")
    parts = team.size > 1 or config.chunk_size > 0 or config.checkpointing
    if parts and any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in clip.module.modules()):
        raise InputError(
            f"model {clip.name.partition('@')[0]!r} has batch normalisation, so that features depend on which pairs are "
            "encoded together: train it in one process, with chunk_size=0 and checkpointing=false"
        )
    if config.checkpointing:
        set_checkpointing(clip, True)
    team.start_alike(clip.module)


def set_checkpointing(clip: Clip, on: bool) -> None:
    """Let the model's blocks keep only their inputs and recompute the rest in the backward pass."""
    try:
        clip.module.set_grad_checkpointing(on)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        raise InputError(
            "checkpointing=true: this model (or a head on embeddings) cannot recompute activations; leave it false and set "
            "chunk_size"
        ) from error


def device_of(name: str, team: Team = ALONE) -> torch.device:
    """The device of the setting `name`; in a team on GPUs every process has its own.

    Raises
    ------
    InputError
        The device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if team.size > 1 and name.startswith("cuda:"):
        raise InputError(f"setting device: {name!r} is one device for {team.size} processes; set cuda or auto")
    if team.size > 1 and name == "cuda":
        name = f"cuda:{team.local_rank}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"setting device: {name!r} is not available here; use cpu or auto") from error
    if team.size > 1 and device.type == "cuda":
        torch.cuda.set_device(device)
    return device
