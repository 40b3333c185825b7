"""What a server may be told."""

import subprocess
import sys
from pathlib import Path

import pytest

from rehead.runtime.errors import SettingError
from rehead.serving.models import ModelSource, parse
from rehead.serving.settings import ServerSettings, keys_from_environment

KEY = "0123456789abcdef0123"


def test_a_server_starts_without_what_only_fits_need() -> None:
    code = "import sys, rehead.serving.server; print([name for name in ('sklearn', 'pandas') if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])  # noqa: S104
def test_other_machines_are_let_in_with_a_key_or_by_saying_so_alone(host: str) -> None:
    with pytest.raises(SettingError, match="REHEAD_API_KEYS"):
        ServerSettings(host=host)
    ServerSettings(host=host, keys=frozenset({KEY}))
    ServerSettings(host=host, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert ServerSettings(host=host).on_loopback


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEAD_API_KEYS", f" {KEY}, other-{KEY} ,")
    assert keys_from_environment() == {KEY, f"other-{KEY}"}
    monkeypatch.setenv("REHEAD_API_KEYS", "short")
    with pytest.raises(SettingError, match="16 characters"):
        keys_from_environment()


def test_models_are_named_weighed_and_shadowed() -> None:
    assert parse(["models/sms", "news=models/bbc@0.25", "news=models/other@shadow"]) == [
        ModelSource("sms", Path("models/sms"), 1.0),
        ModelSource("news", Path("models/bbc"), 0.25),
        ModelSource("news", Path("models/other"), 0.0),
    ]


def test_a_folder_that_is_there_is_taken_as_it_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "spam@2"
    folder.mkdir()
    assert parse([f"spam={folder}"]) == [ModelSource("spam", folder, 1.0)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a@shadow"], "a shadow of nothing"),
        (["a@0"], "weight above 0"),
        (["a@-1"], "weight above 0"),
        (["a@inf"], "weight above 0"),
        (["a@much"], "weight above 0"),
        (["ä=b/ü"], "cannot be a model's name"),
        (["x=a", "x=./a"], "comes twice"),
    ],
)
def test_what_makes_no_sense_is_refused(given: list[str], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        parse(given)
