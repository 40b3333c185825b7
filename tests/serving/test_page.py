"""The page in a real browser: typing, files, images, keys, keyboard, light and dark, and nothing from elsewhere."""

import csv
import io
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from rehead import Classifier
from rehead.workflows.fit import fit
from tests.browsers import needs_chromium
from tests.serving.running import running
from tests.tiny_images import encoded, image, save_folders
from tests.tiny_texts import messages
from tests.tiny_vision_models import save_tiny_vision_model

pytestmark = needs_chromium
KEY = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def client(spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with running([spam], tmp_path_factory.mktemp("jobs")) as client:
        yield client


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pages' pictures are kept: $REHEAD_SCREENSHOTS, or a folder of pytest's."""
    folder = Path(os.environ.get("REHEAD_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(browser: Browser, client: httpx2.Client) -> Iterator[Page]:
    opened = browser.new_page()
    faults = watched(opened)
    opened.goto(str(client.base_url))
    yield opened
    opened.close()
    assert faults == []


def watched(page: Page) -> list[str]:
    """What goes wrong on a page, and what it asks of anybody but its own server."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:"))
            else faults.append(request.url)
        ),
    )
    return faults


def test_answer_changes_as_one_types(page: Page, screenshots: Path) -> None:
    page.get_by_label("Text to classify").press_sequentially("win free cash")
    expect(page.locator("#said")).to_have_text("spam")
    expect(page.locator("#pieces mark")).to_have_count(3)
    expect(page.locator("#bars li")).to_have_count(2)
    page.screenshot(path=screenshots / "typed.png", full_page=True)
    page.get_by_label("Text to classify").fill("see 😀 you at noon for lunch")
    expect(page.locator("#said")).to_have_text("ham")
    # Whatever lies outside of the alphabet moves no word out of its colour.
    expect(page.locator("#pieces")).to_have_text("see 😀 you at noon for lunch")
    assert page.locator("#pieces mark").all_inner_texts() == ["see", "😀", "you", "at", "noon", "for", "lunch"]
    assert "rgb" in page.locator("#pieces mark").nth(4).evaluate("mark => getComputedStyle(mark).backgroundColor")
    page.get_by_label("Text to classify").fill("")
    expect(page.locator("#answer")).to_be_hidden()


def test_typing_asks_once_it_pauses(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "predict" in request.url else None)
    page.get_by_label("Text to classify").press_sequentially("win free cash prize", delay=20)
    expect(page.locator("#said")).to_have_text("spam")
    assert len(asked) <= 3


def test_file_is_scored_and_its_result_downloaded(page: Page, screenshots: Path) -> None:
    texts, _ = messages(80, start=200)
    file = io.StringIO()
    csv.writer(file).writerows([("id", "text"), *((i, f'{text}, "quoted"') for i, text in enumerate(texts))])
    page.locator("#file").set_input_files(
        {"name": "mail.csv", "mimeType": "text/csv", "buffer": file.getvalue().encode()}
    )
    expect(page.locator("#job-said")).to_have_text("mail.csv: 80 rows classified", timeout=30_000)
    expect(page.locator("#job-table tbody tr")).to_have_count(50)
    assert page.locator("#job-table th").all_inner_texts()[:3] == ["id", "text", "predicted"]
    page.screenshot(path=screenshots / "file.png", full_page=True)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the result").click()
    assert downloading.value.suggested_filename == "mail.predicted.csv"
    rows = list(csv.DictReader(io.StringIO(Path(downloading.value.path()).read_text(encoding="utf-8"))))
    assert [row["text"] for row in rows] == [f'{text}, "quoted"' for text in texts]
    assert {row["predicted"] for row in rows} == {"ham", "spam"}


def test_rows_that_cannot_be_read_can_be_downloaded(page: Page) -> None:
    content = b'{"text": "win cash"}\nnot json\n'
    page.locator("#file").set_input_files({"name": "a.jsonl", "mimeType": "application/jsonl", "buffer": content})
    expect(page.locator("#job-said")).to_have_text("a.jsonl: 1 rows classified, 1 could not be read", timeout=30_000)
    expect(page.get_by_role("link", name="Download the rows")).to_be_visible()


def test_file_that_cannot_be_scored_says_why(page: Page) -> None:
    page.locator("#file").set_input_files(
        {"name": "a.csv", "mimeType": "text/csv", "buffer": b"\x89PNG\r\n\x1a\n" + b"\x00\x01" * 50}
    )
    expect(page.locator("#job-said")).to_contain_text("a.csv", timeout=30_000)
    expect(page.locator("#job-said")).to_contain_text("binary")


