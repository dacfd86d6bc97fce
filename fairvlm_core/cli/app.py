"""The commands of `fairvlm`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..cells import typed_path
from ..errors import InputError
from . import review, show

app = typer.Typer(
    name="fairvlm",
    help="Make vision-language models for medical images robust and fair, and measure the result.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(review.app, name="review")

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on standard output")]
Workspace = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        parser=typed_path,
        help="Where runs are kept [default: $FAIRVLM_WORKSPACE, else ./workspace]",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DATA", parser=typed_path, help="Folder of image-note pairs")]
OneRun = Annotated[str, typer.Argument(metavar="RUN", help="Id or number of a run, or `latest`")]
Preset = Annotated[str, typer.Option(help="`fairvlm presets` lists them")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, of all runs; may be repeated")
]
SharedPatients = Annotated[bool, typer.Option("--allow-shared-patients", help="Let a patient be in several splits")]
_MAX_REFUSED = 0.05
MaxRefused = Annotated[float, typer.Option(help="Refuse the whole set above this share of bad images")]
MinCell = Annotated[int, typer.Option(help="Hide groups with fewer people in a cell; 0 hides none")]
Resamples = Annotated[int, typer.Option(min=0, help="Bootstrap and permutation draws; 0: no intervals")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the app")]
Description = Annotated[
    Path | None,
    typer.Option("--description", metavar="FILE", parser=typed_path, help="A dataset.json outside the data folder"),
]


Images = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="DIR", parser=typed_path, help="Folder of the images, where it is not the data folder"
    ),
]


def _read_options(
    description: Path | None, allow_shared_patients: bool, images: Path | None, max_refused: float
) -> dict[str, Any]:
    path = None if description is None else str(description.resolve())
    options: dict[str, Any] = {"description": path, "allow_shared_patients": allow_shared_patients}
    if max_refused != _MAX_REFUSED:
        options["max_refused_share"] = max_refused
    return options if images is None else options | {"images": str(images.resolve())}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fairvlm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop")
    ] = False,
) -> None:
    pass


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; it must not exist or be empty")],
    n_train: Annotated[int, typer.Option(help="Training pairs")] = 2000,
    n_val: Annotated[int, typer.Option(help="Validation pairs")] = 400,
    n_test: Annotated[int, typer.Option(help="Test pairs")] = 600,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files")] = 0,
    mismatch_rate: Annotated[float, typer.Option(help="Share of training pairs with another patient's note")] = 0.15,
    shortcut_rate: Annotated[float, typer.Option(help="Share with a non-clinical marker on both sides")] = 0.03,
    size: Annotated[int, typer.Option(help="Side of the images in pixels")] = 128,
    proportions: Annotated[str, typer.Option(help="Group sizes: real or balanced")] = "real",
    disparity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE=GROUP:KIND[:STRENGTH]",
            help="A disadvantage of one group: device (other camera), few (few training pairs), notes (more wrong notes), "
            "labels (more wrong labels); may be repeated",
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="manifest or fairvlmed")] = "manifest",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder")] = False,
) -> None:
    """Write SynthFundus, the built-in data, with planted bad pairs recorded in OUT/planted.csv."""
    from ..synth import SynthConfig, check_target, synthesize, write_synth

    check_target(out, layout, overwrite)  # before minutes of drawing
    config = SynthConfig(
        n_train=n_train,
        n_val=n_val,
        n_test=n_test,
        seed=seed,
        mismatch_rate=mismatch_rate,
        shortcut_rate=shortcut_rate,
        size=size,
        proportions=proportions,
        disparity=tuple(disparity or ()),
    )
    with show.progress() as bar:
        data = synthesize(config, progress=show.watch(bar, "images"))
    write_synth(data, out, layout=layout, overwrite=overwrite)
    kinds = data.planted["kind"].value_counts()
    typer.echo(
        f"{len(data.frame)} pairs in {out} ({layout} layout): {kinds.get('mismatch', 0)} planted mismatches, "
        f"{kinds.get('shortcut', 0)} planted shortcuts, recorded in planted.csv"
    )
    for one in data.disparity:
        typer.echo(f"{one.disparity}: {len(one.pair_ids)} pairs changed, recorded in disparity.json")


@app.command()
def check(
    data: Folder,
    description: Description = None,
    images: Images = None,
    seed: Annotated[int, typer.Option(help="For splits, where the data has none")] = 0,
    model: Annotated[str, typer.Option(help="Whose tokenizer reads the notes; auto as in train")] = "auto",
    allow_shared_patients: SharedPatients = False,
    max_refused: MaxRefused = _MAX_REFUSED,
    json: Json = False,
) -> None:
    """Read a data folder and report what is in it; finds the layout itself."""
    from ..pairs import PairTable
    from .data import print_intake, report_for

    with show.progress(json) as bar:
        table = PairTable.read(
            data,
            description=description,
            images=images,
            seed=seed,
            allow_shared_patients=allow_shared_patients,
            max_refused_share=max_refused,
            progress=show.watch(bar, "images"),
        )
    report = report_for(table, model)
    if json:
        show.print_json(report.to_dict())
    else:
        print_intake(report)


@app.command()
def describe(
    data: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with a table and images")],
    images: Images = None,
    write: Annotated[bool, typer.Option("--write", help="Save it as dataset.json in the folder")] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask for each entry that is a guess")] = False,
    json: Json = False,
) -> None:
    """Look at a folder and propose a dataset.json, with reasons."""
    from .data import describe_data

    describe_data(data, images, write=write, ask=ask, json=json)


@app.command()
def train(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", parser=typed_path, help="Folder of image-note pairs")
    ] = None,
    preset: Preset = "clip",
    workspace: Workspace = None,
    model: Annotated[
        str | None,
        typer.Option(help="auto, tiny, base, NAME, NAME:TAG, NAME@FILE, hf-hub:NAME, folder [default: auto]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    attributes: Annotated[str | None, typer.Option(help="a,b: attributes of the fairness term")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validation by patient over K folds, for small sets: one pooled report")
    ] = None,
    settings: Settings = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue an interrupted run")] = None,
    verdicts: Annotated[
        str | None, typer.Option(help="Use a review: `latest` of the workspace, or an exported FILE.json")
    ] = None,
    description: Description = None,
    images: Images = None,
    allow_shared_patients: SharedPatients = False,
    max_refused: MaxRefused = _MAX_REFUSED,
    map_pairs: Annotated[
        bool, typer.Option("--map/--no-map", help="Make the map of the pairs once the run has finished")
    ] = True,
    background: Annotated[
        bool, typer.Option("--background", help="Put the run into the queue and return; `fairvlm jobs` shows it")
    ] = False,
    json: Json = False,
) -> None:
    """Fine-tune a CLIP; the last line is the run's id. Several processes: torchrun, see docs/distributed.md."""
    from ..distributed import joined
    from .training import NewRun, parse_settings, train_run

    given = {
        "model": model,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "folds": folds,
        "fairness.attributes": attributes,
    }
    chosen = {key: value for key, value in given.items() if value is not None} | parse_settings(settings)
    new = NewRun(data, preset, chosen, verdicts, _read_options(description, allow_shared_patients, images, max_refused))
    with joined() as team:
        train_run(
            new,
            workspace=workspace,
            resume=resume,
            json=json,
            map_pairs=map_pairs,
            background=background,
            team=team,
        )


