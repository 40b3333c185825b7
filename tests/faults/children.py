"""Commands in forked processes: everything is imported once, so that a trial takes a second and not ten."""

import contextlib
import importlib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehead.cli import main

_IMPORTED = (
    "torch transformers peft optuna matplotlib.pyplot onnx onnxruntime onnxscript pyarrow.dataset sklearn.linear_model "
    "rehead.workflows.fit rehead.comparison.compare rehead.comparison.search rehead.instruction.instruct "
    "rehead.export.workflow rehead.batch.scoring"
)
# What Python reports of a process that changes files, see sys.addaudithook; `open` only where it is for writing.
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "fcntl.flock", "ctypes.dlsym"}

# What happens to a process, from inside it, before the command begins.
Fault = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative for a signal.
        said: on stdout and stderr.
        changes: operations on files that a fault may come before.
    """

    code: int
    said: str
    seconds: float
    changes: int

    @property
    def refused(self) -> bool:
        """Whether it ended with one line for the user."""
        lines = [line for line in self.said.splitlines() if line.startswith("rehead: ")]
        return self.code == 2 and len(lines) == 1 and "Traceback" not in self.said


def import_everything() -> None:
    """Import what the commands do; called once, before the first of them is forked."""
    for module in _IMPORTED.split():
        importlib.import_module(module)
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    assert AutoModel
    assert AutoModelForCausalLM
    assert AutoTokenizer


def run(arguments: Sequence[str], folder: Path, fault: Fault | None = None, *, killed_after: float = 0) -> Ended:
    """Run a command with `folder` as its working folder, where `cache` is its cache.

    Args:
        killed_after: seconds until SIGKILL; 0 for never.
    """
    begun = time.perf_counter()
    log, counted = folder.with_suffix(".log"), folder.with_suffix(".count")
    if not (child := os.fork()):
        _be_the_command(arguments, folder, fault, log, counted)
    if killed_after:
        time.sleep(killed_after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    changes = int(counted.read_text()) if counted.exists() else 0
    return Ended(code, log.read_text(errors="replace"), time.perf_counter() - begun, changes)


def _be_the_command(arguments: Sequence[str], folder: Path, fault: Fault | None, log: Path, counted: Path) -> None:
    code = 99
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        os.environ["REHEAD_CACHE"] = str(folder / "cache")
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


def no_file_larger_than(n_bytes: int) -> Fault:
    """Writing beyond this size fails, as with `ulimit -f`."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


def clocks_jump(seed: int) -> Fault:
    """The wall clock jumps years ahead or back, the others an hour ahead, each after some calls."""

    def fault() -> None:
        draw = random.Random(seed)  # noqa: S311
        year = 365.25 * 86400
        for name, unit, jump in (
            ("time", 1, draw.choice([-1, 1]) * draw.uniform(0, 10 * year)),
            ("time_ns", 10**9, draw.choice([-1, 1]) * draw.uniform(0, 10 * year)),
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