def test_a_job_is_watched_although_the_server_falls_silent(browser: Browser, client: httpx2.Client) -> None:
    silences = []

    def silent_once(route: Route) -> None:
        if silences or route.request.method != "GET":
            route.continue_()
            return
        silences.append(route.request.url)
        route.abort()

    page = browser.new_page()
    page.route("**/v1/files/*", silent_once)
    page.goto(str(client.base_url))
    content = ("text\n" + "win free cash\n" * 200).encode()
    page.locator("#file").set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": content})
    expect(page.locator("#job-said")).to_have_text("a.csv: The server does not answer. Asking again.", timeout=30_000)
    expect(page.locator("#job-said")).to_have_text("a.csv: 200 rows classified", timeout=30_000)
    assert silences
    page.close()


def test_text_is_copied_as_a_command_that_asks_the_same(browser: Browser, client: httpx2.Client) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    faults = watched(page)
    page.goto(str(client.base_url))
    expect(page.get_by_role("button", name="Copy as curl")).to_be_disabled()
    text = 'it\'s "free" $HOME\n\\ `now` 😀 é'
    page.get_by_label("Text to classify").fill(text)
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#curl-said")).to_have_text("Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    expect(page.locator("#curl-command")).to_have_text(command)
    context.close()
    program, *arguments = shlex.split(command)
    assert (program, arguments[0]) == ("curl", f"{str(client.base_url).rstrip('/')}/v1/predict")
    sent = json.loads(arguments[arguments.index("-d") + 1])
    assert sent == {"texts": [text], "model": "spam", "explain": True}
    assert client.post("/v1/predict", json=sent).status_code == 200
    assert faults == []


def test_earlier_texts_of_the_tab_can_be_chosen_again(page: Page) -> None:
    box = page.get_by_label("Text to classify")
    for text in ("first lunch", "win free cash", "home later", "call now", "win free cash"):
        box.fill("")
        box.press_sequentially(text)
        box.press("Tab")
    buttons = page.locator("#earlier button")
    expect(buttons).to_have_text(["win free cash", "call now", "home later"])
    buttons.nth(2).click()
    expect(box).to_have_value("home later")
    expect(page.locator("#said")).to_have_text("ham")
    page.reload()
    expect(buttons).to_have_count(3)


def test_refusal_says_what_is_wrong_and_how_to_mend_it(browser: Browser, client: httpx2.Client) -> None:
    page = browser.new_page()
    page.goto(str(client.base_url))
    page.get_by_label("Text to classify").fill("a" * 200_000)
    box = page.get_by_role("alert")
    expect(box.locator("strong")).to_contain_text("has 200,000 characters, the limit is 100,000")
    expect(box.locator(".mend")).to_have_text("Shorten it")
    expect(box.locator(".quiet")).to_contain_text("Status 422; the server's log has more under")
    assert "{" not in box.inner_text()
    page.get_by_label("Text to classify").fill("win free cash")
    expect(box).to_be_hidden()
    page.route("**/v1/predict", lambda route: route.abort())
    page.get_by_label("Text to classify").fill("win free")
    expect(box).to_have_text(re.compile(r"The server does not answer\..*Your text is kept\.", re.DOTALL))
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_documentation_of_the_api_asks_nobody_else(
    browser: Browser, client: httpx2.Client, screenshots: Path, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    faults = watched(page)
    answer = page.goto(f"{str(client.base_url).rstrip('/')}/docs")
    assert answer is not None
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in answer.headers["content-security-policy"]
    described = client.get("/openapi.json").json()
    operations = [f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods]
    expect(page.locator("#operations h2")).to_have_text(operations)
    expect(page.locator("#shapes h3")).to_have_text(list(described["components"]["schemas"]))
    page.screenshot(path=screenshots / f"docs-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = page.evaluate(
        """[...document.querySelectorAll("a[href^='#']")].map((link) => link.hash.slice(1))
            .filter((id) => !document.getElementById(id))"""
    )
    assert broken == []
    command = page.locator("section", has_text="POST /v1/predict").locator("pre").inner_text()
    sent = json.loads(shlex.split(command)[-1])
    page.close()
    assert client.post("/v1/predict", json=sent).status_code == 200
    assert faults == []


def test_model_and_report_are_shown(page: Page) -> None:
    expect(page.locator("#measures")).to_contain_text("Accuracy")
    expect(page.locator("#about")).to_contain_text("2 labels")
    page.get_by_text("Model card").click()
    expect(page.locator("#card-text")).to_contain_text("spam")
    with page.context.expect_page() as opening:
        page.get_by_role("button", name="Open the report").click()
    report = opening.value
    report.wait_for_load_state()
    assert "/v1/model/report" in report.url
    expect(report.locator("h1").first).to_be_visible()
    report.close()


def test_keyboard_reaches_everything(page: Page) -> None:
    expect(page.get_by_role("button", name="Open the report")).to_be_visible()
    reached = {}
    for _ in range(8):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """[document.activeElement.id || document.activeElement.tagName,
                getComputedStyle(document.activeElement).outlineStyle]"""
        )
        reached[name] = outline
    wanted = ("text", "file", "report", "SUMMARY")
    assert [name for name in reached if name in wanted] == list(wanted)
    assert all(reached[name] != "none" for name in wanted)


