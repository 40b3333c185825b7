"""Take the pictures of README and of the docs: the report of a saved classifier, and the server's page.

    python tools/screenshots.py MODEL [FOLDER]    of a folder that `rehead fit` has written, into docs/images

Needs Chromium (Debian: apt-get install chromium).
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SIZE = {"width": 1100, "height": 760}
MESSAGE = "WINNER!! You have been selected to receive a £900 prize. To claim call 09061701461."


def main() -> None:
    model = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images"
    with sync_playwright() as driver, served(model) as address:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=SIZE)
        page.goto((model / "report.html").resolve().as_uri())
        keep(page, folder / "report.png")
        page.goto(address)
        page.fill("#text", MESSAGE)
        page.wait_for_selector("#pieces > *")
        keep(page, folder / "serve.png")
        browser.close()


@contextmanager
def served(model: Path) -> Iterator[str]:
    """Serve a classifier on a free port, and give the address of its page."""
    with TemporaryDirectory() as jobs:
        command = [sys.executable, "-m", "rehead.cli", "serve", str(model), "--port", "0", "--jobs", jobs]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            yield next(address for line in server.stderr if (address := address_in(line)))
        finally:
            server.terminate()
            server.wait()


def address_in(line: str) -> str | None:
    """Return the address that a line of the server's log names."""
    return next((word.strip('",;.') for word in line.split() if word.strip('"').startswith("http://")), None)


def keep(page: Page, file: Path) -> None:
    """Write what is shown as a PNG of 128 colours, a third as large."""
    page.screenshot(path=file)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main()
