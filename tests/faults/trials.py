"""Trials: a command, a fault, and whether what is left is right."""

import json
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import children
from tests.faults.children import Ended, Fault
from tests.faults.commands import COMMANDS, Command, Content, NotWholeError, files_of, write_inputs


@dataclass(frozen=True)
class Reference:
    """What a command leaves when nothing disturbs it.

    Attributes:
        older: what is put under the output's name before a trial.
        content, older_content: as `Command.read` has it.
        n_bytes: of what it writes in all, cache included.
    """

    older: Path
    content: Content
    older_content: Content
    seconds: float
    changes: int
    n_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What came of one trial; it was survived if nothing is wrong.

    Attributes:
        moment: of the fault, for whoever wants to see it again.
        wrong: in words.
        lost, doubled: rows of a table.
        different: answers that are neither the old nor the new ones, and nobody said so.
    """

    command: str
    fault: str
    moment: str
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    different: int = 0


def prepare(folder: Path) -> None:
    """Write the inputs, and fit the two models that `predict` and `export` are asked of."""
    write_inputs(folder)
    for name, seed in (("model", 0), ("older", 1)):
        line = f"fit train.csv --model encoder --no-ngrams --strategy head --seed {seed} -o {name}"
        _require_success(children.run(line.split(), folder))
    (folder / "probe.txt").write_text("free prize call now win\nmeet you at noon\n")


def reference_of(name: str, folder: Path, inputs: Path) -> Reference:
    """Run a command undisturbed, with other settings first."""
    command = COMMANDS[name]
    older, newer = (folder / f"{command.name} {which}" for which in ("older", "newer"))
    for each in (older, newer):
        _fresh(each, inputs)
    _require_success(children.run(command.line(inputs, older=True), older))
    ended = _require_success(children.run(command.line(inputs), newer))
    return Reference(
        older=older / command.output,
        content=command.read(newer / command.output),
        older_content=command.read(older / command.output),
        seconds=ended.seconds,
        changes=ended.changes,
        n_bytes=sum(path.stat().st_size for path in newer.rglob("*") if path.is_file()),
    )


def _require_success(ended: Ended) -> Ended:
    assert ended.code == 0, ended.said
    return ended


def _fresh(folder: Path, inputs: Path) -> None:
    """Make a folder for a trial; what is known of this machine's speed need not be measured again."""
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        shutil.copy(inputs / "cache" / "machine.json", folder / "cache")


# Kills, full disks, limits, clocks: one fault while a command runs


@dataclass(frozen=True)
class Trial:
    """A fault that happens to a command.

    Attributes:
        kind: `kill`, `full disk`, `file limit` or `clock`.
        at: a share of the undisturbed run: of its time, its changes to files, its bytes.
        replaces: whether an older result lies under the output's name.
    """

    command: str
    kind: str
    at: float
    number: int
    replaces: bool


