"""Declare what rehead.json holds, and check it before anything relies on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any

from rehead.models.config_checks import read_json
from rehead.models.heads import POOLINGS
from rehead.models.registry import TFIDF
from rehead.models.tokenization import LONG
from rehead.runtime import files
from rehead.runtime.errors import ArtifactError, first_line

FORMAT = 1
MANIFEST = "rehead.json"
WEIGHTS = "model.safetensors"

_DAMAGED = "train or copy the model again"
RECIPE = ("preset", "ngrams", "epochs", "batch_size", "learning_rate", "label_smoothing", "class_weight")
# For people; whoever rewrites them changes no answer.
_PROSE = {".md", ".html", ".jsonl"}


def _entry(
    holds: Callable[[Any], bool],
    *,
    before: Any = MISSING,
    default: Any = MISSING,
    factory: Any = MISSING,
    of_networks: bool = False,
) -> Any:
    """Declare an entry of rehead.json.

    Args:
        holds: whether a value that was read makes sense.
        before: what holds in folders from before there was this entry; without it the entry must be there.
        default, factory: of a manifest that is made in memory; see `dataclasses.field`.
        of_networks: whether the entry is None in a classifier that has no network.
    """
    metadata = {"holds": holds, "before": before, "of_networks": of_networks}
    return field(default=default, default_factory=factory, metadata=metadata)


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _of(kind: type | UnionType) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _one_of(values: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: value in values


def _labels(value: Any) -> bool:
    texts = isinstance(value, list) and bool(value) and all(isinstance(label, str) for label in value)
    return texts and len(set(value)) == len(value)


def _loss(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64


def _hashes(value: Any) -> bool:
    """Whether these are checksums of files that lie in the folder."""
    if not isinstance(value, Mapping) or any(Path(name).is_absolute() or ".." in Path(name).parts for name in value):
        return False
    return all(map(_sha256, value.values()))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a saved classifier says of itself: the content of rehead.json.

    Most entries are read back into the constructor of `rehead.classifier.Classifier`, which checks more.

    Attributes:
        base, tune, max_length, long, views, average_views, seed: see `Classifier`; `tune` is what was kept.
        pool, depth, cut: the pooling, how many layers there are, and the first of them that was trained.
        blocks_of_base: how many layers the backbone had as published.
        means_at_one_length: whether a head of rehead's own sees an encoder's means at one length.
        baseline_factor: what the logits of the baseline beside the head are multiplied by; 0 where none stands there.
        temperature: what the logits were divided by, in the weights already but for a regression on n-grams alone.
        labels: by class id; `label_type` is the kind of numpy's type that they had.
        multilabel: whether a text may have several labels.
        recipe: further arguments of `Classifier`.
        validation_log_loss: of the examples that were held out.
        versions: of rehead and of the libraries that it was trained with.
        decisions, metrics: the rule that answers are chosen by, and how good they were on test examples.
        weights_sha256, files: checksums, of `model.safetensors` and of every file by its path in the folder; empty
            before it is saved, and `files` in folders from before there was that entry.
        others: entries that say where the examples came from: `text_column`, `label_column`, `data`, `rows`, ...
    """

    base: str = _entry(_of(str))
    tune: str = _entry(_of(str))
    pool: str | None = _entry(_one_of(POOLINGS), of_networks=True)
    depth: int | None = _entry(_whole(1, 10_000), of_networks=True)
    cut: int | None = _entry(_whole(0, 10_000), of_networks=True)
    blocks_of_base: int | None = _entry(_whole(1, 10_000), of_networks=True)
    max_length: int | None = _entry(_whole(1, 10_000_000), of_networks=True)
    long: str | None = _entry(_one_of(LONG), before="truncate", of_networks=True)
    views: int | None = _entry(_whole(1, 1_000), before=1, of_networks=True)
    average_views: bool = _entry(_of(bool), before=False)
    means_at_one_length: bool = _entry(_of(bool), before=False)
    baseline_factor: float = _entry(_number(0, 1000), before=0.0)  # 5 at most is fitted; 1e38 overflows
    temperature: float = _entry(_number(1e-30, 1e30))
    labels: tuple[str, ...] = _entry(_labels)
    label_type: str = _entry(_one_of(tuple("biufUSO")), default="U")
    multilabel: bool = _entry(_of(bool), before=False)
    seed: int = _entry(_whole(0, 2**64))
    recipe: Mapping[str, Any] = _entry(lambda value: isinstance(value, dict) and value.keys() <= set(RECIPE))
    validation_log_loss: float = _entry(_loss)
    versions: Mapping[str, Any] = _entry(_of(dict))
    decisions: Mapping[str, Any] | None = _entry(_of(dict | None), before=None, default=None)
    metrics: Mapping[str, Any] | None = _entry(_of(dict | None), before=None, default=None)
    weights_sha256: str = _entry(_sha256, default="")
    files: Mapping[str, str] = _entry(_hashes, before={}, factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_network(self) -> bool:
        """Whether there is one; otherwise it is a regression on n-grams alone."""
        return self.base != TFIDF

    def to_json(self) -> dict[str, Any]:
        """Return the content of rehead.json."""
        entries = {entry.name: getattr(self, entry.name) for entry in _ENTRIES}
        absent = {name for name in ("decisions", "metrics") if entries[name] is None}
        absent |= {name for name in ("weights_sha256", "files") if not entries[name]}
        kept = {name: value for name, value in entries.items() if name not in absent}
        return {"format": FORMAT, **kept, "labels": list(self.labels), **self.others}

    def with_entries(self, entries: Mapping[str, Any]) -> Manifest:
        """Return the same with further entries of rehead.json, or with others in their place."""
        known = {entry.name for entry in _ENTRIES}
        own = {name: value for name, value in entries.items() if name in known}
        more = {name: value for name, value in entries.items() if name not in known}
        return replace(self, **own, others={**self.others, **more})

    @classmethod
    def from_json(cls, content: Mapping[str, Any], path: Path) -> Manifest:
        """Return what rehead.json says.

        Args:
            path: of the file, for messages.

        Raises:
            ArtifactError: an entry is missing or makes no sense.
        """
        values = {}
        for entry in _ENTRIES:
            before = entry.metadata["before"]
            value = content.get(entry.name, before)
            is_absent = entry.metadata["of_networks"] and content.get("base") == TFIDF
            if value is MISSING or not (value is None if is_absent else entry.metadata["holds"](value)):
                raise ArtifactError(f"{path}: {entry.name!r} is missing or makes no sense; {_DAMAGED}")
            values[entry.name] = value
        others = {name: value for name, value in content.items() if name not in values and name != "format"}
        return cls(**{**values, "labels": tuple(values["labels"]), "others": others})


_ENTRIES = tuple(entry for entry in fields(Manifest) if entry.metadata)


def read_manifest(folder: Path) -> Manifest:
    """Read what a saved classifier is.

    Raises:
        ArtifactError: there is none, or it is damaged, of another format, or of something else than a classifier.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "no such folder" if not folder.exists() else f"no {MANIFEST} in it, so it is not a rehead model"
        raise ArtifactError(f"{folder}: {what}; give a folder that rehead fit -o has written")
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({first_line(error)}); {_DAMAGED}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} is damaged (no JSON object); {_DAMAGED}")
    if "kind" in content:
        raise ArtifactError(f"{folder} is a {str(content['kind'])[:40]}, not a classifier; use rehead generate")
    if content.get("format") != FORMAT:
        version = str(content.get("format"))[:40]
        raise ArtifactError(f"{path} has format {version}, this rehead reads {FORMAT}; update rehead or train again")
    require_own_checksum(content, path)
    return Manifest.from_json(content, path)


def require_own_checksum(content: dict[str, Any], path: Path) -> None:
    """Check that rehead.json says what was saved, and take its checksum out; one from before there was that has none.

    Raises:
        ArtifactError: it says something else.
    """
    if "sha256" in content and content.pop("sha256") != files.sha256_of_json(content):
        raise ArtifactError(f"{path} is not the file that was saved (SHA-256 differs); {_DAMAGED}")


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write rehead.json last: with checksums of the weights, of every file that lies in the folder by now, and its own.

    Documents for people have none: they may be edited, and a report says how long the fit took, so that the same fit
    would not give the same rehead.json.
    """
    others = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in _PROSE)
    paths = sorted(path for path in others if path != folder / MANIFEST)
    hashes = {path.relative_to(folder).as_posix(): files.sha256_of(path) for path in paths}
    whole = {**content, "weights_sha256": hashes[WEIGHTS], "files": hashes}
    whole["sha256"] = files.sha256_of_json(whole)
    (folder / MANIFEST).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def require_unchanged(
    folder: Path, weights_sha256: Any, hashes: Mapping[str, str], without: tuple[str, ...] = ()
) -> None:
    """Check that files are those that rehead.json was written with.

    Documents for people are not looked at, nor, where there are no hashes of all files, anything but the weights.

    Args:
        without: names of files that are not read here.

    Raises:
        ArtifactError: one of them is missing or has another content.
    """
    for name, sha256 in {**hashes, WEIGHTS: weights_sha256}.items():
        path = folder / name
        if name in without or path.suffix in _PROSE:
            continue
        if not path.is_file() or files.sha256_of(path) != sha256:
            what = "is not the file that was saved (SHA-256 differs)" if path.exists() else "is missing"
            raise ArtifactError(f"{path} {what}; {_DAMAGED}")
