"""The models of a server: by name, several versions of a name sharing its requests, and replaced while it runs."""

from __future__ import annotations

import asyncio
import gc
import random
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rehead.artifact.artifact import Artifact, NetworkArtifact
from rehead.artifact.loading import load_artifact
from rehead.drift.monitor import Monitor, MonitorReport
from rehead.drift.reference import ReferenceProfile
from rehead.models.vision_backbone import VisionBackbone
from rehead.runtime import hardware
from rehead.runtime.errors import SettingError
from rehead.serving.batching import Batch, Batcher
from rehead.serving.metrics import OfVersion, ServerMetrics
from rehead.serving.refusals import Refusal
from rehead.serving.settings import RequestLimits

SHADOW = "shadow"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Characters of a token, and tokens that the tokenizer adds to a text: a text's size follows from them.
_CHARACTERS_A_TOKEN, _ADDED = 4, 2


@dataclass(frozen=True)
class ModelSource:
    """A saved classifier that is to be served.

    Attributes:
        weight: of its share in the name's requests; 0 for a shadow, which is asked what the others are and not heard.
    """

    name: str
    folder: Path
    weight: float

    @property
    def is_shadow(self) -> bool:
        return self.weight == 0


def parse(arguments: Sequence[str]) -> list[ModelSource]:
    """Parse the command line's MODEL arguments, `[NAME=]FOLDER[@WEIGHT|@shadow]`; the name is the folder's by default.

    Raises:
        SettingError: one of them makes no sense, or a name has shadows alone.
    """
    sources = [_source(argument) for argument in arguments]
    for name in {source.name for source in sources}:
        if all(source.is_shadow for source in sources if source.name == name):
            raise SettingError(
                f"model {name!r} is a shadow of nothing; give a folder without @{SHADOW} of that name too"
            )
    folders = [(source.name, source.folder.resolve()) for source in sources]
    if len(set(folders)) < len(folders):
        raise SettingError("the same folder comes twice under one name; give each once")
    return sources


def _source(argument: str) -> ModelSource:
    name, equals, rest = argument.partition("=")
    if not equals or not _NAME.fullmatch(name):
        name, rest = "", argument
    folder, at, share = rest.rpartition("@")
    weight = 1.0
    if at and not Path(rest).exists():
        try:
            weight = 0.0 if share == SHADOW else float(share)
        except ValueError:
            weight = -1.0
        if not 0 < weight < float("inf") and share != SHADOW:
            raise SettingError(f"{argument}: behind @ there must be a weight above 0, or {SHADOW}, not {share!r}")
    else:
        folder = rest
    name = name or Path(folder).absolute().name
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{argument}: {name!r} cannot be a model's name; give one before the folder, as spam={folder}"
        )
    return ModelSource(name, Path(folder), weight)


class Version:
    """A loaded classifier with its queue.

    Attributes:
        id: of its weights: the beginning of their SHA-256.
        monitor: of drift; None for a classifier that was saved without a reference profile.
    """

    def __init__(
        self,
        source: ModelSource,
        loaded: Artifact,
        limits: RequestLimits,
        threads: ThreadPoolExecutor,
        at_once: int,
        metrics: ServerMetrics,
    ) -> None:
        # What was loaded is let go of where the predictor has copied it.
        self.artifact, predictor = loaded.served()
        self.source = source
        self.id = loaded.manifest.weights_sha256[:12]
        fingerprint = ReferenceProfile.beside(loaded)
        self.monitor = None if fingerprint is None else Monitor(fingerprint)
        self.metrics = OfVersion(metrics, source.name, self.id)
        # What the batcher holds knows nothing of this object: it shall be gone as soon as nobody uses it, also where
        # no garbage collector looks.
        self.batcher = Batcher(
            partial(predictor.scores, keep_features=self.monitor is not None),
            partial(_size_of, self.artifact),
            threads,
            limits,
            partial(_count, self.artifact, self.metrics, self.monitor),
            at_once,
        )

    @property
    def name(self) -> str:
        return self.source.name

    def drift(self) -> MonitorReport | None:
        """Measure how far what it was asked lately is from its reference; takes tenths of a second now and then."""
        return None if self.monitor is None else self.monitor.report()


