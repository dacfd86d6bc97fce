"""A worker of a sweep: draws settings, trains a run for each seed, and reports the mean of their validation metrics."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from .. import safeio
from ..config import RunConfig, with_model
from ..errors import InputError, TrainingError
from ..runs import BusyError, Run, RunStore
from ..safeio import StorageError
from .results import OBJECTIVES, RECORD, RECORD_VERSION, Sweep, Trial, counted, sweep_of
from .space import DEFAULT, Space
from .storage import Storage, again, beating, load_optuna, reap

if TYPE_CHECKING:
    import optuna

    from ..launch import Hooks
    from ..pairs import PairTable

SAMPLERS = ("tpe", "nsga2", "random")
_PATIENCE = 20.0  # seconds that another worker may take to describe the study that it has just made


@dataclass(frozen=True)
class Plan:
    """What a sweep is asked to do. Where a value is None, the study's own is taken; a new study takes the default.

    Attributes
    ----------
    trials : int
        Trials of the study in all, by all workers and all calls together.
    objectives : tuple of str
        Names of `OBJECTIVES`; ``es_auc`` and ``worst_group`` with ``:attribute`` for a single attribute. Maximised.
    space : Space
    seeds : int
        Runs a trial.
    sampler : str
        One of `SAMPLERS`. Not used if every parameter is a list of choices: each combination is tried once, in order.
    prune : bool
        Stop trials that are worse than the median at the same epoch; for one objective only.
    """

    trials: int
    objectives: tuple[str, ...] | None = None
    space: Space | None = None
    seeds: int | None = None
    sampler: str = "tpe"
    prune: bool = False


class _Pruned(KeyboardInterrupt):
    """Stops a run as Ctrl-C does: its state becomes `cancelled`, its last complete epoch is kept."""


class _Failed(Exception):
    """The trial failed, and would fail again."""


class _TooMany(Exception):
    """Another worker has drawn the last trial in the meantime."""


def sweep(
    table: PairTable,
    store: RunStore,
    storage: Storage,
    plan: Plan,
    *,
    read_options: Mapping[str, Any] | None = None,
    map_pairs: bool = False,
    on_trial: Callable[[Sweep, Trial], None] | None = None,
    on_images: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Work on a study until it has `plan.trials` trials. A study that does not exist yet is made.

    Every run is an ordinary run of the workspace. Objectives are read on the validation split, at the epoch that
    validation selected. The test split is not used.

    Raises
    ------
    InputError
        Optuna is not installed; the plan cannot be carried out on this data, or differs from that of the study.
    StorageError
        The disk cannot be written to: the trial is queued again.
    """
    return _Worker(table, store, storage, plan, dict(read_options or {}), map_pairs, on_trial, on_images).work()


