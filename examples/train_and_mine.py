"""Fine-tune on a data folder, then list the flagged pairs, without app, workspace or run folder.

python examples/train_and_mine.py DATA [--preset robustfair] [--model tiny] [--epochs 6]
"""

from __future__ import annotations

import argparse

from fairvlm_core import PairTable, RunConfig, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a folder of image-note pairs; `fairvlm synth DATA` makes one")
    parser.add_argument("--preset", default="robustfair")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()

    table = PairTable.read(options.data)
    config = RunConfig.build(options.preset, {"model": options.model, "epochs": options.epochs})
    result = fit(table, config, on_epoch=lambda report, _: print(f"epoch {report.epoch}: loss {report.train_loss:.3f}"))

    test = result.test.to_dict()
    print(f"test AUC {test['overall']['auc']:.3f}, n = {test['overall']['n']}")
    for name, facts in test["attributes"].items():
        print(f"  ES-AUC by {name}: " + ("undefined" if facts["es_auc"] is None else f"{facts['es_auc']:.3f}"))

    flagged = result.mining.to_frame().query("kind != 'clean'").sort_values("z", ascending=False)
    print(f"{len(flagged)} of {len(result.ledger)} training pairs are flagged")
    print(flagged.head(10).to_string(index=False))


if __name__ == "__main__":
    main()
