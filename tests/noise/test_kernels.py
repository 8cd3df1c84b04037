"""The kernels against the reference, bit for bit; the Triton one by its interpreter, without a GPU."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from noise.samples import LAYOUTS
from resolute.noise import kernels, signs
from resolute.noise.kernels import cpu, reference
from resolute.noise.perturb import Perturb, perturb
from resolute.noise.robustify import robustify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from resolute.noise.kernels.reference import Kernel

SEED = torch.tensor(-1234567890123456789)
SIZES = (1, 31, 32, 33, 1023, 1024, 1025, 3000)
PS = (0.5, 0.25, 0.3, 1 / 65536, 0.0, 1.0)
SLOPES = (1.0, 0.0, 0.01, 2.0)


def values(n: int, dtype: torch.dtype) -> Tensor:
    """Draw numbers of many sizes, among them every kind of edge."""
    x = torch.randn(n, dtype=torch.float64) * torch.exp2(torch.empty(n, dtype=torch.float64).uniform_(-9, 9))
    edges = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")], dtype=torch.float64)
    return torch.where(torch.rand(n) < 0.2, edges[torch.randint(5, (n,))], x).to(dtype)


def check_same(actual: Tensor, wanted: Tensor, rtol: float = 0) -> None:
    torch.testing.assert_close(actual, wanted, rtol=rtol, atol=0, equal_nan=True)


def check_kernel(
    kernel: Kernel, n: int, dtype: torch.dtype, p: float, slope: float, start: int = 0, rtol: float = 0
) -> None:
    src, ref = values(n, dtype), values(n, dtype)
    for y in (src, ref):
        out = torch.empty_like(ref)
        kernel.run(y, ref, out, SEED, 0.3, signs.level(p), slope, start)
        check_same(out, reference.product(y, ref, SEED, 0.3, signs.level(p), slope, start), rtol)
    kernel.run(ref, ref, ref, SEED, 0.3, signs.level(p), slope, start)
    check_same(ref, out)


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


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the kernel is not what works."""

    def never(*arguments: object) -> Iterator[object]:
        raise AssertionError("there is a kernel for this")

    for module in (reference, reference):
        monkeypatch.setattr(module, "pieces", never)


def built() -> Kernel:
    kernel = cpu.compiled()
    assert kernel is not None
    return kernel


has_build = pytest.mark.skipif(cpu.compiled() is None, reason="no C++ compiler")


@has_build
@pytest.mark.parametrize("dtype", cpu._SYMBOLS)
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("p", PS)
def test_cpu_kernel_is_the_truth_bit_for_bit(dtype: torch.dtype, p: float, slope: float) -> None:
    for n in SIZES:
        check_kernel(built(), n, dtype, p, slope)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("p", "slope"), [(0.5, 1.0), (0.5, 0.0), (0.3, 0.01), (0.0, 1.0), (1.0, 0.0), (0.25, 1.0)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's NumPy multiplies with inf and nan
def test_triton_kernel_is_the_truth_bit_for_bit(
    triton_kernel: Kernel, dtype: torch.dtype, p: float, slope: float
) -> None:
    rtol = 2**-7 if dtype == torch.bfloat16 else 0.0  # the interpreter cuts the last bits off, the compiler rounds
    for n in (1, 1025):
        check_kernel(triton_kernel, n, dtype, p, slope, rtol=rtol)


@pytest.mark.parametrize("dtype", ["fp32", "fp64", "fp16", "bf16"])
@pytest.mark.parametrize(("level", "rectify"), [(2**15, True), (19661, False)])
def test_triton_kernel_compiles_for_a_gpu_that_is_not_here(dtype: str, level: int, rectify: bool) -> None:
    pytest.importorskip("triton")
    from triton import compile as build
    from triton import language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from resolute.noise.kernels import gpu

    constants = {"level": level, "rectify": rectify, "wide": tl.float64 if dtype == "fp64" else tl.float32}
    scalars = {"seed": "*i64", "n": "i64", "start": "i64", "eps": "fp64", "slope": "fp64"}
    signature = dict.fromkeys(("src", "ref", "out"), f"*{dtype}") | scalars | dict.fromkeys(constants, "constexpr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = build(ASTSource(gpu._multiply, signature, constants), GPUTarget("cuda", 90, 32), {"num_warps": 1})
    assert "st.global" in built.asm["ptx"]
    assert "fma.rn" not in built.asm["ptx"]


@has_build
@pytest.mark.parametrize("start", [2**31 - 1024, 2**31, 2**36 + 1024])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_positions_beyond_32_bits_count(start: int, p: float) -> None:
    check_kernel(built(), 2048, torch.float32, p, 1.0, start)
    level = signs.level(p)
    here, wrapped = signs.draw(SEED, 2048, level, start), signs.draw(SEED, 2048, level, start % 2**31 + 2**20)
    assert not torch.equal(here, wrapped)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_positions_beyond_32_bits_count_in_triton(triton_kernel: Kernel) -> None:
    check_kernel(triton_kernel, 2048, torch.float32, 0.5, 1.0, 2**36 + 1024)


@has_build
@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_signs_do_not_hang_on_the_number_of_threads(threads: int) -> None:
    x, before = torch.randn(100_001), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        g = kernels.compute(kernels.choose(x), x, x, SEED, 0.3, signs.level(0.3))
    finally:
        torch.set_num_threads(before)
    check_same(g, reference.product(x, x, SEED, 0.3, signs.level(0.3)))


@has_build
@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("inplace", [False, True])
def test_layouts_that_differ_and_have_gaps_meet_in_the_memory_order_of_ref(inplace: bool) -> None:
    ref = torch.randn(4, 6, 8, 10).to(memory_format=torch.channels_last)[:, ::2, 1:]
    src = torch.randn(4, 9, 10, 3).permute(0, 3, 1, 2)[:, :, 1:8]
    wanted = reference.product(src, ref, SEED, 0.3, signs.level(0.5))
    out = kernels.compute(kernels.choose(ref, src), src, ref, SEED, 0.3, signs.level(0.5), inplace=inplace)
    check_same(out, wanted)
    assert (out is src) == inplace


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "channels last 3d", "transposed", "permuted"])
def test_the_reference_keeps_the_layout(layout: str, slope: float) -> None:
    """Else a compiler copies each perturbed activation for the convolution after it."""
    x = LAYOUTS[layout]()
    assert reference.product(x, x, SEED, 0.3, signs.level(0.5), slope).stride() == x.stride()