@dataclass
class _Worker:
    table: PairTable
    store: RunStore
    storage: Storage
    plan: Plan
    read_options: dict[str, Any]
    map_pairs: bool
    on_trial: Callable[[Sweep, Trial], None] | None
    on_images: Callable[[int, int], None] | None
    record: dict[str, Any] = field(default_factory=dict)
    workspace: str = ""
    number: int = -1

    def work(self) -> Sweep:
        optuna = load_optuna()
        if self.plan.trials < 1 or (self.plan.seeds or 1) < 1:
            raise InputError("--trials and --seeds: at least 1 of each")
        if self.plan.sampler not in SAMPLERS:
            raise InputError(f"--sampler {self.plan.sampler!r}: choose one of {', '.join(SAMPLERS)}")
        opened = self.storage.open()
        with self.storage.plain_errors():
            study = self._study(opened)
            self.record = study.user_attrs[RECORD]
            self.workspace = workspace_id(self.store)
            combinations = self.space.combinations()
            for values in combinations[: self.plan.trials]:
                study.enqueue_trial(values, skip_if_exists=True)
            while self._more(study, combinations):
                with beating(self.storage) as begin:
                    try:
                        study.optimize(self._objective(study, begin), n_trials=1, catch=(_Failed, _TooMany))
                    except optuna.exceptions.UpdateFinishedTrialError:
                        continue  # this process was suspended for so long that another worker took the trial
                    except (KeyboardInterrupt, StorageError):
                        self._queue_again(study)
                        raise
                now = sweep_of(study, self.storage)
                if self.on_trial is not None:
                    for trial in now.trials:
                        if trial.number == self.number:
                            self.on_trial(now, trial)
            return sweep_of(study, self.storage)

    @property
    def space(self) -> Space:
        return Space.from_dict(self.record["space"])

    # The study

    def _study(self, opened: Any) -> optuna.Study:
        """The study: the first worker makes and describes it, the others wait for the description."""
        optuna = load_optuna()
        samplers, pruners = optuna.samplers, optuna.pruners
        make = {"tpe": samplers.TPESampler, "nsga2": samplers.NSGAIISampler, "random": samplers.RandomSampler}
        pruner = pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2) if self.plan.prune else pruners.NopPruner()
        names = {
            "study_name": self.storage.study,
            "storage": opened,
            "sampler": make[self.plan.sampler](),  # no seed: two workers with the same seed would draw the same
            "pruner": pruner,
        }
        if self.storage.study not in optuna.study.get_all_study_names(opened):
            wanted = self._wanted()
            try:
                study = optuna.create_study(directions=["maximize"] * len(wanted["objectives"]), **names)
            except optuna.exceptions.DuplicatedStudyError:
                pass
            else:
                study.set_user_attr(RECORD, wanted)
                return study
        study = optuna.load_study(**names)
        until = time.monotonic() + _PATIENCE
        while RECORD not in study.user_attrs and time.monotonic() < until:
            time.sleep(0.2)
        sweep_of(study, self.storage)  # refuses a study of another program
        self._compare(study.user_attrs[RECORD])
        return study

    def _wanted(self) -> dict[str, Any]:
        """The description of a new study."""
        from ..train import check_table

        plan = self.plan
        space = self._with_model(plan.space or Space.read(DEFAULT))
        for config in space.configs():
            check_table(self.table, config)
        first = RunConfig.build(space.preset, dict(space.settings)).seed
        objectives = plan.objectives or ("auc", "es_auc")
        if plan.objectives is None and not self.table.attributes:
            objectives = ("auc",)
        _check_objectives(objectives, self.table, plan.prune)
        split = self.table.frame["split"].to_numpy().astype(str)
        return {
            "version": RECORD_VERSION,
            "objectives": list(objectives),
            "seeds": list(range(first, first + (plan.seeds or 1))),
            "space": space.to_dict(),
            "data": {
                "name": self.table.info.name,
                "fingerprint": self.table.fingerprint,
                "n_val": int((split == "val").sum()),
            },
        }

    def _with_model(self, space: Space) -> Space:
        """The space with a fixed model, unless models are varied. Studies of earlier versions have none."""
        if any(parameter.name == "model" for parameter in space.parameters):
            return space
        return replace(space, settings=tuple(sorted(with_model(self.table, dict(space.settings)).items())))

    def _compare(self, record: Mapping[str, Any]) -> None:
        """Refuse to join a study with another plan."""
        name = self.storage.study
        if record["data"]["fingerprint"] != self.table.fingerprint:
            raise InputError(f"study {name!r} is on other data ({record['data']['name']}): choose another --study")
        plan, stored = self.plan, Space.from_dict(record["space"])
        space = self._with_model(plan.space) if plan.space and "model" in dict(stored.settings) else plan.space
        asked = {
            "--objective": (plan.objectives, tuple(record["objectives"])),
            "--seeds": (plan.seeds, len(record["seeds"])),
            "what is varied or set": (space, stored),
        }
        for what, (mine, its) in asked.items():
            if mine is not None and mine != its:
                raise InputError(f"study {name!r} has another {what}: leave it out to join, or choose another --study")
        _check_objectives(record["objectives"], self.table, plan.prune)

    def _more(self, study: optuna.Study, combinations: Sequence[Any]) -> bool:
        """Whether another trial is to be started; trials of dead workers are queued again first."""
        reap(self.storage, study)
        states = [trial.state.name for trial in study.get_trials(deepcopy=False) if counted(trial)]
        begun = sum(state != "WAITING" for state in states)
        return begun < self.plan.trials and (not combinations or "WAITING" in states)

    def _queue_again(self, study: optuna.Study) -> None:
        """Queue the trial that this worker could not finish."""
        with contextlib.suppress(OSError):  # if the disk cannot be written to, another trial is drawn later
            trial = next((t for t in study.get_trials(deepcopy=False) if t.number == self.number), None)
            if trial is not None and trial.state.name == "FAIL" and not counted(trial):
                again(study, trial)

    # A trial

    def _objective(self, study: optuna.Study, begin: Callable[[int], None]) -> Callable[[optuna.Trial], list[float]]:
        def objective(trial: optuna.Trial) -> list[float]:
            begin(trial.number)
            self.number = trial.number
            begun = [t.number for t in study.get_trials(deepcopy=False) if counted(t) and t.state.name != "WAITING"]
            if sum(number <= trial.number for number in begun) > self.plan.trials:
                raise _TooMany
            try:
                return self._values(study, trial)
            except StorageError:
                raise
            except (InputError, TrainingError) as error:
                trial.set_user_attr("error", str(error))
                raise _Failed from error
            except _Pruned:
                raise load_optuna().TrialPruned from None

        return objective

    def _values(self, study: optuna.Study, trial: optuna.Trial) -> list[float]:
        """The mean over seeds of each objective; a run a seed."""
        preset, settings = self.space.drawn(trial)
        if trial.user_attrs.get("workspace") != self.workspace:  # queued again by a worker of another workspace
            trial.set_user_attr("runs", {})
            trial.set_user_attr("workspace", self.workspace)
        done: dict[str, list[float]] = {}
        for seed in self.record["seeds"]:
            config = RunConfig.build(preset, settings | {"seed": seed})
            run = self._trained(study, trial, config, [values[0] for values in done.values()])
            facts = run.report()["val"]
            done[str(seed)] = [validation_metric(facts, name) for name in self.record["objectives"]]
            trial.set_user_attr("values", done)
            trial.set_user_attr("partial", [name for name, of in facts["attributes"].items() if of.get("partial")])
        return [float(value) for value in np.mean(list(done.values()), axis=0)]

    def _trained(self, study: optuna.Study, trial: optuna.Trial, config: RunConfig, before: list[float]) -> Run:
        """A finished run: of another trial with these values, resumed, or new."""
        from ..launch import Hooks, create_run

        run = self._found(study, trial, config)
        if run is not None and run.status.state == "finished":
            self._keep(trial, config, run)
            return run
        hooks = Hooks(on_images=self.on_images, on_epoch=self._pruning(trial, config, before))
        if run is not None:
            with contextlib.suppress(BusyError):
                return self._execute(run, hooks, resume=True)
        run = create_run(self.table, config, self.store, read_options=self.read_options)
        self._keep(trial, config, run)
        run.log(f"trial {trial.number} of sweep {self.storage.study}")
        return self._execute(run, hooks, resume=False)

    def _execute(self, run: Run, hooks: Hooks, *, resume: bool) -> Run:
        from ..launch import execute

        try:
            execute(run, table=self.table, resume=resume, map_pairs=self.map_pairs, hooks=hooks)
        except _Pruned:
            run.set_status(message=f"pruned by sweep {self.storage.study}")
            raise
        return run

    def _keep(self, trial: optuna.Trial, config: RunConfig, run: Run) -> None:
        trial.set_user_attr("runs", trial.user_attrs.get("runs", {}) | {str(config.seed): run.id})

    def _found(self, study: optuna.Study, trial: optuna.Trial, config: RunConfig) -> Run | None:
        """The run that this trial had before it was queued again, else a finished one of a trial with the same values."""
        seed = str(config.seed)
        mine = trial.user_attrs.get("runs", {}).get(seed)
        same = (t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params == trial.params)
        theirs = (
            t.user_attrs.get("runs", {}).get(seed) for t in same if t.user_attrs.get("workspace") == self.workspace
        )
        for run_id in filter(None, (mine, *theirs)):
            with contextlib.suppress(InputError):  # deleted or damaged in the meantime
                run = self.store.get(run_id)
                if run.config == config and (run_id == mine or run.status.state == "finished"):
                    return run
        return None

    def _pruning(self, trial: optuna.Trial, config: RunConfig, before: list[float]) -> Callable[[Any], None] | None:
        """Report the value after each epoch (a mean with the finished seeds), and stop a trial below the median."""
        if not self.plan.prune:
            return None
        offset = len(before) * config.epochs

        def on_epoch(report: Any) -> None:
            value = validation_metric(report.val, self.record["objectives"][0])
            trial.report(float(np.mean([*before, value])), offset + report.epoch)
            if trial.should_prune():
                raise _Pruned

        return on_epoch


