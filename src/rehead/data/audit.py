"""What is wrong with labelled data, or could be, before anything is trained on it: findings, each with its cure.

Looks at texts or images, labels and, where a base has been loaded, at the number of their tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt
from ftfy.badness import is_bad
from scipy.sparse import csc_array, csr_array
from sklearn.feature_extraction.text import CountVectorizer

from rehead.data import labels as of_labels
from rehead.data.columns import is_number
from rehead.data.duplicates import content_hashes, near_of, seen_before
from rehead.data.examples import CURE_OF_NONE, STANDS_FOR_NONE, Dropped, Examples, Index, languages_of
from rehead.data.labels import same_value
from rehead.runtime.wording import counted

# Examples that are shown of each finding, and characters of each.
SHOWN, SHOWN_CHARACTERS = 5, 120
GRADES = ("error", "warning", "note")
# A share of contradictions among the labels from which on they limit what any classifier can reach.
_MANY_CONTRADICTIONS = 0.01
# The largest class has this many times the examples of the smallest.
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
# Languages are named from this share of the texts on.
_LANGUAGE_SHARE = 0.05
# What stands in the place of bytes that are not UTF-8.
_LOST = "\ufffd"
# Punctuation and spaces that make no other label: not between digits, and hyphens and the like between letters alone.
_SPACING = re.compile(r"[\s_'\"()\[\]:;!?]|(?<!\d)[.,]|[.,](?!\d)|(?<=[^\W\d])[-\u2010-\u2014/&](?=[^\W\d])")
# The beginning of a list of words or an object, as JSON and Python write them.
_NESTED = re.compile(r"""\s*(\[\s*['"]|\{\s*['"])""")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# One of the examples of a finding, as it is printed.
Shown = dict[str, str | int]
# By two-letter code the share of the texts, and the row of one of them.
Languages = dict[str, tuple[float, int]]


# What findings count, where their kind names it, with the verb that may follow.
_PLURAL = re.compile(r"\b(class(?=es)|duplicate|image|label|language|row|text)e?s\b( that are\b)?")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        grade: `error`: the numbers would lie; `warning`: the classifier will likely be worse for it; `note`: good to
            know.
        kind: what it is, in two or three words.
        count: how many rows, or classes, it concerns.
        examples: some of them, each with `row` and `text`, or what else is to be said of it.
        advice: what to do about it.
    """

    grade: str
    kind: str
    count: int
    examples: list[Shown]
    advice: str

    @property
    def title(self) -> str:
        """How many there are of what was found: "1 row with no text", "3 duplicates", "shortcut in 394 rows"."""
        singular = _PLURAL.sub(lambda found: found[1] + (" that is" if found[2] else ""), self.kind, count=1)
        if singular == self.kind:
            return f"{self.kind} in {counted(self.count, 'row')}"
        return f"{self.count:,} {singular if self.count == 1 else self.kind}"


def audit(examples: Examples, dropped: Dropped, languages: Languages, test: Examples | None = None) -> list[Finding]:
    """Return all findings, the gravest first.

    Args:
        examples: as they were read, duplicates included; `near` is set (see `rehead.data.duplicates.with_near`).
        dropped: rows that could not be read as examples, by reason.
        languages: of the texts, which `main_languages` returns; of images none.
        test: a test set of its own, if there is one, likewise.
    """
    exact = content_hashes(examples.inputs)
    findings = [
        *_unusable(dropped),
        *_contradictions(examples, exact),
        *_repeated(examples, exact),
        *(_leaked(examples, exact, test) if test is not None else ()),
        *_spellings(examples),
        *_class_sizes(examples),
    ]
    if examples.images is None:
        findings += [*_odd_texts(examples), *_languages(examples, languages), *_shortcuts(examples)]
    else:
        findings += [*_odd_images(examples), *_telltale_sizes(examples)]
    return in_order(findings)


def in_order(findings: list[Finding]) -> list[Finding]:
    """Return the gravest first."""
    return sorted(findings, key=lambda finding: GRADES.index(finding.grade))


def _of_rows(grade: str, kind: str, examples: Examples, rows: Index, advice: str) -> Iterator[Finding]:
    """Yield a finding about these rows, of which the first few are shown; nothing where there are none."""
    if len(rows):
        yield Finding(grade, kind, len(rows), _shown(examples, rows), advice)


def _shown(examples: Examples, rows: Index) -> list[Shown]:
    """Return the first few of these rows, the beginning of each text in one line."""
    shown: list[Shown] = []
    for i in rows[:SHOWN]:
        text = " ".join(examples.texts[i][: 4 * SHOWN_CHARACTERS].split())
        text = text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
        shown.append({"row": int(examples.lines[i]), "label": examples.named(i), "text": text})
    return shown


def examples_by_class(examples: Examples) -> dict[str, int]:
    """Return examples of each class, the most frequent first."""
    counts = of_labels.class_counts(examples.labels, len(examples.label_names))
    order = np.argsort(-counts, kind="stable")
    return {examples.label_names[label]: int(counts[label]) for label in order if counts[label]}


def length_histogram(lengths: npt.NDArray[np.int64]) -> dict[str, int]:
    """Return how many texts have a length of 1, 2, 3 to 4, 5 to 8, 9 to 16, ...: powers of two, by their upper end."""
    upper = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return {str(end): int(count) for end, count in zip(*np.unique(upper, return_counts=True), strict=True)}


def _unusable(dropped: Dropped) -> Iterator[Finding]:
    for reason, lines in dropped.items():
        rows: list[Shown] = [{"row": line} for line in lines[:SHOWN]]
        cure = CURE_OF_NONE if reason.endswith(STANDS_FOR_NONE) else "complete or remove them"
        yield Finding("warning", f"rows with {reason}", len(lines), rows, f"they are left out; {cure}")


def _contradictions(examples: Examples, exact: Index) -> Iterator[Finding]:
    """Yield the same text, or nearly the same, with different labels."""
    labels = of_labels.combinations(examples.labels)
    same = _of_several_labels(exact, labels)
    yield from _of_rows(
        "error" if len(same) > _MANY_CONTRADICTIONS * len(examples) else "warning",
        "contradicting labels",
        examples,
        same,
        "the same text has several labels, so one of them is wrong; correct them (the first is kept, the others "
        "are left out)",
    )
    yield from _of_rows(
        "warning",
        "near duplicates with contradicting labels",
        examples,
        np.setdiff1d(_of_several_labels(near_of(examples), labels), same),
        "texts that are nearly the same have different labels; look whether the difference accounts for it",
    )


def _of_several_labels(groups: Index, labels: Index) -> Index:
    """Return positions of the examples whose group has more than one label, group by group."""
    pairs = np.unique(np.stack([groups, labels], axis=1), axis=0)
    numbers, kinds = np.unique(pairs[:, 0], return_counts=True)
    rows = np.flatnonzero(np.isin(groups, numbers[kinds > 1]))
    return rows[np.argsort(groups[rows], kind="stable")]


def _repeated(examples: Examples, exact: Index) -> Iterator[Finding]:
    same = _repeats(exact)
    advice = "texts that differ in white space and case alone; each is used once"
    yield from _of_rows("note", "duplicates", examples, same, advice)
    near = np.setdiff1d(_repeats(near_of(examples)), same)
    advice = "texts that are nearly the same as an earlier one; they are kept in the same part of the split"
    yield from _of_rows("note", "near duplicates", examples, near, advice)


def _repeats(groups: Index) -> Index:
    """Return positions of all but the first of each group."""
    _, first = np.unique(groups, return_index=True)
    return np.setdiff1d(np.arange(len(groups)), first)


def _leaked(examples: Examples, exact: Index, test: Examples) -> Iterator[Finding]:
    known = seen_before(test.inputs, exact)
    near = np.isin(near_of(test), near_of(examples)) & ~known
    advice = "the test flatters; remove them from one of the two (accuracy without them is reported, too)"
    for how, found in (("in", known), ("nearly in", near)):
        yield from _of_rows("error", f"test {test.what} {how} the training data", test, np.flatnonzero(found), advice)


def _spellings(examples: Examples) -> Iterator[Finding]:
    counts = examples_by_class(examples)
    same: dict[str, list[str]] = {}
    for name in counts:
        same.setdefault(_spelled(name), []).append(name)
    spellings = [names for names in same.values() if len(names) > 1]
    alike = [("error", names) for names in spellings]
    forms = {name: " ".join(name.split()).casefold() for name in counts}
    listed = {name for names in spellings for name in names}
    for rare in counts:
        for common in counts:
            if (
                counts[rare] * _RARER <= counts[common]
                and not {rare, common} & listed
                # Numbers are alike and mean something else.
                and not re.sub(r"\D", "", rare + common)
                and SequenceMatcher(None, forms[rare], forms[common]).ratio() >= _SPELLED_ALIKE
            ):
                alike.append(("warning", [common, rare]))
    for grade, names in alike:
        rows: list[Shown] = [{"label": name, "rows": counts[name]} for name in names]
        yield Finding(grade, "labels spelled alike", len(names), rows, "probably one class; give them one spelling")


def _spelled(name: str) -> str:
    """Return what is the same for labels that differ in Unicode form, case, spaces and punctuation alone.

    Signs, as in C++ or A-, and symbols such as emoji are kept; numbers are the same if their values are.
    """
    form = same_value(name).casefold()
    return form if is_number(form) else _SPACING.sub("", form) or form


def _class_sizes(examples: Examples) -> Iterator[Finding]:
    counts = examples_by_class(examples)
    sizes: list[Shown] = [{"label": name, "rows": count} for name, count in counts.items()]
    if few := [size for size, count in zip(sizes, counts.values(), strict=True) if count < _FEW_EXAMPLES]:
        yield Finding(
            "warning",
            "classes with few examples",
            len(few),
            few[:SHOWN],
            f"what is measured on a class with fewer than {_FEW_EXAMPLES} examples is mostly chance; add examples or "
            "merge classes",
        )
    if max(counts.values()) >= _IMBALANCED * min(counts.values()):
        yield Finding(
            "note",
            "imbalanced classes",
            len(counts),
            [sizes[0], sizes[-1]],
            "look at macro F1 and at the classes one by one rather than at accuracy; --class-weight balanced lets rare "
            "classes weigh as much as frequent ones",
        )


# The kinds of odd texts: their name, which texts are of it, and the cure.
_ODD: list[tuple[str, Callable[[str], bool], str]] = [
    ("huge texts", lambda text: len(text) > _HUGE, "only their beginning is read; split or shorten them"),
    (
        "binary texts",
        lambda text: len(_CONTROL.findall(text)) > _BINARY * len(text),
        "they hold control characters; look whether the file or the column is the right one",
    ),
    (
        "wrongly decoded texts",
        lambda text: is_bad(text) or _LOST in text,
        "they were read in another encoding than they were written in; convert the file to UTF-8 from its source",
    ),
    (
        "texts that are lists or objects",
        lambda text: bool(_NESTED.match(text)) and text.rstrip()[-1:] in ("]", "}"),
        "their brackets and names are read as words; join a list of words, or take the field that holds the text",
    ),
]


def _odd_texts(examples: Examples) -> Iterator[Finding]:
    for kind, is_odd, advice in _ODD:
        yield from _of_rows("warning", kind, examples, np.flatnonzero([is_odd(t) for t in examples.texts]), advice)
    breaks = np.flatnonzero(["\n" in text.strip() for text in examples.texts])
    if len(breaks) <= max(1, _FEW_WITH_LINE_BREAKS * len(examples)):
        advice = "few texts have them, so these rows may have been broken on the way; compare them with their source"
        yield from _of_rows("note", "texts with line breaks", examples, breaks, advice)


def cut_off(examples: Examples, used: npt.NDArray[np.int64], lost: npt.NDArray[np.int64]) -> Iterator[Finding]:
    """Yield texts that are too long.

    Args:
        used, lost: (n,) tokens of each example's text that are used, and that are not.
    """
    n_tokens = used + lost
    rows = np.flatnonzero(lost)
    if not len(rows):
        return
    share = lost.sum() / n_tokens.sum()
    by_class: list[Shown] = [
        {"label": name, "tokens lost": f"{lost[of_class].sum() / max(1, n_tokens[of_class].sum()):.1%}"}
        for i, name in enumerate(examples.label_names)
        if lost[of_class := of_labels.of_class(examples.labels, i)].sum()
    ]
    yield Finding(
        "warning" if share > _MANY_CONTRADICTIONS else "note",
        "texts that are cut off",
        len(rows),
        [*by_class[:SHOWN], *_shown(examples, rows[np.argsort(-lost[rows])])],
        f"{share:.1%} of all tokens are lost; raise --max-length if the base can take more, or use --long head-tail or "
        "--long windows",
    )


def main_languages(texts: Sequence[str]) -> Languages:
    """Return the languages of at least one in twenty of n texts, the most frequent first."""
    by_row = languages_of(texts, seed=0)
    shares = {code: count / len(by_row) for code, count in Counter(by_row.values()).most_common()}
    first = {code: row for row, code in reversed(by_row.items())}
    return {code: (share, first[code]) for code, share in shares.items() if share >= _LANGUAGE_SHARE}


def _languages(examples: Examples, named: Languages) -> Iterator[Finding]:
    if named and list(named) != ["en"]:
        rows = _shown(examples, np.array([row for _, row in named.values()]))
        shown = zip(named.items(), rows, strict=False)
        of_each: list[Shown] = [{"language": name, "share": f"{share:.0%}", **row} for (name, (share, _)), row in shown]
        advice = "a guess, from the letters; take a base that was trained on these languages"
        yield Finding("note", "languages", len(named), of_each, advice)


# Features of a text that give its label away by themselves: an address, a number, a single word. A classifier that
# learns such a shortcut looks perfect on data gathered in the same way and fails elsewhere (Geirhos et al., Nature
# Machine Intelligence 2, 2020).

_PATTERNS = {
    "a web address": re.compile(r"https?://|\bwww\.\w", re.IGNORECASE),
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.\w"),
    "a phone number": re.compile(r"(?<!\d)\+?\d[\d ()/-]{6,}\d(?!\d)"),
}
# The share of the texts with a feature that have the label, and of those with the label that have the feature.
_PURE, _FAR_REACHING = 0.95, 0.3
# From here on the feature nearly is the label.
_GIVES_AWAY = 0.8
# A feature of fewer texts proves nothing.
_LEAST = 20
# Words are the largest number of features; these are the most frequent ones, and the farthest-reaching are listed.
_WORDS, _LISTED_WORDS = 20_000, 3


def _shortcuts(examples: Examples) -> Iterator[Finding]:
    """Yield patterns and words that predict a label far better than its frequency, the farthest-reaching first."""
    occurs = [np.array([[p.search(text) is not None] for text in examples.texts], np.int64) for p in _PATTERNS.values()]
    found = _revealing([*_PATTERNS], csc_array(np.hstack(occurs)), examples)
    vectorizer = CountVectorizer(binary=True, max_features=_WORDS, min_df=_LEAST)
    try:
        words = csc_array(vectorizer.fit_transform(examples.texts))
    except ValueError:  # no word is in twenty texts
        pass
    else:
        names = [f"the word {word!r}" for word in vectorizer.get_feature_names_out()]
        found = sorted([*found, *_revealing(names, words, examples)[:_LISTED_WORDS]], key=lambda each: -each.reach)
    for shortcut in found:
        name, feature = examples.label_names[shortcut.label], shortcut.feature
        yield from _of_rows(
            "warning" if shortcut.reach >= _GIVES_AWAY else "note",
            "shortcut",
            examples,
            shortcut.rows,
            f"{shortcut.purity:.0%} of the texts with {feature} are {name!r}, which are {shortcut.reach:.0%} of that "
            f"class, so {feature} alone reveals it; make sure that this holds where the classifier will be used",
        )


@dataclass(frozen=True)
class _Shortcut:
    """A feature that gives a label away.

    Attributes:
        feature: in words.
        label: class id.
        rows: positions of the texts that have it.
        purity: share of these that have the label.
        reach: share of the label's texts that have the feature.
    """

    feature: str
    label: int
    rows: Index
    purity: float
    reach: float


def _revealing(names: list[str], occurs: csc_array, examples: Examples) -> list[_Shortcut]:
    """Return the features that give a class away, the farthest-reaching first.

    Args:
        names: of the features, in words.
        occurs: (n, n_features) of 0 and 1.
    """
    labels, n_rows, n_classes = examples.labels, len(examples), len(examples.label_names)
    totals = of_labels.class_counts(labels, n_classes)
    # Sparse: of 200,000 texts and 1,000 classes an array has 1.6 GB.
    one_each = (np.ones(n_rows, np.int64), labels, np.arange(n_rows + 1))
    targets = csr_array(labels if examples.multilabel else one_each, shape=(n_rows, n_classes))
    counts = (occurs.T @ targets).toarray()
    n = np.asarray(occurs.sum(0)).reshape(-1, 1)
    purity, reach = counts / np.maximum(n, 1), counts / np.maximum(totals, 1)
    # A class that nearly all texts have is predicted by anything, so purity has to halve the error of naming it always.
    prior = totals / n_rows
    needed = np.maximum(_PURE, 1 - (1 - prior) / 2)
    reveals = np.argwhere((n >= _LEAST) & (purity >= needed) & (reach >= _FAR_REACHING))
    found = [
        _Shortcut(names[i], label, np.sort(occurs[:, [i]].indices).astype(np.int64), purity[i, label], reach[i, label])
        for i, label in reveals.tolist()
    ]
    return sorted(found, key=lambda shortcut: -shortcut.reach)


# Images. Shorter sides of fewer pixels hold little for a model that was trained on photographs.
_SMALL = 32
# A size gives the class away where this share of the images has it, and this share of those is of one class.
_COMMON, _SURE = 0.05, 0.95


def _odd_images(examples: Examples) -> Iterator[Finding]:
    """Yield what a first look at the images (`ImageInput.look`) has put right, and which are small."""
    looks = [image.look for image in examples.images or []]
    for oddity in dict.fromkeys(oddity for look in looks for oddity in look.oddities):
        rows = np.flatnonzero([oddity in look.oddities for look in looks])
        yield from _of_rows("note", f"images {oddity}", examples, rows, "nothing to do, if that is right")
    small = np.flatnonzero([min(look.width, look.height) < _SMALL for look in looks])
    advice = f"their shorter side has fewer than {_SMALL} pixels; use larger ones where there are any"
    yield from _of_rows("warning", "small images", examples, small, advice)


def _telltale_sizes(examples: Examples) -> Iterator[Finding]:
    """Yield sizes that one class alone has: a sign that it comes from another source."""
    sizes = np.array([(image.look.width, image.look.height) for image in examples.images or []])
    different, which = np.unique(sizes, axis=0, return_inverse=True)
    for number, (width, height) in enumerate(different.tolist()):
        rows = np.flatnonzero(which.ravel() == number)
        counts = np.bincount(examples.labels[rows], minlength=len(examples.label_names))
        label = int(counts.argmax())
        purity, usual = counts[label] / len(rows), of_labels.of_class(examples.labels, label).mean()
        if len(rows) >= max(_COMMON * len(examples), 5) and purity >= _SURE > usual + 0.2:
            yield from _of_rows(
                "warning",
                "size that tells the class",
                examples,
                rows,
                f"{purity:.0%} of the images of {width} × {height} pixels are {examples.label_names[label]!r}, so they "
                "may come from another source; a model can learn the source instead of the class",
            )
