"""Writing: whole or not at all."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rehead.runtime import files
from rehead.runtime.files import (
    cache_folder,
    locked,
    new_file,
    new_folder,
    read_with_checksum,
    restore,
    sha256_of,
    sweep_all_partial,
    sweep_partial,
    write_file,
    write_with_checksum,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")
    with pytest.raises(TypeError):
        write_file(tmp_path / "a", "not bytes")  # type: ignore[arg-type]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_folder_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    with new_folder(tmp_path / "new") as partial:
        (partial / "a").write_text("a")
        assert not (tmp_path / "new").exists()
    assert names(tmp_path / "new") == ["a"]
    assert names(tmp_path) == ["new"]


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with new_folder(tmp_path / "out") as partial:
            (partial / name).touch()
    assert names(tmp_path / "out") == ["second"]
    assert names(tmp_path) == ["out"]


def test_error_in_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as partial:
        (partial / "kept").touch()
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "out") as partial:
        (partial / "half").write_bytes((partial / "missing").read_bytes())
    assert names(tmp_path / "out") == ["kept"]
    assert names(tmp_path) == ["out"]


def test_sweeping_takes_what_was_left_of_this_folder_alone(tmp_path: Path) -> None:
    (tmp_path / ".rehead-partial-mine-abc").mkdir()
    (tmp_path / ".rehead-partial-other-abc").mkdir()
    sweep_partial(tmp_path / "mine")
    assert names(tmp_path) == [".rehead-partial-other-abc"]


def test_file_in_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "a", b"new")
    assert names(tmp_path) == []


def test_file_that_cannot_replace_a_folder_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


def test_what_is_written_can_be_read_by_everyone(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"new")
    with new_folder(tmp_path / "out") as partial:
        (partial / "sub").mkdir(mode=0o700)
        (partial / "sub" / "b").touch(mode=0o600)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o644, "out": 0o755, "sub": 0o755, "b": 0o644}


def test_folders_above_a_new_folder_are_made(tmp_path: Path) -> None:
    with new_folder(tmp_path / "x" / "y" / "out"):
        pass
    assert names(tmp_path / "x" / "y") == ["out"]


def test_old_folder_stands_whole_until_the_block_has_ended(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as partial:
        (partial / "old").touch()
    with new_folder(tmp_path / "out") as partial:
        (partial / "new").touch()
        assert names(tmp_path / "out") == ["old"]


def test_interrupt_in_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as partial:
        (partial / "kept").touch()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    assert names(tmp_path / "out") == ["kept"]
    assert names(tmp_path) == ["out"]


def test_new_folder_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with new_folder(tmp_path / "out") as partial:
        (partial / "new").touch()
    assert names(tmp_path / "out") == ["new"]
    assert names(tmp_path) == ["out"]


def test_parent_that_is_a_file_is_told_before_the_block_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), new_folder(tmp_path / "file" / "out"):
        pytest.fail("the block ran")


KILLED = """
import sys, time
from pathlib import Path
from rehead.runtime.files import new_folder
with new_folder(Path(sys.argv[1])) as partial:
    (partial / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_killed_process_leaves_the_old_folder_and_what_it_left_is_swept(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as partial:
        (partial / "kept").touch()
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "out"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path / "out") == ["kept"]
    assert len(names(tmp_path)) == 2
    sweep_partial(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_sweeping_leaves_what_another_process_is_writing_to_a_longer_name(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model-2") as partial:
        (partial / "kept").touch()
        sweep_partial(tmp_path / "model")
        assert partial.is_dir()


def test_sweeping_takes_a_name_letter_by_letter(tmp_path: Path) -> None:
    (tmp_path / ".rehead-partial-model[1]-abcd_123").mkdir()
    sweep_partial(tmp_path / "model[1]")
    assert names(tmp_path) == []


def test_whoever_finds_the_lock_taken_waits_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rehead")
    order = []

    def second() -> None:
        with locked(tmp_path / "a", "another is at it"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "a", "nobody is at it"):
        thread.start()
        deadline = time.monotonic() + 10
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    thread.join(timeout=10)
    assert caplog.messages == ["another is at it"]
    assert order == ["first", "second"]


def test_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a", ""):
        _ = 1 / 0
    with locked(tmp_path / "a", ""):
        pass


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # The example of FIPS 180-2.
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_cache_is_where_the_user_wants_it(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == empty_cache
    monkeypatch.setenv("REHEAD_CACHE", "")
    assert cache_folder().name == "rehead"


def test_the_next_writer_sweeps_what_a_killed_one_left_and_spares_what_is_being_written(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "out"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        with new_folder(tmp_path / "out") as partial:
            (partial / "other").touch()
        assert len(names(tmp_path)) == 2  # the other process goes on
        process.send_signal(signal.SIGKILL)
    with new_folder(tmp_path / "out") as partial:
        (partial / "new").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_whether_or_not_the_system_exchanges_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    for name in ("old", "new"):
        with new_folder(tmp_path / "out") as partial:
            (partial / name).touch()
    assert names(tmp_path / "out") == ["new"]
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges names")
def test_at_no_time_is_there_no_folder(tmp_path: Path) -> None:
    out, absent, done = tmp_path / "out", [], threading.Event()
    with new_folder(out) as partial:
        (partial / "a").touch()

    def watch() -> None:
        while not done.is_set():
            if not (out / "a").exists():
                absent.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(50):
        with new_folder(out) as partial:
            (partial / "a").touch()
    done.set()
    watcher.join()
    assert not absent


def test_a_folder_whose_writer_was_killed_between_two_renames_gets_its_name_back(tmp_path: Path) -> None:
    retired = tmp_path / ".rehead-retired-out-abc_123" / "out"
    retired.mkdir(parents=True)
    (retired / "kept").touch()
    restore(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["kept"]


def test_the_next_writer_of_a_file_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".rehead-partial-a-abc_123").mkdir()
    write_file(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


def test_a_sweep_of_a_folder_spares_what_is_being_written(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as partial:
        partial.write_bytes(b"new")
        for name in ("a-abc_123", "b-abc_123"):
            (tmp_path / f".rehead-partial-{name}").mkdir()
        sweep_all_partial(tmp_path)
        assert names(tmp_path) == [partial.parent.name]
    assert names(tmp_path) == ["a"]


def test_a_writer_whose_folder_was_swept_before_it_was_locked_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, swept = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        if not swept:
            swept.extend(tmp_path.glob(".rehead-partial-*"))
            shutil.rmtree(swept[0])
        honest(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    write_file(tmp_path / "a", b"new")
    assert len(swept) == 1
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("content", [{}, {"a": [1, (2.5, None)], "ä": {"b": float("inf")}, "c": {1: "x"}}])
def test_json_with_a_checksum_is_what_was_written_or_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    write_with_checksum(tmp_path / "a", content)
    written = (tmp_path / "a").read_bytes()
    expected = read_with_checksum(tmp_path / "a")
    assert expected == json.loads(json.dumps(content))
    for bit in range(0, 8 * len(written), 3):
        flipped = bytearray(written)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a").write_bytes(flipped)
        with suppress(ValueError):
            assert read_with_checksum(tmp_path / "a") == expected
    for damaged in (b"", b"[]", b"1", written[:-1]):
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"."):
            read_with_checksum(tmp_path / "a")
