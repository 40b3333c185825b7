"""Fit one classifier with several processes, which torchrun or Ray Train starts; each takes a share of every batch.

All prepare the data and pass them through the frozen layers; what is trained is trained together, and the first
process tests and saves.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from rehead.classifier import Classifier
from rehead.cluster.connection import connected, there
from rehead.data.preparation import DataConfig, prepare
from rehead.evaluation import baselines
from rehead.runtime import progress
from rehead.runtime.errors import SettingError
from rehead.training import parallel
from rehead.training.config import trained_layers
from rehead.workflows.fit import fit
from rehead.workflows.results import FitResult


@contextmanager
def joined() -> Iterator[None]:
    """Be one of torchrun's processes while the block runs."""
    with_devices = torch.cuda.is_available()
    if with_devices:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if with_devices else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def fit_together(sources: DataConfig, model: Classifier, output: Path, **settings: Any) -> FitResult | None:
    """Fit as one of several processes; return the result in the first of them, and None in the others.

    Args:
        settings: of `rehead.workflows.fit.fit`.

    Raises:
        SettingError: what the processes would train may differ, or they would have nothing to share.
    """
    require_shareable(model, settings)
    if parallel.rank() == 0:
        return fit(sources, model, output, **settings)
    with progress.quiet():  # the first one says it
        splits = prepare(sources, model.config().seed)
        encoded = model.prepare(splits.train, splits.validation)
        learned = baselines.learn(splits.train, splits.validation)
        model.fit_encoded(encoded, learned, refits=sources.validation is None)
    return None


def require_shareable(model: Classifier, settings: Mapping[str, Any]) -> None:
    """Check that several processes would train the same, and have something to share.

    Raises:
        SettingError: the strategy is chosen by the time that each takes, trains no layers, or pairs of examples.
    """
    if model.tune in ("auto", "contrastive") or not trained_layers(model.tune, 1):
        raise SettingError(f"several processes train last-K, lora or full together, not `tune={model.tune!r}`")
    if settings.get("n_folds"):
        raise SettingError("several processes train one classifier; leave `n_folds` out")


def fit_on_ray(
    sources: DataConfig,
    model: Classifier,
    output: Path,
    *,
    on: str = "ray",
    workers: int | None = None,
    **settings: Any,
) -> FitResult:
    """Fit with Ray Train.

    Args:
        sources: files have to be there on all machines.
        output: folder to save to, in one that all machines share.
        on: see `rehead.cluster.connection.connected`.
        workers: processes, each with a device where the cluster has any; as many as there are devices, or else
            machines, if None.
        settings: of `rehead.workflows.fit.fit`.

    Raises:
        RheadError: for what the user can mend.
    """
    require_shareable(model, settings)
    with connected(on):
        arguments = (Path.cwd(), sources, model, output.resolve(), settings)
        result: FitResult = there(_fit, workers, arguments)
        return result


def _fit(workers: int | None, arguments: tuple[Any, ...]) -> FitResult:
    """Fit inside the cluster."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = ray.cluster_resources()
    n_devices, n_cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    workers = workers or n_devices or sum(node["Alive"] for node in ray.nodes())
    output: Path = arguments[3]
    # Ray Train keeps files of its own where all of its workers see them.
    own = output.with_name(f".{output.name}.rehead-ray")
    try:
        trainer = TorchTrainer(
            _fit_in_worker,
            train_loop_config={"arguments": arguments},
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=bool(n_devices), resources_per_worker={"CPU": max(1, n_cores // workers)}
            ),
            run_config=RunConfig(storage_path=str(own)),
        )
        result: FitResult = trainer.fit().return_value
        return result
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _fit_in_worker(config: dict[str, Any]) -> FitResult | None:
    folder, sources, model, output, settings = config["arguments"]
    with chdir(folder) if folder.is_dir() else nullcontext():  # relative names mean what they do where they were typed
        return fit_together(sources, model, output, **settings)
