"""The plain Transformers model is the reference: trunk, tail and head equal it at every cut, for every family."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from rehead.models import heads
from rehead.models import packing as packing_module
from rehead.models.backbone import Backbone
from rehead.models.loading import load
from rehead.models.packing import Packing
from tests.tiny_models import CONFIGS, N_BLOCKS, VOCABULARY, save_tiny_model

N_CLASSES = 3
LENGTHS = (3, 11, 7, 1, 9)
LABELS = torch.tensor([0, 1, 2, 1, 0])


@pytest.fixture(scope="module", params=CONFIGS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder: Path = tmp_path_factory.mktemp("model")
    save_tiny_model(folder, request.param)
    return load(str(folder), N_CLASSES, seed=0)


def batch_of(base: Backbone, order: list[int]) -> tuple[Tensor, Tensor]:
    """The same texts for any order of rows, as Transformers wants them: padded on the right."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(4, len(VOCABULARY), (length,), generator=generator) for length in LENGTHS]
    chosen = [rows[i] for i in order]
    ids = nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=base.config.pad_token_id)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in chosen], batch_first=True)
    return ids, mask


def packed(ids: Tensor, mask: Tensor) -> tuple[Tensor, Packing]:
    """The padded batch end to end."""
    return ids[mask.bool()], Packing(mask.sum(1))


def cut_logits(
    base: Backbone, head: heads.Head, ids: Tensor, mask: Tensor, cut: int, only: str | None = None
) -> Tensor:
    """Trunk without gradients, then tail and head with them, as a fit does it."""
    row, packing = packed(ids, mask)
    depth = len(base.layers)
    with torch.no_grad():
        hidden = base.run_layers(base.embed(row, packing), packing, 0, cut)
    hidden = base.normalise(base.run_layers(hidden, packing, cut, depth, only=only))
    if only:
        return head(hidden)
    return head(
        torch.cat(
            [base.pooled(hidden, packing, part) for part in heads.halves(head.pooling, base.summary_position)], dim=1
        )
    )


def family_head(base: Backbone) -> heads.Head:
    return heads.build(base, "last" if base.family.causal else "cls", N_CLASSES, seed=0)


def assert_same_gradients(
    base: Backbone, head: heads.Head, ours: Tensor, reference: Tensor, labels: Tensor, cut: int
) -> None:
    expected = trained_gradients(base, head, nn.functional.cross_entropy(reference, labels), cut)
    actual = trained_gradients(base, head, nn.functional.cross_entropy(ours, labels), cut)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


def trained_gradients(base: Backbone, head: heads.Head, loss: Tensor, cut: int) -> list[Tensor]:
    weights = [*(w for block in base.layers[cut:] for w in block.parameters()), *base.norm.parameters()]
    return list(torch.autograd.grad(loss, [*weights, *head.parameters()]))


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


ORDERS = {"padded": [0, 1, 2, 3, 4], "reversed": [4, 3, 2, 1, 0]}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("short", [True, False], ids=["plain attention", "fused attention"])
@pytest.mark.parametrize("cut", range(N_BLOCKS + 1))
def test_packed_and_cut_model_equals_transformers_on_a_padded_batch(
    base: Backbone, cut: int, short: bool, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_module, "_SHORT", 96 if short else 0)
    ids, mask = batch_of(base, order)
    head = family_head(base)
    reference = base.model(input_ids=ids, attention_mask=mask).logits
    ours = cut_logits(base, head, ids, mask, cut)
    assert_close(ours, reference)
    assert_same_gradients(base, head, ours, reference, LABELS[order], cut)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("short", [True, False], ids=["plain attention", "fused attention"])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_of_the_whole_backbone_equal_those_of_transformers(
    base: Backbone, recompute: bool, short: bool, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_module, "_SHORT", 96 if short else 0)
    ids, mask = batch_of(base, order)
    head = family_head(base)
    row, packing = packed(ids, mask)
    states = base.run_layers(base.embed(row, packing), packing, 0, N_BLOCKS, only=head.pooling, recompute=recompute)
    found = backbone_gradients(base, head(base.normalise(states)), LABELS[order])
    expected = backbone_gradients(base, base.model(input_ids=ids, attention_mask=mask).logits, LABELS[order])
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda told, name=name: name + told)


