"""What holds for every input: the op, the surgery, the statistics and the records."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from resolute.errors import InputError
from resolute.noise.perturb import perturb
from resolute.noise.robustify import is_robust, robustify, unrobustify
from resolute.run_folder import Record, read_bits, read_records, write_bits, write_records
from resolute.stats import holm, wilson

few = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
NUMBERS = st.floats(-1e6, 1e6, width=32)
EPS = st.floats(0, 0.96875, width=32)


@few
@given(x=arrays(np.float32, array_shapes(max_dims=4, max_side=5), elements=NUMBERS), eps=EPS, p=st.floats(0, 1))
def test_noise_keeps_signs_and_zeros_and_is_a_share_of_each_value(x: Any, eps: float, p: float) -> None:
    given_, noisy = torch.from_numpy(x), perturb(torch.from_numpy(x), eps=eps, p=p)
    assert noisy.shape == given_.shape
    assert noisy.dtype == given_.dtype
    share = (noisy.double() - given_.double()).abs()
    assert torch.allclose(share, eps * given_.double().abs(), rtol=1e-4, atol=1e-38 + 2e-7 * float(given_.abs().max()))
    assert bool((noisy * given_ >= 0).all())
    assert bool((noisy[given_ == 0] == 0).all())


@few
@given(x=arrays(np.float32, array_shapes(max_dims=3, max_side=4), elements=NUMBERS), seed=st.integers(0, 2**31))
def test_the_same_state_of_the_generator_gives_the_same_noise(x: Any, seed: int) -> None:
    torch.manual_seed(seed)
    first = perturb(torch.from_numpy(x), eps=0.3)
    torch.manual_seed(seed)
    assert torch.equal(perturb(torch.from_numpy(x), eps=0.3), first)


LAYERS = st.lists(st.sampled_from([nn.ReLU, nn.GELU, nn.Tanh, nn.Identity, nn.SiLU]), min_size=1, max_size=6)


@few
@given(layers=LAYERS, eps=EPS, nested=st.booleans())
def test_surgery_adds_no_key_and_can_be_undone(layers: list[type[nn.Module]], eps: float, nested: bool) -> None:
    torch.manual_seed(0)
    parts = [part for kind in layers for part in (nn.Linear(3, 3), kind())]
    model = nn.Sequential(*parts) if not nested else nn.Sequential(nn.Sequential(*parts), nn.Linear(3, 2))
    before, printed, x = {k: v.clone() for k, v in model.state_dict().items()}, str(model), torch.randn(4, 3)
    quiet = model.eval()(x)
    try:
        robustify(model, eps=eps)
    except InputError:
        assert not {nn.ReLU, nn.GELU, nn.SiLU} & set(layers)
        assert not is_robust(model)
        return
    assert is_robust(model)
    assert model.state_dict().keys() == before.keys()
    assert torch.equal(model.eval()(x), quiet)
    unrobustify(model)
    assert str(model) == printed
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@few
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_never_below_the_p_value_nor_out_of_order(p: list[float]) -> None:
    adjusted = np.asarray(holm(p))
    assert ((adjusted >= np.asarray(p)) & (adjusted <= 1)).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@few
@given(n=st.integers(1, 10**6), share=st.floats(0, 1))
def test_an_interval_holds_its_estimate(n: int, share: float) -> None:
    wrong = round(share * n)
    interval = wilson(wrong, n)
    assert 0 <= interval.low <= wrong / n + 1e-12
    assert wrong / n - 1e-12 <= interval.high <= 1


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
COUNTS = st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
RECORDS = st.builds(
    lambda data, model, method, seed, suite, shift, severity, counts: Record(
        data, model, method, seed, suite, shift, severity, *counts
    ),
    NAMES, NAMES, NAMES, st.integers(0, 2**40), NAMES, NAMES, st.floats(0, 1e6), COUNTS,
)  # fmt: skip


@few
@given(records=st.lists(RECORDS, max_size=5))
def test_records_come_back_as_they_were(records: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder, "records.jsonl"), records)
        assert read_records(Path(folder, "records.jsonl")) == records


@few
@given(right=arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 100))), severity=st.floats(0, 100))
def test_bits_come_back_as_they_were(right: Any, severity: float) -> None:
    bits = {("suite", f"shift-{k}", severity): row for k, row in enumerate(right)}
    with tempfile.TemporaryDirectory() as folder:
        write_bits(Path(folder, "bits.npz"), bits)
        again = read_bits(Path(folder, "bits.npz"))
    assert again.keys() == bits.keys()
    assert all(np.array_equal(again[key], row) for key, row in bits.items())
