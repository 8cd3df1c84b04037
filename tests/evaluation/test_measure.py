from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cases import as_float, tiny_convolution, tiny_images, tiny_info, tiny_network
from resolute import attacks
from resolute.attacks import fgsm
from resolute.data.dataset import Images, take
from resolute.data.folders import open_folder, stream
from resolute.errors import InputError
from resolute.evaluation.measure import evaluate, measure, measure_shift, records
from resolute.noise import signs
from resolute.noise.robustify import robustify
from resolute.run_folder import Record
from resolute.shifts import find_shifts
from resolute.shifts.draws import normal

if TYPE_CHECKING:
    from torch import Tensor

ALL = ("clean", "noise", "fgsm")


def seen(model: nn.Module, x: Tensor, y: Tensor, key: tuple[str, str, float], index: int) -> Tensor:
    """Make one test image by hand."""
    match key:
        case ("clean", "clean", _):
            return x
        case ("noise", "gaussian-noise", std):
            seed = signs.fold(signs.key(0, *key), torch.tensor([index]))
            return (x + std * normal(seed, x.numel()).view_as(x)).clamp(0, 1)
        case ("fgsm", "fgsm", radius):
            return fgsm(model, x, y, radius)
    raise AssertionError(key)


def test_counts_are_those_of_a_loop_over_images() -> None:
    model, images = tiny_network(), tiny_images(60, split="test")
    x, y = as_float(images)
    bits = measure(model, images, ALL)
    assert list(bits) == [shift.key for shift in find_shifts(ALL, images.info)]
    model.eval()
    for key, right in bits.items():
        one = [seen(model, x[i : i + 1], y[i : i + 1], key, i) for i in range(60)]
        by_hand = [int(model(image).argmax()) == int(label) for image, label in zip(one, y, strict=True)]
        assert right.dtype == np.bool_
        assert right.tolist() == by_hand
        assert 0 < right.sum() < 60


def test_top5_looks_for_the_class_among_the_five_highest_logits() -> None:
    info = tiny_info(classes=9)
    model, images = tiny_network(classes=9), tiny_images(60, info, split="test")
    bits = measure(model, images, ("clean", "top5"))
    with torch.no_grad():
        logits = model.eval()(as_float(images)[0]).tolist()
    ranks = [sorted(row, reverse=True).index(row[label]) for row, label in zip(logits, images.y.tolist(), strict=True)]
    assert bits["top5", "top5", 0.0].tolist() == [rank < 5 for rank in ranks]
    assert bits["clean", "clean", 0.0].tolist() == [rank < 1 for rank in ranks]
    assert 0 < sum(rank < 1 for rank in ranks) < sum(rank < 5 for rank in ranks) < 60


def test_records_count_the_bits() -> None:
    images = tiny_images(60, split="test")
    found = evaluate(tiny_network(), images, ALL, name="net", method="r", run_seed=4)
    bits = measure(tiny_network(), images, ALL)
    assert found == [
        Record("tiny", "net", "r", 4, suite, shift, severity, int(right.sum()), 60)
        for (suite, shift, severity), right in bits.items()
    ]
    key = ("clean", "clean", 0.0)
    right = np.array([True, False, True])
    assert records({key: right}, data="d", model="m", method="r", seed=1) == [
        Record("d", "m", "r", 1, "clean", "clean", 0.0, 2, 3)
    ]


