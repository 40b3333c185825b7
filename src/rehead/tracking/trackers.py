"""Hand what a fit reports to a tracker: settings, losses and rates by step, the test's measures, report and model.

Each follows its own library's environment variables for where to (`MLFLOW_TRACKING_URI`, `WANDB_PROJECT`, ...).
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rehead.runtime.errors import SettingError
from rehead.training.callbacks import METRICS, Callback, Epoch, Step
from rehead.workflows.results import FitResult

if TYPE_CHECKING:
    from rehead.training.strategies import Candidate

_PROJECT = "rehead"
_MEASURES = ("accuracy", "macro_f1", "log_loss", "ece")
# What of a saved folder is kept beside the model, to be looked at in the tracker.
_DOCUMENTS = ("report.html", "README.md", METRICS)


class Tracker(Callback, ABC):
    """Turn what a fit reports into numbers with names and steps."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by name; the part before a slash says what they are of."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """End the run."""

    def keep(self, result: FitResult, folder: Path) -> None:
        """Keep what was saved; nothing, unless the tracker has a place for it."""

    def on_step(self, step: Step) -> None:
        of = step.candidate
        self.log({f"{of}/loss": step.loss, f"{of}/learning_rate": step.learning_rate}, step.step)

    def on_epoch(self, epoch: Epoch) -> None:
        self.log({f"{epoch.candidate}/validation_loss": epoch.validation_loss}, epoch.step)

    def on_candidate(self, candidate: Candidate) -> None:
        of = f"candidates/{candidate.tune}"
        self.log({f"{of}_calibrated_validation_loss": candidate.loss, f"{of}_seconds": candidate.seconds}, 0)

    def on_end(self, result: FitResult | Any) -> None:
        if isinstance(result, FitResult):
            test, baselines = result.evaluation.test, result.evaluation.baselines or {}
            measures = {f"test/{name}": float(getattr(test, name)) for name in _MEASURES}
            self.log(measures | {f"test/{name}_accuracy": one.accuracy for name, one in baselines.items()}, 0)
            if result.folder is not None:
                self.keep(result, Path(result.folder))
        self.close(failed=False)

    def on_failure(self, error: BaseException) -> None:
        self.close(failed=True)


class MLflowTracker(Tracker):
    """A run of MLflow with the report; a classifier of texts is kept as a model that MLflow serves."""

    def __init__(self) -> None:
        import mlflow

        self._mlflow = mlflow

    def on_start(self, settings: Mapping[str, Any]) -> None:
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
            self._mlflow.set_experiment(_PROJECT)
        self._mlflow.start_run(nested=self._mlflow.active_run() is not None)
        self._mlflow.log_params({name: _plain(value) for name, value in settings.items()})

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step, synchronous=False)

    def keep(self, result: FitResult, folder: Path) -> None:
        for name in _DOCUMENTS:
            self._mlflow.log_artifact(str(folder / name))
        if result.evaluation.what != "texts":
            return
        from mlflow import pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        with warnings.catch_warnings():
            # It wants an example, and the texts are nobody's but the user's.
            warnings.simplefilter("ignore", UserWarning)
            pyfunc.log_model(
                name="model",
                loader_module="rehead.tracking.mlflow_model",
                data_path=str(folder),
                signature=ModelSignature(inputs=Schema([ColSpec("string", "text")])),
                pip_requirements=[f"rehead[track]=={version('rehead')}"],
            )

    def close(self, *, failed: bool) -> None:
        self._mlflow.flush_async_logging()
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


class TensorBoardTracker(Tracker):
    """Event files in `runs`, where `tensorboard --logdir runs` looks for them."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = SummaryWriter

    def on_start(self, settings: Mapping[str, Any]) -> None:
        self._writer = self._open()
        listed = "\n".join(f"    {name} = {_plain(value)}" for name, value in settings.items())
        self._writer.add_text("settings", listed)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class WandbTracker(Tracker):
    """A run of Weights & Biases with the report; offline, unless `WANDB_MODE` says otherwise."""

    def __init__(self) -> None:
        import wandb

        self._wandb = wandb

    def on_start(self, settings: Mapping[str, Any]) -> None:
        project, mode = os.environ.get("WANDB_PROJECT", _PROJECT), os.environ.get("WANDB_MODE", "offline")
        config = {name: _plain(value) for name, value in settings.items()}
        self._run = self._wandb.init(project=project, mode=mode, config=config)
        self._known: set[str] = set()

    def log(self, values: Mapping[str, float], step: int) -> None:
        of = next(iter(values)).partition("/")[0]
        if of not in self._known:  # a run has one count of its own, and each training its own steps
            self._run.define_metric(f"{of}/*", step_metric=f"{of}/step")
            self._known.add(of)
        self._run.log({**values, f"{of}/step": step})

    def keep(self, result: FitResult, folder: Path) -> None:
        for name in _DOCUMENTS:
            shutil.copy(folder / name, self._run.dir)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


# By the name that `--track` takes: the tracker, and what has it installed.
TRACKERS: dict[str, tuple[type[Tracker], str]] = {
    "mlflow": (MLflowTracker, "'rehead[track]'"),
    "tensorboard": (TensorBoardTracker, "'rehead[track]'"),
    "wandb": (WandbTracker, "wandb"),
}


def tracker(name: str) -> Tracker:
    """Return a tracker by its name.

    Raises:
        SettingError: there is none, or its library is not installed.
    """
    if name not in TRACKERS:
        raise SettingError(f"`track` must be one of {', '.join(TRACKERS)}, not {name!r}")
    kind, package = TRACKERS[name]
    try:
        return kind()
    except ImportError as error:
        raise SettingError(f"`track={name!r}` needs {error.name or name}; pip install {package}") from error


def _plain(value: Any) -> Any:
    """Return what every tracker takes for a setting."""
    return json.dumps(value) if isinstance(value, Mapping) else value