def _size_of(loaded: Artifact, content: Any) -> int:
    """Return about how many tokens a text or image has."""
    if isinstance(loaded, NetworkArtifact) and isinstance(loaded.backbone, VisionBackbone):
        return loaded.backbone.tokens_an_image
    tokens, longest = len(content) // _CHARACTERS_A_TOKEN + _ADDED, loaded.manifest.max_length
    return tokens if longest is None or loaded.manifest.long == "chunks" else min(tokens, longest)


def _count(loaded: Artifact, metrics: OfVersion, monitor: Monitor | None, batch: Batch) -> None:
    """Count a batch, and each label as often as it was predicted for somebody's own inputs; "" for an abstention."""
    chosen = loaded.rule.choose(batch.scores.probabilities)
    predicted = chosen.nonzero()[1] if loaded.multilabel else chosen
    metrics.scored(batch, [loaded.labels[label] if label >= 0 else "" for label in predicted])
    if monitor is not None and batch.inputs:
        monitor.observe(batch.inputs, batch.scores)


class Models:
    """What a server serves.

    Args:
        sources: what to load, also when it is loaded again.
    """

    def __init__(self, sources: Sequence[ModelSource], limits: RequestLimits, metrics: ServerMetrics) -> None:
        self._sources, self._limits, self._metrics = list(sources), limits, metrics
        self._at_once = hardware.batches_at_once()
        self._threads = ThreadPoolExecutor(self._at_once, "scoring", hardware.give_way)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loading")
        self._loading = asyncio.Lock()
        self.versions: list[Version] = []

    async def load(self) -> None:
        """Load all of them. What was served before goes on until then, and finishes what it has accepted.

        Raises:
            ArtifactError: a folder is no saved classifier; what was served before goes on.
        """
        async with self._loading:
            self.versions = await asyncio.get_running_loop().run_in_executor(self._loader, self._read)
            self._metrics.serve(self.versions)
            # What is loaded by now stays: to look through it, as Python's garbage collector does from time to time,
            # would stop everything for up to 0.4 s.
            gc.collect()
            gc.freeze()

    def _read(self) -> list[Version]:
        return [
            Version(source, load_artifact(source.folder), self._limits, self._threads, self._at_once, self._metrics)
            for source in self._sources
        ]

    def close(self) -> None:
        """Let go of the threads, and give back to the garbage collector what was kept from it.

        What they compute yet is not waited for: a text of a million characters, for a job that goes on another time,
        takes seconds.
        """
        gc.unfreeze()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._loader.shutdown(wait=False, cancel_futures=True)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(version.name for version in self.versions))

    def named(self, name: str | None) -> list[Version]:
        """Return the versions of a name, shadows too; None stands for the only name.

        Raises:
            Refusal: there is no such name, or None might stand for several.
        """
        if name is None and len(self.names) == 1:
            name = self.names[0]
        named = [version for version in self.versions if version.name == name]
        if not named:
            served = ", ".join(self.names)
            if name is None:
                raise Refusal(422, "which_model", f'several models are served: {served}; say which with "model"')
            raise Refusal(404, "unknown_model", f"there is no model {name[:64]!r}; served are: {served}")
        return named

    def main(self, name: str | None) -> Version:
        """Of the versions of a name the one with the largest share of its requests; see `named`."""
        return max(self.named(name), key=lambda version: version.source.weight)

    def routed(self, name: str | None) -> tuple[Version, list[Version]]:
        """Return the version that answers a request, drawn by weight, and those that are asked in its shadow."""
        versions = self.named(name)
        heard = [version for version in versions if not version.source.is_shadow]
        weights = [version.source.weight for version in heard]
        chosen = random.choices(heard, weights)[0]  # noqa: S311 - a share of the traffic, no secret
        return chosen, [version for version in versions if version.source.is_shadow]
