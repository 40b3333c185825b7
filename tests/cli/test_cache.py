"""`rehead cache`: what it shows, and what it removes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rehead.training import feature_cache
from rehead.training.feature_cache import open_store
from tests.without_root import folder_for_everyone, make_read_only, make_writable, without_root

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rehead(in_process: Run) -> Run:
    """`rehead cache` in this process: exit code, stdout, stderr."""
    return lambda *arguments: in_process("cache", *arguments)


@pytest.fixture
def cache(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stores, a fetched package and a converted model."""
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "2GB")
    fill()
    for name, size in (("packages/llm-1.0/weights", 3_000_000), ("converted/abcd/model", 4_500_000)):
        (empty_cache / name).parent.mkdir(parents=True)
        (empty_cache / name).write_bytes(bytes(size))
    return empty_cache


def fill() -> None:
    keys = np.arange(1200 * 16, dtype=np.int64).reshape(1200, 16).astype(np.uint8)
    keys[:, :2] = np.arange(1200, dtype=np.uint16)[:, None].view(np.uint8)
    store = open_store("aa", {"base": "smollm2", "arithmetic": "bfloat16"})
    store.add(keys, {"pooled.1": torch.ones(1200, 500)}, {})
    open_store("bb", {"base": "my\tmodel"}).add(keys[:1], {"pooled.1": torch.ones(1, 1)}, {})


def test_table_shows_each_store_and_the_sums(cache: Path, rehead: Run) -> None:
    code, out, err = rehead()
    assert (code, err) == (0, "")
    lines = [re.split(r"  +", line) for line in out.splitlines() if line]
    rows = {row[0]: row[1:] for row in lines}
    assert rows["smollm2"][:3] == ["bfloat16", "1,200 texts", "2.4 MB"]
    assert rows["my model"][:3] == ["unknown", "1 text", "0.0 MB"]
    assert all(len(rows[name][3]) == len("2026-01-31 12:00") for name in ("smollm2", "my model"))
    assert rows["features"] == [f"2.4 MB of at most 2,000.0 MB in {cache / 'features'}"]
    assert rows["fetched"] == ["3.0 MB"]
    assert rows["converted"] == ["4.5 MB"]
    assert len(rows) == 5


def test_json_is_one_object_with_all_of_it(cache: Path, rehead: Run) -> None:
    code, out, err = rehead("--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    facts = json.loads(out)
    assert (facts["folder"], facts["limit_bytes"]) == (str(cache / "features"), 2 * 10**9)
    assert (facts["fetched_bytes"], facts["converted_bytes"]) == (3_000_000, 4_500_000)
    by_key = {entry.pop("key"): entry for entry in facts["entries"]}
    assert by_key["aa"]["about"] == {"base": "smollm2", "arithmetic": "bfloat16"}
    assert (by_key["aa"]["texts"], by_key["bb"]["texts"]) == (1200, 1)
    assert facts["bytes"] == sum(entry["bytes"] for entry in by_key.values()) == feature_cache.held() > 2_400_000


def test_clear_removes_the_features_and_nothing_else(cache: Path, rehead: Run) -> None:
    assert rehead("--clear") == (0, "2.4 MB freed\n", "")
    assert [path.name for path in (cache / "features").iterdir()] == []
    assert feature_cache.size_of(cache) == 7_500_000
    assert json.loads(rehead("--json")[1])["entries"] == []


def test_clear_as_json(cache: Path, rehead: Run) -> None:
    before = feature_cache.size_of(cache / "features")
    code, out, _ = rehead("--clear", "--json")
    assert (code, json.loads(out)) == (0, {"freed_bytes": before})


def test_empty_cache_is_no_mistake(empty_cache: Path, rehead: Run) -> None:
    code, out, err = rehead()
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["features", "fetched", "converted"]
    assert rehead("--clear") == (0, "0.0 MB freed\n", "")


def test_limit_that_is_no_size_is_one_line(cache: Path, rehead: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "plenty")
    code, out, err = rehead()
    assert (code, out) == (2, "")
    assert err == "rehead: REHEAD_CACHE_LIMIT is 'plenty'; set it to a size such as 20GB or 500MB, or to 0\n"
    assert rehead("--clear")[:2] == (0, "2.4 MB freed\n")


def test_features_that_may_not_be_removed_are_a_mistake(rehead: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_for_everyone() as folder:
        monkeypatch.setenv("REHEAD_CACHE", str(folder))
        fill()
        make_read_only(folder)
        try:
            with without_root():
                code, out, err = rehead("--clear")
        finally:
            make_writable(folder)
        assert (code, out) == (2, "")
        assert err.startswith(f"rehead: 2.4 MB of features are still in {folder / 'features'}: ")
        assert err.count("\n") == 1
        assert feature_cache.held() > 2_400_000


def test_torch_is_not_waited_for(cache: Path) -> None:
    code = (
        "import sys\n"
        "from rehead import cli\n"
        "try:\n"
        "    cli.main(['cache'])\n"
        "except SystemExit:\n"
        "    print('torch' in sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(r"^smollm2 ", finished.stdout, re.MULTILINE)
    assert finished.stdout.splitlines()[-1] == "False"
