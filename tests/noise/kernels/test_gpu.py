"""The Triton kernel against the reference by its interpreter, without a GPU."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from noise.kernels.checks import GROUPS, check_groups, check_kernel

if TYPE_CHECKING:
    from resolute.noise.kernels.reference import Kernel
    from resolute.noise.signs import Groups


@pytest.fixture
def triton_kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Load the Triton kernel anew with its interpreter on."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    spec = importlib.util.find_spec("resolute.noise.kernels.gpu")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel: Kernel = module.TRITON
    return kernel


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("p", "slope"), [(0.5, 1.0), (0.5, 0.0), (0.3, 0.01), (0.0, 1.0), (1.0, 0.0), (0.25, 1.0)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's NumPy multiplies with inf and nan
def test_triton_kernel_is_the_truth_bit_for_bit(
    triton_kernel: Kernel, dtype: torch.dtype, p: float, slope: float
) -> None:
    rtol = 2**-7 if dtype == torch.bfloat16 else 0.0  # the interpreter cuts the last bits off, the compiler rounds
    for n in (1, 1025):
        check_kernel(triton_kernel, n, dtype, p, slope, rtol=rtol)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("shape", ["vector", "wide features", "small images", "small images, channels last"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_groups_of_triton_are_the_truth_bit_for_bit(triton_kernel: Kernel, shape: str, groups: Groups) -> None:
    check_groups(triton_kernel, shape, torch.float32, groups, 0.3, 7)


@pytest.mark.parametrize("dtype", ["fp32", "fp64", "fp16", "bf16"])
@pytest.mark.parametrize(("level", "rectify", "grouped"), [(2**15, True, False), (19661, False, True)])
def test_triton_kernel_compiles_for_a_gpu_that_is_not_here(
    dtype: str, level: int, rectify: bool, grouped: bool
) -> None:
    pytest.importorskip("triton")
    from triton import compile as build
    from triton import language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from resolute.noise.kernels import gpu

    constants = {"level": level, "rectify": rectify, "wide": tl.float64 if dtype == "fp64" else tl.float32}
    constants["grouped"] = grouped
    scalars = {"seed": "*i64", "n": "i64", "start": "i64", "eps": "fp64", "slope": "fp64"}
    wide = "fp64" if dtype == "fp64" else "fp32"
    scalars |= {"table": f"*{wide}", "run": "i64", "inner": "i64", "channels": "i64"}
    signature = dict.fromkeys(("src", "ref", "out"), f"*{dtype}") | scalars | dict.fromkeys(constants, "constexpr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = build(ASTSource(gpu._multiply, signature, constants), GPUTarget("cuda", 90, 32), {"num_warps": 1})
    assert "st.global" in built.asm["ptx"]
    assert "fma.rn" not in built.asm["ptx"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_positions_beyond_32_bits_count_in_triton(triton_kernel: Kernel) -> None:
    check_kernel(triton_kernel, 2048, torch.float32, 0.5, 1.0, 2**36 + 1024)
