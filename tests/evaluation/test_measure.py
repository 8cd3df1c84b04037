"""Right answers, counted shift by shift and continued where they stopped, whatever a network returns or alters."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cases import (
    NO_BATCH,
    NO_GRADIENT,
    NO_LOGITS,
    Answers,
    as_float,
    tiny_convolution,
    tiny_images,
    tiny_info,
    tiny_network,
)
from resolute import attacks
from resolute.attacks import fgsm
from resolute.data.dataset import Images, take
from resolute.data.folders import open_folder, stream
from resolute.errors import InputError
from resolute.evaluation import measure as engine
from resolute.evaluation.measure import (
    NOT_FINITE,
    RIGHT,
    PartFile,
    collect,
    measure,
    measure_shifts,
    not_finite,
    records,
    sample,
)
from resolute.experiment.evaluation import evaluate
from resolute.noise import signs
from resolute.noise.robustify import robustify
from resolute.run_folder import Record
from resolute.shifts import find_shifts
from resolute.shifts.draws import normal
from resolute.stats import wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from resolute.run_folder import Key
    from resolute.shifts.shift import Shift

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

    def draw(model: nn.Module, x: Tensor, y: Tensor, radius: float, *, seed: int, check: bool) -> Tensor:
        seen.setdefault(batch_size, []).append((len(x), seed))
        return x

    monkeypatch.setattr(attacks, "torchattacks", lambda: None)
    monkeypatch.setattr(attacks, attack, draw)
    shifts = [shift for shift in find_shifts([suite], images.info) if shift.name == attack]
    for batch_size in (1, 7, 256):
        measure_shifts(tiny_network(), images, shifts, order=torch.arange(250), batch_size=batch_size)
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


def test_a_set_on_the_disk_is_evaluated_as_in_memory(streamed: Images) -> None:
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


class Memory:
    """A store as simple as it can be."""

    def __init__(self) -> None:
        self.found: dict[Key, NDArray[np.uint8]] = {}

    def load(self) -> Mapping[Key, NDArray[np.uint8]]:
        return dict(self.found)

    def save(self, found: Mapping[Key, NDArray[np.uint8]]) -> None:
        self.found = dict(found)


class Killed(Exception):
    """What ends the process, here."""


@pytest.mark.parametrize("at", [0, 1, 4, 9, 13])
def test_a_killed_evaluation_continues_at_its_batch(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(engine, "SAVES_SHARE", 0)
    images, model, order = tiny_images(100), tiny_network(), torch.arange(100).flip(0)
    shifts = find_shifts(("clean", "noise", "pgd"), images.info)
    shifts[-1] = dataclasses.replace(shifts[-1], block=30)
    done: list[tuple[Key, int]] = []

    def told(shift: Shift, n: int) -> None:
        if len(done) == at and store:
            raise Killed
        done.append((shift.key, n))

    store: Memory | None = None
    whole = measure_shifts(model, images, shifts, order=order, batch_size=40, on_batch=told)
    batches = done.copy()
    assert [n for key, n in batches if key == shifts[-1].key] == [30, 30, 30, 10]
    done.clear()
    store = Memory()
    with pytest.raises(Killed):
        measure_shifts(model, images, shifts, order=order, batch_size=40, store=store, on_batch=told)
    done.append(batches[at])  # it was kept before the caller heard of it
    left = store
    store = None
    found = measure_shifts(model, images, shifts, order=order, batch_size=40, store=left, on_batch=told)
    assert done == batches, "no batch is lost, and none is computed twice"
    assert found.keys() == whole.keys()
    assert all(np.array_equal(found[key], whole[key]) for key in whole)
    done.clear()
    measure_shifts(model, images, shifts, order=order, batch_size=40, store=left, on_batch=told)
    assert not done


def test_saving_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch takes a second here, and a save three: then saves are a minute apart."""
    now, saves = [0.0], []

    class Slow(Memory):
        def save(self, found: Mapping[Key, NDArray[np.uint8]]) -> None:
            saves.append(now[0])
            now[0] += 3.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shifts = find_shifts(["clean"], tiny_info())

    def told(_shift: Shift, _n: int) -> None:
        now[0] += 1.0

    measure_shifts(
        tiny_network(), tiny_images(200), shifts, order=torch.arange(200), batch_size=1, store=Slow(), on_batch=told
    )
    assert saves == [2.0, 65.0, 128.0, 191.0, 212.0]


