"""Commands in forked processes: everything is imported once, so that a trial takes a second and not ten."""

import contextlib
import importlib
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehead.cli import main
from rehead.training import loop

_IMPORTED = (
    "torch transformers peft optuna matplotlib.pyplot onnx onnxruntime onnxscript pyarrow.dataset sklearn.linear_model "
    "rehead.workflows.fit rehead.comparison.compare rehead.comparison.search rehead.instruction.instruct "
    "rehead.export.workflow rehead.batch.scoring rehead.training.loop rehead.serving.server"
)
# What Python reports of a process that changes files, see sys.addaudithook; `open` only where it is for writing.
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "fcntl.flock", "ctypes.dlsym"}

# What happens to a process, from inside it, before the command begins.
Fault = Callable[[], None]
# What another program does with a command while it runs: (what the command says, its process) → what went wrong.
Client = Callable[[Path, int], str]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative for a signal.
        said: on stdout and stderr.
        changes: operations on files that a fault may come before.
        client: what went wrong for the program that asked it.
    """

    code: int
    said: str
    seconds: float
    changes: int
    client: str = ""

    @property
    def refusal(self) -> str:
        """The one line for the user that it ended with; empty where it ended otherwise."""
        lines = [line for line in self.said.splitlines() if line.startswith("rehead: ")]
        return lines[0] if self.code == 2 and len(lines) == 1 and "Traceback" not in self.said else ""


def import_everything() -> None:
    """Import what the commands do; called once, before the first of them is forked."""
    for module in _IMPORTED.split():
        importlib.import_module(module)
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    assert AutoModel
    assert AutoModelForCausalLM
    assert AutoTokenizer


def run(
    arguments: Sequence[str],
    folder: Path,
    fault: Fault | None = None,
    *,
    killed_after: float = 0,
    client: Client | None = None,
) -> Ended:
    """Run a command with `folder` as its working folder, where `cache` is its cache.

    Args:
        killed_after: seconds until SIGKILL; 0 for never.
    """
    begun = time.perf_counter()
    log, counted = folder.with_suffix(".log"), folder.with_suffix(".count")
    for old in (log, counted):
        old.unlink(missing_ok=True)
    heard, said = os.pipe()
    if not (child := os.fork()):
        os.close(heard)
        _be_the_command(arguments, folder, fault, said, counted)
    os.close(said)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(_write_down, heard, log)
        asked = threads.submit(client, log, child) if client else None
        if killed_after:
            time.sleep(killed_after)
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    changes = int(counted.read_text()) if counted.exists() else 0
    return Ended(
        code, log.read_text(errors="replace"), time.perf_counter() - begun, changes, asked.result() if asked else ""
    )


def _write_down(heard: int, log: Path) -> None:
    """Write what a command says into a file, which no limit of its own keeps it from."""
    with log.open("wb", buffering=0) as file:
        while part := os.read(heard, 65536):
            file.write(part)
    os.close(heard)


def has_ended(child: int) -> bool:
    """Return whether a command has, which `run` waits for."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _be_the_command(arguments: Sequence[str], folder: Path, fault: Fault | None, said: int, counted: Path) -> None:
    code = 99
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(said, number)
            setattr(sys, name, open(number, "w", buffering=1, closefd=False))  # noqa: SIM115 - to the end
        os.chdir(folder)
        os.environ["REHEAD_CACHE"] = str(folder / "cache")
        loop._SECONDS_BETWEEN_CHECKPOINTS = 0.0  # else a training of a second would have one an epoch
        changes = [0]
        _before_each_change(folder, lambda: changes.__setitem__(0, changes[0] + 1))
        if fault:
            fault()
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        sys.stdout.flush()
        with contextlib.suppress(OSError):
            counted.write_text(str(changes[0]))
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _before_each_change(folder: Path, do: Callable[[], None]) -> None:
    """Call `do` before each operation that changes what lies in the folder, or that looks up renameat2."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, changes = arguments[0] if arguments else None, event in _CHANGES
        if changes and (not isinstance(path, str | os.PathLike) or os.fspath(path).startswith(str(folder))):
            do()

    sys.addaudithook(hook)


def killed_before_change(folder: Path, number: int) -> Fault:
    """The process is killed just before the nth operation that changes a file."""

    def fault() -> None:
        left = [number]

        def count() -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        _before_each_change(folder, count)

    return fault


def killed_behind(module: str, name: str, number: int) -> Fault:
    """The process is killed just behind the nth call of a function, such as a method that keeps something."""

    def fault() -> None:
        *owners, attribute = name.split(".")
        owner: Any = importlib.import_module(module)
        for each in owners:
            owner = getattr(owner, each)
        honest, left = getattr(owner, attribute), [number]

        def call(*arguments: Any, **named: Any) -> Any:
            result = honest(*arguments, **named)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, attribute, call)

    return fault


def no_file_larger_than(n_bytes: int) -> Fault:
    """Writing beyond this size fails, as with `ulimit -f`."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


def clocks_jump(seed: int, days: float) -> Fault:
    """The wall clock jumps up to so far ahead or back, the others an hour ahead, each after some calls."""

    def fault() -> None:
        draw = random.Random(seed)  # noqa: S311
        furthest = days * 86400
        for name, unit, jump in (
            ("time", 1, draw.uniform(-furthest, furthest)),
            ("time_ns", 10**9, draw.uniform(-furthest, furthest)),
            ("monotonic", 1, draw.uniform(0, 3600)),
            ("perf_counter", 1, draw.uniform(0, 3600)),
        ):
            setattr(time, name, _jumping(getattr(time, name), draw.randrange(40), type(unit)(unit * jump)))

    return fault


def _jumping(clock: Callable[[], Any], calls: int, jump: float) -> Callable[[], Any]:
    left = [calls]

    def read() -> Any:
        left[0] -= 1
        return clock() if left[0] >= 0 else clock() + type(clock())(jump)

    return read
