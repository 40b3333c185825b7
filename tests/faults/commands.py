"""The long commands, what they work on, and how to read what they leave under their output's name."""

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tests.instruction.test_instruct import TEMPLATE, WORDS
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages

# What lies there: name and content of each row, or of each file; None where nothing does.
Content = list[tuple[str, str]] | None
_ROWS = 5000


class NotWholeError(Exception):
    """Something lies under the output's name that no run would have left there."""


@dataclass(frozen=True)
class Command:
    """A command on the inputs that `write_inputs` writes.

    Attributes:
        arguments: without the output.
        older: those of the run whose result lies under the output's name before a trial.
        read: what lies under the output's name.
        output: its name.
        resumes: whether it takes --resume.
        beside: what else may lie in the folder.
    """

    name: str
    arguments: str
    older: str
    read: Callable[[Path], Content]
    output: str = "out"
    resumes: bool = False
    beside: tuple[str, ...] = ()

    def line(self, inputs: Path, *, older: bool = False, resume: bool = False) -> list[str]:
        """Return the arguments."""
        line = (self.older if older else self.arguments).replace("{}", str(inputs)).split()
        return [*line, "-o", self.output, *(["--resume"] if resume and self.resumes else [])]


def write_inputs(folder: Path) -> None:
    """Write models and data; what commands need of each other is fitted by `trials.prepare`."""
    save_tiny_model(folder / "encoder", "bert")
    save_tiny_language_model(folder / "writer", "llama", template=TEMPLATE, reach=512)
    write_messages(folder / "train.csv", 120)
    texts, _ = messages(_ROWS)
    write_csv(folder / "new.csv", ["id", "text"], [[str(i), text] for i, text in enumerate(texts)])
    write_csv(folder / "older.csv", ["id", "text"], [[str(i), text] for i, text in enumerate(texts[:3000])])
    requests = [{"prompt": f"the {a} {b}", "completion": b} for a in WORDS[:8] for b in WORDS[:8]]
    (folder / "requests.jsonl").write_text("\n".join(map(json.dumps, requests)))


def files_of(folder: Path) -> Content:
    """The files that a saved folder's manifest names, which must be those that it was written with."""
    if not folder.exists():
        return None
    try:
        listed = json.loads((folder / "rehead.json").read_text())["files"]
        content = {name: (folder / name).read_bytes() for name in listed}
        for name in ("README.md", "report.html"):
            (folder / name).read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise NotWholeError(repr(error)) from error
    if any(hashlib.sha256(content[name]).hexdigest() != sha256 for name, sha256 in listed.items()):
        raise NotWholeError("a file is not the one in the manifest")
    return sorted(listed.items())


def whole_model(folder: Path) -> Content:
    """As `files_of`, of what is not the same in every run: only that it is whole."""
    return files_of(folder) and [("a model", "whole")]


def comparison_of(folder: Path) -> Content:
    if not folder.exists():
        return None
    try:
        (folder / "report.html").read_bytes()
        rows = json.loads((folder / "comparison.json").read_text())["approaches"]
    except (OSError, ValueError, KeyError) as error:
        raise NotWholeError(repr(error)) from error
    return [(row["name"], f"{row['accuracy']} {row['macro_f1']}") for row in rows]


def export_of(folder: Path) -> Content:
    if not folder.exists():
        return None
    try:
        (folder / "README.md").read_bytes()
        json.loads((folder / "export.json").read_text())
        return [
            (name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
            for name in ("onnx/model.onnx", "tokenizer.json")
        ]
    except (OSError, ValueError) as error:
        raise NotWholeError(repr(error)) from error


def table_of(file: Path) -> Content:
    if not file.exists():
        return None
    try:
        if file.suffix == ".parquet":
            rows = [list(map(str, row.values())) for row in pq.read_table(file).to_pylist()]
        else:
            rows = list(csv.reader(file.open(newline="")))[1:]
    except (OSError, ValueError) as error:
        raise NotWholeError(repr(error)) from error
    return [(row[0], " ".join(row[1:])) for row in rows]


_FIT = "fit {}/train.csv --model {}/encoder --no-ngrams"
_COMPARE = "compare {}/train.csv --model {}/writer,{}/encoder --budget 1000h --approaches majority,tfidf,probe,last-1"
_SEARCH = "search {}/train.csv --model {}/encoder --trials 2 --storage trials.sqlite"
COMMANDS = {
    command.name: command
    for command in (
        Command("fit head", f"{_FIT} --strategy head", f"{_FIT} --strategy head --seed 1", files_of, resumes=True),
        Command(
            "fit last-1",
            f"{_FIT} --strategy last-1 --depth 2 --epochs 3",
            f"{_FIT} --strategy head --seed 1",
            files_of,
            resumes=True,
        ),
        Command("predict to CSV", "predict {}/model {}/new.csv", "predict {}/model {}/older.csv", table_of, "out.csv"),
        Command(
            "predict to Parquet",
            "predict {}/model {}/new.csv",
            "predict {}/model {}/older.csv",
            table_of,
            "out.parquet",
        ),
        Command(
            "instruct",
            "instruct {}/requests.jsonl --model {}/writer --strategy last-1 --epochs 2",
            "instruct {}/requests.jsonl --model {}/writer --strategy last-1 --epochs 1 --seed 1",
            files_of,
            resumes=True,
        ),
        Command("compare", _COMPARE, f"{_COMPARE.rsplit(',', 1)[0]} --seed 1", comparison_of, resumes=True),
        Command("export", "export {}/model --format onnx", "export {}/older --format onnx", export_of),
        Command("search", _SEARCH, f"{_FIT} --strategy head --seed 1", whole_model, beside=("trials.sqlite",)),
    )
}
