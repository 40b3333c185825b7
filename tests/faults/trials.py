"""Trials: a command, a fault, and whether what is left is right."""

import json
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults import children
from tests.faults.children import Ended, Fault
from tests.faults.client import Client
from tests.faults.commands import (
    COMMANDS,
    Command,
    Content,
    NotWholeError,
    comparison_of,
    files_of,
    table_of,
    write_inputs,
)

# Seconds for which a client waits for a job; the second, of a server that waits for space.
_PATIENCE, _IMPATIENCE = 300, 15


@dataclass(frozen=True)
class Reference:
    """What a command leaves when nothing disturbs it.

    Attributes:
        older: what is put under the output's name before a trial; None where nothing ever lies there.
        content, older_content: as `Command.read` has it.
        at_the_end: as `Command.at_the_end` has it.
        n_bytes: of what it writes in all, cache included.
    """

    older: Path | None
    content: Content
    older_content: Content
    at_the_end: Content
    seconds: float
    changes: int
    n_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What came of one trial; it was survived if nothing is wrong.

    Attributes:
        moment: of the fault, for whoever wants to see it again.
        wrong: in words.
        refused: whether the command ended with one line that names what is wrong.
        lost, doubled: rows of a table.
        different: answers that are neither the old nor the new ones, and nobody said so.
    """

    command: str
    fault: str
    moment: str
    wrong: tuple[str, ...] = ()
    refused: bool = False
    lost: int = 0
    doubled: int = 0
    different: int = 0


def prepare(folder: Path) -> None:
    """Write the inputs, and fit the two models that `predict`, `export` and `serve` are asked of."""
    write_inputs(folder)
    for name, seed in (("model", 0), ("older", 1)):
        line = f"fit {folder}/train.csv --model encoder --no-ngrams --strategy head --depth 1 --seed {seed} -o {name}"
        _require_success(children.run(line.split(), folder))
    (folder / "probe.txt").write_text("free prize call now win\nmeet you at noon\n")


def reference_of(name: str, folder: Path, inputs: Path) -> Reference:
    """Run a command undisturbed, with other settings first."""
    command = COMMANDS[name]
    older, newer = (folder / f"{command.name} {which}" for which in ("older", "newer"))
    for each in (older, newer):
        _fresh(each, inputs)
    if command.older:
        _require_success(children.run(command.line(inputs, older=True), older))
    ended = _require_success(_run(command, newer, inputs))
    return Reference(
        older=older / command.output if command.older else None,
        content=command.read(newer / command.output),
        older_content=command.read(older / command.output) if command.older else None,
        at_the_end=command.at_the_end(newer),
        seconds=ended.seconds,
        changes=ended.changes,
        n_bytes=sum(path.stat().st_size for path in newer.rglob("*") if path.is_file()),
    )


def _require_success(ended: Ended) -> Ended:
    assert ended.code == 0, ended.said
    assert not ended.client, ended.client
    return ended


def _run(
    command: Command,
    folder: Path,
    inputs: Path,
    fault: Fault | None = None,
    *,
    resume: bool = False,
    killed_after: float = 0,
    patient: bool = True,
) -> Ended:
    client = None
    if command.uploaded:
        patience = _PATIENCE if patient else _IMPATIENCE
        client = Client(inputs / command.uploaded, folder / command.output, folder.with_suffix(".job"), patience)
    line = command.line(inputs, resume=resume)
    return children.run(line, folder, fault, killed_after=killed_after, client=client)


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
        Trial(name, kind, draw.random(), number, replaces=bool(number // 2 % 2 and COMMANDS[name].older))
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
        if trial.replaces and reference.older:
            (shutil.copytree if reference.older.is_dir() else shutil.copy)(reference.older, output)
        ended, moment = _disturbed(trial, command, reference, folder, inputs)
        outcome = Outcome(command.name, trial.kind, moment, tuple(_wrong_end(trial, command, ended)))
        refused = bool(ended.refusal or ended.client)
        before = reference.older_content if trial.replaces else None
        allowed = [before] if refused else [before, reference.content]
        outcome = _compared(replace(outcome, refused=refused), lambda: command.read(output), allowed)
        kept = command.kept(folder)
        _give_space(trial, folder)
        # Every other kill is followed by the same command without --resume.
        again = _run(command, folder, inputs, resume=trial.number % 4 > 0)
        if again.code or again.client:
            return _with(outcome, f"again: exit code {again.code}: {again.client} {again.said[-300:]}")
        outcome = _compared(outcome, lambda: command.read(output), [reference.content])
        outcome = _compared(outcome, lambda: command.at_the_end(folder), [reference.at_the_end])
        now = command.kept(folder)
        if lost := [name for name, what in kept.items() if now.get(name) != what]:
            outcome = _with(outcome, f"what was kept is lost: {', '.join(lost)}", lost=len(lost))
        left = {path.name for path in folder.iterdir()} - {command.output, "cache", *command.beside}
        left |= {path.name for path in (folder / "cache").rglob(".rehead-*")}
        return _with(outcome, f"left behind: {', '.join(sorted(left))}") if left else outcome


def _wrong_end(trial: Trial, command: Command, ended: Ended) -> Iterator[str]:
    """Say what is wrong with how a disturbed command ended: neither well, nor killed, nor with a refusal that helps."""
    may_refuse = _lacks_space(trial)
    if not (ended.code == 0 or (trial.kind == "kill" and ended.code == -9) or (may_refuse and ended.refusal)):
        yield f"exit code {ended.code}: {ended.said[-300:]}"
    named = (Path(command.output).name, "cache", *command.beside)
    if may_refuse and ended.refusal and not any(name in ended.refusal for name in named):
        yield f"a refusal that names no file: {ended.refusal}"
    if ended.client and not (may_refuse and "space" in ended.client):
        yield f"a client was refused: {ended.client}"


def _lacks_space(trial: Trial) -> bool:
    return trial.kind in ("full disk", "file limit")


@contextmanager
def _folder_for(trial: Trial, reference: Reference) -> Iterator[Path]:
    """Yield a folder; to be filled, a small file system of its own."""
    with tempfile.TemporaryDirectory(prefix="rehead-fault-") as parent:
        folder = Path(parent) / "trial"
        folder.mkdir()
        mounts = trial.kind == "full disk"
        if mounts:
            older = _n_bytes_of(reference.older) if trial.replaces and reference.older else 0
            _mount(folder, 8192 + older + int(trial.at * 1.2 * reference.n_bytes))
        try:
            yield folder
        finally:
            if mounts:
                subprocess.run(["/usr/bin/umount", folder], check=True)


def _mount(folder: Path, size: int) -> None:
    subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)


def can_mount(folder: Path) -> bool:
    """Return whether this process may make small file systems, which are full soon."""
    try:
        _mount(folder, 8192)
        subprocess.run(["/usr/bin/umount", folder], check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _n_bytes_of(path: Path) -> int:
    return sum(4096 + each.stat().st_size for each in [path, *path.rglob("*")])


def _give_space(trial: Trial, folder: Path) -> None:
    if trial.kind == "full disk":
        subprocess.run(["/usr/bin/mount", "-o", "remount,size=64m", folder], check=True)


def _disturbed(trial: Trial, command: Command, reference: Reference, folder: Path, inputs: Path) -> tuple[Ended, str]:
    """Run the command with the fault; return how it ended, and the fault's moment in words."""
    killed_after = 0.0
    fault: Fault | None = None
    if trial.kind == "kill" and trial.number % 2 and reference.changes:
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
        fault, moment = children.clocks_jump(seed, command.days), f"jumps with seed {seed}"
    else:
        moment = f"{trial.at:.0%} of {1.2 * reference.n_bytes:,.0f} bytes free"
    ended = _run(command, folder, inputs, fault, killed_after=killed_after, patient=not _lacks_space(trial))
    return ended, moment + (", with an older result there" if trial.replaces else "")


