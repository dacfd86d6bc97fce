"""Two processes against one, chunks against the whole batch: the same losses, gradients, flags and weights."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from fairvlm_core import InputError, PairTable, RunConfig, fit
from fairvlm_core.distributed import ALONE, Team, device_of, encode, joined, set_checkpointing, set_up
from fairvlm_core.errors import TrainingError
from fairvlm_core.features import pair_arrays
from fairvlm_core.models import load_clip
from fairvlm_core.objective import pair_losses
from fairvlm_core.runs import RunStore

# Odd sizes on purpose: shares of 8 out of 15, a short last batch, thresholds that do flag.
PRESETS = {
    "clip": {},
    "robustfair": {"mining.faulty_sd": 1.5, "fairness.weight": 1.0},
    "robustfair-plus": {"averaging": 0.9},
    "robustfair-released": {"epochs": 1},
}
FEW = {"epochs": 2, "batch_size": 15}
ROOT = Path(__file__).resolve().parents[1]


def trained(preset, table, arrays, team=ALONE, **options):
    config = RunConfig.build(preset, FEW | PRESETS[preset])
    result = fit(table, config, arrays=arrays, team=team, **options)
    return {
        "epochs": [(e.train_loss, e.val_loss, e.mean_weight) for e in result.history],
        "flags": [str(kind) for kind in result.mining.kind],
        "weights": result.mining.weight,
        "losses": result.ledger.losses.copy(),
        "margins": result.ledger.channel("margin").copy(),
        "scores": result.predictions["score"].to_numpy(),
        "model": {name: value.clone() for name, value in result.clip.module.state_dict().items()},
    }


# Two processes ----------------------------------------------------------------------------------------------------------


def process(rank, folder, out, ports):
    """The steps of each of the two processes, in order; the last one kills rank 1."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # as under torchrun, the store outlives every process
    table = PairTable.read(folder)
    arrays = pair_arrays(table, load_clip("tiny"))

    os.environ["MASTER_PORT"] = str(ports[0])
    with joined(timeout=60) as team:
        results = {preset: trained(preset, table, arrays, team) for preset in PRESETS}
        torch.save(results, out / f"results-{rank}.pt")

    os.environ["MASTER_PORT"] = str(ports[1])
    with (out / f"printed-{rank}.txt").open("w") as file, contextlib.redirect_stdout(file):
        from fairvlm_core.cli import main

        options = ["--preset", "dbpm", "--epochs", "1", "--batch-size", "50", "--no-map", "--json"]
        with pytest.raises(SystemExit) as ended:
            main(["train", str(folder), "--workspace", str(out / "w"), *options])
        assert ended.value.code == 0

    os.environ["MASTER_PORT"] = str(ports[2])
    (out / f"error-{rank}.txt").write_text(ends(lambda team: fails(team, table, arrays)))

    os.environ["MASTER_PORT"] = str(ports[3])
    (out / f"killed-{rank}.txt").write_text(ends(lambda team: dies(team, table, arrays)))


def fails(team, table, arrays):
    settings = FEW | ({"trainable": "head", "checkpointing": True} if team.rank == 1 else {})
    fit(table, RunConfig.build("clip", settings), arrays=arrays, team=team)


def dies(team, table, arrays):
    def on_step(step, _):
        if team.rank == 1 and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(table, RunConfig.build("clip", FEW), arrays=arrays, team=team, on_step=on_step)


def ends(work):
    try:
        with joined(timeout=60) as team:
            work(team)
    except (InputError, TrainingError) as error:
        return f"said: {error}"
    except SystemExit as error:
        return f"silent: {error.code}"
    return "no error"


@pytest.fixture(scope="module")
def together(synth_folder, tmp_path_factory):
    """The folder with the results of two processes."""
    out = tmp_path_factory.mktemp("two")
    stores = [dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in range(4)]
    ports = [store.port for store in stores]
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=process, args=(rank, synth_folder, out, ports)) for rank in (0, 1)]
    for one in processes:
        one.start()
    until = time.monotonic() + 240
    for one in processes:
        one.join(max(0, until - time.monotonic()))
    left = [one.kill() for one in processes if one.is_alive()]
    assert not left, "the processes hang"
    assert [one.exitcode for one in processes] == [0, -signal.SIGKILL]
    return out


@pytest.mark.parametrize("preset", list(PRESETS))
def test_two_processes_equal_one(preset, together, table, arrays):
    first, second = (torch.load(together / f"results-{r}.pt", weights_only=False)[preset] for r in (0, 1))
    alone = trained(preset, table, arrays)
    for name in ("losses", "margins", "weights", "scores"):
        assert np.array_equal(first[name], second[name], equal_nan=True), name
        assert np.allclose(first[name], alone[name], rtol=1e-3, atol=1e-4, equal_nan=True), name
    assert first["flags"] == second["flags"] == alone["flags"]
    assert np.allclose(first["epochs"], alone["epochs"], rtol=1e-4)
    for name, value in alone["model"].items():
        assert torch.equal(first["model"][name], second["model"][name]), name
        assert torch.allclose(first["model"][name], value, rtol=1e-3, atol=1e-4), name
    if preset == "robustfair":  # so that there are flags to compare
        assert 0 < sum(flag != "clean" for flag in first["flags"]) < len(first["flags"])