def validation_metric(facts: Mapping[str, Any], objective: str) -> float:
    """An objective from a report's validation part; ``es_auc`` is the mean over attributes, ``worst_group`` the lowest.

    >>> facts = {"overall": {"auc": 0.8}, "attributes": {"sex": {"es_auc": 0.7, "worst_group_auc": 0.6},
    ...                                                  "race": {"es_auc": 0.6, "worst_group_auc": None}}}
    >>> [round(validation_metric(facts, name), 2) for name in ("auc", "es_auc", "worst_group", "es_auc:sex")]
    [0.8, 0.65, 0.6, 0.7]

    Raises
    ------
    InputError
        It is undefined.
    """
    name, _, attribute = objective.partition(":")
    if name == "auc":
        found = [facts["overall"]["auc"]]
    else:
        key = {"es_auc": "es_auc", "worst_group": "worst_group_auc"}[name]
        found = [of[key] for other, of in facts["attributes"].items() if attribute in ("", other)]
    values = [value for value in found if value is not None]
    if not values:
        raise InputError(f"{objective} is undefined on the validation split: a group needs pairs of both labels there")
    return float(np.min(values) if name == "worst_group" else np.mean(values))


def _check_objectives(objectives: Sequence[str], table: PairTable, prune: bool) -> None:
    if not objectives or len(set(objectives)) < len(objectives):
        raise InputError("--objective: name one or several, each once, as in auc,es_auc")
    for objective in objectives:
        name, sign, attribute = objective.partition(":")
        if name not in OBJECTIVES:
            raise InputError(f"--objective {objective!r}: choose among {', '.join(OBJECTIVES)}")
        if sign and (name == "auc" or attribute not in table.attributes):
            there = ", ".join(table.attributes) or "none"
            raise InputError(f"--objective {objective!r}: after the colon stands an attribute of the data ({there})")
        if name != "auc" and not table.attributes:
            raise InputError(f"--objective {objective!r}: the data has no attributes, so only auc is possible")
    if prune and len(objectives) > 1:
        raise InputError("--prune works with one objective only: Optuna does not prune for several; leave it out")


def workspace_id(store: RunStore) -> str:
    """An identifier of the workspace: the same run id can exist in two workspaces."""
    path = store.workspace / "sweeps" / "workspace.json"
    if not path.exists():
        with safeio.storing(path):
            safeio.make_folder(path.parent)
            with FileLock(path.with_name(".workspace.lock"), mode=safeio.PRIVATE_FILE):
                if not path.exists():
                    safeio.write_json(path, {"id": uuid.uuid4().hex})
    return str(safeio.read_json(path)["id"])