def _compared(outcome: Outcome, read: Callable[[], Content], allowed: list[Content]) -> Outcome:
    """Add what is wrong with what there is to read; rows of a table are counted."""
    try:
        content = read()
    except NotWholeError as error:
        return _with(outcome, f"not whole: {error}")
    if content in allowed:
        return outcome
    nearest = allowed[-1]
    if content is None or nearest is None:
        return _with(outcome, "nothing there" if content is None else "something unexpected there", different=1)
    found, expected = Counter(row for row, _ in content), Counter(row for row, _ in nearest)
    answers = dict(nearest)
    return _with(
        outcome,
        "not that of an undisturbed run",
        lost=(expected - found).total(),
        doubled=(found - expected).total(),
        different=sum(answers.get(row, answer) != answer for row, answer in content),
    )


def _with(outcome: Outcome, wrong: str, *, lost: int = 0, doubled: int = 0, different: int = 0) -> Outcome:
    return replace(
        outcome,
        wrong=(*outcome.wrong, wrong),
        lost=outcome.lost + lost,
        doubled=outcome.doubled + doubled,
        different=outcome.different + different,
    )


# Flipped bits: in what a command has written, before another reads it


@dataclass(frozen=True)
class Flippable:
    """Files whose bits are flipped.

    Attributes:
        made: the command that writes them.
        where: the folder that they lie in, or the file.
        reader: the command that reads them.
        read: what the reader leaves; None for what it prints.
        killed_behind: module, function and number of the call behind which the first command is killed.
    """

    made: str
    where: str
    reader: str
    read: Callable[[Path], Content] | None = None
    killed_behind: tuple[str, str, int] | None = None