def test_only_the_first_process_writes_and_prints(together):
    (run,) = RunStore(together / "w").runs()
    assert run.status.state == "finished"
    assert json.loads((together / "printed-0.txt").read_text())["run_id"] == run.id
    assert (together / "printed-1.txt").read_text() == ""
    assert "2 processes train together" in (run.path / "log.txt").read_text()


def test_an_error_in_one_process_ends_all_with_its_line(together):
    first, second = ((together / f"error-{rank}.txt").read_text() for rank in (0, 1))
    assert first.startswith("said: rank 1 of 2: checkpointing=true: this model (or a head")
    assert second == "silent: 2"


def test_a_killed_process_ends_the_others_with_a_line(together):
    assert "ended without a reason" in (together / "killed-0.txt").read_text()


ASKED = ("--preset", "robustfair", "--epochs", "2", "--batch-size", "15", "--set", "device=cpu", "--no-map", "--json")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_under_torchrun_gives_the_run_of_one_process(synth_folder, table, arrays, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "fairvlm_core", "train", str(synth_folder), "--workspace", str(tmp_path), *ASKED]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stderr
    (run,) = RunStore(tmp_path).runs()
    assert json.loads(done.stdout)["run_id"] == run.id
    alone = fit(table, RunConfig.build("robustfair", FEW), arrays=arrays)
    assert np.allclose(run.ledger().losses, alone.ledger.losses, rtol=1e-3, atol=1e-4)


