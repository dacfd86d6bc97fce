"""AUC, ES-AUC and their intervals for the predictions of any other program.

python examples/metrics_of_your_predictions.py predictions.csv --label y --score p --attributes sex,race [--patient id]
"""

from __future__ import annotations

import argparse

import pandas as pd

from fairvlm_core import FairnessReport


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("csv")
    parser.add_argument("--label", default="label")
    parser.add_argument("--score", default="score")
    parser.add_argument("--attributes", required=True)
    parser.add_argument("--patient", help="column of patient ids: the bootstrap then draws patients, not rows")
    parser.add_argument("--resamples", type=int, default=2000)
    options = parser.parse_args()

    names = options.attributes.split(",")
    frame = pd.read_csv(options.csv, dtype=dict.fromkeys(names, str), keep_default_na=False)
    report = FairnessReport.from_predictions(
        frame[options.label],
        frame[options.score],
        {name: frame[name] for name in names},
        patients=frame[options.patient] if options.patient else None,
        n_resamples=options.resamples,
        n_permutations=options.resamples,
    ).to_dict()

    print(f"AUC {report['overall']['auc']:.3f}, n = {report['overall']['n']}")
    for name, facts in report["attributes"].items():
        interval = facts["intervals"].get("es_auc")
        reach = f"[{interval['low']:.3f}, {interval['high']:.3f}]" if interval else "no interval"
        print(f"{name}: ES-AUC {facts['es_auc']:.3f} {reach}" if facts["es_auc"] is not None else f"{name}: undefined")
        for group, values in facts["groups"].items():
            auc = "undefined" if values["auc"] is None else f"{values['auc']:.3f}"
            print(f"  {group}: AUC {auc}, n = {values['n']} ({values['n_positive']} positive)")


if __name__ == "__main__":
    main()
