"""The peers' own environment: made once, from `peers.txt`, so that nothing of it is in the environment of rehead.

It lies in the cache folder of rehead, or in $REHEAD_PEERS. To make it before it is needed:

    python benchmarks/peers.py
"""

import os
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

from rehead.runtime import files

_HERE = Path(__file__).parent


def command(script: str, *arguments: str | Path) -> list[str | Path]:
    """A script of this folder, run in the peers' environment."""
    return [_python(), _HERE / script, *arguments]


def python_with(package: str) -> Path | None:
    """An interpreter that can import a peer, without installing anything: this one, or the environment's; or None."""
    if find_spec(package):
        return Path(sys.executable)
    python = _folder() / "bin" / "python"
    found = python.exists() and subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode == 0
    return python if found else None


def _folder() -> Path:
    return Path(os.environ.get("REHEAD_PEERS") or files.cache_folder() / "peers")


def _python() -> Path:
    """The environment's interpreter; whatever it lacks is installed first, with the user's own pip settings."""
    folder = _folder()
    python = folder / "bin" / "python"
    wanted = (_HERE / "peers.txt").read_text(encoding="utf-8")
    # Written last, so that an interrupted installation starts again.
    installed = folder / "installed.txt"
    if not installed.is_file() or installed.read_text(encoding="utf-8") != wanted:
        print(f"installing the peers into {folder} (a few minutes, once)", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", _HERE / "peers.txt"], check=True, stdout=sys.stderr)
        installed.write_text(wanted, encoding="utf-8")
    return python


if __name__ == "__main__":
    _python()
