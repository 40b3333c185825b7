"""What is wrong with labelled data, or could be, before anything is trained on it: findings, each with its cure.

Looks at texts, labels and, where a base has been loaded, at the number of their tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt
from ftfy.badness import is_bad

from rehead.data import labels as of_labels
from rehead.data import languages
from rehead.data.duplicates import fingerprints, near_of, seen_before
from rehead.data.examples import Dropped, Examples, Index
from rehead.data.findings import SHOWN, Finding, in_order, shown
from rehead.data.image_audit import image_findings
from rehead.data.shortcuts import shortcuts

# A share of contradictions among the labels from which on they limit what any classifier can reach.
_MANY_CONTRADICTIONS = 0.01
# The largest class has so many times the examples of the smallest.
_IMBALANCED = 10
# A class with fewer examples is measured on one or two in the test.
_FEW_EXAMPLES = 10
# Two labels that are spelled so alike (Ratcliff and Obershelp's measure), one of them so much rarer, are one label.
_SPELLED_ALIKE, _RARER = 0.85, 20
# Characters beyond which a text is no text message, article or letter any more.
_HUGE = 100_000
# Control characters make a text binary from this share on.
_BINARY = 0.05
# Line breaks in so few of the texts are more likely rows that broke than paragraphs.
_FEW_WITH_LINE_BREAKS = 0.01
# Languages are told from so many texts, of so many letters at least, and named from this share on.
_LANGUAGE_SHARE = 0.05

# What stands in the place of bytes that are not UTF-8.
_LOST = "\ufffd"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def audit(
    examples: Examples,
    dropped: Dropped,
    test: Examples | None = None,
) -> list[Finding]:
    """All findings, the gravest first.

    Args:
        examples: as they were read, duplicates included; `near` is set (see `rehead.data.duplicates.with_near`).
        dropped: rows that could not be read as examples, by reason.
        test: a test set of its own, if there is one, likewise.
    """
    exact = fingerprints(examples.inputs)
    findings = [
        *_unusable(dropped),
        *_contradictions(examples, exact),
        *_repeated(examples, exact),
        *(_leaked(examples, exact, test) if test is not None else ()),
        *_spellings(examples),
        *_class_sizes(examples),
        *(_of_texts(examples) if examples.pictures is None else image_findings(examples)),
    ]
    return in_order(findings)


def _of_texts(examples: Examples) -> Iterator[Finding]:
    yield from _odd_texts(examples)
    yield from _languages(examples)
    yield from _shortcuts(examples)


def class_counts(examples: Examples) -> dict[str, int]:
    """Examples of each class, the most frequent first."""
    counts = of_labels.class_counts(examples.labels, len(examples.label_names))
    order = np.argsort(-counts, kind="stable")
    return {examples.label_names[label]: int(counts[label]) for label in order if counts[label]}


def length_histogram(lengths: npt.NDArray[np.int64]) -> dict[str, int]:
    """How many texts have a length of 1, 2, 3 to 4, 5 to 8, 9 to 16, ...: powers of two, by their upper end."""
    upper = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return {str(end): int(count) for end, count in zip(*np.unique(upper, return_counts=True), strict=True)}


def _unusable(dropped: Dropped) -> Iterator[Finding]:
    for reason, lines in dropped.items():
        rows = [{"row": line} for line in lines[:SHOWN]]
        yield Finding("warning", f"rows with {reason}", len(lines), rows, "they are left out; complete or remove them")


def _contradictions(examples: Examples, exact: Index) -> Iterator[Finding]:
    """The same text, or nearly the same, with different labels."""
    n = len(examples)
    labels = of_labels.combinations(examples.labels)
    same = _of_several_labels(exact, labels)
    if len(same):
        grade = "error" if len(same) > _MANY_CONTRADICTIONS * n else "warning"
        yield Finding(
            grade,
            "contradicting labels",
            len(same),
            shown(examples, same),
            "the same text has several labels, so one of them is wrong; correct them (the first is kept, the others "
            "are left out)",
        )
    near = np.setdiff1d(_of_several_labels(near_of(examples), labels), same)
    if len(near):
        yield Finding(
            "warning",
            "near duplicates with contradicting labels",
            len(near),
            shown(examples, near),
            "texts that are nearly the same have different labels; look whether the difference accounts for it",
        )


def _of_several_labels(groups: Index, labels: Index) -> Index:
    """Positions of the examples whose group has more than one label, group by group."""
    pairs = np.unique(np.stack([groups, labels], axis=1), axis=0)
    numbers, kinds = np.unique(pairs[:, 0], return_counts=True)
    rows = np.flatnonzero(np.isin(groups, numbers[kinds > 1]))
    return rows[np.argsort(groups[rows], kind="stable")]


def _repeated(examples: Examples, exact: Index) -> Iterator[Finding]:
    same = _repeats(exact)
    if len(same):
        yield Finding(
            "note",
            "duplicates",
            len(same),
            shown(examples, same),
            "texts that differ in white space and case alone; each is used once",
        )
    near = np.setdiff1d(_repeats(near_of(examples)), same)
    if len(near):
        yield Finding(
            "note",
            "near duplicates",
            len(near),
            shown(examples, near),
            "texts that are nearly the same as an earlier one; they are kept in the same part of the split",
        )


def _repeats(groups: Index) -> Index:
    """Positions of all but the first of each group."""
    _, first = np.unique(groups, return_index=True)
    return np.setdiff1d(np.arange(len(groups)), first)


def _leaked(examples: Examples, exact: Index, test: Examples) -> Iterator[Finding]:
    known = seen_before(test.inputs, exact)
    near = np.isin(near_of(test), near_of(examples)) & ~known
    for kind, found in (
        (f"test {test.what} in the training data", known),
        (f"test {test.what} nearly in the training data", near),
    ):
        if found.any():
            yield Finding(
                "error",
                kind,
                int(found.sum()),
                shown(test, np.flatnonzero(found)),
                "the test flatters; remove them from one of the two (accuracy without them is reported, too)",
            )


def _spellings(examples: Examples) -> Iterator[Finding]:
    counts = class_counts(examples)
    same: dict[str, list[str]] = {}
    for name in counts:
        same.setdefault(re.sub(r"[\W_]+", "", name).casefold(), []).append(name)
    for names in same.values():
        if len(names) > 1:
            yield _spelling("error", names, counts)
    forms = {name: " ".join(name.split()).casefold() for name in counts}
    listed = {name for names in same.values() if len(names) > 1 for name in names}
    for rare in counts:
        for common in counts:
            if (
                counts[rare] * _RARER <= counts[common]
                and not {rare, common} & listed
                # Numbers are alike and mean something else.
                and not re.sub(r"\D", "", rare + common)
                and SequenceMatcher(None, forms[rare], forms[common]).ratio() >= _SPELLED_ALIKE
            ):
                yield _spelling("warning", [common, rare], counts)


def _spelling(grade: str, names: list[str], counts: dict[str, int]) -> Finding:
    return Finding(
        grade,
        "labels spelled alike",
        len(names),
        [{"label": name, "rows": counts[name]} for name in names],
        "probably one class; give them one spelling",
    )


def _class_sizes(examples: Examples) -> Iterator[Finding]:
    counts = class_counts(examples)
    few = {name: count for name, count in counts.items() if count < _FEW_EXAMPLES}
    if few:
        yield Finding(
            "warning",
            "classes with few examples",
            len(few),
            [{"label": name, "rows": count} for name, count in list(few.items())[:SHOWN]],
            f"what is measured on a class with fewer than {_FEW_EXAMPLES} examples is mostly chance; add examples or "
            "merge classes",
        )
    largest, smallest = next(iter(counts)), list(counts)[-1]
    if counts[largest] >= _IMBALANCED * counts[smallest]:
        yield Finding(
            "note",
            "imbalanced classes",
            len(counts),
            [{"label": name, "rows": counts[name]} for name in (largest, smallest)],
            "look at macro F1 and at the classes one by one rather than at accuracy; --class-weight balanced lets rare "
            "classes weigh as much as frequent ones",
        )


def _odd_texts(examples: Examples) -> Iterator[Finding]:
    texts = examples.texts
    breaks = np.array(["\n" in text.strip() for text in texts])
    tests: list[tuple[str, str, Callable[[str], bool], str]] = [
        (
            "warning",
            "huge texts",
            lambda text: len(text) > _HUGE,
            "only their beginning is read; split or shorten them",
        ),
        (
            "warning",
            "binary texts",
            lambda text: len(_CONTROL.findall(text)) > _BINARY * len(text),
            "they hold control characters; look whether the file or the column is the right one",
        ),
        (
            "warning",
            "wrongly decoded texts",
            lambda text: is_bad(text) or _LOST in text,
            "they were read in another encoding than they were written in; convert the file to UTF-8 from its source",
        ),
    ]
    for grade, kind, is_odd, advice in tests:
        rows = np.array([i for i, text in enumerate(texts) if is_odd(text)], dtype=np.int64)
        if len(rows):
            yield Finding(grade, kind, len(rows), shown(examples, rows), advice)
    if breaks.any() and breaks.sum() <= max(1, _FEW_WITH_LINE_BREAKS * len(texts)):
        yield Finding(
            "note",
            "texts with line breaks",
            int(breaks.sum()),
            shown(examples, np.flatnonzero(breaks)),
            "few texts have them, so these rows may have been broken on the way; compare them with their source",
        )


def cut_off(examples: Examples, used: npt.NDArray[np.int64], lost: npt.NDArray[np.int64]) -> Iterator[Finding]:
    """Texts that are too long.

    Args:
        used, lost: (n,) tokens of each example's text that are used, and that are not.
    """
    n_tokens = used + lost
    rows = np.flatnonzero(lost)
    if not len(rows):
        return
    share = lost.sum() / n_tokens.sum()
    by_class = [
        {"label": name, "tokens lost": f"{lost[of_class].sum() / max(1, n_tokens[of_class].sum()):.1%}"}
        for i, name in enumerate(examples.label_names)
        if lost[of_class := of_labels.of_class(examples.labels, i)].sum()
    ]
    yield Finding(
        "warning" if share > _MANY_CONTRADICTIONS else "note",
        "texts that are cut off",
        len(rows),
        [*by_class[:SHOWN], *shown(examples, rows[np.argsort(-lost[rows])])],
        f"{share:.1%} of all tokens are lost; raise --max-length if the base can take more, or use --long head-tail or "
        "--long windows",
    )


def _languages(examples: Examples) -> Iterator[Finding]:
    by_row = languages.of_some(examples.texts, seed=0)
    told: dict[str, list[int]] = {}
    for row, language in by_row.items():
        told.setdefault(language, []).append(row)
    shares = {language: len(rows) / len(by_row) for language, rows in told.items()}
    named = sorted((name for name, share in shares.items() if share >= _LANGUAGE_SHARE), key=lambda name: -shares[name])
    if len(named) > 1 or (named and named[0] != "en"):
        rows = [told[language][0] for language in named]
        yield Finding(
            "note",
            "languages",
            len(named),
            [
                {"language": language, "share": f"{shares[language]:.0%}", **shown}
                for language, shown in zip(named, shown(examples, np.array(rows)), strict=True)
            ],
            "a guess, from the letters; take a base that was trained on these languages",
        )


def _shortcuts(examples: Examples) -> Iterator[Finding]:
    for found in shortcuts(examples.texts, examples.labels, len(examples.label_names)):
        name = examples.label_names[found.label]
        yield Finding(
            "warning" if found.gives_away else "note",
            "shortcut",
            len(found.rows),
            shown(examples, found.rows),
            f"{found.purity:.0%} of the texts with {found.feature} are {name!r}, which are {found.reach:.0%} of that "
            f"class, so {found.feature} alone tells it; make sure that this holds where the classifier will be used",
        )
