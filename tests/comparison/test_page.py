"""The page of a comparison in a real browser: all columns can be seen, on a laptop and on a phone."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

import rehead
from tests.browsers import needs_chromium
from tests.comparison.test_compare import TEMPLATE
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.tiny_texts import write_messages

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of approaches that together fill every column."""
    folder = tmp_path_factory.mktemp("compared")
    base = save_tiny_language_model(folder / "a-decoder-with-a-long-name", "llama", template=TEMPLATE, reach=512)
    data = write_messages(folder / "messages.csv", 240)
    names = ("majority", "tfidf", "probe", "zero-shot", "last-1")
    rehead.compare(str(data), names=names, bases=[str(base)], output=folder / "out")
    return folder / "out" / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(browser: Browser, report: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(report.as_uri())
    too_wide = page.evaluate(
        """[document.documentElement, ...document.querySelectorAll(".scroll, td, th, p")]
            .filter((node) => node.scrollWidth > node.clientWidth && getComputedStyle(node).display !== "inline")
            .map((node) => `${node.tagName} ${node.scrollWidth} > ${node.clientWidth}`)"""
    )
    cells = page.locator("table").first.locator("tr").nth(2).locator("td")
    right = cells.evaluate_all("cells => Math.max(...cells.map((cell) => cell.getBoundingClientRect().right))")
    page.close()
    assert too_wide == []
    assert 0 < right <= width