@has_build
def test_each_tensor_has_its_kernel() -> None:
    x = torch.ones(2)
    assert kernels.choose(x) is cpu.compiled()
    assert kernels.choose(torch.nn.Parameter(x), x) is cpu.compiled()
    for other in (x.half(), x.to("meta")):
        assert kernels.choose(other) is reference.PYTORCH


def test_a_gpu_has_its_kernel() -> None:
    pytest.importorskip("triton")
    from resolute.noise.kernels import gpu

    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        assert kernels._fastest(torch.device("cuda", 1), dtype) is gpu.TRITON
    assert kernels._fastest(torch.device("cuda", 1), torch.float8_e5m2) is reference.PYTORCH
    assert kernels._fastest(torch.device("mps"), torch.float32) is reference.PYTORCH


def test_no_kernel_where_somebody_looks_into_it() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.ones(2)
    assert kernels.choose(x.to_sparse()) is None
    assert kernels.choose(x, x.to_sparse()) is None
    with FlopCounterMode(display=False):
        assert kernels.choose(x) is None
    seen: list[object] = []

    def look(row: Tensor) -> Tensor:
        seen.append(kernels.choose(x) or kernels.choose(row))
        return row * 1

    torch.func.vmap(look)(torch.ones(2, 2))
    torch.func.grad(lambda row: look(row).sum())(x)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # tracing is going to leave PyTorch
        torch.jit.trace(look, x, check_trace=False)
    assert seen == [None] * 3


def test_a_call_and_its_gradient_each_choose_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Tensor, ...]] = []
    choose = kernels.choose

    def counted(*tensors: Tensor) -> Kernel | None:
        asked.append(tensors)
        return choose(*tensors)

    monkeypatch.setattr(kernels, "choose", counted)
    x = torch.randn(100)
    perturb(x)
    assert len(asked) == 1
    for layer in (Perturb(), robustify(torch.nn.ReLU()), robustify(torch.nn.GELU())):
        asked.clear()
        out = layer(x.clone().requires_grad_())
        assert len(asked) == 1
        out.sum().backward()
        assert len(asked) == 2


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("p", PS)
def test_plain_kernel_is_the_truth_bit_for_bit(p: float, slope: float) -> None:
    for n in (1, 1025, reference.PIECE + 1025):
        check_kernel(reference.NUMPY, n, torch.float32, p, slope, start=1024)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("slope", SLOPES)
def test_pieces_are_the_truth_bit_for_bit(dtype: torch.dtype, slope: float) -> None:
    check_kernel(reference.PYTORCH, reference.PIECE + 1025, dtype, 0.3, slope, start=1024)