_FIT = "fit {}/train.csv --model {}/encoder"
_WRITE = ("rehead.training.checkpoint", "Checkpoint.write")
_KEPT = ("rehead.batch.journal", "Journal.keep", 2)
_COMPARE = "compare {}/train.csv --model {}/encoder --budget 1000h --approaches majority,tfidf,probe -o made"
_INSTRUCT = "instruct {}/requests.jsonl --model {}/writer --strategy lora --epochs 1 -o made"
_SEARCH = "search {}/train.csv --model {}/encoder --storage trials.sqlite"
_FULL = COMMANDS["fit full"].arguments
_LAST = f"{_FIT} --no-ngrams --strategy last-1 --depth 2 --epochs 1"
FLIPPABLE = {
    "saved classifier": Flippable(f"{_FIT} --strategy head -o made", "made", "predict made {}/probe.txt --json"),
    "saved n-grams": Flippable("fit {}/train.csv --model tfidf -o made", "made", "predict made {}/probe.txt --json"),
    "language model": Flippable(_INSTRUCT, "made", "generate made free --max-tokens 8 --json"),
    "cached features": Flippable(
        f"{_LAST} -o made", "cache/features", f"{_LAST} -o again", lambda folder: files_of(folder / "again")
    ),
    "checkpoint of fit": Flippable(
        f"{_FULL} -o made",
        ".made.rehead-run",
        f"{_FULL} -o made --resume",
        lambda folder: files_of(folder / "made"),
        (*_WRITE, 20),
    ),
    "checkpoint of instruct": Flippable(
        _INSTRUCT,
        ".made.rehead-run",
        f"{_INSTRUCT} --resume",
        lambda folder: files_of(folder / "made"),
        (*_WRITE, 4),
    ),
    "kept results of compare": Flippable(
        _COMPARE,
        ".made.rehead-run",
        f"{_COMPARE} --resume",
        lambda folder: comparison_of(folder / "made"),
        ("rehead.runtime.files", "write_with_checksum", 2),
    ),
    "trials of search": Flippable(
        f"{_SEARCH} --trials 2 -o made",
        "trials.sqlite",
        f"{_SEARCH} --trials 3 -o again",
        lambda folder: files_of(folder / "again"),
    ),
    "journal of predict": Flippable(
        "predict {}/model {}/new.csv -o made.csv",
        ".made.csv.rehead-run",
        "predict {}/model {}/new.csv -o made.csv",
        lambda folder: table_of(folder / "made.csv"),
        _KEPT,
    ),
    "journal of predict, Parquet": Flippable(
        "predict {}/model {}/new.csv -o made.parquet",
        ".made.parquet.rehead-run",
        "predict {}/model {}/new.csv -o made.parquet",
        lambda folder: table_of(folder / "made.parquet"),
        _KEPT,
    ),
}


