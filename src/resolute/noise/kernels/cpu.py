"""The kernel for the CPU: C++ without a single header of PyTorch, built once and kept on disk.

So it builds in a second, and one build serves every shape and every version of PyTorch and Python.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resolute.noise.kernels.reference import Kernel
from resolute.noise.signs import ALWAYS, BLOCK

if TYPE_CHECKING:
    from resolute.noise.signs import Groups

_SOURCE = Path(__file__).with_name("multiply.cpp")
_SYMBOLS = {torch.float32: "multiply_float32", torch.float64: "multiply_float64", torch.bfloat16: "multiply_bfloat16"}
_ARGUMENTS = (
    *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ctypes.c_double, ctypes.c_double, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p,
)  # fmt: skip


@functools.cache
def compiled() -> Kernel | None:
    """Load the kernel, building it if this machine has not built it before; None, with a warning, where that fails."""
    try:
        library = _load()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        warnings.warn(
            f"No kernel could be built for the CPU, so the noise runs on PyTorch's own operations, about as fast as "
            f"nn.Dropout. Install g++, or name a C++ compiler in CXX. The reason: {said}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    functions = {dtype: getattr(library, symbol) for dtype, symbol in _SYMBOLS.items()}
    for function in functions.values():
        function.argtypes, function.restype = _ARGUMENTS, None

    def run(
        src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int,
        groups: Groups | None = None,
    ) -> None:  # fmt: skip
        functions[ref.dtype](
            src.data_ptr(), ref.data_ptr(), out.data_ptr(), ref.numel(), start, seed.data_ptr(), eps, slope, level,
            torch.get_num_threads(), None if groups is None else _grouped(groups, ref.shape, ref.stride(), start),
        )  # fmt: skip

    return Kernel("C++", frozenset(functions), run)


@functools.lru_cache(maxsize=4096)
def _grouped(
    groups: Groups, shape: tuple[int, ...], stride: tuple[int, ...], start: int
) -> ctypes.Array[ctypes.c_int64] | None:
    """Write what the kernel calls Groups; None where each element has a sign, and all have one strength."""
    run, inner, channels = groups.layout(shape, stride)
    of_elements, of_random = groups.grain == "element", groups.spread == "random"
    if channels == run and start % BLOCK == 0:  # a channel of one element is that element
        of_elements, inner, channels = True, run, 1
        if not of_random and groups.share == ALWAYS:
            return None
    values = (shape[0], run, inner, channels, start // run, of_elements, of_random, groups.share)
    return (ctypes.c_int64 * len(values))(*values)


def _load() -> ctypes.CDLL:
    """Load the build for this source and processor from the cache, or make it and keep it there."""
    vectors = ["-mavx2"] if torch.backends.cpu.get_cpu_capability().startswith("AVX") else []
    flags = ["-std=c++17", "-O3", "-fPIC", "-ffp-contract=off", "-Wno-psabi", *vectors]
    openmp = sorted(Path(torch.__file__).with_name("lib").glob("libgomp*"))
    made_of = [_SOURCE.read_text(), platform.machine(), *flags, *map(str, openmp)]
    key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
    with tempfile.TemporaryDirectory() as scratch:
        cache = _cache_folder() or Path(scratch)
        for path in cache.glob(f"multiply-{key}-*.so"):
            if _is_intact(path, key):
                return ctypes.CDLL(str(path))
        built = _build(Path(scratch), flags, openmp)
        return ctypes.CDLL(str(_keep(built, cache, key)))


def _name(key: str, build: bytes) -> str:
    """Name a build after what it is made of and after its own bytes: a damaged one is not loaded, but built anew."""
    return f"multiply-{key}-{hashlib.sha256(build).hexdigest()}.so"


def _is_intact(path: Path, key: str) -> bool:
    try:
        return path.name == _name(key, path.read_bytes())
    except OSError:
        return False


def _cache_folder() -> Path | None:
    """Find the user's cache; there is none without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resolute"
    except RuntimeError:
        return None


def _keep(built: Path, cache: Path, key: str) -> Path:
    """Put a build into the cache as a whole, whoever else does so; use it where it is if that cannot be written."""
    content = built.read_bytes()
    kept = cache / _name(key, content)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        number, partial = tempfile.mkstemp(dir=cache)
    except OSError:
        return built
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(kept)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        return built
    return kept


def _build(folder: Path, flags: list[str], openmp: list[Path]) -> Path:
    """Compile, then link against PyTorch's own OpenMP, so that its threads are used and no second pool is made."""
    named = os.environ.get("CXX", "")
    try:
        compiler = shlex.split(named) or [shutil.which("c++") or shutil.which("g++") or "clang++"]
    except ValueError as error:
        raise ValueError(f"CXX is {named!r}, which is no command: {error}") from None
    part, whole = folder / "multiply.o", folder / "multiply.so"
    pool = [str(path) for path in openmp[:1]] or ["-fopenmp"]
    run = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    run([*compiler, *flags, "-fopenmp", "-c", str(_SOURCE), "-o", str(part)])
    run([*compiler, "-shared", str(part), "-o", str(whole), *pool])
    return whole
