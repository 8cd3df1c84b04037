"""What the benchmarks share: alternating runs, the bytes that backward keeps, the peak of memory."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resolute import run_folder


def alternate(passes: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Time all passes in turn, so that a busy machine slows all of them alike.

    Each round has another order, since a pass pays for the memory and the caches that the one before left.

    Args:
        passes: What is timed, by name.
        repeats: Rounds that count.
        warm_up: Rounds before them.

    Returns:
        Seconds of each round, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    order = random.Random(0)
    for repeat in range(repeats + warm_up):
        for name in order.sample(list(passes), len(passes)):
            synchronize()
            begin = time.perf_counter()
            passes[name]()
            synchronize()
            if repeat >= warm_up:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> float:
    """Divide round by round, so that what slows a whole round cancels, and take the median.

    Args:
        seconds: What `alternate` returned.
        name: The numerator.
        to: The denominator.

    Returns:
        The median ratio.
    """
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def kept_bytes(forward: Callable[[], Tensor], parameters: list[Tensor]) -> int:
    """Count the bytes that a forward pass keeps for backward, each storage once, parameters left out.

    Args:
        forward: Computes the loss.
        parameters: What stays in memory anyway.

    Returns:
        The sum of the sizes of the storages.
    """
    storages: dict[int, int] = {}
    held: list[Tensor] = []
    own = {p.untyped_storage().data_ptr() for p in parameters}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        held.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        forward()
    return sum(storages.values())


def peak_bytes(step: Callable[[], Any]) -> int:
    """Measure the peak of memory during a step, above what is held before it.

    Args:
        step: What is run once.

    Returns:
        Bytes: of PyTorch's allocator on the GPU, of the profiler's record of allocations on the CPU.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    results = profile.profiler.kineto_results
    assert results is not None
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def write(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a benchmark with the environment that they were measured in.

    Args:
        path: A JSON file, or None for none.
        rows: What was measured.
    """
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"environment": run_folder.environment(), "results": rows}, indent=1) + "\n")
