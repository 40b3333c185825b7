"""What this machine computes with: the device, and the fastest number type it has natively."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from threadpoolctl import threadpool_limits

# Below this ratio the gain of bf16 does not pay for its eight bits of precision, and a noisy machine could
# measure it either way; native support shows a ratio of 1.6 or more, emulation one below 1.
_WORTHWHILE_SPEEDUP = 1.3


def device() -> torch.device:
    """The accelerator that torch sees (CUDA, MPS), or the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


@lru_cache(maxsize=1)
def native_dtype() -> torch.dtype:
    """The type that matrix products run fastest in here: bfloat16 where it is native, else float32.

    Measured once per process with a matrix product of the size that a small language model's block has
    (about 30 ms in all), because a CPU that merely emulates bf16 is several times slower with it.
    """
    if device().type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device().type != "cpu":
        return torch.float32
    speedup = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    return torch.bfloat16 if speedup >= _WORTHWHILE_SPEEDUP else torch.float32


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs the block's small products in one thread.

    torch's threads and those of numpy's BLAS spin against each other, and against any other busy process: on
    two cores that made a probe's path 10 to 100 times slower than it is in one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


def _product_seconds(dtype: torch.dtype) -> float:
    rows, inner, columns = 512, 576, 1536
    left = torch.ones(rows, inner, dtype=dtype)
    weight = torch.ones(columns, inner, dtype=dtype)
    fastest = float("inf")
    with torch.inference_mode():
        for _ in range(5):
            start = time.perf_counter()
            torch.nn.functional.linear(left, weight)
            fastest = min(fastest, time.perf_counter() - start)
    return fastest