def backbone_gradients(base: Backbone, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """By name, of the weights that the logits depend on."""
    named = dict(base.body.named_parameters())
    loss = nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("cut", range(N_BLOCKS + 1))
def test_last_block_for_one_token_a_text_equals_the_whole_block(base: Backbone, cut: int, order: list[int]) -> None:
    ids, mask = batch_of(base, order)
    head = family_head(base)
    reference = base.model(input_ids=ids, attention_mask=mask).logits
    ours = cut_logits(base, head, ids, mask, cut, only=head.pooling)
    assert_close(ours, reference)
    assert_same_gradients(base, head, ours, reference, LABELS[order], cut)


@pytest.mark.parametrize("row", range(len(LENGTHS)))
@pytest.mark.parametrize("cut", [0, 2, N_BLOCKS])
def test_cut_model_equals_transformers_on_a_text_alone(base: Backbone, cut: int, row: int) -> None:
    ids, mask = batch_of(base, [row])
    head = family_head(base)
    reference = base.model(input_ids=ids, attention_mask=mask).logits
    ours = cut_logits(base, head, ids, mask, cut)
    assert_close(ours, reference)
    assert_same_gradients(base, head, ours, reference, LABELS[[row]], cut)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("whole", [True, False], ids=["all tokens", "one token in the last block"])
def test_rows_that_are_no_texts_change_nothing(base: Backbone, whole: bool, order: list[int]) -> None:
    head = family_head(base)
    ids, mask = batch_of(base, order)
    results = []
    for filled in (False, True):
        row, packing = packed(ids, mask)
        hidden = base.embed(row, packing)
        if filled:
            hidden, packing = packing.filled(hidden)
            assert packing.filler == len(hidden) - len(row) > 0
        states = base.run_layers(hidden, packing, 0, N_BLOCKS, only=None if whole else head.pooling)
        seen = base.normalise(packing.unfilled(states) if whole else states)
        logits = head(packing.pooled(base.normalise(states), head.pooling) if whole else seen)
        gradients = trained_gradients(base, head, nn.functional.cross_entropy(logits, LABELS[order]), 0)
        results.append([seen, logits, *gradients])
    for with_filler, without in zip(*reversed(results), strict=True):
        assert_close(with_filler, without)


def test_a_text_scores_the_same_alone_and_in_a_batch(base: Backbone) -> None:
    head = family_head(base)
    ids, mask = batch_of(base, ORDERS["padded"])
    together = cut_logits(base, head, ids, mask, 2)
    for row in range(len(LENGTHS)):
        assert_close(cut_logits(base, head, *batch_of(base, [row]), 2)[0], together[row])


@pytest.mark.parametrize("pooling", ["mean", "both"])
def test_own_poolings_equal_transformers_hidden_states_pooled_by_hand(base: Backbone, pooling: str) -> None:
    ids, mask = batch_of(base, ORDERS["padded"])
    states = base.body(input_ids=ids, attention_mask=mask).last_hidden_state
    head = heads.build(base, pooling, N_CLASSES, seed=0)
    by_hand = []
    for row, length in zip(states, LENGTHS, strict=True):
        real = row[:length]
        whole_text = real[-1] if base.family.causal else real[0]
        mean = real.mean(0)
        if not base.family.causal:
            mean = mean / mean.norm() * base.hidden_size**0.5
        by_hand.append(mean if pooling == "mean" else torch.cat([whole_text, mean]))
    assert_close(cut_logits(base, head, ids, mask, 1), head.linear(torch.stack(by_hand)))


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("depth", range(1, N_BLOCKS + 1))
def test_truncated_model_equals_transformers_with_that_many_layers(tmp_path: Path, family: str, depth: int) -> None:
    folder = save_tiny_model(tmp_path, family)
    whole = load(str(folder), N_CLASSES, seed=0)
    whole.truncate(depth)
    # Configured and made by Transformers alone.
    shallow = AutoConfig.from_pretrained(folder, num_hidden_layers=depth, num_labels=N_CLASSES)
    shallow.pad_token_id = whole.config.pad_token_id
    if getattr(shallow, "layer_types", None):
        shallow.layer_types = shallow.layer_types[:depth]
    if hasattr(shallow, "classifier_pooling"):
        shallow.classifier_pooling = "cls"
    model = AutoModelForSequenceClassification.from_config(shallow).eval()
    model.load_state_dict(whole.model.state_dict())
    ids, mask = batch_of(whole, ORDERS["padded"])
    reference = model(input_ids=ids, attention_mask=mask).logits
    assert whole.config.num_hidden_layers == depth
    assert_close(cut_logits(whole, family_head(whole), ids, mask, 1), reference)


LONG_LENGTHS = (2, 5, 31, 70, 150, 200)


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """One that takes texts as long as the farthest bucket of distances reaches."""
    folder = save_tiny_model(tmp_path_factory.mktemp("model"), "mpnet", max_position_embeddings=210)
    return load(str(folder), N_CLASSES, seed=0)


@pytest.mark.parametrize("only", [None, "cls"])
def test_bias_by_distance_reaches_every_token_of_texts_of_all_lengths(mpnet: Backbone, only: str | None) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(4, len(VOCABULARY), (length,), generator=generator) for length in LONG_LENGTHS]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    row, packing = packed(ids, mask)
    assert len(packing.stretches) > 1
    states = mpnet.body(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = states[:, 0] if only else states[mask.bool()]
    ours = mpnet.run_layers(mpnet.embed(row, packing), packing, 0, N_BLOCKS, only=only)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    weights = [mpnet.body.encoder.relative_attention_bias.weight, mpnet.layers[0].attention.attn.q.weight]
    gradients = [torch.autograd.grad((given**2).sum(), weights) for given in (ours, expected)]
    for actual, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-3)


def test_bias_is_looked_up_once_for_all_layers_of_a_run(mpnet: Backbone) -> None:
    looked_up = []
    table = mpnet.body.encoder.relative_attention_bias
    handle = table.register_forward_hook(lambda *_: looked_up.append(1))
    row, packing = packed(*batch_of(mpnet, ORDERS["padded"]))
    mpnet.run_layers(mpnet.embed(row, packing), packing, 0, N_BLOCKS)
    handle.remove()
    assert len(looked_up) == 1
