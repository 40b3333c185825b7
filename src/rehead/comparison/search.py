"""`rehead search`: good settings by Optuna, which are layers kept and trained, pooling, learning rate, smoothing.

Validation log loss decides; the test set is not looked at. Features that a trial has computed are in the cache for the
others. Trials are kept in an SQLite file or another database, so that an interrupted search goes on, and so that
several processes can share a search.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.base import clone

from rehead.classifier import Classifier
from rehead.comparison.identity import digest
from rehead.data.containers import Source
from rehead.data.preparation import DataConfig, DataSplits, prepare
from rehead.models.heads import candidates
from rehead.runtime import extras, progress
from rehead.runtime.errors import SettingError, first_line
from rehead.runtime.results import Result, entry
from rehead.training.callbacks import Callback, Epoch
from rehead.training.encoding import EncodedData
from rehead.training.finetune import finetune
from rehead.workflows.results import FitResult

# Trained layers cost a hundred times what a probe costs; more than two gained nothing in what was measured.
_MOST_TRAINED = 2
# Trials before those whose loss is above the median of the others at the same epoch are pruned.
_STARTUP_TRIALS = 5
# What a trial's checksum is called in the file: SQLite has none.
_CHECKSUM = "sha256"


Parameters = dict[str, int | float | str]


@dataclass(frozen=True)
class SearchTrial:
    """Parameters of a classifier that were tried.

    Attributes:
        settings: the parameters, by name.
        validation_log_loss: None where the trial did not come to its end.
        state: `complete`, `pruned`, `fail` or `running`.
    """

    settings: Parameters
    validation_log_loss: float | None
    state: str


@dataclass(frozen=True, kw_only=True)
class SearchResult(Result):
    """All trials of a search, and the best settings.

    Attributes:
        model: an unfitted classifier with the best settings.
        trials: with those that the file held already.
        best: the settings with the lowest validation log loss.
        validation_log_loss: with them.
        storage: where they are kept.
    """

    model: Classifier = entry(hidden=True)
    trials: tuple[SearchTrial, ...]
    best: Parameters
    validation_log_loss: float
    storage: str


@dataclass(frozen=True, kw_only=True)
class SearchedFit(Result):
    """A fit with the best settings, and the search that found them.

    Attributes:
        search: the trials and the best of them.
    """

    fit: FitResult = entry(merged=True)
    search: SearchResult


def search(
    sources: DataConfig | Source,
    model: Classifier | None = None,
    *,
    n_trials: int = 20,
    storage: str | Path = "rehead-search.sqlite",
    budget: float | None = None,
) -> SearchResult:
    """Try settings on the training and validation part of a split.

    Args:
        sources: as for `rehead.fit`.
        model: an unfitted classifier; parameters that are not searched for stay as they are there.
        n_trials: in all, with those that the storage holds already, and with those of other processes that search there
            at the same time; each of these may end one trial more.
        storage: an SQLite file, made where it is missing; or the address of a database that SQLAlchemy knows, for
            processes on several machines.
        budget: seconds; no trial begins after them.

    Raises:
        SettingError: Optuna is not installed, or the numbers make no sense.
        RheadError: another child of it, for what is wrong with data or base.
    """
    extras.require("rehead search", "search", "optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if n_trials < 1:
        raise SettingError(f"`n_trials` must be 1 or more, not {n_trials}")
    model = model or Classifier()
    parts = prepare(DataConfig.of(sources), model.config().seed)
    data = model.encode(parts.train, parts.validation)
    study = _study(optuna, storage, parts, model, data)
    states = optuna.trial.TrialState
    done = len(study.get_trials(states=(states.COMPLETE, states.PRUNED)))
    if done:
        progress.say(f"{done} trials are in {storage} already")
    if done < n_trials:
        enough = optuna.study.MaxTrialsCallback(n_trials, (states.COMPLETE, states.PRUNED))
        study.optimize(
            _objective(optuna, parts, model, data), timeout=budget, callbacks=[lambda study, trial: _say(trial), enough]
        )
    best = _settings(study.best_params)
    return SearchResult(
        model=clone(model).set_params(**best),
        trials=tuple(
            SearchTrial(_settings(trial.params), trial.value, trial.state.name.lower()) for trial in study.trials
        ),
        best=best,
        validation_log_loss=study.best_value,
        storage=str(storage),
    )


def _study(optuna: Any, storage: str | Path, parts: DataSplits, model: Classifier, data: EncodedData) -> Any:
    """Open the study of these data and settings in the storage, or begin it."""
    parameters = {name: value for name, value in model.get_params().items() if name != "verbose"}
    name = digest(sorted(parameters.items()), [data.base.folder], (parts.train, parts.validation))
    try:
        study = optuna.create_study(
            storage=storage if "://" in str(storage) else f"sqlite:///{Path(storage).resolve()}",
            study_name=name,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
            direction="minimize",
            load_if_exists=True,
        )
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # SQLAlchemy's, of several classes
        raise SettingError(
            f"`storage={str(storage)!r}` cannot be used ({first_line(error)}); give another file"
        ) from error
    for trial in trials:
        complete = trial.state is optuna.trial.TrialState.COMPLETE
        if complete and trial.user_attrs.get(_CHECKSUM) != _checksum(trial.params, trial.value):
            raise SettingError(
                f"`storage={str(storage)!r}`: trial {trial.number + 1} in it is damaged; give another file"
            )
    return study


def _objective(optuna: Any, parts: DataSplits, model: Classifier, data: EncodedData) -> Callable[[Any], float]:
    n_layers, whole = len(data.base.layers), data.base.summary_position
    most = _MOST_TRAINED if data.config.learns_whole_inputs else 0

    def objective(trial: Any) -> float:
        # Of its number alone, so that neither a search that goes on nor another process tries the same once more.
        trial.study.sampler = optuna.samplers.TPESampler(seed=data.config.seed + trial.number, constant_liar=True)
        n_trained = trial.suggest_int("trained_blocks", 0, min(most, n_layers))
        # Depths as a distance from the end, so that each is possible whatever is trained.
        trial.suggest_int("depth", 1, n_layers)
        trial.suggest_categorical("pool", [*candidates(whole), "layers"])
        if n_trained:
            trial.suggest_float("learning_rate", 1e-6, 1e-4, log=True)
            trial.suggest_float("label_smoothing", 0.0, 0.2)
        tried = clone(model).set_params(**_settings(trial.params))
        encoded = tried.encode(parts.train, parts.validation)

        class Pruning(Callback):
            def on_epoch(self, epoch: Epoch) -> None:
                trial.report(epoch.validation_loss, epoch.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        loss = finetune(encoded, callback=Pruning()).kept.loss
        trial.set_user_attr(_CHECKSUM, _checksum(trial.params, loss))
        return loss

    return objective


def _checksum(parameters: dict[str, Any], loss: float | None) -> str:
    """Return the SHA-256 of what decides in a trial that came to its end."""
    return hashlib.sha256(repr([sorted(parameters.items()), loss]).encode()).hexdigest()


def _settings(parameters: dict[str, Any]) -> Parameters:
    """Return Optuna's parameters as those of a classifier; none of a trial that has not drawn all of them."""
    if "pool" not in parameters:
        return {}
    n_trained = parameters["trained_blocks"]
    rest = {name: value for name, value in parameters.items() if name != "trained_blocks"}
    return {**rest, "tune": f"last-{n_trained}" if n_trained else "head", "depth": max(parameters["depth"], n_trained)}


def _say(trial: Any) -> None:
    settings = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in _settings(trial.params).items()
    )
    outcome = trial.state.name.lower() if trial.value is None else f"{trial.value:.4f}"
    progress.say(f"trial {trial.number + 1}: {outcome} ({settings})")