def test_a_name_stands_for_its_test_images() -> None:
    [record] = evaluate(tiny_network(classes=10, shape=(1, 8, 8)), "digits")
    assert (record.data, record.model, record.method, record.seed) == ("digits", "model", "-", 0)
    assert (record.key, record.n) == (("clean", "clean", 0.0), 898)


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_bits_do_not_depend_on_the_batch(batch_size: int) -> None:
    model, images = tiny_convolution(), tiny_images(60)
    model(as_float(images)[0])
    whole, parts = measure(model, images, ALL), measure(model, images, ALL, batch_size=batch_size)
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize(("suite", "attack"), [("attacks", "square"), ("autoattack", "autoattack")])
def test_what_draws_for_a_batch_always_meets_the_same_batch(
    suite: str, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch's own size and seed decide the answers here: the suite must fix both."""
    seen: dict[int, list[tuple[int, int]]] = {}
    images = tiny_images(250)

    def draw(model: nn.Module, x: Tensor, y: Tensor, radius: float, *, seed: int) -> Tensor:
        seen.setdefault(batch_size, []).append((len(x), seed))
        return x

    monkeypatch.setattr(attacks, "torchattacks", lambda: None)
    monkeypatch.setattr(attacks, attack, draw)
    shifts = [shift for shift in find_shifts([suite], images.info) if shift.name == attack]
    for batch_size in (1, 7, 256):
        for shift in shifts:
            measure_shift(tiny_network(), images, shift, batch_size=batch_size)
    assert [n for n, _ in seen[1]] == [100, 100, 50] * len(shifts)
    assert len(set(seen[1])) == len(seen[1])
    assert seen[1] == seen[7] == seen[256]


@pytest.fixture
def streamed() -> Images:
    """Thirty photographs that stay on the disk."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        for part in ("train", "test"):
            file = Path(f"set/{part}/class{i % 3}/{i:02}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
    return stream(open_folder(Path("set")), tiny_info(shape=(3, 6, 6)), "test", 6)


def test_a_set_on_the_disk_is_judged_as_in_memory(streamed: Images) -> None:
    held = Images(streamed.info, take(streamed, torch.arange(30)), streamed.y, "test")
    network = tiny_network(shape=(3, 6, 6))
    whole = measure(network, held, ALL)
    for batch_size in (7, 30):
        found = measure(network, streamed, ALL, batch_size=batch_size)
        assert all(np.array_equal(right, found[key]) for key, right in whole.items())
    assert {int(right.sum()) for right in whole.values()} - {0, 30}


def test_the_seed_draws_the_disturbances_and_nothing_else() -> None:
    model, images = tiny_network(), tiny_images(200)
    first, again, other = (measure(model, images, ALL, seed) for seed in (0, 0, 1))
    for key, right in first.items():
        assert np.array_equal(right, again[key])
        assert np.array_equal(right, other[key]) == (key[0] != "noise")


def test_each_severity_and_image_has_noise_of_its_own() -> None:
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :3]

    measure(Watch(), tiny_images(60), ["noise"])
    del seen[0]  # what the network is shown before anything is counted
    x, _ = as_float(tiny_images(60))
    strengths = torch.tensor([0.1, 0.2, 0.3]).view(-1, 1, 1, 1, 1)
    moved = (torch.stack(seen) - x) / strengths
    moved[(torch.stack(seen) <= 0) | (torch.stack(seen) >= 1)] = 0
    rows = moved.flatten(2).flatten(0, 1)
    off = torch.corrcoef(rows)[~torch.eye(len(rows), dtype=torch.bool)]
    assert off.abs().max() < 0.9


def test_the_network_runs_as_deployed_and_gets_its_modes_back() -> None:
    images = tiny_images(60)
    plain = tiny_convolution()
    plain(as_float(images)[0])
    noisy = robustify(tiny_convolution(), eps=0.9)
    noisy.load_state_dict(plain.state_dict())
    noisy[2].eval()
    state = {name: tensor.clone() for name, tensor in noisy.state_dict().items()}
    right = measure(noisy, images, ALL)
    assert all(np.array_equal(bits, right[key]) for key, bits in measure(plain, images, ALL).items())
    assert [module.training for module in noisy] == [True, True, False, True, True, True, True, True]
    assert noisy.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in noisy.state_dict().items())
    assert all(parameter.grad is None for parameter in noisy.parameters())


def test_torch_s_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    measure(tiny_network(dropout=0.5), tiny_images(), ALL)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_caller_hears_of_each_batch() -> None:
    counts: list[int] = []
    measure(tiny_network(), tiny_images(50), ALL, batch_size=20, on_batch=counts.append)
    assert counts == [20, 20, 10] * (1 + 3 + 2)


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(InputError, match="unknown suite 'nois': did you mean 'noise'"):
        evaluate(tiny_network(), tiny_images(), ["nois"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_meets_the_same_disturbances() -> None:
    images = tiny_images(200)
    on_cpu, on_gpu = measure(tiny_network(), images, ALL), measure(tiny_network().cuda(), images, ALL)
    for key, right in on_cpu.items():
        assert (right != on_gpu[key]).sum() <= 1