def test_answers_come_back_from_their_file_and_from_no_other(tmp_path: Path) -> None:
    file = PartFile(tmp_path / "net.answers", {"seed": 0})
    assert file.load() == {}
    codes = torch.randint(0, 3, (77,), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    keys: list[Key] = [("noise", "gaussian-noise", 0.1), ("pgd", "pgd", 2 / 255), ("empty", "empty", 0.0)]
    stored = dict(zip(keys, (codes, codes[:13], codes[:0]), strict=True))
    file.save(stored)
    found = file.load()
    assert list(found) == keys
    assert all(np.array_equal(found[key], stored[key]) and found[key].dtype == np.uint8 for key in keys)
    with pytest.raises(InputError, match="belongs to other work: seed is 0 there and 1 here"):
        PartFile(file.path, {"seed": 1}).load()
    whole = file.path.read_bytes()
    for at in range(0, len(whole), 37):
        file.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"net\.answers (is damaged|belongs to other work)"):
            file.load()


class Spoilt(nn.Module):
    """Right about every image; but about those with a bright corner it says something that is no number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.scale = value, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        known = (x[:, 0, 0, 0].detach() * 255).round().long()
        logits = 9 * nn.functional.one_hot((known // 10).clamp(0, 8), 9) * self.scale + 0 * x.sum((1, 2, 3))[:, None]
        first = torch.arange(9) == 0
        return torch.where((known % 10 == 7)[:, None] & first, self.value, logits)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_answer_that_is_no_number_is_wrong_and_said_to_be_so(value: float) -> None:
    info = dataclasses.replace(tiny_info(classes=9), radii=(1 / 1000,))
    y = torch.arange(90) % 9
    x = torch.zeros(90, 1, 6, 6, dtype=torch.uint8)
    x[:, 0, 0, 0] = 10 * y + torch.where(torch.arange(90) % 5 == 4, 7, 1)
    images = Images(info, x, y, "test")
    bad = torch.arange(90) % 5 == 4
    assert (bad & (y == 0)).any()
    with pytest.warns(UserWarning, match="^spoilt: 18 of 90") as warned:
        bits = measure(Spoilt(value), images, ("clean", "top5", "fgsm", "pgd"), name="spoilt")
    assert {key[0] for key in bits} == {"clean", "top5", "fgsm", "pgd"}
    for right in bits.values():
        assert right.tolist() == (~bad).tolist()
    where = ("on clean images", "under top5", "under fgsm", "under pgd")
    assert [str(one.message) for one in warned] == [
        f"spoilt: 18 of 90 answers {place} are not finite (NaN or infinity) and count as wrong." for place in where
    ]


def test_answers_that_are_numbers_are_not_spoken_of() -> None:
    codes = np.array([0, RIGHT, RIGHT], np.uint8)
    assert not_finite("net", {("clean", "clean", 0.0): codes}) == []
    codes[1] = NOT_FINITE
    severities = {("noise", "gaussian-noise", s): codes for s in (0.1, 0.2)}
    [sentence] = not_finite("net", severities)
    assert sentence.startswith("net: 2 of 6 answers under noise are not finite")


class InPlace(nn.Module):
    """Clears what it was shown, behind autograd's back."""

    def __init__(self, *, clears: bool) -> None:
        super().__init__()
        self.network, self.clears = tiny_network(), clears

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x.clone())
        if self.clears:
            x.data.zero_()
        return logits


@pytest.mark.parametrize("form", ["images", "loader", "one batch"])
def test_a_network_that_changes_its_input_changes_nothing_else(form: str) -> None:
    images, suites = tiny_images(60), ("clean", "noise", "fgsm", "pgd")
    x, y = as_float(images)
    data: Any = {"images": images, "loader": [(x[:40], y[:40]), (x[40:], y[40:])], "one batch": [(x, y)]}[form]
    before = x.clone()
    held = data if isinstance(data, Images) else collect(data, InPlace(clears=True), images.info)
    together = measure(InPlace(clears=True), held, suites)
    plain = measure(InPlace(clears=False), held, suites)
    assert len({int(right.sum()) for right in plain.values()}) > 3
    for suite in suites:
        alone = measure(InPlace(clears=True), held, [suite])
        for key, right in alone.items():
            assert np.array_equal(right, together[key])
            assert np.array_equal(right, plain[key])
    assert torch.equal(x, before)


@pytest.mark.parametrize("n", [1, 9, 60, 149, 150, 200])
def test_a_sample_has_each_class_in_its_proportion(n: int) -> None:
    labels = torch.arange(150) // 50
    labels[140:] = 3  # 50, 50, 40 and 10 of a class, sorted
    chosen = sample(labels, n)
    assert len(chosen) == min(n, 150)
    assert len(chosen.unique()) == len(chosen)
    counts = labels[chosen].bincount(minlength=4)
    expected = min(n, 150) * labels.bincount() / 150
    assert (counts - expected).abs().max() <= 1
    assert torch.equal(sample(labels, n), chosen)
    if n < 149:
        assert torch.equal(sample(labels, n + 1)[:n], chosen), "fewer are the first of more"