@app.command()
def cost(
    data: Folder,
    preset: Preset = "clip",
    settings: Settings = None,
    description: Description = None,
    images: Images = None,
    allow_shared_patients: SharedPatients = False,
    max_refused: MaxRefused = _MAX_REFUSED,
    json: Json = False,
) -> None:
    """Measure a training step on a few pairs, and estimate the time of a run."""
    from .jobs import print_cost
    from .training import parse_settings

    print_cost(
        data,
        preset,
        parse_settings(settings),
        _read_options(description, allow_shared_patients, images, max_refused),
        json,
    )


@app.command()
def jobs(workspace: Workspace = None, json: Json = False) -> None:
    """List the runs that run or wait in the queue."""
    from .jobs import list_jobs

    list_jobs(workspace, json)


@app.command()
def cancel(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids or numbers of runs that wait or run")],
    workspace: Workspace = None,
) -> None:
    """Cancel runs; `fairvlm resume` continues from their last complete epoch."""
    from .jobs import cancel_runs

    cancel_runs(runs, workspace)


@app.command()
def resume(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Interrupted, failed or cancelled runs")],
    workspace: Workspace = None,
) -> None:
    """Put runs into the queue again; in the foreground: `fairvlm train --resume RUN`."""
    from .jobs import resume_runs

    resume_runs(runs, workspace)


