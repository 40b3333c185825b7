"""Tokenising: what is cut is counted, and padding can be told from text."""

from pathlib import Path

import pytest

from rehead.bases.cut import Base
from rehead.bases.loading import load
from rehead.bases.tokens import encode, longest_input
from tests.tiny_models import DECODERS, SPECIAL, save_tiny_model


def base_of(folder: Path, family: str, special: dict[str, str] | None = None) -> Base:
    return load(str(save_tiny_model(folder, family, special)), 2, seed=0)


def test_tokens_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    encoded = encode(base_of(tmp_path, "llama"), ["free " * 10, "free " * 4, "free " * 5], max_length=5)
    assert encoded.ids.lengths.tolist() == [5, 4, 5]
    assert encoded.tokens_cut.tolist() == [5, 0, 0]
    assert encoded.texts_cut == 1


def test_limit_is_what_the_model_can_take(tmp_path: Path) -> None:
    assert longest_input(base_of(tmp_path / "llama", "llama"), 10_000) == 64
    assert longest_input(base_of(tmp_path / "roberta", "roberta"), 10_000) == 64


def test_limit_of_roberta_leaves_out_the_positions_before_its_padding_id(tmp_path: Path) -> None:
    base = base_of(tmp_path, "roberta")
    base.tokenizer.model_max_length = 10_000
    assert longest_input(base, 10_000) == 66 - (base.config.pad_token_id + 1)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_empty_text_is_encoded_as_something(tmp_path: Path, family: str) -> None:
    assert encode(base_of(tmp_path, family), ["", " "], 16).ids.lengths.min() >= 1


@pytest.mark.parametrize("family", DECODERS)
def test_padding_is_never_the_end_token_where_another_special_token_exists(tmp_path: Path, family: str) -> None:
    base = base_of(tmp_path, family, {**SPECIAL, "pad_token": "</s>"})
    assert base.tokenizer.pad_token == "<s>"
    assert base.config.pad_token_id == base.tokenizer.pad_token_id


def test_end_token_pads_where_it_is_the_only_special_token(tmp_path: Path) -> None:
    base = base_of(tmp_path, "gpt2", {"eos_token": "</s>"})
    assert base.tokenizer.pad_token == "</s>"


def test_tokenizer_without_special_tokens_gets_a_padding_token(tmp_path: Path) -> None:
    base = base_of(tmp_path, "llama", {})
    assert base.config.pad_token_id == base.tokenizer.pad_token_id == 0


def test_padding_tokens_at_the_end_of_a_decoders_text_are_left_out(tmp_path: Path) -> None:
    base = base_of(tmp_path, "gpt2", {"eos_token": "</s>"})
    assert encode(base, ["free prize </s> </s>", "free prize"], 16).ids.lengths.tolist() == [2, 2]