def test_everything_has_a_name_for_those_who_listen(page: Page) -> None:
    page.get_by_label("Text to classify").fill("win free cash")
    expect(page.locator("#said")).to_have_text("spam")
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, textarea, select, button, a, progress, [role=region]")]
            .filter((node) => node.checkVisibility() && !node.labels?.length && !node.textContent.trim()
                && !node.getAttribute("aria-label") && !node.getAttribute("aria-labelledby"))
            .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    announced = page.locator("#announced")
    assert announced.get_attribute("aria-live") == "polite"
    expect(announced).to_have_text("spam")
    page.get_by_label("Text to classify").fill("")
    expect(page.locator("#answer")).to_be_hidden()
    assert announced.evaluate("node => node.checkVisibility()")  # or what comes next would go unheard
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read_on_a_phone_too(
    browser: Browser, client: httpx2.Client, screenshots: Path, scheme: Any
) -> None:
    opened = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 740})
    opened.goto(str(client.base_url))
    opened.get_by_label("Text to classify").fill("win free cash " * 8)
    expect(opened.locator("#said")).to_have_text("spam")
    opened.screenshot(path=screenshots / f"{scheme}.png", full_page=True)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    colours = opened.evaluate(
        """["body", ".quiet", "#about", "button:not([hidden])"].map((chosen) => {
            const style = getComputedStyle(document.querySelector(chosen));
            let under = document.querySelector(chosen);
            while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
            return [style.color, getComputedStyle(under).backgroundColor];
        })"""
    )
    opened.close()
    assert all(contrast(*pair) >= 4.5 for pair in colours), colours


def contrast(one: str, other: str) -> float:
    """Of two colours as CSS writes them (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_page_asks_for_the_key_and_keeps_it_for_the_tab(browser: Browser, spam: Path, tmp_path: Path) -> None:
    with running([spam], tmp_path / "jobs", keys=frozenset({KEY})) as client:
        opened = browser.new_page()
        opened.goto(str(client.base_url))
        expect(opened.get_by_text("This server asks for an API key")).to_be_visible()
        expect(opened.locator("#main")).to_be_hidden()
        opened.locator("#key-input").fill(KEY)
        opened.get_by_role("button", name="Use it").click()
        opened.get_by_label("Text to classify").fill("win free cash")
        expect(opened.locator("#said")).to_have_text("spam")
        opened.get_by_role("button", name="Copy as curl").click()
        expect(opened.locator("#curl-command")).to_contain_text('"Authorization: Bearer $REHEAD_API_KEY"')
        expect(opened.locator("#curl-command")).not_to_contain_text(KEY)
        opened.reload()
        opened.get_by_label("Text to classify").fill("home later")
        expect(opened.locator("#said")).to_have_text("ham")
        with opened.expect_download() as downloading:
            opened.get_by_role("button", name="Open the report").click()
        assert downloading.value.suggested_filename == "spam.report.html"
        opened.close()


def test_image_is_classified_and_explained(browser: Browser, tmp_path: Path, screenshots: Path) -> None:
    base = save_tiny_vision_model(tmp_path / "base", "vit")
    fit(str(save_folders(tmp_path / "images")), Classifier(str(base), tune="head"), tmp_path / "stripes")
    with running([tmp_path / "stripes"], tmp_path / "jobs") as client:
        opened = browser.new_page()
        faults = watched(opened)
        opened.goto(str(client.base_url))
        expect(opened.get_by_label("Text to classify")).to_be_hidden()
        content = encoded(image("upright", 99, side=200))
        opened.locator("#image").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": content})
        expect(opened.locator("#said")).to_have_text("upright", timeout=30_000)
        expect(opened.locator("#heat")).to_be_visible()
        assert opened.locator("#heat").evaluate("picture => picture.naturalWidth") > 0
        opened.screenshot(path=screenshots / "image.png", full_page=True)
        opened.close()
    assert faults == []