@app.command()
def work(
    workspace: Workspace = None,
    device: Annotated[str | None, typer.Option(help="Serve this device's queue here, until it is empty")] = None,
    stay: Annotated[float, typer.Option(min=0, hidden=True, help="Seconds to wait for more with --device")] = 0.0,
) -> None:
    """Start the workers that the queue needs; the app and `train --background` do so themselves."""
    from .jobs import serve_queue

    serve_queue(workspace, device, stay)


@app.command()
def sweep(
    data: Folder,
    trials: Annotated[int, typer.Option(min=1, help="Of the study in all, by all its workers together")] = 20,
    objective: Annotated[
        str | None, typer.Option(help="Of the validation split: auc, es_auc, worst_group [auc,es_auc]")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=RANGE", help="LOW..HIGH[:log|:STEP] or a|b|c; may be repeated")
    ] = None,
    space: Annotated[Path | None, typer.Option(metavar="SPACE.toml", help="The same as a file")] = None,
    preset: Annotated[str | None, typer.Option(help="Method whose settings are varied [robustfair]")] = None,
    settings: Settings = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each trial; it counts with their mean [1]")] = None,
    study: Annotated[str, typer.Option(help="Several calls with one name work on one study")] = "sweep",
    storage: Annotated[
        str | None, typer.Option(help="Shared folder, or postgresql://… [$FAIRVLM_SWEEP_STORAGE, else the workspace]")
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe, nsga2 or random")] = "tpe",
    prune: Annotated[bool, typer.Option("--prune", help="End trials below the median; one objective only")] = False,
    map_pairs: Annotated[bool, typer.Option("--map/--no-map", help="Make the map of every run, too")] = False,
    workspace: Workspace = None,
    description: Description = None,
    images: Images = None,
    allow_shared_patients: SharedPatients = False,
    max_refused: MaxRefused = _MAX_REFUSED,
    json: Json = False,
) -> None:
    """Search settings by their validation metrics; the same command again joins or continues the study."""
    from .sweep import plan_of, run_sweep
    from .training import parse_settings

    fixed = parse_settings(settings)
    plan = plan_of(trials, objective, param or [], space, preset, fixed, seeds, sampler, prune)
    run_sweep(
        data,
        plan,
        workspace=workspace,
        study=study,
        where=storage,
        read_options=_read_options(description, allow_shared_patients, images, max_refused),
        map_pairs=map_pairs,
        json=json,
    )


@app.command()
def experiment(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.toml", parser=typed_path, help="What is compared; or a bundled one: demo, ..."),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(metavar="[DATA]", parser=typed_path, help="Data folder; not needed by files on built-in data"),
    ] = None,
    settings: Settings = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="In place of the file's models; may be repeated")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds, in place of the file's")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at the same time [one a core; with a GPU, one]")] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Put the missing runs into the queue and return at once")
    ] = False,
    map_pairs: Annotated[
        bool, typer.Option("--map/--no-map", help="Make missing maps afterwards, in the background")
    ] = True,
    workspace: Workspace = None,
    description: Description = None,
    images: Images = None,
    allow_shared_patients: SharedPatients = False,
    max_refused: MaxRefused = _MAX_REFUSED,
    json: Json = False,
) -> None:
    """Train methods x seeds and print one table; the same command goes on where it stopped."""
    from .demo import make_maps_later
    from .experiment import Options, run_experiment
    from .training import parse_settings

    read_options = _read_options(description, allow_shared_patients, images, max_refused)
    options = Options(parse_settings(settings), model or (), seeds, jobs, read_options)
    run_experiment(file, data, workspace=workspace, options=options, background=background, json=json)
    if map_pairs and not background:
        make_maps_later(workspace, quiet=json)


