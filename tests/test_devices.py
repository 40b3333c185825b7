"""Number types and devices: everything lands where the base is, whatever that is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rehead.models.backbone import Backbone
from rehead.models.heads import Head, build
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.training import lora
from rehead.training.features import trunk_pass
from rehead.training.inputs import Computed
from rehead.training.loop import Recipe
from rehead.training.tail import Labelled, Tail
from tests.tiny_models import CONFIGS, DECODERS, WORDS, save_tiny_model
from tests.training.tails import train

LENGTHS = [3, 1, 5, 5, 2]


def on_meta(lengths: list[int]) -> Packing:
    """A packing on the device that has shapes and no numbers; what must be read off numbers is given to it."""
    real = Packing(torch.tensor(lengths))
    packing = Packing(real.lengths.to("meta"))
    for name in ("longest", "_even"):
        packing.__dict__[name] = getattr(real, name)
    for name in ("offsets", "positions", "_to_packed"):
        packing.__dict__[name] = getattr(real, name).to("meta")
    return packing


@pytest.mark.parametrize("family", CONFIGS)
def test_blocks_make_every_tensor_where_the_states_are(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    base.model.to("meta")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it knows no meta device
    packing, ids = on_meta(LENGTHS), torch.empty(sum(LENGTHS), dtype=torch.int64, device="meta")
    # Operations on the meta device refuse tensors of another, so a table made on the CPU would be an error here.
    with torch.inference_mode():
        hidden = base.embed(ids, packing)
        all_tokens = base.normalise(base.run_layers(hidden, packing, 0, 4))
        one_token = base.run_layers(hidden, packing, 0, 4, only="last" if family in DECODERS else "cls")
    assert {hidden.device.type, all_tokens.device.type, one_token.device.type} == {"meta"}
    assert hidden.shape == all_tokens.shape == (len(ids), base.hidden_size)
    assert one_token.shape == (len(LENGTHS), base.hidden_size)


@pytest.mark.parametrize("family", CONFIGS)
def test_only_matrix_products_are_converted(family: str, tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0).with_products_in(torch.bfloat16)
    for block in base.layers:
        for name, weight in block.named_parameters():
            product = weight.dim() == 2 or (name.endswith("bias") and "norm" not in name.lower() and "ln_" not in name)
            assert weight.dtype == (torch.bfloat16 if product else torch.float32), name


@pytest.mark.parametrize(
    ("device", "has_bf16", "expected"),
    [("cuda", True, torch.bfloat16), ("cuda", False, torch.float32), ("mps", True, torch.float32)],
)
def test_accelerators_say_themselves_what_they_do_natively(
    device: str, has_bf16: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "device", lambda: torch.device(device))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    hardware.native_dtype.cache_clear()
    try:
        assert hardware.native_dtype() == expected
    finally:
        hardware.native_dtype.cache_clear()


def test_speeds_are_remembered_for_each_machine(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def speed(dtype: torch.dtype) -> float:
        measured.append(dtype)
        return 2.0 if dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(hardware, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(hardware, "_product_speed", speed)
    try:
        for processor in ("one", "another", "one", "another"):
            monkeypatch.setattr(hardware, "_processor", lambda processor=processor: processor)
            hardware.native_dtype.cache_clear()
            assert hardware.native_dtype() == torch.bfloat16
    finally:
        hardware.native_dtype.cache_clear()
    assert measured == [torch.float32, torch.bfloat16, torch.int8] * hardware._ROUNDS * 2


def test_a_busy_machine_has_its_usual_speed(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (2.0, 0.1):
        monkeypatch.setattr(hardware, "_product_speed", lambda dtype, now=now: now)
        assert hardware.usual_speed(torch.float32) == 2.0


def test_a_machine_that_is_busy_for_a_moment_computes_as_a_quiet_one(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured in that moment is slow; it is not what computes slowly."""
    measured = []

    def speed(dtype: torch.dtype) -> float:
        measured.append(dtype)
        return (2.0 if dtype == torch.bfloat16 else 1.0) / (10 if len(measured) in (2, 3, 4) else 1)

    monkeypatch.setattr(hardware, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(hardware, "_product_speed", speed)
    hardware.native_dtype.cache_clear()
    try:
        assert hardware.native_dtype() == torch.bfloat16
    finally:
        hardware.native_dtype.cache_clear()


def with_adapters(copied: Backbone, head: Head) -> Tail:
    return Tail.of_adapters(copied, head, 4, lora.attach(copied, 0)[0])


@pytest.mark.skipif(hardware.device().type == "cpu", reason="this machine has no accelerator that torch can use")
@pytest.mark.parametrize("way", ["all blocks", "full", "lora"])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_accelerator_computes_what_the_cpu_does(
    family: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(save_tiny_model(tmp_path, family))
    texts = [" ".join(WORDS[i : i + n]) for i, n in [(0, 3), (2, 9), (5, 1), (7, 9)]]
    results = []
    for device in (hardware.device(), torch.device("cpu")):
        monkeypatch.setattr(hardware, "device", lambda device=device: device)
        base = load(folder, 2, seed=0)
        ids = encode(base, texts, 64).ids
        pooled = trunk_pass(base, ids, depths=[4], pooling="mean", cut=2).seen
        base.model.to("cpu")  # as the stages before it leave it
        head = build(base, "mean", 2, seed=0)
        tail = {
            "all blocks": lambda base=base, head=head: Tail.of_blocks(base, head, 0, 4),
            "full": lambda base=base, head=head: Tail.of_everything(base, head, 4),
            "lora": lambda base=base, head=head: with_adapters(lora.copy_of(base, torch.float32), head),
        }[way]()
        labelled = Labelled(Computed(tail.base, ids, 0), torch.tensor([0, 1, 0, 1]))
        train(tail, labelled, labelled, Recipe(epochs=2, batch_size=2))
        results.append((pooled, tail.logits(labelled.inputs)))
    for there, here in zip(*results, strict=True):
        assert torch.allclose(there.cpu(), here, atol=2e-2)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is told anything")
@pytest.mark.parametrize(("megabytes", "asked"), [(8, ""), (64, "of_any_size=True")])
def test_memory_of_freed_tensors_is_used_again(megabytes: int, asked: str) -> None:
    # In a process of its own: the setting stays for the rest of one.
    script = f"""
import resource, torch
from rehead.runtime import hardware
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        kept = [torch.ones({megabytes} * 2**20, dtype=torch.uint8) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = pages()
hardware.keep_freed_memory({asked})
for _ in range(3):
    kept = pages()
print(given_back, kept)
"""
    run = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    given_back, kept = map(int, run.stdout.split())
    if given_back < 1000:
        pytest.skip("this C library keeps freed memory by itself")
    # Where in the heap tensors come to lie varies, so it may still grow by one or two of them.
    assert kept < given_back / 4
