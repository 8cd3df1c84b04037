"""What is refused, and what warns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from resolute.errors import InputError, check_strength
from resolute.noise import perturb as op
from resolute.noise.perturb import Perturb, perturb

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def unwarned() -> Iterator[None]:
    op._warn_lost.cache_clear()
    yield
    op._warn_lost.cache_clear()


@pytest.mark.parametrize("eps", [1.0, -0.1, float("nan"), float("inf"), -float("inf"), 8])
def test_eps_out_of_range_is_refused(eps: float) -> None:
    for call in (lambda: perturb(torch.ones(1), eps), lambda: Perturb(eps), lambda: check_strength(eps)):
        with pytest.raises(InputError, match=rf"^eps is {eps}; it must be at least 0 and below 1\."):
            call()


@pytest.mark.parametrize("p", [1.01, -0.1, float("nan")])
def test_p_out_of_range_is_refused(p: float) -> None:
    for call in (lambda: perturb(torch.ones(1), 0.1, p), lambda: Perturb(0.1, p)):
        with pytest.raises(ValueError, match=rf"^p is {p}; it is a probability, from 0 to 1\."):
            call()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_tensors_that_are_not_floating_point_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"^perturb got {dtype}; it wants a floating-point tensor\."):
        perturb(torch.ones(2, dtype=dtype))


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^perturb got tuple; .* returns one tensor"):
        perturb((torch.ones(2), None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "lost"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.usefixtures("unwarned")
def test_noise_below_the_resolution_of_the_dtype_warns_once(dtype: torch.dtype, lost: float) -> None:
    x = torch.randn(1000).to(dtype)
    assert not torch.equal(perturb(x, lost), x)
    with pytest.warns(RuntimeWarning, match=rf"eps is below 0\.\d+, the resolution of {dtype}: .*the plain network"):
        perturb(x, lost * 0.99)
    assert torch.equal(perturb(x, lost * 0.49), x), "the warning came twice or the noise does not vanish"
    perturb(x.float(), lost * 0.49)
