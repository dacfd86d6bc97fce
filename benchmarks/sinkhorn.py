"""Sinkhorn divergences: time and error compared with geomloss and POT, in one process.

    python benchmarks/sinkhorn.py [--threads 2] [--repeats 20] [--no-pot]

Each time is the least of several repeats. Compare the ratios; the milliseconds depend on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable

import numpy as np
import ot
import torch

from fairvlm_core.sinkhorn import group_sinkhorn, sinkhorn_divergence

SHARES = {"gender": (0.56, 0.44), "race": (0.08, 0.15, 0.77), "ethnicity": (0.906, 0.037, 0.057)}
SHARES |= {"language": (0.925, 0.05, 0.025)}


def least(call: Callable[[], object], repeats: int) -> float:
    """Least wall time in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of a batch and the membership of its 11 groups of 4 attributes."""
    rng = np.random.default_rng(0)
    losses = torch.tensor(rng.gamma(2.0, 0.5, n))
    rows = []
    for shares in SHARES.values():
        group = rng.permutation(np.arange(n)) / n
        edges = np.r_[0, np.cumsum(shares)]
        rows += [(group >= low) & (group < high) for low, high in itertools.pairwise(edges)]
    return losses, torch.tensor(np.array(rows), dtype=torch.float64)


def small(repeats: int, with_pot: bool) -> None:
    """Four attributes, one batch, forward and backward."""
    losses, masses = batch()
    warnings.simplefilter("ignore")
    try:
        from geomloss import SamplesLoss
    except ImportError:
        SamplesLoss = None
    print(f"batch of {len(losses)}, {len(masses)} groups, forward + backward\n")
    pot_columns = f" {'POT':>10} {'POT/ours':>9}" if with_pot else ""
    print(
        f"{'blur (sd)':>9} {'ours':>9} {'warm':>9} {'geomloss':>10} {'geomloss/ours':>14} {'off geomloss':>13}{pot_columns}"
    )
    for blur in (0.5, 0.25, 0.1, 0.05):
        live = losses.clone().requires_grad_()

        def ours(start=None, live=live, blur=blur):
            torch.autograd.grad(group_sinkhorn(live, masses, blur=blur, warm_start=start).value.sum(), live)

        earlier = group_sinkhorn(losses * (1 + 1e-3 * torch.sin(40 * losses)), masses, blur=blur)
        cold, warm = least(ours, repeats), least(lambda start=earlier: ours(start), repeats)
        eps = group_sinkhorn(losses, masses, blur=blur).eps
        geomloss_ms = error = float("nan")
        if SamplesLoss is not None:
            loss = SamplesLoss("sinkhorn", p=2, blur=eps**0.5, scaling=0.5, backend="tensorized")

            def theirs(live=live, loss=loss):
                values = [loss(live[m > 0][:, None], live[:, None]) for m in masses]
                torch.autograd.grad(sum(values), live)

            geomloss_ms = least(theirs, 3)
            fine = SamplesLoss("sinkhorn", p=2, blur=eps**0.5, scaling=0.99, backend="tensorized")
            mine = group_sinkhorn(losses, masses, blur=blur).value
            reference = torch.stack([fine(losses[m > 0][:, None], losses[:, None]) for m in masses])
            error = float(((mine - reference).abs() / reference).max())

        def pot(live=live, eps=eps):
            x = live.detach().numpy()
            for m in masses.numpy() > 0:
                for a, b in ((x[m], x), (x[m], x[m]), (x, x)):
                    ot.solve_sample(a[:, None], b[:, None], reg=2 * eps, max_iter=2000)

        line = f"{blur:9.2f} {cold:7.2f}ms {warm:7.2f}ms {geomloss_ms:8.1f}ms {geomloss_ms / cold:14.0f} {error:13.1e}"
        if with_pot:
            pot_ms = least(pot, 1)
            line += f" {pot_ms:8.1f}ms {pot_ms / cold:9.0f}"
        print(line)


def large(repeats: int) -> None:
    """A million values compared with a group of them."""
    rng = np.random.default_rng(1)
    everyone = torch.tensor(rng.gamma(2.0, 0.5, 1_000_000))
    group = everyone[torch.tensor(rng.random(1_000_000) < 0.02 + 0.1 * (everyone.numpy() > 1.5))]
    exact = 0.5 * float(ot.wasserstein_1d(everyone.numpy(), group.numpy(), p=2))
    print(
        f"\n{len(everyone):,} values against {len(group):,} of them; half the squared Wasserstein distance {exact:.6f}\n"
    )
    print(f"{'blur (sd)':>9} {'ours':>9} {'value':>10} {'to W2':>9} {'to 4000 quantiles':>18}  method")
    levels = np.linspace(0, 1, 4001)[:-1] + 0.5 / 4000
    x, y = np.quantile(everyone, levels), np.quantile(group, levels)
    for blur in (1.0, 0.25, 0.1, 0.05):
        result = sinkhorn_divergence(everyone, group, blur=blur, scale="sd")
        ms = least(lambda blur=blur: sinkhorn_divergence(everyone, group, blur=blur, scale="sd"), max(3, repeats // 5))
        value = float(result)
        reference = float(sinkhorn_divergence(x[::2], y[::2], blur=result.eps**0.5, method="dense"))
        print(
            f"{blur:9.2f} {ms:7.0f}ms {value:10.6f} {value / exact - 1:+9.1e} {value / reference - 1:+18.1e}  "
            f"{result.method}"
        )
    sample = 2000
    one, other = everyone[:sample], group[:sample]
    for blur in (1.0, 0.25, 0.05):
        dense = float(sinkhorn_divergence(one, other, blur=blur, scale="sd", method="dense"))
        grid = float(sinkhorn_divergence(one, other, blur=blur, scale="sd", method="grid"))
        print(f"grid against dense on {sample} values, blur {blur:.2f} sd: {grid / dense - 1:+.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--pot", action=argparse.BooleanOptionalAction, default=True, help="takes minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    small(arguments.repeats, arguments.pot)
    large(arguments.repeats)


if __name__ == "__main__":
    main()
