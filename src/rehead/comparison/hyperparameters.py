"""Looks for good settings with Optuna: how many blocks to keep and to train, pooling, learning rate, smoothing.

Validation log loss decides; the test set is not looked at. Features that a trial has computed are in the cache for the
others. Trials are kept in an SQLite file, so that a search that was broken off goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.base import clone

from rehead.classifier import Classifier
from rehead.comparison.identity import digest
from rehead.data.parts import Parts, Sources, prepare
from rehead.models.heads import candidates
from rehead.runtime import progress
from rehead.runtime.errors import SettingError, first_line
from rehead.training.encoding import EncodedData
from rehead.training.finetune import finetune

# Trained blocks cost a hundred times what a probe costs; of more than two nothing was gained in what was measured.
_MOST_BLOCKS = 2
# Trials whose loss is above the median of the others at the same epoch are broken off, once there are so many.
_STARTUP_TRIALS = 5


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes:
        model: an unfitted classifier with the best settings.
        facts: all trials, as JSON can hold them.
    """

    model: Classifier
    facts: dict[str, Any]


def search(
    sources: Sources | str,
    model: Classifier | None = None,
    *,
    n_trials: int = 20,
    storage: str | Path = "rehead-search.sqlite",
    budget: float | None = None,
) -> Searched:
    """Tries settings on the training and validation part of a split.

    Args:
        sources: as for `rehead.fit`.
        model: an unfitted classifier; what is not searched for is as it says.
        n_trials: in all, with those that the file holds already.
        storage: the SQLite file; made where it is missing.
        budget: seconds; no trial begins after them.

    Raises:
        SettingError: Optuna is not installed, or the numbers make no sense.
        RheadError: another child of it, for what is wrong with data or base.
    """
    optuna = _optuna()
    if n_trials < 1:
        raise SettingError(f"--trials must be 1 or more, not {n_trials}")
    sources = Sources(sources) if isinstance(sources, str) else sources
    model = model or Classifier()
    parts = prepare(sources, model.random_state)
    data = model.encode(parts.train, parts.validation)
    decides = sorted(model.get_params().items())
    name = digest(decides, [data.base.folder], (parts.train, parts.validation))
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{Path(storage).resolve()}",
            study_name=name,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
            direction="minimize",
            load_if_exists=True,
        )
    except Exception as error:  # SQLAlchemy's, of several classes
        raise SettingError(f"--storage {storage} cannot be used ({first_line(error)}); give another file") from error
    # Its first trials are random: those of a search that goes on must not be the same once more.
    study.sampler = optuna.samplers.TPESampler(seed=model.random_state + len(study.trials))
    done = len(study.get_trials(states=_finished(optuna)))
    if done:
        progress.say(f"{done} trials are in {storage} already")
    study.optimize(
        _objective(optuna, parts, model, data),
        n_trials=max(0, n_trials - done),
        timeout=budget,
        callbacks=[lambda study, trial: _say(trial)],
    )
    trials = [
        {"settings": _settings(trial.params), "validation_log_loss": trial.value, "state": trial.state.name.lower()}
        for trial in study.trials
    ]
    best = clone(model).set_params(**_settings(study.best_params))
    facts = {"trials": trials, "best": _settings(study.best_params), "validation_log_loss": study.best_value}
    return Searched(best, {**facts, "storage": str(storage)})


def _objective(optuna: Any, parts: Parts, model: Classifier, data: EncodedData) -> Callable[[Any], float]:
    n_blocks, whole = len(data.base.layers), data.base.summary_position
    most = _MOST_BLOCKS if data.config.learns_whole_inputs else 0

    def objective(trial: Any) -> float:
        n_trained = trial.suggest_int("trained_blocks", 0, min(most, n_blocks))
        # Depths as a distance from the end, so that each is possible whatever is trained.
        trial.suggest_int("depth", 1, n_blocks)
        trial.suggest_categorical("pool", [*candidates(whole), "layers"])
        if n_trained:
            trial.suggest_float("learning_rate", 1e-6, 1e-4, log=True)
            trial.suggest_float("label_smoothing", 0.0, 0.2)
        tried = clone(model).set_params(**_settings(trial.params))
        encoded = tried.encode(parts.train, parts.validation)

        def watch(epoch: int, loss: float) -> None:
            trial.report(loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        return finetune(encoded, watch=watch).kept.loss

    return objective


def _settings(found: dict[str, Any]) -> dict[str, Any]:
    """Optuna's parameters as those of a classifier."""
    n_trained = found["trained_blocks"]
    rest = {name: value for name, value in found.items() if name != "trained_blocks"}
    return {**rest, "tune": f"last-{n_trained}" if n_trained else "head", "depth": max(found["depth"], n_trained)}


def _say(trial: Any) -> None:
    told = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in _settings(trial.params).items()
    )
    outcome = trial.state.name.lower() if trial.value is None else f"{trial.value:.4f}"
    progress.say(f"trial {trial.number + 1}: {outcome} ({told})")


def _finished(optuna: Any) -> tuple[Any, ...]:
    states = optuna.trial.TrialState
    return (states.COMPLETE, states.PRUNED)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SettingError("rehead search needs Optuna; pip install 'rehead[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
