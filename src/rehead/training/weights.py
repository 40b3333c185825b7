"""Say how much each example counts: by its class, by its own weight, or by both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rehead.data.labels import Labels, Weights, as_indicator, is_multilabel
from rehead.runtime.errors import SettingError


def example_weights(
    labels: Labels,
    label_names: tuple[str, ...],
    class_weight: str | Mapping[str, float] | None,
    own: Weights | None = None,
) -> Weights | None:
    """Return how much each example counts, with a mean of 1; None where all count the same.

    Args:
        labels: (n,) class ids, or (n, n_classes) where a text may have several.
        label_names: of the classes.
        class_weight: "balanced", or weights by class, 1 where there is none; see `_of_classes`.
        own: (n,) of the examples themselves.

    Returns:
        (n, 1), or (n, n_classes) where a text may have several labels and classes have weights.
    """
    if class_weight is None and own is None:
        return None
    weights = (np.ones(len(labels)) if own is None else own)[:, None]
    if class_weight is not None:
        absent, present = _of_classes(labels, label_names, class_weight, weights[:, 0])
        if is_multilabel(labels):
            weights = weights * np.where(labels > 0, present, absent)
        else:
            weights = weights * present[labels][:, None]
    result: Weights = weights / weights.mean()
    return result


def _of_classes(
    labels: Labels, label_names: tuple[str, ...], class_weight: str | Mapping[str, float], own: Weights
) -> Weights:
    """Return (2, n_classes): what an example counts that is not of a class, and one that is.

    With balanced classes each class weighs the same; where a text may have several labels, as much as all that is not
    of the class.

    Raises:
        SettingError: weights were given, but not of a class's name.
    """
    if not isinstance(class_weight, str):
        unknown, without = sorted(class_weight.keys() - set(label_names)), set(label_names) - class_weight.keys()
        if unknown and without:
            raise SettingError(f"`class_weight` names {unknown[0]!r}, which is none of {', '.join(label_names[:8])}")
        of_present = [class_weight.get(name, 1.0) for name in label_names]
        return np.stack([np.ones(len(label_names)), np.array(of_present, dtype=np.float64)])
    present = own @ as_indicator(labels, len(label_names))
    counts = np.stack([own.sum() - present, present])
    # Of a class that all or none of the examples have, there is one kind only.
    kinds = (counts > 0).sum(0) if is_multilabel(labels) else np.count_nonzero(present)
    shares: Weights = own.sum() / (kinds * np.where(counts > 0, counts, np.inf))
    return shares