@dataclass(frozen=True)
class Made:
    """What is there to be flipped.

    Attributes:
        files: names, relative to the folder that they lie in, and sizes.
        expected: what the reader makes of them while nothing is flipped.
    """

    folder: Path
    files: tuple[tuple[str, int], ...]
    expected: object


@dataclass(frozen=True)
class Flip:
    """A bit to be flipped in a file.

    Attributes:
        of: what the file belongs to: a key of `FLIPPABLE`.
        file: relative to the folder of that.
    """

    of: str
    file: str
    bit: int


def make(of: str, folder: Path, inputs: Path) -> Made:
    """Write what bits are to be flipped in, and read it."""
    flippable = FLIPPABLE[of]
    _fresh(folder, inputs)
    fault = children.killed_behind(*flippable.killed_behind) if flippable.killed_behind else None
    ended = children.run(flippable.made.replace("{}", str(inputs)).split(), folder, fault)
    assert ended.code == (-9 if fault else 0), ended.said
    root = folder / flippable.where
    paths = [path for path in sorted([root, *root.rglob("*")]) if path.is_file() and path.name != "lock"]
    files = tuple((str(path.relative_to(root)), path.stat().st_size) for path in paths)
    with _copy_of(folder) as copied:
        read = _require_success(_read(flippable, copied, inputs))
        return Made(folder, files, _answer(flippable, copied, read))


@contextmanager
def _copy_of(made: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rehead-fault-") as parent:
        yield shutil.copytree(made, Path(parent) / "trial")


def _read(flippable: Flippable, folder: Path, inputs: Path) -> Ended:
    return children.run(flippable.reader.replace("{}", str(inputs)).split(), folder)


def _answer(flippable: Flippable, folder: Path, ended: Ended) -> object:
    if flippable.read:
        return flippable.read(folder)
    answers = [json.loads(line) for line in ended.said.splitlines() if line.startswith("{")]
    return [{name: value for name, value in answer.items() if name != "seconds"} for answer in answers]


def draw_flips(of: str, made: Made, count: int, seed: int) -> list[Flip]:
    """Draw bits of each file: `count` anywhere, as many among the first hundred bytes, where formats have headers."""
    draw = random.Random(f"{seed} {of}")  # noqa: S311
    return [
        Flip(of, name, draw.randrange(8 * (size if number < count else min(size, 100))))
        for name, size in made.files
        for number in range(2 * count)
        if size
    ]


def run_flip(flip: Flip, made: Made, inputs: Path) -> Outcome:
    """Flip the bit in a copy, and let it be read: what is answered is what it was, or a refusal."""
    flippable = FLIPPABLE[flip.of]
    outcome = Outcome(flip.of, "bit flip", f"bit {flip.bit} of {Path(flippable.where, flip.file)}")
    with _copy_of(made.folder) as folder:
        file = folder / flippable.where / flip.file
        content = bytearray(file.read_bytes())
        content[flip.bit // 8] ^= 1 << flip.bit % 8
        file.write_bytes(content)
        ended = _read(flippable, folder, inputs)
        if ended.refusal:
            # What is wrong may be a file, or what the manifest says of it.
            names = [name for name, _ in made.files] if file.name == "rehead.json" else [file.name]
            if not any(name in ended.refusal for name in names):
                outcome = _with(outcome, f"a refusal that names no file: {ended.refusal}")
            return replace(outcome, refused=True)
        if ended.code:
            return _with(outcome, f"exit code {ended.code}: {ended.said[-300:]}")
        with suppress(NotWholeError):
            if _answer(flippable, folder, ended) == made.expected:
                return outcome
        return _with(outcome, "another answer, and nothing was said", different=1)