@app.command()
def mine(
    run: OneRun,
    workspace: Workspace = None,
    faulty_sd: Annotated[float | None, typer.Option(help="β_f: standard deviations above the mean [run's]")] = None,
    noisy_sd: Annotated[float | None, typer.Option(help="β_n: standard deviations below the mean [run's]")] = None,
    every: Annotated[bool, typer.Option("--all", help="List clean pairs too")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the rows there")] = None,
    json: Json = False,
) -> None:
    """List a run's bad pairs; other thresholds need no training."""
    from .mining import mine_run

    mine_run(run, workspace, faulty_sd, noisy_sd, every, csv, json)


@app.command(name="map")
def map_command(
    run: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Ids or numbers of finished runs, or `latest`")
    ] = None,
    workspace: Workspace = None,
    missing: Annotated[bool, typer.Option("--missing", help="Every finished run that has none")] = False,
    json: Json = False,
) -> None:
    """Make the map of a run's pairs (UMAP of images and of notes) for the Bad pairs page."""
    from ..analysis.pairmap import make_map, make_map_if_possible
    from ..runs import RunStore, State

    store = RunStore(workspace)
    if not run and not missing:
        raise InputError("map: name a run, or pass --missing")
    made = [{"run_id": found.id, "method": make_map(found)} for found in map(store.get, run or ())]
    for found in store.runs() if missing else ():
        if found.status.state == State.FINISHED and not found.files.projection.exists():
            make_map_if_possible(found)
    if json:
        show.print_json(made[0] if len(made) == 1 else made)
    else:
        for line in made:
            typer.echo(f"map of {line['run_id']}: {line['method']}")


@app.command()
def metrics(
    predictions: Annotated[Path, typer.Argument(metavar="CSV", parser=typed_path, help="Any predictions file")],
    label: Annotated[str, typer.Option(help="Column with 0 / 1")] = "label",
    score: Annotated[str, typer.Option(help="Column with the score")] = "score",
    attributes: Annotated[str, typer.Option(help="a,b: columns with groups")] = "",
    patient: Annotated[str | None, typer.Option(help="Column with patient ids: resampled together")] = None,
    bands: Annotated[
        list[str] | None, typer.Option(metavar="A=EDGES", help="Cut numbers into groups: age=40,60; may be repeated")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="A score at or above counts as positive [0.5]")] = None,
    group_threshold: Annotated[
        list[str] | None, typer.Option(metavar="A=GROUP:T", help="A group's own threshold; may be repeated")
    ] = None,
    specificity: Annotated[float | None, typer.Option(help="Sensitivity where this share of healthy is left")] = None,
    what_if: Annotated[bool, typer.Option("--what-if", help="Equalised odds by fairlearn's post-processing")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="A=GROUP", help="Leave a group out; may be repeated")
    ] = None,
    intersections: Annotated[int, typer.Option(help="2 or 3: cross the attributes in pairs or triples")] = 0,
    min_cell: Annotated[int, typer.Option(help="Smallest cell of an intersection, in rows")] = 20,
    curves: Annotated[bool, typer.Option("--curves", help="ROC and precision-recall by group; with --json")] = False,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap and permutation draws; 0: none")] = 2000,
    json: Json = False,
) -> None:
    """Fairness metrics of any predictions file: AUC, ES-AUC, gaps, with intervals and chance levels."""
    from ..analysis.thresholds import Extras
    from .metrics import metrics_of_file, parse_bands, parse_exclude, parse_group_thresholds

    extras = Extras(
        exclude=parse_exclude(exclude or []),
        specificity=specificity,
        group_thresholds=parse_group_thresholds(group_threshold or []),
        what_if=what_if,
        curves=curves,
    )
    metrics_of_file(
        predictions,
        label=label,
        score=score,
        attributes=list(dict.fromkeys(name.strip() for name in attributes.split(",") if name.strip())),
        patient=patient,
        bands=parse_bands(bands or []),
        threshold=threshold,
        resamples=resamples,
        intersections=intersections,
        min_cell=min_cell,
        extras=extras,
        json=json,
    )


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids or numbers of one or more runs")],
    workspace: Workspace = None,
    attribute: Annotated[str | None, typer.Option(help="Only this one, with its groups; default: each")] = None,
    metric: Annotated[
        str, typer.Option(help="What is compared: auc, accuracy, auc_gap, worst_group_auc, one of your own, ...")
    ] = "es_auc",
    resamples: Annotated[int, typer.Option(help="Bootstrap draws")] = 2000,
    json: Json = False,
) -> None:
    """Compare methods on the same test patients; runs that differ only by their seed are one method."""
    from .metrics import compare_runs

    compare_runs(runs, workspace, attribute, resamples, json, metric)


