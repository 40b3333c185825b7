"""The feature cache gives back what was added, bit for bit, whoever kills, fills, damages or clears what meanwhile."""

import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rehead.models.sequences import Ragged, offsets_of
from rehead.runtime.errors import RheadError
from rehead.training import cache_overview, feature_cache
from rehead.training.feature_cache import FeatureStore, MemoryStore, open_store
from tests.without_root import folder_for_everyone, make_read_only, make_writable, without_root


@pytest.fixture(autouse=True)
def room(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of a size that no other test and no setting of the user's changes."""
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "1GB")
    return empty_cache


@pytest.fixture
def said(shown: None, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines on stderr since last asked."""
    return lambda: capsys.readouterr().err.splitlines()


def keys_of(texts: list[int]) -> np.ndarray:
    """Keys that differ in their last bytes alone, and have zero bytes at either end."""
    return np.array([[0] * 14 + [text // 256, text % 256] for text in texts], np.uint8).reshape(-1, 16)


def dense_of(texts: list[int], width: int = 3) -> Tensor:
    """What the tests take for the features of a text: numbers that are its own."""
    return torch.tensor(texts).unsqueeze(1) + torch.arange(width) / 7


def ragged_of(texts: list[int], width: int = 3) -> Ragged:
    lengths = torch.tensor([text % 5 for text in texts], dtype=torch.int64)
    values = dense_of(torch.repeat_interleave(torch.tensor(texts), lengths).tolist(), width)
    return Ragged(values.bfloat16(), offsets_of(lengths))


def add(store: FeatureStore, texts: list[int]) -> Path:
    """Writes one segment and returns its file."""
    before = set(feature_cache.folder().glob("*/*.safetensors"))
    assert store.add(keys_of(texts), {"pooled": dense_of(texts)}, {"tokens": ragged_of(texts)})
    (new,) = set(feature_cache.folder().glob("*/*.safetensors")) - before
    return new


def assert_holds(store: MemoryStore, texts: list[int]) -> None:
    assert not store.missing(keys_of(texts), ["pooled", "tokens"]).any()
    assert torch.equal(store.dense(keys_of(texts), "pooled"), dense_of(texts))
    pieces, expected = store.ragged(keys_of(texts), "tokens"), ragged_of(texts)
    assert torch.equal(pieces.lengths, expected.lengths)
    assert torch.equal(pieces.packed(torch.arange(len(texts))), expected.values)


# What is added comes back.


@st.composite
def additions(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[str, list[int], int]], list[int]]:
    """Keys; which of them are added in which order under which name, with a seed; which of them are asked for."""
    key = st.lists(st.sampled_from([0, 1, 255]), min_size=16, max_size=16).map(bytes)
    keys = draw(st.lists(key, min_size=1, max_size=8, unique=True))
    rows = list(range(len(keys)))
    segments = []
    for name in ("pooled", "tokens"):
        order = draw(st.permutations(rows))
        bounds = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
        for start, stop in zip([0, *bounds], [*bounds, len(rows)], strict=True):
            segments.append((name, order[start:stop], draw(st.integers(0, 2**16))))
    return keys, draw(st.permutations(segments)), draw(st.lists(st.sampled_from(rows), max_size=12))


def any_bits(rows: int, width: int, seed: int) -> Tensor:
    """bfloat16 of any bits, those that are no number included."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**15), 2**15, (rows, width), generator=generator, dtype=torch.int16).view(torch.bfloat16)


def bits(values: Tensor) -> list[list[int]]:
    assert values.dtype == torch.bfloat16
    return values.view(torch.int16).tolist()


@pytest.mark.parametrize("on_disk", [True, False])
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(added=additions(), width=st.integers(1, 3))
def test_what_is_added_comes_back_bit_for_bit_however_it_is_divided(
    on_disk: bool,
    added: tuple[list[bytes], list[tuple[str, list[int], int]], list[int]],
    width: int,
) -> None:
    texts, segments, wanted = added
    folder = secrets.token_hex(8)
    store: MemoryStore = open_store(folder, {}) if on_disk else MemoryStore()
    keys = np.frombuffer(b"".join(texts), np.uint8).reshape(-1, 16)
    pooled: dict[int, list[int]] = {}
    tokens: dict[int, list[list[int]]] = {}
    for name, rows, seed in segments:
        before = store.missing(keys, ["pooled", "tokens"]).tolist()
        assert before == [not (row in pooled and row in tokens) for row in range(len(texts))]
        if name == "pooled":
            values = any_bits(len(rows), width, seed)
            store.add(keys[rows], {"pooled": values}, {})
            pooled |= dict(zip(rows, bits(values), strict=True))
        else:
            lengths = torch.tensor([(row * 3 + seed) % 4 for row in rows], dtype=torch.int64)
            values = any_bits(int(lengths.sum()), width, seed)
            store.add(keys[rows], {}, {"tokens": Ragged(values, offsets_of(lengths))})
            tokens |= dict(zip(rows, [bits(part) for part in values.split(lengths.tolist())], strict=True))
    for reader in [store, open_store(folder, {})] if on_disk else [store]:
        assert not reader.missing(keys[wanted], ["pooled", "tokens"]).any()
        assert reader.missing(keys[wanted], ["pooled", "other"]).all()
        if wanted:
            assert bits(reader.dense(keys[wanted], "pooled")) == [pooled[row] for row in wanted]
        pieces = reader.ragged(keys[wanted], "tokens")
        assert pieces.lengths.tolist() == [len(tokens[row]) for row in wanted]
        backwards = list(range(len(wanted)))[::-2]
        expected = [vector for i in backwards for vector in tokens[wanted[i]]]
        rows = torch.tensor(backwards, dtype=torch.int64)
        if wanted:
            assert pieces.packed(rows[:0]).shape == (0, width)
            assert bits(pieces.packed(rows)) == bits(pieces.take(rows).packed(torch.arange(len(rows)))) == expected


def test_texts_that_are_not_there_are_missing_and_an_error_when_read() -> None:
    store = open_store("ab", {})
    assert store.missing(keys_of([1, 2]), ["pooled"]).tolist() == [True, True]
    add(store, [1, 3])
    assert store.missing(keys_of([0, 1, 2, 3, 4, 1]), ["pooled"]).tolist() == [True, False, True, False, True, False]
    assert store.missing(keys_of([1]), ["pooled", "other"]).tolist() == [True]
    for read in (store.dense, store.ragged):
        with pytest.raises(KeyError, match="1 of 2 texts have no 'pooled'"):
            read(keys_of([1, 2]), "pooled")


def test_names_of_one_pass_may_share_their_offsets() -> None:
    store, sequences = open_store("ab", {}), ragged_of([4, 2])
    assert store.add(keys_of([4, 2]), {}, {"a": sequences, "b": Ragged(-sequences.values, sequences.offsets)})
    assert torch.equal(store.ragged(keys_of([4, 2]), "b").packed(torch.tensor([0, 1])), -sequences.values)


def test_columns_of_a_wider_tensor_can_be_added() -> None:
    store, wide = open_store("ab", {}), torch.randn(2, 3, 4)
    assert store.add(keys_of([1, 2]), {"a": wide[:, 0], "b": wide[:, 2]}, {})
    assert torch.equal(store.dense(keys_of([1, 2]), "b"), wide[:, 2])


def test_keys_that_may_not_be_changed_can_be_added() -> None:
    keys = np.frombuffer(bytes(range(32)), np.uint8).reshape(2, 16)
    assert open_store("ab", {}).add(keys, {"a": torch.ones(2, 1)}, {})


def test_what_is_read_is_a_copy() -> None:
    store = open_store("ab", {})
    add(store, [4])
    store.dense(keys_of([4]), "pooled").zero_()
    store.ragged(keys_of([4]), "tokens").packed(torch.tensor([0])).zero_()
    assert_holds(store, [4])


def test_features_of_a_pass_without_gradients_can_be_trained_on() -> None:
    store = MemoryStore()
    with torch.inference_mode():
        store.add(keys_of([4, 2]), {"pooled": dense_of([4, 2])}, {"tokens": ragged_of([4, 2])})
    weight = torch.ones(3, requires_grad=True)
    (store.dense(keys_of([2]), "pooled") @ weight).sum().backward()
    (store.ragged(keys_of([2]), "tokens").packed(torch.tensor([0])).float() @ weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_stores_are_kept_apart() -> None:
    add(open_store("ab", {}), [1])
    assert open_store("cd", {}).missing(keys_of([1]), ["pooled"]).all()


def test_store_is_described_for_people() -> None:
    path = add(open_store("ab", {"base": "smöllm2"}), [1])
    assert json.loads((path.parent / "about.json").read_text()) == {"base": "smöllm2"}
    assert path.parent == feature_cache.folder() / "ab"


def test_of_two_copies_the_first_is_read() -> None:
    for value in (1.0, 2.0, 3.0):
        # Each writer has not seen the others.
        open_store("ab", {}).add(keys_of([7]), {"pooled": torch.full((1, 1), value)}, {})
    assert open_store("ab", {}).dense(keys_of([7]), "pooled").item() == 1


def resident_bytes() -> int:
    # Not ru_maxrss: a child process begins with its parent's.
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells how much memory is in use")
def test_opening_reads_nothing_of_the_features() -> None:
    texts, width = list(range(100)), 100_000
    store = open_store("ab", {})
    lengths = torch.full((100,), 2)
    assert store.add(keys_of(texts), {}, {"tokens": Ragged(torch.ones(200, width), offsets_of(lengths))})
    code = (
        "import torch\n"
        "from tests.training.test_feature_cache import keys_of, open_store, resident_bytes\n"
        "before = resident_bytes()\n"
        "pieces = open_store('ab', {}).ragged(keys_of(list(range(100))), 'tokens')\n"
        "row = pieces.packed(torch.tensor([50]))\n"
        "print(row.nbytes, resident_bytes() - before)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    row, grown = map(int, finished.stdout.split())
    assert row == 2 * width * 4
    assert row < grown < 20e6  # of the 80 MB of features


def test_hundred_thousand_texts_are_found_in_less_than_a_second() -> None:
    keys = np.random.default_rng(0).integers(0, 256, (100_000, 16), dtype=np.uint8)
    writer = open_store("ab", {})
    names = [f"pooled.{depth}" for depth in range(30)]
    for part in np.array_split(keys, 8):
        writer.add(part, {name: torch.ones(len(part), 2) for name in names}, {})
    wanted = keys[np.random.default_rng(1).permutation(len(keys))]

    def seconds() -> float:
        start, store = time.perf_counter(), open_store("ab", {})
        assert not store.missing(wanted, names).any()
        assert store.dense(wanted, names[3]).sum() == 2 * len(keys)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


# Damage and removal.


def rewritten(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    """Damage to the parts of a file that is whole as a safetensors file."""

    def damage(path: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(tensors)
        save_file(tensors, path)

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte long": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "something else": lambda path: path.write_bytes(b"\xff" * 500),
    "no keys": rewritten(lambda tensors: tensors.pop("keys")),
    "short keys": rewritten(lambda tensors: tensors.update(keys=torch.zeros(2, 15, dtype=torch.uint8))),
    "fewer keys": rewritten(lambda tensors: tensors.update(keys=torch.zeros(1, 16, dtype=torch.uint8))),
    "fewer rows": rewritten(lambda tensors: tensors.update({"dense/pooled": torch.ones(1, 3)})),
    "no offsets": rewritten(lambda tensors: tensors.pop("offsets/tokens")),
    "falling offsets": rewritten(lambda tensors: tensors.update({"offsets/tokens": torch.tensor([0, 8, 7])})),
    "far offsets": rewritten(lambda tensors: tensors.update({"offsets/tokens": torch.tensor([0, 4, 70])})),
    "fewer offsets": rewritten(lambda tensors: tensors.update({"offsets/tokens": torch.tensor([0, 7])})),
    "late offsets": rewritten(lambda tensors: tensors.update({"offsets/tokens": torch.tensor([1, 4, 7])})),
    "offsets of another type": rewritten(
        lambda tensors: tensors.update({"offsets/tokens": tensors["offsets/tokens"].double()})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_segment_is_said_once_removed_and_absent(damage: str, said: Callable[[], list[str]]) -> None:
    whole, damaged = add(open_store("ab", {}), [1, 2]), add(open_store("ab", {}), [3, 4])
    DAMAGES[damage](damaged)
    store = open_store("ab", {})
    assert store.missing(keys_of([1, 2, 3, 4]), ["pooled"]).tolist() == [False, False, True, True]
    assert open_store("ab", {}).missing(keys_of([3]), ["pooled"]).all()
    (line,) = said()
    assert f"warning: {damaged} is damaged" in line
    assert whole.exists()
    assert not damaged.exists()
    add(store, [3, 4])
    assert_holds(store, [1, 2, 3, 4, 3])


def flip(path: Path, position: int, change: int = 1) -> None:
    """Change one byte in place, as a failing disk does: the length and the time of the last use stay."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        before = file.read(1)[0]
        file.seek(position)
        file.write(bytes([before ^ change]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def place_of(path: Path, name: str) -> int:
    """Where the bytes of a tensor begin in a file."""
    length = int.from_bytes(path.read_bytes()[:8], "little")
    return 8 + length + json.loads(path.read_bytes()[8 : 8 + length])[name]["data_offsets"][0]


def test_flipped_bit_anywhere_never_gives_other_features(said: Callable[[], list[str]]) -> None:
    path = add(open_store("ab", {}), [3, 4])
    content, names = path.read_bytes(), ["pooled", "tokens"]
    noticed = 0
    for position in range(len(content)):
        path.write_bytes(content)
        flip(path, position, 1 << position % 8)
        store = open_store("ab", {})
        if store.missing(keys_of([3, 4]), names).any():
            assert len([line for line in said() if f"warning: {path} is damaged" in line]) == 1
            assert not path.exists()
            noticed += 1
        else:
            assert_holds(store, [3, 4])
    assert noticed > 0.95 * len(content)  # not what pads the header


def test_flipped_byte_in_the_last_of_many_chunks_is_noticed_and_computed_again(said: Callable[[], list[str]]) -> None:
    texts, width = list(range(40)), 1000
    store = open_store("ab", {})
    for part in (texts[:20], texts[20:]):
        assert store.add(keys_of(part), {"pooled": dense_of(part, width)}, {"tokens": ragged_of(part, width)})
    path = max(store._folder.glob("segment-*"))
    flip(path, place_of(path, "ragged/tokens") + ragged_of(texts[20:], width).values.nbytes - 1)
    store = open_store("ab", {})
    assert not store.missing(keys_of(texts), ["pooled"]).any()  # what is not asked for is not read
    assert store.missing(keys_of(texts), ["tokens"]).tolist() == [False] * 20 + [True] * 20
    assert store.missing(keys_of(texts), ["pooled"]).tolist() == [False] * 20 + [True] * 20
    (line,) = said()
    assert f"warning: {path} is damaged (its checksums do not match)" in line
    assert store.add(
        keys_of(texts[20:]), {"pooled": dense_of(texts[20:], width)}, {"tokens": ragged_of(texts[20:], width)}
    )
    assert torch.equal(store.dense(keys_of(texts), "pooled"), dense_of(texts, width))
    packed = store.ragged(keys_of(texts), "tokens").packed(torch.arange(40))
    assert torch.equal(packed, ragged_of(texts, width).values)


@pytest.mark.parametrize("name", ["pooled", "tokens"])
def test_byte_flipped_while_it_is_in_use_is_an_error_and_no_other_features(name: str) -> None:
    path = add(open_store("ab", {}), [3, 4])
    store = open_store("ab", {})
    pieces = store.ragged(keys_of([3, 4]), "tokens")
    assert_holds(store, [3, 4])
    flip(path, place_of(path, "dense/pooled" if name == "pooled" else "ragged/tokens"))
    with pytest.raises(RheadError, match="was damaged while it was in use; it is removed: start again"):
        store.dense(keys_of([4]), name) if name == "pooled" else pieces.packed(torch.tensor([0]))
    assert not path.exists()
    assert store.missing(keys_of([3, 4]), [name]).all()


def test_undamaged_segment_is_not_taken_for_a_damaged_one(said: Callable[[], list[str]]) -> None:
    path = add(open_store("ab", {}), [3, 4])
    rewritten(lambda tensors: None)(path)
    assert_holds(open_store("ab", {}), [3, 4])
    assert said() == []


def test_ctrl_c_while_a_segment_is_opened_is_not_taken_for_damage(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    """Within torch a KeyboardInterrupt became a ValueError: Ctrl-C was lost, and a sound file removed."""
    path = add(open_store("ab", {}), [1, 2])

    def interrupted_within(*arguments: Any) -> Any:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("could not determine the shape of object type") from None
        return safe_open(*arguments)

    monkeypatch.setattr(feature_cache, "safe_open", interrupted_within)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            feature_cache.open_segment(path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert path.exists()
    assert said() == []


def test_segment_removed_under_a_readers_feet_stays_readable() -> None:
    add(open_store("ab", {}), [3, 4])
    reader = open_store("ab", {})
    pieces = reader.ragged(keys_of([3, 4]), "tokens")
    cache_overview.clear()
    assert torch.equal(pieces.packed(torch.tensor([0, 1])), ragged_of([3, 4]).values)
    assert_holds(reader, [3, 4])
    assert open_store("ab", {}).missing(keys_of([3, 4]), ["pooled"]).all()


def test_segment_removed_before_it_is_opened_is_absent(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    path = add(open_store("ab", {}), [3])
    gone = add(open_store("ab", {}), [4])
    gone.unlink()
    monkeypatch.setattr(feature_cache, "segments_in", lambda _: [path, gone])
    assert open_store("ab", {}).missing(keys_of([3, 4]), ["pooled"]).tolist() == [False, True]
    assert said() == []


def test_writer_goes_on_after_the_cache_was_cleared(said: Callable[[], list[str]]) -> None:
    store = open_store("ab", {"base": "smollm2"})
    add(store, [1])
    cache_overview.clear()
    add(store, [2])
    assert_holds(store, [1, 2])
    assert open_store("ab", {}).missing(keys_of([1, 2]), ["pooled"]).tolist() == [True, False]
    assert cache_overview.stores()[0].about == {"base": "smollm2"}
    assert said() == []


# Where nothing can be written.


def assert_refuses(store: FeatureStore, expected: str, said: Callable[[], list[str]]) -> None:
    """Two attempts are one line, and the features are there all the same."""
    for texts in ([1, 2], [3]):
        assert not store.add(keys_of(texts), {"pooled": dense_of(texts)}, {"tokens": ragged_of(texts)})
    assert_holds(store, [1, 3, 2])
    lines = said()
    assert [expected in line for line in lines] == [True]
    assert lines[0].startswith("warning: features are not cached: ")


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache with a text in it that may be read only."""
    with folder_for_everyone() as folder:
        monkeypatch.setenv("REHEAD_CACHE", str(folder))
        add(open_store("ab", {}), [9])
        make_read_only(folder)
        try:
            with without_root():
                yield folder
        finally:
            make_writable(folder)


def test_read_only_cache_is_read_and_not_written(read_only: Path, said: Callable[[], list[str]]) -> None:
    store = open_store("ab", {})
    assert_holds(store, [9])
    assert_refuses(store, "(Permission denied); free some space or set REHEAD_CACHE", said)
    assert_holds(store, [1, 9])
    assert len(list(read_only.rglob("*.safetensors"))) == 1


def test_cache_in_a_place_that_is_no_folder_is_not_written(room: Path, said: Callable[[], list[str]]) -> None:
    room.write_text("a file")
    assert_refuses(open_store("ab", {}), "free some space or set REHEAD_CACHE", said)


def test_full_disk_leaves_nothing_half_written(said: Callable[[], list[str]]) -> None:
    path = add(open_store("ab", {}), [9])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    texts = list(range(3000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        store = open_store("ab", {})
        assert not store.add(keys_of(texts), {"pooled": dense_of(texts)}, {"tokens": ragged_of(texts)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = said()
    assert "features are not cached: cannot write to" in line
    assert "too large" in line
    assert_holds(store, texts)
    assert sorted(file.name for file in path.parent.iterdir()) == ["about.json", path.name]


def test_features_larger_than_the_limit_are_not_written(
    monkeypatch: pytest.MonkeyPatch, room: Path, said: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "0.05KB")
    assert_refuses(open_store("ab", {}), "free some space or set REHEAD_CACHE_LIMIT to more", said)
    assert not room.exists()


def test_user_who_wants_no_cache_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch, room: Path, said: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "0")
    store = open_store("ab", {})
    assert not store.add(keys_of([1]), {"pooled": dense_of([1])}, {"tokens": ragged_of([1])})
    assert_holds(store, [1])
    assert said() == []
    assert not room.exists()


# Several processes.

WRITER = """
import sys
from rehead.runtime import progress
from tests.training.test_feature_cache import dense_of, keys_of, open_store, ragged_of
progress.show(True)
start, stop, step, width = map(int, sys.argv[1:])
store = open_store("ab", {})
print("ready", flush=True)
sys.stdin.readline()
for first in range(start, stop, step):
    texts = list(range(first, first + step))
    store.add(keys_of(texts), {"pooled": dense_of(texts, width)}, {"tokens": ragged_of(texts, width)})
"""


def writer(start: int, stop: int, step: int, width: int = 3) -> subprocess.Popen[str]:
    """A process that waits for a line on stdin, then adds texts `step` at a time."""
    command = [sys.executable, "-c", WRITER, *map(str, (start, stop, step, width))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def half_written(folder: Path) -> list[Path]:
    try:
        return list(folder.glob(".rehead-partial-*/*"))
    except FileNotFoundError:  # pathlib met a folder that its writer has just removed
        return []


def killed_while_writing(folder: Path, first: int, width: int) -> list[Path]:
    """Kills a process that writes segments of 5 texts, and returns what it leaves of the one that it was at."""
    with writer(first, first + 100, 5, width) as process:
        wait_until_ready(process)
        go(process)
        while len(list(folder.glob("segment-*"))) < 2 or not half_written(folder):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    return half_written(folder)


def test_process_killed_while_it_writes_leaves_whole_segments_and_what_is_swept(said: Callable[[], list[str]]) -> None:
    folder, width = feature_cache.folder() / "ab", 500_000  # 10 MB dense and 10 MB ragged a segment
    for attempt in range(5):  # the last write may end between our look and the signal
        if halves := killed_while_writing(folder, 100 * attempt, width):
            break
    (half,) = halves

    store = open_store("ab", {})
    texts = np.flatnonzero(~store.missing(keys_of(list(range(500))), ["pooled", "tokens"])).tolist()
    assert len(texts) == 5 * len(list(folder.glob("segment-*"))) >= 10
    assert torch.equal(store.dense(keys_of(texts), "pooled"), dense_of(texts, width))
    packed = store.ragged(keys_of(texts), "tokens").packed(torch.arange(len(texts)))
    assert torch.equal(packed, ragged_of(texts, width).values)

    assert not half.parent.exists()
    assert said() == []


KILLER = """
import os, random, signal, sys, time
import torch
from tests.training.test_feature_cache import dense_of, keys_of, open_store, ragged_of
torch.set_num_threads(1)
random.seed(7)
for attempt in range(10):
    ready, begun = os.pipe()
    child = os.fork()
    if not child:
        store = open_store("ab", {})
        for first in range(100 * attempt, 100 * attempt + 100, 5):
            texts = list(range(first, first + 5))
            store.add(keys_of(texts), {"pooled": dense_of(texts, 50_000)}, {"tokens": ragged_of(texts, 50_000)})
            os.write(begun, b"x")
        signal.pause()
    os.read(ready, 1)
    time.sleep(random.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_ten_processes_killed_at_any_moment_leave_whole_segments(said: Callable[[], list[str]]) -> None:
    subprocess.run([sys.executable, "-c", KILLER], check=True, timeout=120)
    store = open_store("ab", {})
    there = np.flatnonzero(~store.missing(keys_of(list(range(1000))), ["pooled", "tokens"])).tolist()
    assert len(there) == 5 * len(feature_cache.segments_in(feature_cache.folder() / "ab")) >= 50
    assert {text - text % 5 for text in there} == {first for first in there if first % 5 == 0}
    assert {text // 100 for text in there} == set(range(10))
    assert torch.equal(store.dense(keys_of(there), "pooled"), dense_of(there, 50_000))
    packed = store.ragged(keys_of(there), "tokens").packed(torch.arange(len(there)))
    assert torch.equal(packed, ragged_of(there, 50_000).values)
    assert said() == []


@pytest.mark.parametrize("limit", ["1GB", "20KB"])
def test_two_processes_write_at_once(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REHEAD_CACHE_LIMIT", limit)
    with writer(0, 100, 2) as first, writer(50, 150, 2) as second:
        for step in (wait_until_ready, go):
            for process in (first, second):
                step(process)
        for process in (first, second):
            assert process.communicate(timeout=60) == ("", "")
            assert process.returncode == 0
    store, texts = open_store("ab", {}), list(range(150))
    there = np.flatnonzero(~store.missing(keys_of(texts), ["pooled", "tokens"])).tolist()
    if limit == "1GB":
        assert there == texts
        assert len(feature_cache.segments_in(feature_cache.folder() / "ab")) == 100
    else:
        assert 0 < len(there) < 150
    assert_holds(store, there)
    feature_cache.trim()
    assert feature_cache.held() <= feature_cache.limit()
