"""The kernel for the CPU: C++ without a single header of PyTorch, built once and kept on disk.

So it builds in a second, and one build serves every shape and every version of PyTorch and Python.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name("multiply.cpp")
DTYPES = {
    torch.float32: "multiply_float32",
    torch.float64: "multiply_float64",
    torch.bfloat16: "multiply_bfloat16",
}
_ARGUMENTS = (
    *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ctypes.c_double, ctypes.c_double, ctypes.c_uint32, ctypes.c_int,
)  # fmt: skip


def multiply(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int = 0
) -> None:
    """Run the kernel on tensors that lie in memory in the same way, without gaps.

    Args:
        src: What is multiplied.
        ref: What the signs belong to.
        out: Where the product goes; it may be ``src``.
        seed: int64, 0-d.
        eps: Strength.
        level: Probability of the sign +1, times 2**16.
        slope: Factor of ``src`` where ``ref`` is not above 0.
        start: Position of the first element, a multiple of 1024.
    """
    threads = torch.get_num_threads()
    getattr(library(), DTYPES[ref.dtype])(
        src.data_ptr(), ref.data_ptr(), out.data_ptr(), ref.numel(), start, seed.data_ptr(), eps, slope, level, threads
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the kernel, building it if this machine has not built it before.

    Returns:
        The library, or None where it can't be built.

    Warns:
        RuntimeWarning: Once, if there is no build, with the reason.
    """
    try:
        loaded = ctypes.CDLL(str(_built()))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        warnings.warn(
            f"No kernel could be built for the CPU, so the noise runs on PyTorch's own operations, about as fast as "
            f"nn.Dropout. Install g++, or name a C++ compiler in CXX. The reason: {said}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    for name in DTYPES.values():
        getattr(loaded, name).argtypes = _ARGUMENTS
        getattr(loaded, name).restype = None
    return loaded


def _built() -> Path:
    """Find the build for this source, compiler and processor in the cache, or make it there."""
    vectors = ["-mavx2"] if torch.backends.cpu.get_cpu_capability().startswith("AVX") else []
    flags = ["-std=c++17", "-O3", "-fPIC", "-ffp-contract=off", "-Wno-psabi", *vectors]
    openmp = sorted(Path(torch.__file__).with_name("lib").glob("libgomp*"))
    made_of = [_SOURCE.read_text(), *flags, *map(str, openmp)]
    name = f"multiply-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resolute"
    if not (cache / name).exists():
        with tempfile.TemporaryDirectory() as folder:
            fresh = _build(Path(folder), flags, openmp)
            cache.mkdir(parents=True, exist_ok=True)
            partial = cache / f"{name}.{os.getpid()}"
            shutil.copyfile(fresh, partial)
            partial.replace(cache / name)
    return cache / name


def _build(folder: Path, flags: list[str], openmp: list[Path]) -> Path:
    """Compile, then link against PyTorch's own OpenMP, so that its threads are used and no second pool is made."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or shutil.which("g++") or "clang++"]
    part, whole = folder / "multiply.o", folder / "multiply.so"
    pool = [str(path) for path in openmp[:1]] or ["-fopenmp"]
    run = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    run([*compiler, *flags, "-fopenmp", "-c", str(_SOURCE), "-o", str(part)])
    run([*compiler, "-shared", str(part), "-o", str(whole), *pool])
    return whole
