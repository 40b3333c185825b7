"""The texts or images that an export is compared on: those that are named, or what the classifier has learned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rehead.data import image_folders, samples
from rehead.data.columns import text_column_of
from rehead.data.images import ImageInput, looked_at
from rehead.runtime import progress
from rehead.runtime.errors import DataError, RheadError, SettingError


def read(
    data: str | None, text_column: str | None, trained: Mapping[str, Any], model: Path
) -> tuple[list[str] | list[ImageInput], str]:
    """Different texts, or usable images, in the order of their source; and the source.

    Args:
        data: as `rehead fit` takes it, labels not needed; None for what the classifier has learned from.
        text_column: column of the texts, or of the images' names; as in training if None.
        trained: the classifier's manifest, as JSON.

    Raises:
        SettingError: no data is named and that of the training is not to be had.
        DataError: what is named cannot be read, or holds nothing.
    """
    if data is not None:
        return _read(data, text_column, trained), data
    learned_from = trained.get("data")
    if not isinstance(learned_from, str):
        raise SettingError(f"{model} does not say what it has learned from; give texts to compare on with `data`")
    try:
        samples.require_source(learned_from)
        return _read(learned_from, text_column, trained), learned_from
    except RheadError as error:
        raise SettingError(
            f"what {model} has learned from cannot be read any more ({error}); give texts to compare on with `data`"
        ) from error


def _read(data: str, text_column: str | None, trained: Mapping[str, Any]) -> list[str] | list[ImageInput]:
    if image_folders.holds_images(data, text_column or trained.get("text_column")):
        return _pictures(data, text_column)
    names = [name for name in (text_column, trained.get("text_column"), trained.get("label_column")) if name]
    # A file may be of texts alone.
    table = samples.read_any(data, unlabelled=True, names=names)
    column = text_column_of(table, text_column, trained.get("text_column"))
    texts = [text for text in dict.fromkeys(table.column(column)) if text and text.strip()]
    if not texts:
        raise DataError(f"{data}: column {column!r} holds no text; name another with `text_column`")
    return texts


def _pictures(data: str, column: str | None) -> list[ImageInput]:
    _, pictures = image_folders.unlabelled(data, column)
    problems = looked_at(pictures)
    usable = [picture for picture, problem in zip(pictures, problems, strict=True) if problem is None]
    if len(usable) < len(pictures):
        progress.warn(f"{len(pictures) - len(usable):,} of {len(pictures):,} images cannot be used and are left out")
    if not usable:
        raise DataError(f"{data}: no image there can be used; see rehead inspect {data}")
    return usable
