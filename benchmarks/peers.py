"""The peers' own environment: made once, from `peers.txt`, so that nothing of it is in the environment of rehead.

It lies in the cache folder of rehead, or in $REHEAD_PEERS.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

from rehead import files

_HERE = Path(__file__).parent


def command(script: str, *arguments: str | Path) -> list[str | Path]:
    """A script of this folder, run in the peers' environment."""
    return [_python(), _HERE / script, *arguments]


def _python() -> Path:
    """The environment's interpreter; whatever it lacks is installed first, with the user's own pip settings."""
    folder = Path(os.environ.get("REHEAD_PEERS") or files.cache_folder() / "peers")
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
