"""Each tensor has its kernel, which is chosen once and computes what the reference does."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from noise.kernels.checks import SEED, check_same, has_build
from resolute.noise import kernels, signs
from resolute.noise.kernels import cpu, reference
from resolute.noise.perturb import Perturb, perturb
from resolute.noise.robustify import robustify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from resolute.noise.kernels.reference import Kernel


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the kernel is not what works."""

    def never(*arguments: object) -> Iterator[object]:
        raise AssertionError("there is a kernel for this")

    for module in (reference, reference):
        monkeypatch.setattr(module, "pieces", never)


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
        layer(x)  # the first step of training also looks at how strong the noise is
        asked.clear()
        out = layer(x.clone().requires_grad_())
        assert len(asked) == 1
        out.sum().backward()
        assert len(asked) == 2
