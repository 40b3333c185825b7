"""Tokenising: what is cut is counted, and padding can be told from text."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rehead.models.backbone import Backbone
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.models.tokenization import encode, longest_input
from tests.tiny_models import DECODERS, SPECIAL, save_tiny_model


def base_of(folder: Path, family: str, special: dict[str, str] | None = None) -> Backbone:
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


def test_limit_of_mpnet_leaves_out_the_positions_before_the_id_that_it_takes_for_padding(tmp_path: Path) -> None:
    base = base_of(tmp_path, "mpnet")
    base.tokenizer.model_max_length = 10_000
    # Transformers' class has this id written into it; that of the tokenizer is 0 here.
    assert longest_input(base, 10_000) == 66 - (1 + 1)
    encoded = encode(base, ["free " * 100], max_length=10_000)
    assert encoded.ids.lengths.tolist() == [64]
    packing = Packing(encoded.ids.lengths)
    assert base.embed(encoded.ids.values, packing).isfinite().all()


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


WORDS = ["free", "prize", "call", "now", "win", "cash", "txt", "meet", "you", "at", "noon", "for", "lunch", "home"]
any_text = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return base_of(tmp_path_factory.mktemp("encoder"), "bert")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return base_of(tmp_path_factory.mktemp("decoder"), "llama")


def whole(base: Backbone, text: str) -> list[int]:
    ids: list[int] = base.tokenizer(text, truncation=False)["input_ids"]
    return ids


@given(text=any_text, limit=st.integers(5, 20))
def test_head_and_tail_are_the_two_ends_of_a_long_text(encoder: Backbone, text: str, limit: int) -> None:
    ids = whole(encoder, text)
    encoded = encode(encoder, [text], limit, "head-tail")
    kept = encoded.ids.values.tolist()
    if len(ids) <= limit:
        assert (kept, encoded.tokens_cut.tolist()) == (ids, [0])
        return
    n_tail = limit // 2
    assert kept == ids[: limit - n_tail] + ids[-n_tail:]
    assert encoded.tokens_cut.tolist() == [len(ids) - limit]
    assert (kept[0], kept[-1]) == (ids[0], ids[-1])  # the special tokens


@given(texts=st.lists(any_text, min_size=1, max_size=6), limit=st.integers(4, 20))
def test_chunks_lose_nothing_and_belong_to_their_text(encoder: Backbone, texts: list[str], limit: int) -> None:
    encoded = encode(encoder, texts, limit, "chunks")
    assert encoded.tokens_cut.tolist() == [0] * len(texts)
    assert int(encoded.ids.lengths.max()) <= limit
    start, end = whole(encoder, "")
    windows = iter(encoded.ids.values.split(encoded.ids.lengths.tolist()))
    for text, n_windows in zip(texts, encoded.windows.tolist(), strict=True):
        ids = [i for _ in range(n_windows) for i in next(windows).tolist() if i not in (start, end)]
        assert ids == whole(encoder, text)[1:-1]


@given(texts=st.lists(any_text, min_size=1, max_size=8), seed=st.integers(0, 99))
def test_texts_that_are_taken_bring_their_windows(decoder: Backbone, texts: list[str], seed: int) -> None:
    encoded = encode(decoder, texts, 6, "chunks")
    rows = torch.randint(len(texts), (5,), generator=torch.Generator().manual_seed(seed))
    taken, again = encoded.take(rows), encode(decoder, [texts[i] for i in rows.tolist()], 6, "chunks")
    assert taken.ids.values.tolist() == again.ids.values.tolist()
    assert taken.ids.offsets.tolist() == again.ids.offsets.tolist()
    assert taken.windows.tolist() == again.windows.tolist()
    assert taken.tokens.tolist() == again.tokens.tolist()


def test_features_of_a_text_are_the_mean_over_its_windows(decoder: Backbone) -> None:
    encoded = encode(decoder, ["free " * 10, "home"], 4, "chunks")
    assert encoded.windows.tolist() == [3, 1]
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [6.0, 3.0], [5.0, 5.0]])
    assert encoded.by_text(features).tolist() == [[3.0, 1.0], [5.0, 5.0]]


def test_threads_do_not_change_how_each_other_cuts(tmp_path: Path) -> None:
    """A tokenizer keeps how it cuts as a state of its own."""
    base = base_of(tmp_path, "bert")
    texts = ["free " * 3000, "win cash"]
    expected = encode(base, texts, max_length=8)

    def cut(_: int) -> tuple[list[int], list[int]]:
        encoded = encode(base, texts, max_length=8)
        return encoded.ids.lengths.tolist(), encoded.tokens_cut.tolist()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(cut, range(100)))
    assert found == [(expected.ids.lengths.tolist(), expected.tokens_cut.tolist())] * 100
