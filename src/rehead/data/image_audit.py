"""What is odd about images, beside what can be wrong with any labelled data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rehead.data.examples import Examples
from rehead.data.findings import Finding, shown
from rehead.data.labels import of_class

# Shorter sides of fewer pixels hold little for a model that was trained on photographs.
_SMALL = 32
# A size gives the class away where this share of the images has it, and this share of those is of one class.
_COMMON, _SURE = 0.05, 0.95


def image_findings(examples: Examples) -> Iterator[Finding]:
    """Yield findings of n images that were looked at (`ImageInput.look`)."""
    looks = [image.look for image in examples.images or []]
    kinds: dict[str, list[int]] = {}
    for i, look in enumerate(looks):
        for oddity in look.oddities:
            kinds.setdefault(oddity, []).append(i)
    for kind, rows in kinds.items():
        yield Finding(
            "note", f"images {kind}", len(rows), shown(examples, np.array(rows)), "nothing to do, if that is right"
        )
    small = np.flatnonzero([min(look.width, look.height) < _SMALL for look in looks])
    if len(small):
        yield Finding(
            "warning",
            "small images",
            len(small),
            shown(examples, small),
            f"their shorter side has fewer than {_SMALL} pixels; use larger ones where there are any",
        )
    yield from _sizes_that_tell(examples)


def _sizes_that_tell(examples: Examples) -> Iterator[Finding]:
    """Yield sizes that one class alone has: a sign that it comes from another source."""
    if examples.multilabel:
        return
    sizes = np.array([(image.look.width, image.look.height) for image in examples.images or []])
    different, which = np.unique(sizes, axis=0, return_inverse=True)
    for number, (width, height) in enumerate(different.tolist()):
        rows = np.flatnonzero(which.ravel() == number)
        counts = np.bincount(examples.labels[rows], minlength=len(examples.label_names))
        label = int(counts.argmax())
        purity, usual = counts[label] / len(rows), of_class(examples.labels, label).mean()
        if len(rows) >= max(_COMMON * len(examples), 5) and purity >= _SURE > usual + 0.2:
            yield Finding(
                "warning",
                "size that tells the class",
                len(rows),
                shown(examples, rows),
                f"{purity:.0%} of the images of {width} × {height} pixels are {examples.label_names[label]!r}, so they "
                "may come from another source; a model can learn the source instead of the class",
            )
