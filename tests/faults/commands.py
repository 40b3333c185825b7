"""The long commands, what they work on, and how to read what they leave under their output's name."""

import csv
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
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
        older: those of the run whose result lies under the output's name before a trial; None for none.
        read: what lies under the output's name.
        output: its name.
        resumes: whether it takes --resume.
        beside: what else may lie in the folder.
        at_the_end: what in the folder, beside the output, shall be as in an undisturbed run at the end.
        kept: what in the folder a command that goes on has to keep, by name.
        uploaded: to a server, which the command then is; the output is what is downloaded, and not in the folder.
        days: how far clocks may jump.
    """

    name: str
    arguments: str
    older: str | None
    read: Callable[[Path], Content]
    output: str = "out"
    resumes: bool = False
    beside: tuple[str, ...] = ()
    at_the_end: Callable[[Path], Content] = lambda folder: None
    kept: Callable[[Path], dict[str, str]] = lambda folder: {}
    uploaded: str = ""
    days: float = 3650

    def line(self, inputs: Path, *, older: bool = False, resume: bool = False) -> list[str]:
        """Return the arguments."""
        line = ((older and self.older) or self.arguments).replace("{}", str(inputs)).split()
        if self.uploaded:
            return line
        return [*line, "-o", self.output, *(["--resume"] if resume and self.resumes else [])]


def write_inputs(folder: Path) -> None:
    """Write models and data; what commands need of each other is fitted by `trials.prepare`."""
    save_tiny_model(folder / "encoder", "bert", num_hidden_layers=2)
    save_tiny_language_model(folder / "writer", "llama", template=TEMPLATE, reach=512)
    write_messages(folder / "train.csv", 120)
    # The order of two words decides, so that a probe errs and what is trained beyond it is kept.
    orders = [[text, str(text.split()[0] < text.split()[1])] for text in messages(240)[0]]
    write_csv(folder / "order.csv", ["text", "label"], orders)
    texts, _ = messages(_ROWS)
    # Every five hundredth row cannot be read.
    rows = [[str(i), text][: 1 if i % 500 == 250 else 2] for i, text in enumerate(texts)]
    write_csv(folder / "new.csv", ["id", "text"], rows)
    write_csv(folder / "older.csv", ["id", "text"], [[str(i), text] for i, text in enumerate(texts[:3000])])
    (folder / "folder").mkdir()
    for part in range(3):
        write_csv(folder / "folder" / f"{part}.csv", ["id", "text"], rows[part * 1500 : (part + 1) * 1500])
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


def finished_trials(folder: Path) -> dict[str, str]:
    """The trials of a search that came to an end: number, loss and parameters of each."""
    if not (folder / "trials.sqlite").exists():
        return {}
    with closing(sqlite3.connect(folder / "trials.sqlite")) as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        if not {"trials", "trial_values", "trial_params"} <= tables:
            return {}
        rows = database.execute(
            "select number, state, value, (select json_group_object(param_name, param_value) from (select * from "
            "trial_params where trial_params.trial_id = trials.trial_id order by param_name)) "
            "from trials left join trial_values using (trial_id) where state in ('COMPLETE', 'PRUNED')"
        )
        return {str(number): json.dumps(rest) for number, *rest in rows}


def searched(folder: Path) -> Content:
    """Whether there are all trials, and the model has the settings of the best of them."""
    trials = [json.loads(trial) for trial in finished_trials(folder).values()]
    best = json.loads(min((value, parameters) for _, value, parameters in trials if value is not None)[1])
    manifest = json.loads((folder / "out" / "rehead.json").read_text())
    found = manifest["recipe"]["learning_rate"], manifest["recipe"]["label_smoothing"]
    expected = best.get("learning_rate"), best.get("label_smoothing", 0.0)
    return [("trials", str(len(trials))), ("learning rate and smoothing are the best's", str(found == expected))]


def bad_rows_of(folder: Path) -> Content:
    """The rows that could not be read, which lie beside the output."""
    file = folder / "out.bad.jsonl"
    if not file.exists():
        return None
    return [(str(json.loads(line)["row"]), line) for line in file.read_text().splitlines()]


def left_of_jobs(folder: Path) -> Content:
    """What belongs to no job that the server knows, or to none that is done."""
    with closing(sqlite3.connect(folder / "jobs" / "jobs.sqlite")) as database:
        known = {number for (number,) in database.execute("select id from jobs")}
    left = [path for path in (folder / "jobs").iterdir() if path.is_dir() and path.name not in known]
    left += [path for path in (folder / "jobs").rglob("*") if "rehead-" in path.name]
    return [(str(path), "is left") for path in left]


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


_FIT = "fit {}/train.csv --model {}/encoder --no-ngrams --depth 1 --pool mean"
_COMPARE = "compare {}/train.csv --model {}/encoder --budget 1000h --approaches majority,tfidf,probe"
_SEARCH = "search {}/train.csv --model {}/encoder --trials 2 --storage trials.sqlite"
_BAD = ("out.bad.jsonl",)
COMMANDS = {
    command.name: command
    for command in (
        Command("fit head", f"{_FIT} --strategy head", f"{_FIT} --strategy head --seed 1", files_of, resumes=True),
        Command(
            "fit full",
            "fit {}/order.csv --model {}/encoder --no-ngrams --strategy full --depth 2 --epochs 3 --learning-rate 5e-3",
            f"{_FIT} --strategy head --seed 1",
            files_of,
            resumes=True,
        ),
        Command(
            "predict to CSV",
            "predict {}/model {}/new.csv",
            "predict {}/model {}/older.csv",
            table_of,
            "out.csv",
            beside=_BAD,
            at_the_end=bad_rows_of,
        ),
        Command(
            "predict to Parquet",
            "predict {}/model {}/new.csv",
            "predict {}/model {}/older.csv",
            table_of,
            "out.parquet",
            beside=_BAD,
            at_the_end=bad_rows_of,
        ),
        Command(
            "batch of a folder",
            "predict {}/model {}/folder",
            "predict {}/model {}/older.csv",
            table_of,
            "out.csv",
            beside=_BAD,
            at_the_end=bad_rows_of,
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
        Command(
            "search",
            _SEARCH,
            f"{_FIT} --strategy head --seed 1",
            whole_model,
            beside=("trials.sqlite",),
            at_the_end=searched,
            kept=finished_trials,
        ),
        Command(
            "serve with a job",
            "serve {}/model --port 0 --jobs jobs",
            None,
            table_of,
            "../out.csv",
            beside=("jobs",),
            at_the_end=left_of_jobs,
            uploaded="new.csv",
            days=6,  # after seven a server forgets what is done
        ),
    )
}
