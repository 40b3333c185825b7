"""The machine: its device, the fastest number type that it has natively, its speed, its memory and its threads."""

import ctypes
import json
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from rehead.runtime import files, int8

# Below this ratio the gain of bf16 does not pay for its eight bits of precision, and a noisy machine could
# measure it either way; native support shows a ratio of 1.6 or more, emulation one below 1.
_WORTHWHILE_SPEEDUP = 1.3
# The same of int8, which loses as much; with VNNI it is 1.8 and more.
_WORTHWHILE_INT8 = 1.5
# What is measured of a machine.
_TYPES = ("float32", "bfloat16", "int8")
# How often all of them are.
_ROUNDS = 4
# Rows, inner width and columns of the product that is timed: those of a small language model's layer, and the rows of a
# batch of the trunk pass. An accelerator is through with the CPU's 2,048 before the next is launched.
_PRODUCT = (2048, 576, 1536)
_ROWS_ON_AN_ACCELERATOR = 65_536
# How much a thread that computes gives way to one that answers; 19 is the most.
_NICE = 10
# Parameters of mallopt(3): the size from which on memory comes from the system and goes back to it (32 MB is the most
# that glibc takes); the free bytes at the end of the heap that are kept; the bytes by which the heap grows.
_ALLOCATOR = {-3: 32 * 2**20, -1: 512 * 2**20, -2: 64 * 2**20}
# The number of larger pieces that may come from the system: none.
_NONE_FROM_SYSTEM = {-4: 0}


def device() -> torch.device:
    """Return the accelerator that torch sees (CUDA, MPS), or the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


@lru_cache(maxsize=1)
def native_dtype() -> torch.dtype:
    """Return the type that matrix products run fastest in here: bfloat16 where it is native, else float32.

    It is measured, because a CPU that merely emulates bf16 is several times slower with it; and measured once for a
    machine, because a noisy measurement that went the other way would change the result of a fit.
    """
    if device().type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device().type != "cpu":
        return torch.float32
    fast_enough = usual_speed(torch.bfloat16) >= _WORTHWHILE_SPEEDUP * usual_speed(torch.float32)
    return torch.bfloat16 if fast_enough else torch.float32


def frozen_dtype() -> torch.dtype:
    """Return the type that products with an encoder's frozen weights run fastest in: int8 on a CPU that has no bfloat16
    and multiplies that much faster, else `native_dtype`.
    """
    native = native_dtype()
    if native != torch.float32 or device().type != "cpu":
        return native
    fast_enough = usual_speed(torch.int8) >= _WORTHWHILE_INT8 * usual_speed(torch.float32)
    return torch.int8 if fast_enough else native


def usual_speed(dtype: torch.dtype) -> float:
    """Return `product_speed` of this machine's CPU as it was when it was measured first, whatever else runs now.

    For what must not differ from one fit to the next, or when an interrupted one goes on.
    """
    remembered = files.cache_folder() / "machine.json"
    machine = f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    machines = _read_speeds(remembered)
    if machine not in machines:
        # In turn, so that other work slows all of them: it is for good.
        rounds = [[_product_speed(getattr(torch, name)) for name in _TYPES] for _ in range(_ROUNDS)]
        machines[machine] = dict(zip(_TYPES, map(max, zip(*rounds, strict=True)), strict=True))
        with suppress(OSError):  # then it is measured again next time
            remembered.parent.mkdir(parents=True, exist_ok=True)
            files.write_file(remembered, json.dumps(machines, indent=2).encode())
    return machines[machine][str(dtype).removeprefix("torch.")]


@lru_cache(maxsize=3)
def product_speed(dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a plain matrix product; measured once in a process (50 ms).

    Args:
        dtype: int8 is for a CPU's float32 rows, whose quantisation counts; 0 where it is not exact.
    """
    return _product_speed(dtype)


def _product_speed(dtype: torch.dtype) -> float:
    rows, inner, columns = _PRODUCT
    where = device()
    if where.type != "cpu":
        rows = _ROWS_ON_AN_ACCELERATOR
    in_int8 = dtype == torch.int8
    if in_int8 and (where.type != "cpu" or not int8.is_exact()):
        return 0.0
    left = torch.ones(rows, inner, dtype=torch.float32 if in_int8 else dtype, device=where)
    weight = torch.ones(columns, inner, dtype=left.dtype, device=where)
    whole = int8.quantise_weight(weight) if in_int8 else None
    fastest = float("inf")
    with torch.inference_mode():
        for _ in range(8):
            start = time.perf_counter()
            if whole is not None:
                int8.multiply(int8.quantise(left), whole, None)
            else:
                torch.nn.functional.linear(left, weight)
            if where.type != "cpu":
                torch.accelerator.synchronize()
            fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * rows * inner * columns / fastest


def free_device_memory() -> int:
    """Return the bytes that tensors may still take where they are computed: on the accelerator, or of the computer."""
    if device().type == "cuda":
        # Memory that torch holds without using it is free, too.
        unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + unused
    return free_memory()


def free_memory() -> int:
    """Return the bytes of the computer's memory that a program may still take."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


def peak_rss_bytes() -> int:
    """Return the most memory, in bytes, that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Compute convolutions of float32 inside the block in float32 on CUDA, too.

    By default cuDNN rounds what they multiply to TF32, which moved features of images by a thousandth.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@lru_cache(maxsize=2)
def keep_freed_memory(*, of_any_size: bool = False) -> None:
    """Let glibc keep the memory of freed tensors for the next ones, for the rest of the process.

    By default it gives the larger ones back to the system, which clears every page anew when it is asked for again:
    a fifth of the trunk pass's time. Other C libraries are left as they are.

    Args:
        of_any_size: that of tensors beyond 32 MB, too: for work that makes the same ones again and again.
    """
    if libc := _glibc():
        for parameter, value in (_ALLOCATOR | (_NONE_FROM_SYSTEM if of_any_size else {})).items():
            libc.mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Give back what `keep_freed_memory` has kept: for the end of work whose tensors nothing after it resembles."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def batches_at_once() -> int:
    """Return how many batches keep this machine busy, where each has as many threads as torch uses in this process."""
    if device().type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // torch.get_num_threads())


def give_way() -> None:
    """Let the process's other threads go before the one that calls this, where the system knows such a thing.

    On a machine whose cores all compute, a thread that answers would otherwise wait for its turn.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # where the system does not allow it, answers wait a little longer
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the small products inside the block in one thread.

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


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        instructions = next((line for line in lines if line.startswith("flags")), "")
        kinds = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX", "vnni": "VNNI"}
        return ", ".join([named, *(kind for name, kind in kinds.items() if name in instructions)])
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"


def _read_speeds(file: Path) -> dict[str, dict[str, float]]:
    """Return speeds by machine, since several may share a cache folder, or one run with several numbers of threads."""
    try:
        remembered = json.loads(file.read_text(encoding="utf-8"))
        return {machine: {name: float(speeds[name]) for name in _TYPES} for machine, speeds in remembered.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
