"""How much the feature cache may take, what goes first, and what is told of it."""

import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from rehead.runtime import files
from rehead.runtime.errors import SettingError
from rehead.training import cache_overview, feature_cache
from rehead.training.feature_cache import FeatureStore, open_store


def keys(*texts: int) -> np.ndarray:
    return np.array([[text] * 16 for text in texts], np.uint8).reshape(-1, 16)


def add(store: FeatureStore, *texts: int, name: str = "pooled", width: int = 4) -> Path:
    """Writes one segment and returns its file."""
    before = set(feature_cache.folder().glob("*/*.safetensors"))
    assert store.add(keys(*texts), {name: torch.ones(len(texts), width)}, {})
    (new,) = set(feature_cache.folder().glob("*/*.safetensors")) - before
    return new


def last_used(path: Path, hours_ago: float) -> None:
    then = time.time() - 3600 * hours_ago
    os.utime(path, (then, then))


def disk_with(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")(10**15, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("20GB", 20 * 10**9),
        ("500MB", 500 * 10**6),
        ("0", 0),
        ("0MB", 0),
        ("1.5 gb", 1_500_000_000),
        (" 2TB ", 2 * 10**12),
        ("12kb", 12_000),
        ("0.1GB", 10**8),
    ],
)
def test_limit_is_what_the_user_says(given: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", given)
    assert feature_cache.limit() == expected


@pytest.mark.parametrize(
    "given", ["20", "much", "-1GB", "GB", "1e3MB", "nanGB", "20 GB of it", "1,5GB", "20GiB", "٣GB"]
)
def test_limit_that_is_no_size_is_one_line_with_its_cure(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", given)
    with pytest.raises(SettingError, match=r"^REHEAD_CACHE_LIMIT is '.*'; set it to a size such as 20GB .*$"):
        open_store("ab", {})


@pytest.mark.parametrize(("free", "expected"), [(10**12, 20 * 10**9), (10**10, 5 * 10**9), (0, 0)])
def test_limit_is_twenty_gigabytes_or_half_of_what_is_free(
    free: int, expected: int, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "")
    disk_with(monkeypatch, free)
    assert feature_cache.limit() == expected


def test_limit_counts_the_features_as_free(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REHEAD_CACHE_LIMIT", raising=False)
    size = add(open_store("ab", {}), 1, width=1000).stat().st_size
    disk_with(monkeypatch, 1000)
    assert feature_cache.limit() == (1000 + size) // 2


def test_room_is_within_the_limit_and_leaves_as_much_free(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "100KB")
    disk_with(monkeypatch, 10**9)
    assert feature_cache.has_space_for(100_000)
    assert not feature_cache.has_space_for(100_001)
    disk_with(monkeypatch, 100_000)
    assert feature_cache.has_space_for(50_000)
    assert not feature_cache.has_space_for(50_001)


def test_room_counts_what_would_go(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = add(open_store("ab", {}), 1, width=10_000).stat().st_size
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "41KB")
    disk_with(monkeypatch, 40_000)
    trimmed = size + 30_000 - 41_000
    assert (40_000 + trimmed) // 2 > 30_000
    assert feature_cache.has_space_for(30_000)
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "1GB")
    assert not feature_cache.has_space_for(30_000)


def test_least_recently_used_goes_first_from_whichever_store(empty_cache: Path) -> None:
    first, second = open_store("aa", {}), open_store("bb", {})
    oldest, middle, newest = add(first, 1), add(second, 2), add(first, 3)
    for hours, path in enumerate([newest, middle, oldest]):
        last_used(path, hours)
    size = oldest.stat().st_size
    assert feature_cache.trim(3 * size) == 0
    assert feature_cache.trim(3 * size - 1) == size
    assert [path.exists() for path in (oldest, middle, newest)] == [False, True, True]
    assert feature_cache.trim(size) == size
    assert [path.exists() for path in (oldest, middle, newest)] == [False, False, True]
    assert feature_cache.trim(0) == size
    assert feature_cache.held() == 0


def test_reading_renews_what_is_read_and_nothing_else(empty_cache: Path) -> None:
    store = open_store("aa", {})
    read, unread = add(store, 1), add(store, 2)
    last_used(read, 3)
    last_used(unread, 2)
    open_store("aa", {}).missing(keys(1, 2), ["pooled"])
    assert read.stat().st_mtime < time.time() - 3600
    open_store("aa", {}).dense(keys(1), "pooled")
    assert read.stat().st_mtime > time.time() - 3600
    feature_cache.trim(feature_cache.held() - 1)
    assert read.exists()
    assert not unread.exists()


def test_reading_renews_once(empty_cache: Path) -> None:
    store = open_store("aa", {})
    path = add(store, 1)
    store.dense(keys(1), "pooled")
    last_used(path, 5)
    store.dense(keys(1), "pooled")
    assert path.stat().st_mtime < time.time() - 3600


def test_adding_makes_room(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "10KB")
    store = open_store("aa", {})
    old = add(store, 1, width=1000)
    last_used(old, 1)
    kept = add(store, 2, width=1000)
    last_used(kept, 0.5)
    assert old.exists()
    new = add(store, 3, width=1000)
    assert [path.exists() for path in (old, kept, new)] == [False, True, True]
    assert feature_cache.held() <= 10_000


def test_opening_a_store_sweeps_what_killed_writers_left_and_no_live_one(empty_cache: Path) -> None:
    path = add(open_store("aa", {}), 1)
    dead = path.parent / ".rehead-partial-segment-abc_123"
    dead.mkdir()
    (dead / "half").write_bytes(b"12345")
    with files.new_file(path.parent / "segment") as partial:
        partial.touch()
        open_store("bb", {})
        assert list(path.parent.glob(".*")) == [partial.parent]
    assert path.exists()


def test_summary_counts_each_text_once(empty_cache: Path) -> None:
    store = open_store("aa", {"base": "smollm2", "arithmetic": "bfloat16"})
    paths = [add(store, 1, 2), add(store, 2, 3, name="other")]
    last_used(paths[0], 2)
    last_used(add(open_store("bb", {}), 1), 5)
    first, second = cache_overview.stores()
    assert (first.key, first.about, first.texts) == ("aa", {"base": "smollm2", "arithmetic": "bfloat16"}, 3)
    assert first.bytes == sum(path.stat().st_size for path in paths)
    assert first.last_used == pytest.approx(paths[1].stat().st_mtime)
    assert (second.key, second.about, second.texts) == ("bb", {}, 1)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff"])
def test_summary_does_without_a_readable_description(content: bytes | None, empty_cache: Path) -> None:
    about = add(open_store("aa", {"base": "smollm2"}), 1).parent / "about.json"
    about.unlink()
    if content is not None:
        about.write_bytes(content)
    (summary,) = cache_overview.stores()
    assert (summary.about, summary.texts) == ({}, 1)


def test_summary_counts_no_text_of_a_damaged_segment(empty_cache: Path) -> None:
    store = open_store("aa", {})
    add(store, 1)
    damaged = add(store, 2)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (summary,) = cache_overview.stores()
    assert (summary.texts, summary.bytes) == (1, feature_cache.held())


def test_store_with_nothing_left_is_not_told_of(empty_cache: Path) -> None:
    add(open_store("aa", {}), 1)
    feature_cache.trim(0)
    assert cache_overview.stores() == []


def test_clearing_leaves_nothing_of_ours_and_all_that_is_not(empty_cache: Path) -> None:
    path = add(open_store("aa", {}), 1)
    size = path.stat().st_size + (path.parent / "about.json").stat().st_size
    (path.parent / ".rehead-partial-live").mkdir()
    foreign = [feature_cache.folder() / "bb" / "mine.safetensors", empty_cache / "packages" / "a"]
    for file in foreign:
        file.parent.mkdir()
        file.write_bytes(b"mine")
    assert cache_overview.clear() == size
    assert not path.parent.exists()
    assert all(file.read_bytes() == b"mine" for file in foreign)
    assert cache_overview.clear() == 0


def test_empty_cache_holds_nothing(empty_cache: Path) -> None:
    assert (cache_overview.stores(), feature_cache.held(), feature_cache.trim(), cache_overview.clear()) == (
        [],
        0,
        0,
        0,
    )
    assert not empty_cache.exists()