def test_without_a_limit_all_are_taken_in_their_order() -> None:
    assert sample(torch.tensor([2, 0, 1, 0]), None).tolist() == [0, 1, 2, 3]


def test_a_sample_of_few_has_any_class_as_likely() -> None:
    """Of 100 classes 10 images: not the first ten classes."""
    chosen = sample(torch.arange(1000) // 10, 10) // 10
    assert len(chosen.unique()) == 10
    assert chosen.max() > 60


def test_intervals_of_a_sample_cover_the_truth() -> None:
    """Networks that are good at some classes and bad at others, on sets sorted by class: Wilson's 95 % must hold."""
    generator = np.random.default_rng(0)
    covered = before = 0
    for _ in range(400):
        classes = int(generator.integers(2, 8))
        y = np.sort(generator.integers(0, classes, 300))
        wrong = generator.random(300) < generator.random(classes)[y]
        for index, first in ((sample(torch.from_numpy(y), 60).numpy(), False), (np.arange(60), True)):
            own = wilson(int(wrong[index].sum()), 60)
            within = own.low <= wrong.mean() <= own.high
            before, covered = before + (first and within), covered + (not first and within)
    assert covered >= 0.95 * 400
    assert before < 0.5 * 400, "the first images of a sorted set do not tell of the whole"


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


SUITES = ("clean", "noise", "fgsm", "pgd")
X, Y = as_float(tiny_images(60))


def test_a_loader_gives_the_records_of_its_images() -> None:
    images = tiny_images(60)
    whole = evaluate(tiny_network(), images, SUITES)
    for batch_size in (7, 60):
        loader = DataLoader(TensorDataset(X, Y), batch_size=batch_size)
        assert evaluate(tiny_network(), loader, SUITES, info=images.info, batch_size=13) == whole
    assert len({record.correct for record in whole}) > 3


def test_without_a_description_a_loader_has_the_classes_of_the_network() -> None:
    [record] = evaluate(tiny_network(), [(X, Y)])
    assert (record.data, record.n) == ("loader", 60)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        *([([(x, y)], message) for x, y, message in NO_BATCH.values()]),
        ([X], "the loader gives Tensor; wanted are batches \\(x, y\\)"),
        ([(X, Y, Y)], "the loader gives 3 things"),
        ([(X, Y), (X[..., :5], Y)], "the images have several shapes"),
        ([], "the loader gave no batch"),
    ],
)
def test_what_is_no_batch_of_labelled_images_is_refused(batches: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(tiny_network(), batches)


PROBABILITIES = {
    "probabilities": (lambda net, x: net(x).softmax(1), "the model returns probabilities; wanted are logits")
}
MANY = {"more classes": (lambda net, x: net(x).repeat(1, 2), "tells 6 classes apart, and tiny has 3")}


@pytest.mark.parametrize(("change", "message"), (NO_LOGITS | PROBABILITIES | MANY).values())
def test_what_are_no_logits_is_refused(change: Callable[[nn.Module, Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(Answers(change), tiny_images(), ["clean"])
    with pytest.raises(InputError, match=message):
        evaluate(Answers(change), [as_float(tiny_images())], info=tiny_info())


@pytest.mark.parametrize("change", NO_GRADIENT.values())
def test_a_network_without_a_gradient_is_refused_where_it_is_attacked(change: Callable[..., Any]) -> None:
    plain = measure(tiny_network(), tiny_images(), ["clean"])
    found = measure(Answers(change), tiny_images(), ["clean"])
    assert np.array_equal(found["clean", "clean", 0.0], plain["clean", "clean", 0.0])
    for suite in ("fgsm", "pgd"):
        with pytest.raises(InputError, match="no gradient of the model's answer reaches the images"):
            measure(Answers(change), tiny_images(), ["clean", suite])


def test_a_network_for_other_images_is_refused() -> None:
    with pytest.raises(InputError, match="cannot take images of 1x6x6 pixels"):
        measure(tiny_network(shape=(1, 8, 8)), tiny_images(), ["clean"])


def test_images_stay_exact_before_a_network_in_half_precision() -> None:
    right = measure(tiny_network().bfloat16(), tiny_images(60), ["clean", "fgsm"])
    full = measure(tiny_network(), tiny_images(60), ["clean", "fgsm"])
    assert all(abs(int(right[key].sum()) - int(full[key].sum())) <= 5 for key in full)