@app.command()
def report(
    run: OneRun,
    workspace: Workspace = None,
    baseline: Annotated[str | None, typer.Option(metavar="RUN", help="Compare with it, patient by patient")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="[default: RUN-report.html]")] = None,
    with_notes: Annotated[bool, typer.Option("--with-notes", help="Add the notes of flagged pairs, in full")] = False,
    pair_ids: Annotated[bool, typer.Option(help="List the ids of flagged pairs")] = True,
    min_cell: MinCell = 5,
    resamples: Resamples = 2000,
    json: Json = False,
) -> None:
    """Write a run's report: one HTML file that loads nothing else, or the same as JSON."""
    from ..report import ReportOptions
    from .report import report_run

    options = ReportOptions(min_cell=min_cell, pair_ids=pair_ids, notes=with_notes, n_resamples=resamples)
    report_run(run, workspace, baseline=baseline, out=out, options=options, json=json)


@app.command()
def export(
    run: OneRun,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A folder that does not exist or is empty")],
    workspace: Workspace = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="tables, model, card, tensorboard, mlflow [default: the first three]"),
    ] = None,
    patient_ids: Annotated[bool, typer.Option("--patient-ids", help="Keep them; else running numbers")] = False,
    min_cell: MinCell = 5,
    resamples: Resamples = 2000,
    json: Json = False,
) -> None:
    """Write a run for other tools: Parquet tables, a model that open_clip loads, a model card, TensorBoard, MLflow."""
    from ..export import ExportOptions
    from .export import export as export_folder

    chosen = {} if formats is None else {"formats": tuple(dict.fromkeys(formats))}
    options = ExportOptions(**chosen, min_cell=min_cell, patient_ids=patient_ids, n_resamples=resamples)
    export_folder(run, workspace, to, options, json)


@app.command()
def runs(workspace: Workspace = None, json: Json = False) -> None:
    """List the workspace's runs."""
    from .training import list_runs

    list_runs(workspace, json)


@app.command()
def presets(
    settings: Annotated[bool, typer.Option("--settings", help="List every setting instead")] = False, json: Json = False
) -> None:
    """List the presets, or every setting with its default."""
    from .catalogue import list_presets, list_settings

    (list_settings if settings else list_presets)(json)


@app.command()
def models(find: Annotated[str, typer.Argument(metavar="[PART]", help="Names with this part only")] = "") -> None:
    """List the names --model takes."""
    from .catalogue import list_models

    list_models(find)


@app.command()
def demo(
    workspace: Workspace = None,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Runs of each preset")] = 3,
    no_app: Annotated[bool, typer.Option("--no-app", help="Stop after the table")] = False,
    port: Port = 8501,
) -> None:
    """Built-in data, fine-tunes, comparison; then the app."""
    from .demo import make_maps_later, run_demo, serve

    run_demo(workspace, seeds, maps=no_app)
    if not no_app:
        make_maps_later(workspace)
        serve(workspace, port)


@app.command(name="app")
def app_command(workspace: Workspace = None, port: Port = 8501) -> None:
    """Serve the app on localhost."""
    from .demo import serve

    serve(workspace, port)