def draw_trials(names: list[str], counts: dict[str, int], seed: int) -> list[Trial]:
    """Draw the moments; the same seed draws the same."""
    draw = random.Random(seed)  # noqa: S311
    return [
        Trial(name, kind, draw.random(), number, replaces=bool(number // 2 % 2))
        for name in names
        for kind, count in counts.items()
        for number in range(count)
    ]


def run_trial(trial: Trial, reference: Reference, inputs: Path) -> Outcome:
    """Let the fault happen, look, run the command again, look again."""
    command = COMMANDS[trial.command]
    with _folder_for(trial, reference) as folder:
        _fresh(folder, inputs)
        output = folder / command.output
        if trial.replaces:
            (shutil.copytree if reference.older.is_dir() else shutil.copy)(reference.older, output)
        ended, moment = _disturbed(trial, command, reference, folder, inputs)
        outcome = Outcome(command.name, trial.kind, moment)
        before = reference.older_content if trial.replaces else None
        may_end = ended.code == 0 or (ended.code == -9 if trial.kind == "kill" else ended.refused)
        if not may_end:
            outcome.wrong.append(f"exit code {ended.code}: {ended.said[-300:]}")
        wrong = _compared(outcome, command, output, [before] if ended.refused else [before, reference.content])
        _give_space(trial, folder)
        # Every other kill is followed by the same command without --resume.
        again = children.run(command.line(inputs, resume=trial.number % 4 > 0), folder)
        if again.code:
            wrong.wrong.append(f"again: exit code {again.code}: {again.said[-300:]}")
        wrong = _compared(wrong, command, output, [reference.content])
        expected = {command.output, "cache", *command.beside}
        left = {path.name for path in folder.iterdir()} - expected
        left |= {path.name for path in (folder / "cache").rglob(".rehead-*")}
        if left:
            wrong.wrong.append(f"left behind: {', '.join(sorted(left))}")
    return wrong


@contextmanager
def _folder_for(trial: Trial, reference: Reference) -> Iterator[Path]:
    """Yield a folder; to be filled, a small file system of its own."""
    with tempfile.TemporaryDirectory(prefix="rehead-fault-") as parent:
        folder = Path(parent) / "trial"
        folder.mkdir()
        mounts = trial.kind == "full disk"
        if mounts:
            size = 8192 + _n_bytes_of(reference.older) * trial.replaces + int(trial.at * 1.2 * reference.n_bytes)
            subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            if mounts:
                subprocess.run(["/usr/bin/umount", folder], check=True)


def _n_bytes_of(path: Path) -> int:
    return sum(4096 + each.stat().st_size for each in [path, *path.rglob("*")])


def _give_space(trial: Trial, folder: Path) -> None:
    if trial.kind == "full disk":
        subprocess.run(["/usr/bin/mount", "-o", "remount,size=64m", folder], check=True)


def _disturbed(trial: Trial, command: Command, reference: Reference, folder: Path, inputs: Path) -> tuple[Ended, str]:
    """Run the command with the fault; return how it ended, and the fault's moment in words."""
    line, killed_after = command.line(inputs), 0.0
    fault: Fault | None = None
    if trial.kind == "kill" and trial.number % 2:
        number = int(trial.at * reference.changes)
        fault, moment = children.killed_before_change(folder, number), f"before change {number} of {reference.changes}"
    elif trial.kind == "kill":
        killed_after = max(0.01, trial.at * reference.seconds)
        moment = f"after {killed_after:.2f} s of {reference.seconds:.2f}"
    elif trial.kind == "file limit":
        limit = int(200 * (1000**trial.at))
        fault, moment = children.no_file_larger_than(limit), f"files of {limit:,} bytes"
    elif trial.kind == "clock":
        seed = int(trial.at * 10**6)
        fault, moment = children.clocks_jump(seed), f"jumps with seed {seed}"
    else:
        moment = f"{trial.at:.0%} of {1.2 * reference.n_bytes:,.0f} bytes free"
    ended = children.run(line, folder, fault, killed_after=killed_after)
    return ended, moment + (", with an older result there" if trial.replaces else "")


def _compared(outcome: Outcome, command: Command, output: Path, allowed: list[Content]) -> Outcome:
    """Add what is wrong with what lies under the output's name."""
    try:
        content = command.read(output)
    except NotWholeError as error:
        return _with(outcome, f"not whole: {error}")
    if content in allowed:
        return outcome
    nearest = allowed[-1]
    if content is None or nearest is None:
        return _with(outcome, "nothing under the output's name" if content is None else "something unexpected there")
    if "." not in command.output:
        return _with(outcome, "another result than that of an undisturbed run", different=1)
    found, expected = Counter(row for row, _ in content), Counter(row for row, _ in nearest)
    answers = dict(nearest)
    return _with(
        outcome,
        "other rows than those of an undisturbed run",
        lost=(expected - found).total(),
        doubled=(found - expected).total(),
        different=sum(answers.get(row, answer) != answer for row, answer in content),
    )


def _with(outcome: Outcome, wrong: str, *, lost: int = 0, doubled: int = 0, different: int = 0) -> Outcome:
    return Outcome(
        outcome.command,
        outcome.fault,
        outcome.moment,
        [*outcome.wrong, wrong],
        outcome.lost + lost,
        outcome.doubled + doubled,
        outcome.different + different,
    )


# Flipped bits: in what a command has written, before another reads it


@dataclass(frozen=True)
class Flip:
    """A bit to be flipped in a file.

    Attributes:
        of: what the file belongs to: a key of `READERS`.
        file: relative to the folder of that.
    """

    of: str
    file: str
    bit: int


# What is written first, where it lies then, and what reads it.
READERS = {
    "saved classifier": (
        "fit {}/train.csv --model {}/encoder --strategy head -o made",
        "made",
        "predict made {}/probe.txt --json",
    ),
    "saved n-grams": ("fit {}/train.csv --model tfidf -o made", "made", "predict made {}/probe.txt --json"),
    "language model": (
        "instruct {}/requests.jsonl --model {}/writer --strategy lora --epochs 1 -o made",
        "made",
        "generate made free --max-tokens 8 --json",
    ),
    "cached features": (
        "fit {}/train.csv --model {}/encoder --strategy last-1 --epochs 1 -o made",
        "cache/features",
        "fit {}/train.csv --model {}/encoder --strategy last-1 --epochs 1 -o again",
    ),
}


def make(of: str, folder: Path, inputs: Path) -> list[tuple[str, int]]:
    """Write what bits are to be flipped in; return its files and their sizes."""
    _fresh(folder, inputs)
    made, where, _ = READERS[of]
    _require_success(children.run(made.replace("{}", str(inputs)).split(), folder))
    root = folder / where
    return [(str(path.relative_to(root)), path.stat().st_size) for path in sorted(root.rglob("*")) if path.is_file()]


def draw_flips(of: str, files: list[tuple[str, int]], count: int, seed: int) -> list[Flip]:
    """Draw bits of each file: `count` anywhere, as many among the first hundred bytes, where formats have headers."""
    draw = random.Random(f"{seed} {of}")  # noqa: S311
    return [
        Flip(of, name, draw.randrange(8 * (size if number < count else min(size, 100))))
        for name, size in files
        for number in range(2 * count)
        if size
    ]


def run_flip(flip: Flip, made: Path, inputs: Path) -> Outcome:
    """Flip the bit in a copy, and let it be read: what is answered is what it was, or a refusal."""
    _, where, reader = READERS[flip.of]
    line = reader.replace("{}", str(inputs)).split()
    outcome = Outcome(flip.of, "bit flip", f"bit {flip.bit} of {flip.file}")
    with tempfile.TemporaryDirectory(prefix="rehead-fault-") as parent:
        folder = Path(parent) / "trial"
        shutil.copytree(made, folder)
        file = folder / where / flip.file
        content = bytearray(file.read_bytes())
        content[flip.bit // 8] ^= 1 << flip.bit % 8
        file.write_bytes(content)
        ended = children.run(line, folder)
        if ended.refused:
            return outcome
        if ended.code:
            return _with(outcome, f"exit code {ended.code}: {ended.said[-300:]}")
        if (folder / "again").exists():
            same = files_of(folder / "again") == files_of(made / "made")
        else:
            same = _printed(ended) == _printed(children.run(line, made))
        return outcome if same else _with(outcome, "another answer, and nothing was said", different=1)


def _printed(ended: Ended) -> list[object]:
    """Return the JSON that was printed."""
    return [json.loads(line) for line in ended.said.splitlines() if line.startswith("{")]
