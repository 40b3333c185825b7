"""Read labelled data and find what is wrong with them, as `rehead inspect` does. Trains nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rehead.data.audit import Finding, cut_off, examples_by_class, in_order, length_histogram
from rehead.data.containers import Source
from rehead.data.duplicates import drop_duplicates
from rehead.data.preparation import DataConfig, gather, with_own_parts
from rehead.models import loading
from rehead.models.model_inputs import encode_inputs
from rehead.runtime.errors import SettingError
from rehead.runtime.results import Result


@dataclass(frozen=True)
class AuditedRows:
    """Rows of the data: read, used, and dropped by reason."""

    read: int
    used: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class Lengths:
    """Lengths of the texts.

    Attributes:
        unit: what is counted, `words` or `tokens of` a base.
        median, longest: of all texts.
        histogram: how many texts are as long as the key at most, and longer than the key before.
    """

    unit: str
    median: int
    longest: int
    histogram: dict[str, int]


@dataclass(frozen=True)
class Audit(Result):
    """The audit of labelled data: what they are like, and what is wrong with them.

    Attributes:
        data: the source.
        classes: how many examples each has.
        lengths: of the texts; None of images.
        findings: the gravest first.
    """

    data: str
    rows: AuditedRows
    classes: dict[str, int]
    lengths: Lengths | None
    findings: list[Finding]


def inspect(data: DataConfig | Source, base: str | None = None, max_length: int = 512, **sources: Source) -> Audit:
    """Audit labelled data.

    Args:
        data: a file, `sample:NAME` or a table in memory, as of `rehead.fit`; or all sources in one, of which the test
            set of its own is looked at, too.
        base: whose tokens are counted, and what of them is cut off; words are counted if None.
        max_length: tokens of a text that would be used.
        sources: the other attributes of `rehead.data.preparation.DataConfig`.

    Raises:
        RheadError: the data cannot be read, or the base cannot be loaded.
    """
    chosen = DataConfig.of(data, **sources)
    material = gather(with_own_parts(chosen))
    pool, findings = material.pool, material.findings
    kept, repeated = drop_duplicates(pool)
    if base is not None and pool.images is not None:
        raise SettingError("`base` counts a text's tokens, and these are images; leave it out")
    if base is None:
        counts = np.array([len(text.split()) for text in pool.texts], dtype=np.int64)
    else:
        loaded = loading.load(base, len(pool.label_names), seed=0, depth=1, frozen=True)
        encoded = encode_inputs(loaded, pool.texts, max_length)
        used, lost = encoded.tokens.numpy(), encoded.tokens_cut
        counts = used + lost
        findings = in_order([*findings, *cut_off(pool, used, lost)])
    lengths = None
    if pool.images is None:
        unit = "words" if base is None else f"tokens of {base}"
        lengths = Lengths(unit, int(np.median(counts)), int(counts.max()), length_histogram(counts))
    dropped = {reason: len(lines) for reason, lines in (material.dropped | repeated).items()}
    rows = AuditedRows(material.rows_read, len(kept), dropped)
    return Audit(chosen.name, rows, examples_by_class(pool), lengths, findings)
