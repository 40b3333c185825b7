"""What `rehead inspect` does: reads labelled data and says what is wrong with them. Trains nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.audit import class_counts, cut_off, length_histogram
from rehead.data.duplicates import drop_duplicates
from rehead.data.examples import Examples
from rehead.data.findings import in_order
from rehead.data.parts import Sources, gather, with_own_parts
from rehead.models import loading
from rehead.models.model_inputs import encode_inputs
from rehead.runtime.errors import SettingError


def inspect(sources: Sources | str, base: str | None = None, max_length: int = 512) -> dict[str, Any]:
    """The audit of labelled data, as JSON can hold it.

    Args:
        sources: `data`, and the test set of its own if there is one, are looked at.
        base: whose tokens are counted, and what of them is cut off; words are counted if None.
        max_length: tokens of a text that would be used.

    Raises:
        RheadError: the data cannot be read, or the base cannot be loaded.
    """
    sources = Sources(sources) if isinstance(sources, str) else sources
    material = gather(with_own_parts(sources))
    pool, dropped = material.pool, dict(material.dropped)
    kept, repeated = drop_duplicates(pool)
    dropped |= repeated
    findings = material.findings
    if base is not None and pool.pictures is not None:
        raise SettingError("--base counts a text's tokens, and these are images; leave it out")
    if base is None:
        lengths = np.array([len(text.split()) for text in pool.texts], dtype=np.int64)
    else:
        used, lost = _tokens(pool, base, max_length)
        lengths = used + lost
        findings = in_order([*findings, *cut_off(pool, used, lost)])
    return {
        "data": sources.data,
        "rows": {
            "read": material.rows_read,
            "used": len(kept),
            "dropped": {reason: len(lines) for reason, lines in dropped.items()},
        },
        "classes": class_counts(pool),
        "lengths": None
        if pool.pictures is not None
        else {
            "unit": "words" if base is None else f"tokens of {base}",
            "median": int(np.median(lengths)),
            "longest": int(lengths.max()),
            "histogram": length_histogram(lengths),
        },
        "findings": [finding.to_json() for finding in findings],
    }


def _tokens(examples: Examples, name: str, max_length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(n,) tokens of each text that would be used, and that would be lost."""
    base = loading.load(name, len(examples.label_names), seed=0, depth=1)
    encoded = encode_inputs(base, examples.texts, max_length)
    return encoded.tokens.numpy(), encoded.tokens_cut
