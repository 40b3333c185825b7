"""The report in a real browser without a network: in light and dark, on a phone, in print, with its slider at work."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rehead.classifier import Classifier
from rehead.data.preparation import DataConfig
from rehead.workflows.fit import fit
from tests.browsers import CHROMIUM, needs_chromium
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv

pytestmark = needs_chromium
HOSTILE = '<b>ham</b> & "eggs" {{ 7 * 7 }}'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a real fit on labels of which some are wrong, so that there are mistakes to show."""
    folder = tmp_path_factory.mktemp("report")
    texts, labels = messages(120)
    labels = [HOSTILE if (label == "ham") != (i % 11 == 3) else "spam" for i, label in enumerate(labels)]
    data = write_csv(folder / "messages.csv", ["text", "label"], zip(texts, labels, strict=True))
    base = save_tiny_model(folder / "base", "llama")
    fit(DataConfig(str(data)), Classifier(str(base), tune="head", depth=2), folder / "model")
    return folder / "model" / "report.html"


def browser(report: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    profile = f"--user-data-dir={report.parent.parent / 'profile'}"
    command = [CHROMIUM, *quiet, profile, *arguments, report.as_uri()]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr[-500:]
    return finished.stdout


def screenshot(report: Path, name: str, width: int, *arguments: str) -> np.ndarray:
    """(height, width, 3) of 0 to 255; the file is kept beside the report."""
    path = report.with_name(f"{name}.png")
    browser(report, f"--window-size={width},1600", f"--screenshot={path}", *arguments)
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.int64)


def paper_and_ink(image: np.ndarray) -> tuple[float, float]:
    """Brightness of the page, which is most of it, and of what is farthest from that."""
    brightness = image.mean(2)
    paper = float(np.median(brightness))
    return paper, float(brightness.ravel()[np.abs(brightness - paper).argmax()])


def test_light_page_is_dark_on_light_and_has_bars_in_the_accent(report: Path) -> None:
    image = screenshot(report, "light", 1000)
    paper, ink = paper_and_ink(image)
    assert paper > 240
    assert ink < 80
    assert (np.abs(image - [31, 111, 235]).sum(2) < 12).sum() > 500


def test_dark_page_is_light_on_dark(report: Path) -> None:
    paper, ink = paper_and_ink(screenshot(report, "dark", 1000, "--blink-settings=preferredColorScheme=0"))
    assert paper < 40
    assert ink > 200


def test_phone_shows_everything_within_its_width(report: Path) -> None:
    # Chromium's window is 500 wide at least; a page that is wider would be cut, so its right margin must be empty.
    image = screenshot(report, "phone", 500)
    paper, _ = paper_and_ink(image)
    assert (np.abs(image[:, -8:].mean(2) - paper) < 8).mean() > 0.97


def test_slider_has_told_what_its_threshold_comes_to(report: Path) -> None:
    page = browser(report, "--dump-dom")
    assert re.search(r"precision \d+\.\d %, recall \d+\.\d %; \d+\.\d % of all texts are called so", page)
    assert "<output>0.500</output>" in page, "answers are given from an even chance on, so that is where it begins"
    assert "<b>ham</b>" not in page


def test_page_prints(report: Path) -> None:
    path = report.with_name("report.pdf")
    browser(report, f"--print-to-pdf={path}")
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 2