def test_two_slurm_nodes_need_no_flags(synth_folder, table, arrays, tmp_path):
    """Two processes with the variables that srun sets, each in a folder of its own; only data and workspace are shared."""
    port = find_port()
    job = {
        "SLURM_JOB_ID": "81234",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_LOCALID": "0",
    }
    command = [
        sys.executable,
        "-m",
        "fairvlm_core",
        "train",
        str(synth_folder),
        "--workspace",
        str(tmp_path / "shared"),
    ]
    processes = []
    for rank in (0, 1):
        home = tmp_path / f"node{rank}"
        home.mkdir()
        environment = os.environ | job | {"SLURM_PROCID": str(rank), "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        environment |= {"TMPDIR": str(home), "PYTHONPATH": str(ROOT)}
        processes.append(
            subprocess.Popen(
                [*command, *ASKED], cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    said = [process.communicate(timeout=280) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    (run,) = RunStore(tmp_path / "shared").runs()
    assert json.loads(said[0][0])["run_id"] == run.id
    assert said[1][0] == ""
    assert any("2 processes train together" in line for line in run.log_lines())
    alone = fit(table, RunConfig.build("robustfair", FEW), arrays=arrays)
    assert np.allclose(run.ledger().losses, alone.ledger.losses, rtol=1e-3, atol=1e-4)


def find_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# Chunks and checkpoints ---------------------------------------------------------------------------------------------------


def gradients(clip, arrays, rows, chunk_size=0, encoded=encode, bf16=False):
    """Losses (B,), gradients by name, and the bytes kept between forward and backward pass."""
    held: dict[int, int] = {}
    own = {p.data_ptr() for p in clip.module.parameters()}

    def note(tensor):
        if tensor.data_ptr() not in own:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    clip.module.train()
    clip.module.zero_grad()
    torch.manual_seed(5)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast:
        image, text = encoded(clip, arrays, rows, ALONE, chunk_size)
        losses = pair_losses(image, text, clip.scale, clip.bias).loss
    losses.mean().backward()
    return losses.detach(), {n: p.grad.clone() for n, p in clip.module.named_parameters()}, sum(held.values())


def assert_same(one, other):
    assert torch.allclose(one[0], other[0], rtol=1e-5, atol=1e-5)
    for name, value in one[1].items():
        assert torch.allclose(value, other[1][name], rtol=1e-4, atol=1e-6), name


def test_chunks_give_loss_and_gradient_of_the_whole_batch_with_less_memory(arrays):
    clip, rows = load_clip("tiny"), np.arange(23)
    whole, chunks = gradients(clip, arrays, rows), gradients(clip, arrays, rows, chunk_size=5)
    assert_same(whole, chunks)
    assert chunks[2] < whole[2] / 10


def test_checkpointing_gives_the_same_gradient_with_less_memory(arrays):
    clip, rows = load_clip("tiny"), np.arange(12)
    whole = gradients(clip, arrays, rows)
    set_checkpointing(clip, True)
    again = gradients(clip, arrays, rows)
    assert_same(whole, again)
    assert again[2] < whole[2] / 2


def test_random_layers_see_the_same_random_state_when_a_chunk_is_encoded_again(arrays):
    """Must equal encoding chunk by chunk with the graph kept; another random state gives another result."""
    from open_clip.transformer import PatchDropout

    clip, rows = load_clip("tiny"), np.arange(12)
    clip.module.visual.patch_dropout = PatchDropout(0.5)

    def held(clip, arrays, rows, _, chunk_size):
        images = [clip.encode_images(arrays.pixels[part]) for part in torch.from_numpy(rows).split(chunk_size)]
        notes = [clip.encode_notes(arrays.tokens[part]) for part in torch.from_numpy(rows).split(chunk_size)]
        return torch.cat(images), torch.cat(notes)

    chunks, by_hand = gradients(clip, arrays, rows, 4), gradients(clip, arrays, rows, 4, held)
    assert_same(by_hand, chunks)

    def careless(clip, arrays, rows, *_):
        torch.manual_seed(6)
        return held(clip, arrays, rows, None, 4)

    other = gradients(clip, arrays, rows, 4, careless)  # to check that the layer is random
    assert not torch.allclose(other[1]["visual.conv1.weight"], chunks[1]["visual.conv1.weight"], rtol=1e-2)


@pytest.mark.parametrize("settings", [{"chunk_size": 6}, {"checkpointing": True}])
def test_a_run_in_chunks_or_with_checkpoints_is_the_same_run(settings, table, arrays):
    few = {"epochs": 1, "batch_size": 25, "mining.warmup": 0}
    one = fit(table, RunConfig.build("robustfair", few), arrays=arrays)
    other = fit(table, RunConfig.build("robustfair", few | settings), arrays=arrays)
    assert np.allclose(one.ledger.losses, other.ledger.losses, rtol=1e-3, atol=1e-4)
    assert np.allclose(one.predictions["score"], other.predictions["score"], atol=1e-3)
    assert RunConfig.build("robustfair", few).method_key == RunConfig.build("robustfair", few | settings).method_key


def apart(one, other):
    """Distance of two gradients as a share of the first."""
    square = sum(float((one[1][name] - value).square().sum()) for name, value in other[1].items())
    return (square / sum(float(value.square().sum()) for value in one[1].values())) ** 0.5


def test_bf16_in_chunks_or_with_checkpoints_is_bf16_as_a_whole(arrays):
    """The backward pass encodes a chunk in the same precision as the forward pass."""
    clip, rows = load_clip("tiny"), np.arange(23)
    full, whole, chunks = (
        gradients(clip, arrays, rows, size, bf16=bf16) for size, bf16 in ((0, False), (0, True), (5, True))
    )
    set_checkpointing(clip, True)
    checkpoints = gradients(clip, arrays, rows, bf16=True)
    away = apart(full, whole)
    assert 1e-4 < away < 0.1, "otherwise nothing was computed in bf16, or it is of no use"
    assert max(apart(whole, chunks), apart(whole, checkpoints)) < 0.5 * away
    assert chunks[2] < whole[2] / 4
    assert {value.dtype for value in whole[1].values()} == {torch.float32}


def test_a_bf16_run_is_close_to_full_precision_and_records_in_32_bits(table, arrays):
    few = {"epochs": 1, "batch_size": 25, "mining.warmup": 0}
    full = fit(table, RunConfig.build("robustfair", few | {"precision": "fp32"}), arrays=arrays)
    half = fit(table, RunConfig.build("robustfair", few | {"precision": "bf16"}), arrays=arrays)
    apart = np.abs(full.ledger.losses - half.ledger.losses)
    assert 0 < apart.mean() < 0.05 * full.ledger.losses.mean()
    assert half.ledger.losses.dtype == np.float32
    assert {value.dtype for value in half.clip.module.state_dict().values() if value.is_floating_point()} == {
        torch.float32
    }
    assert len(np.unique(half.ledger.losses)) > 90, "losses in bf16 would have three digits"


# Refusals ------------------------------------------------------------------------------------------------------


def test_shares_cover_every_row_and_have_one_length():
    for n, size in ((16, 2), (15, 4), (3, 3), (7, 5)):
        shares = [Team(rank, size).share(np.arange(n)) for rank in range(size)]
        assert len({len(share) for share in shares}) == 1
        assert np.array_equal(np.concatenate(shares)[:n], np.arange(n))


def test_batch_normalisation_is_refused_for_shared_or_chunked_batches():
    clip = load_clip("tiny")
    clip.module.visual.extra = nn.BatchNorm1d(4)
    set_up(clip, RunConfig(), 8)
    for settings in ({"chunk_size": 4}, {"checkpointing": True}):
        with pytest.raises(InputError, match="batch normalisation"):
            set_up(clip, RunConfig.build("clip", settings), 8)


def test_a_batch_smaller_than_the_team_is_refused():
    with pytest.raises(InputError, match="batch of 3 pairs for 4 processes"):
        set_up(load_clip("tiny"), RunConfig(), 3, Team(1, 4))


def test_a_team_cannot_use_one_named_gpu():
    with pytest.raises(InputError, match="'cuda:0' is one device for 2 processes"):
        device_of("cuda:0", Team(1, 2))
    assert device_of("cpu", Team(1, 2)) == torch.device("cpu")


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with joined() as team:
        assert team == ALONE
        rows = np.arange(3)
        assert team.share(rows) is rows
