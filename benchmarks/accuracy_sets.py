"""Writes the files of the data sets that `accuracy.py` compares on, once, so that every method gets the same.

A set with a published test part keeps it as it is. Any other is divided as `rehead fit FILE --seed 0` divides it: texts
that repeat another up to white space and case are left out, those that are nearly the same stay together, a fifth of
each class is for the test, and what rehead would hold out for validation goes back to the training part.

    python benchmarks/accuracy_sets.py NAME FOLDER [--texts N]
"""

import argparse
import csv
import hashlib
import json
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Beside the checkout, or wherever the variable says; each set's folder has its ORIGIN.txt.
DATA = Path(os.environ.get("REHEAD_BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
SEPARATOR = "|"
# Label and text; several labels are joined by `SEPARATOR`.
Row = tuple[str, str]


@dataclass(frozen=True)
class DataSet:
    """What there is to know of a set before its files are read.

    Attributes:
        published: whether its test part is the published one, rather than a fifth that `divide` takes.
        positive: the class whose F1 is told, beside the mean over all.
        multilabel: whether a text may have several labels.
        images: whether it is a folder of images.
    """

    published: bool
    positive: str | None = None
    multilabel: bool = False
    images: bool = False


SETS = {
    "sms": DataSet(published=False, positive="spam"),
    "bbc": DataSet(published=False),
    "r8": DataSet(published=True),
    "r52": DataSet(published=True),
    "20newsgroups": DataSet(published=True),
    "reuters10": DataSet(published=True, multilabel=True),
    "germeval2018": DataSet(published=True),
    "tweet_emotion": DataSet(published=True),
    "tweet_irony": DataSet(published=True, positive="irony"),
    "cr": DataSet(published=False),
    "mr": DataSet(published=False),
    "oxford17": DataSet(published=False, images=True),
    "busi": DataSet(published=False, images=True),
}
# Names of files in a set's folder, of what lies in one file in `DATA`.
_WHOLE = {"bbc": "bbc_news.csv", "cr": "all.csv", "mr": "all.csv"}
_SAMPLES = ("r8", "r52", "20newsgroups")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=SETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, metavar="N", help="only N examples of each part, for a quick try")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    write = _write_images if SETS[options.name].images else _write_texts
    about = write(options.name, options.folder, options.texts)
    # Written last, so that an interrupted run starts again.
    (options.folder / "set.json").write_text(json.dumps(about), encoding="utf-8")


def part(folder: Path, name: str, images: bool) -> Path:
    """Returns where a part of a set lies: a table of labels and texts, or a folder with a sub-folder a class."""
    return folder / (name if images else f"{name}.csv")


def read_part(file: Path) -> list[Row]:
    """Reads labels and texts; of a folder of images labels and the files' names, in the order of classes and names."""
    if file.is_dir():
        return [(image.parent.name, image.name) for image in sorted(file.glob("*/*.jpg"))]
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row["label"], row["text"]) for row in csv.DictReader(lines)]


def write_part(rows: list[Row], file: Path) -> None:
    """Writes labels and texts as a table with a header."""
    with file.open("w", encoding="utf-8", newline="") as output:
        csv.writer(output).writerows([("label", "text"), *rows])


def drawn(rows: list[Row], shots: int, seed: int) -> list[Row]:
    """Returns so many rows of each label, drawn at random, or all that there are of it."""
    generator = random.Random(seed)  # noqa: S311
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row[0], []).append(row)
    return [row for found in by_label.values() for row in generator.sample(found, min(shots, len(found)))]


def _write_texts(name: str, folder: Path, texts: int | None) -> dict[str, Any]:
    parts = {part: rows for part, rows in _texts(name).items() if rows}
    if texts:
        parts = {part: _few(rows, texts) for part, rows in parts.items()}
    for each, rows in parts.items():
        write_part(rows, part(folder, each, images=False))
    return _about(parts)


def _texts(name: str) -> dict[str, list[Row]]:
    """Returns the rows of a set by part."""
    source = DATA / name
    if name in _SAMPLES:
        from rehead.data import samples

        return {
            part: [(row[0], row[1]) for row in samples.read(of).rows]
            for part, of in (("train", name), ("test", f"{name}/test"))
        }
    if name == "sms":
        # Not splitlines(): some messages hold other characters that count as line breaks there.
        lines = (source / "SMSSpamCollection").read_text(encoding="utf-8").strip("\n").split("\n")
        return _divide_texts([(label, text) for label, text in (line.split("\t", 1) for line in lines)])
    if name in _WHOLE:
        return _divide_texts(_read_published(source / _WHOLE[name]))
    files = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
    return {part: _read_published(source / file) for part, file in files.items() if (source / file).is_file()}


def _read_published(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row.get("label") or row["labels"], row["text"]) for row in csv.DictReader(lines)]


def _divide_texts(rows: list[Row]) -> dict[str, list[Row]]:
    from rehead.data.preparation import DataConfig, prepare

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.csv"
        write_part(rows, file)
        divided = prepare(DataConfig(str(file), text_column="text", label_column="label", label_separator=""), seed=0)

    def of(*parts: Any) -> list[Row]:
        found = [(part.label_names[i], text) for part in parts for i, text in zip(part.labels, part.texts, strict=True)]
        return sorted(found, key=lambda row: (row[1], row[0]))

    # In an order that says nothing of the labels, for whoever learns from the rows as they come.
    parts = {"train": of(divided.train, divided.validation), "test": of(divided.test)}
    for found in parts.values():
        random.Random(0).shuffle(found)  # noqa: S311
    return parts


def _write_images(name: str, folder: Path, texts: int | None) -> dict[str, Any]:
    from rehead.data.preparation import DataConfig, prepare

    divided = prepare(DataConfig(str(DATA / name)), seed=0)
    images = {"train": [*divided.train.texts, *divided.validation.texts], "test": divided.test.texts}
    parts = {}
    for each, files in images.items():
        rows = sorted((Path(file).parent.name, Path(file).name) for file in files)
        parts[each] = sorted(_few(rows, texts)) if texts else rows
        for label, image in parts[each]:
            link = part(folder, each, images=True) / label / image
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to((DATA / name / label / image).resolve())
    return _about(parts)


def _few(rows: list[Row], n: int) -> list[Row]:
    """Returns n rows, drawn from the commonest five labels in turn, so that every one of them can be learned."""
    by_label: dict[str, list[Row]] = {}
    for row in random.Random(0).sample(rows, len(rows)):  # noqa: S311
        by_label.setdefault(row[0], []).append(row)
    commonest = sorted(by_label, key=lambda label: (-len(by_label[label]), label))[:5]
    found = [row for label in commonest for row in by_label[label][: max(1, n // len(commonest))]]
    random.Random(1).shuffle(found)  # noqa: S311
    return found


def _about(parts: dict[str, list[Row]]) -> dict[str, Any]:
    """Says how large the parts are, and what tells them from any other division."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode(errors="surrogatepass")).hexdigest()
    return {"rows": {part: len(rows) for part, rows in parts.items()}, "digest": digest[:12]}


if __name__ == "__main__":
    sys.exit(main())
