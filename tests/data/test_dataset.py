"""Images, splits, orders, batches and streams.

Splits follow the sentences that publish them. Batches and orders are pure functions of their arguments, and of
nothing else. Photographs from the disk are the same ones whatever the workers, never many at a time, and broken ones
are named.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cases import tiny_images
from resolute.config import Augment
from resolute.data import dataset as under_test
from resolute.data import load
from resolute.data.augment import augment
from resolute.data.dataset import (
    Crop,
    DataInfo,
    Images,
    augment_generator,
    balanced_part,
    batches,
    crop_generator,
    epoch_order,
    every,
    members,
    of_training,
    photographs,
    training_batches,
    worker_count,
)
from resolute.data.decode import decode_crop
from resolute.data.folders import open_folder, stream
from resolute.data.parquet import open_parquet
from resolute.errors import InputError
from resolute.transforms import draw_crop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteFolder = Callable[..., Path]


def described(*shape: int) -> DataInfo:
    channels, height, width = shape
    return photographs("p", (channels, height, width), (0.5,) * channels, (0.2,) * channels, ("a", "b"))


@pytest.mark.parametrize(
    ("shape", "shift", "flip", "radius"),
    [
        ((3, 32, 32), 4, True, 8 / 255),
        ((3, 64, 64), 4, True, 8 / 255),
        ((3, 64, 65), 8, True, 4 / 255),
        ((3, 224, 224), 28, True, 4 / 255),
        ((1, 32, 32), 4, False, 8 / 255),
        ((3, 3, 40), 2, True, 8 / 255),
    ],
)
def test_customs_of_photographs(shape: tuple[int, ...], shift: int, flip: bool, radius: float) -> None:
    info = described(*shape)
    assert (info.augment.shift, info.augment.padding, info.augment.flip) == (shift, "reflect", flip)
    assert info.radius == radius
    assert info.radii == (2 / 255, 4 / 255, 8 / 255)
    assert info.classes == 2


def test_images_hold_only_what_fits_their_description() -> None:
    info = described(3, 4, 4)
    x, y = torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)
    assert len(Images(info, x, y, "test")) == 5
    with pytest.raises(InputError, match=r"x is torch\.float32"):
        Images(info, x.float(), y, "test")
    with pytest.raises(InputError, match=r"wanted torch\.uint8 of shape \(n, \*\(3, 4, 4\)\)"):
        Images(info, x[:, :1], y, "test")
    with pytest.raises(InputError, match=r"y is torch\.int32"):
        Images(info, x, y.int(), "test")
    with pytest.raises(InputError, match=r"shape \(5,\)"):
        Images(info, x, y[:4], "test")


def test_a_part_in_memory() -> None:
    whole = tiny_images(20)
    part = whole.part(torch.tensor([3, 7]))
    assert torch.equal(part.x, whole.x[[3, 7]])
    assert torch.equal(part.y, whole.y[[3, 7]])
    assert (part.info, part.split, len(part)) == (whole.info, "train", 2)


# Splits


UNSPLIT = {"train": 103}


def chosen(counts: dict[str, int], split: str) -> list[int]:
    return [int(i) for i in members(counts, torch.zeros(sum(counts.values()), dtype=torch.int64), split)]


def test_every_tenth_training_image_is_for_validation() -> None:
    one_class = torch.zeros(25, dtype=torch.int64)
    assert of_training(one_class, "validation").tolist() == [9, 19]
    assert of_training(one_class, "train").tolist() == [i for i in range(25) if i not in {9, 19}]
    assert of_training(one_class, "train+validation").tolist() == list(range(25))


ORDERS: dict[str, Callable[[int, int], list[int]]] = {
    "in turn": lambda classes, n: [i % classes for i in range(n)],
    "sorted": lambda classes, n: sorted(i % classes for i in range(n)),
    "in blocks": lambda classes, n: [i // 3 % classes for i in range(n)],
    "shuffled": lambda classes, n: np.random.default_rng((classes, n)).integers(0, classes, n).tolist(),
    "one rare": lambda classes, n: [0 if i in (8, 9) else 1 + i % (classes - 1) for i in range(n)],
    "both of one drawn": lambda classes, n: [0 if i in (23, 24) else 1 + i % (classes - 1) for i in range(n)],
}


@pytest.mark.parametrize("classes", [2, 3, 5, 10, 20, 50])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [40, 101, 1000])
def test_each_class_has_its_share_of_each_split(order: str, classes: int, n: int) -> None:
    labels = torch.tensor(ORDERS[order](classes, n))
    counts = Counter(labels.tolist())
    for parts in ({"train": n}, {"train": n, "test": 0}):
        index = {split: members(parts, labels, split) for split in ("train", "validation", "test")}
        assert sorted(torch.cat(list(index.values())).tolist()) == list(range(n))
        assert all(torch.equal(own, own.sort().values) for own in index.values())
        split = {name: Counter(labels[own].tolist()) for name, own in index.items()}
        for label, of_class in counts.items():
            assert split["train"][label] >= 1 or of_class == 1
            if len(parts) == 1:
                assert of_class // 10 <= split["test"][label] <= 2 * of_class / 5 + 1
            official = split["train"][label] + split["validation"][label]
            assert official // 20 <= split["validation"][label] <= 2 * official / 10 + 1


@pytest.mark.parametrize("k", [5, 10])
def test_a_split_that_was_fair_stays_every_kth(k: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(0).permutation(np.arange(1000) % 4))
    assert torch.nonzero(every(k, labels))[:, 0].tolist() == list(range(k - 1, 1000, k))
    digits = load("digits", split="train+validation").y
    assert torch.nonzero(every(10, digits))[:, 0].tolist() == list(range(9, 899, 10))


def test_a_set_that_nobody_split() -> None:
    test = [i for i in range(103) if i % 5 == 4]
    rest = [i for i in range(103) if i % 5 != 4]
    assert chosen(UNSPLIT, "test") == test
    assert chosen(UNSPLIT, "train+validation") == rest
    assert chosen(UNSPLIT, "validation") == [i for k, i in enumerate(rest) if k % 10 == 9]
    assert chosen(UNSPLIT, "train") == [i for k, i in enumerate(rest) if k % 10 != 9]


@pytest.mark.parametrize(
    "counts",
    [UNSPLIT, {"train": 30, "test": 7}, {"train": 30, "validation": 7}, {"train": 9, "validation": 3, "test": 2}],
)
def test_parts_are_disjoint_and_complete(counts: dict[str, int]) -> None:
    parts = [chosen(counts, split) for split in ("train", "validation", "test")]
    assert sorted(itertools.chain(*parts)) == list(range(sum(counts.values())))
    assert sorted(parts[0] + parts[1]) == sorted(chosen(counts, "train+validation"))


def test_official_test_images_are_kept() -> None:
    assert chosen({"train": 20, "test": 3}, "test") == [20, 21, 22]
    assert chosen({"train": 20, "test": 3}, "validation") == [9, 19]


def test_validation_plays_the_test_set_only_where_there_is_no_test() -> None:
    assert chosen({"train": 20, "validation": 3}, "test") == [20, 21, 22]
    assert chosen({"train": 20, "validation": 3}, "validation") == [9, 19]
    three = {"train": 20, "validation": 3, "test": 2}
    assert chosen(three, "validation") == [20, 21, 22]
    assert chosen(three, "test") == [23, 24]
    assert chosen(three, "train") == list(range(20))


def test_a_part_has_its_share_of_each_class_and_lies_within_a_larger_one() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [5] * 4)[torch.randperm(144)]
    few, some = balanced_part(labels, 0.1, seed=3), balanced_part(labels, 0.5, seed=3)
    assert labels[few].bincount().tolist() == [10, 4, 0, 0, 0, 1]
    assert labels[some].bincount().tolist() == [50, 20, 0, 0, 0, 2]
    assert set(few.tolist()) < set(some.tolist())
    assert few.tolist() == sorted(few.tolist())
    assert balanced_part(labels, 1, seed=3).tolist() == list(range(144))


def test_a_part_follows_the_seed_alone() -> None:
    labels = torch.arange(400) % 4
    torch.manual_seed(9)
    first = balanced_part(labels, 0.1, seed=0)
    torch.manual_seed(8)
    assert torch.equal(balanced_part(labels, 0.1, seed=0), first)
    assert not torch.equal(balanced_part(labels, 0.1, seed=1), first)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="train fraction is"):
        balanced_part(torch.arange(4), fraction, seed=0)


# Batches and orders


INFO: DataInfo = photographs("p", (3, 4, 5), (0.5,) * 3, (0.2,) * 3, ("a", "b"))


def some(n: int) -> Images:
    generator = torch.Generator().manual_seed(n)
    x = torch.randint(0, 256, (n, 3, 4, 5), generator=generator, dtype=torch.uint8)
    return Images(INFO, x, torch.arange(n), "train")


def test_batches_are_the_images_in_order_divided_by_255() -> None:
    images, order = some(23), epoch_order(23, 0, 0)
    at = 0
    for x, y in batches(images, 5, order=order):
        for k in range(len(y)):
            i = int(order[at])
            assert int(y[k]) == i
            assert torch.equal(x[k], images.x[i].float() / 255)
            at += 1
    assert at == 23
    assert x.dtype == torch.float32
    assert len(y) == 3


def test_without_an_order_the_file_order() -> None:
    assert torch.cat([y for _, y in batches(some(7), 4)]).tolist() == list(range(7))


def test_the_set_stays_as_it_was() -> None:
    images = some(4)
    before = images.x.clone()
    for x, _ in batches(images, 4):
        x.zero_()
    assert torch.equal(images.x, before)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="batch size is 0"):
        next(batches(some(3), 0))


def test_order_is_a_permutation_that_seed_and_epoch_determine() -> None:
    orders = {(seed, epoch): epoch_order(500, seed, epoch).tolist() for seed in range(4) for epoch in range(4)}
    assert all(sorted(order) == list(range(500)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 16
    torch.manual_seed(9)
    assert epoch_order(500, 2, 3).tolist() == orders[2, 3]


def test_every_position_is_equally_likely_over_seeds() -> None:
    first = torch.tensor([int(epoch_order(4, seed, 0)[0]) for seed in range(2000)]).bincount(minlength=4)
    chi_square = ((first - 500).square() / 500).sum().item()
    assert chi_square < 21.1  # the 0.9999 quantile for three degrees of freedom


def test_augmentation_draws_differ_by_each_word_of_the_key() -> None:
    def draw(seed: int, epoch: int, step: int, rank: int = 0) -> float:
        return torch.rand((), generator=augment_generator(seed, epoch, step, rank=rank)).item()

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    assert len({draw(*key) for key in keys} | {draw(0, 0, 0, rank=1)}) == 7
    assert draw(3, 4, 5) == draw(3, 4, 5)


def test_torchs_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    epoch_order(10, 0, 0)
    torch.rand(3, generator=augment_generator(0, 0, 0))
    list(batches(some(5), 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="0 or more, and -1 came"):
        epoch_order(3, -1, 0)


MORE_WORKERS = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than processors
# Photographs from the disk


STREAMED = photographs("p", (3, 16, 16), (0.5,) * 3, (0.2,) * 3, ("a", "b"))
CROPPED = Augment(flip=True, crop=0.08)


@pytest.fixture
def streamed(tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Images]:
    """Images of 24x30 that stay on the disk: ``streamed(workers, n=40)``."""
    path = image_folder(tmp_path / "set", {"a": 20, "b": 20}, height=24, width=30)

    def make(workers: int = 0, split: str = "train+validation") -> Images:
        monkeypatch.setenv("RESOLUTE_WORKERS", str(workers))
        return stream(open_folder(path), STREAMED, split, 18)

    return make


def run(images: Images, policy: Augment = CROPPED, seed: int = 1, epoch: int = 2, **how: Any) -> torch.Tensor:
    order = epoch_order(len(images), seed, epoch)
    return torch.cat([x for x, _ in training_batches(images, 8, policy, seed=seed, epoch=epoch, order=order, **how)])


@MORE_WORKERS
def test_file_order_and_the_centre_without_an_order(streamed: Callable[..., Images], tmp_path: Path) -> None:
    images = streamed()
    transform = v2.Compose([v2.Resize(18), v2.CenterCrop(16), v2.PILToTensor()])
    files = sorted((tmp_path / "set").rglob("*.png"))
    wanted = torch.stack([transform(Image.open(file)) for k, file in enumerate(files) if k % 5 != 4])
    x, y = (torch.cat(part) for part in zip(*batches(images, 7), strict=True))
    assert torch.equal(x, wanted.float() / 255)
    assert y.tolist() == [0] * 16 + [1] * 16
    assert len(images) == 32


@MORE_WORKERS
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(streamed: Callable[..., Images], workers: int) -> None:
    assert torch.equal(run(streamed(workers)), run(streamed(0)))
    for (x, y), (want_x, want_y) in zip(batches(streamed(workers), 5), batches(streamed(0), 5), strict=True):
        assert torch.equal(x, want_x)
        assert torch.equal(y, want_y)


@MORE_WORKERS
def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_same_images(streamed: Callable[..., Images]) -> None:
    whole = run(streamed())
    assert torch.equal(run(streamed(), first_step=2), whole[16:])
    rest = training_batches(streamed(), 8, CROPPED, seed=1, epoch=2, order=epoch_order(32, 1, 2), first_step=4)
    assert list(rest) == []


@MORE_WORKERS
def test_another_seed_or_epoch_gives_other_crops(streamed: Callable[..., Images]) -> None:
    images = streamed()
    first = [images.stream.pixels(3, Crop(0.08, *key)) for key in ((0, 0), (0, 1), (1, 0), (0, 0))]  # type: ignore[union-attr]
    assert np.array_equal(first[0], first[3])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], first[2])


@MORE_WORKERS
def test_crops_are_torchvisions_and_the_rest_is_augments(streamed: Callable[..., Images], tmp_path: Path) -> None:
    images, policy = streamed(), Augment(flip=True, crop=0.2, erase=0.5)
    order = epoch_order(len(images), 5, 6)
    files = [file for k, file in enumerate(sorted((tmp_path / "set").rglob("*.png"))) if k % 5 != 4]
    got = training_batches(images, 8, policy, seed=5, epoch=6, order=order)
    for step, (x, _) in enumerate(got):
        cropped = []
        for i in order[8 * step : 8 * step + 8].tolist():
            position = int(images.stream.positions[i])  # type: ignore[union-attr]
            crop = draw_crop(0.2, 24, 30, crop_generator(5, 6, position))
            with Image.open(files[i]) as image:
                cropped.append(F.pil_to_tensor(F.resized_crop(image.convert("RGB"), *crop, [16, 16])))
        wanted = torch.stack(cropped).float() / 255
        after = Augment(flip=True, erase=0.5)
        assert torch.equal(x, augment(wanted, after, augment_generator(5, 6, step)))


@MORE_WORKERS
def test_sets_in_memory_are_augmented_as_ever(streamed: Callable[..., Images]) -> None:
    x = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    images = Images(STREAMED, x, torch.arange(20) % 2, "train")
    order, policy = epoch_order(20, 3, 4), Augment(2, "reflect", flip=True, erase=0.5, rotation=5)
    got = training_batches(images, 8, policy, seed=3, epoch=4, order=order, rank=1)
    for step, ((a, b), (x, y)) in enumerate(zip(got, batches(images, 8, order=order), strict=True)):
        assert torch.equal(a, augment(x, policy, augment_generator(3, 4, step, rank=1)))
        assert torch.equal(b, y)


@MORE_WORKERS
def test_rows_of_parquet_are_the_same_images(
    tmp_path: Path, hugging_face_file: Callable[..., Path], picture: Callable[..., Image.Image],
    compressed: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import pyarrow.parquet as pq

    blobs = [compressed(picture(seed, 24, 30)) for seed in range(40)]
    for k in range(2):
        of_file = blobs[20 * k : 20 * k + 20]
        file = hugging_face_file(tmp_path / "rows" / f"train-{k}.parquet", {"image": of_file, "label": [0, 1] * 10})
        pq.write_table(pq.read_table(file), file, row_group_size=7)
    monkeypatch.setenv("RESOLUTE_WORKERS", "2")
    rows = stream(open_parquet(tmp_path / "rows"), STREAMED, "train+validation", 18)
    assert rows.stream is not None
    for i in (0, 6, 7, 19, 20, 33, 39):
        assert rows.stream.blobs.read(i) == blobs[i]
        assert rows.stream.blobs.describe(i) == f"train-{i // 20}.parquet row {i % 20}"
    order = torch.tensor([31, 0, 8, 20, 5])
    [(x, _)] = batches(rows, 9, order=order)
    for k, i in enumerate(order.tolist()):
        wanted = rows.stream.pixels(i, None)
        assert np.array_equal(x[k].mul(255).numpy(), wanted)


@MORE_WORKERS
def test_a_broken_image_is_named_also_from_a_worker(streamed: Callable[..., Images], tmp_path: Path) -> None:
    file = tmp_path / "set" / "b" / "003.png"
    file.write_bytes(file.read_bytes()[:300])
    for workers in (0, 2):
        images = streamed(workers)
        with pytest.raises(InputError) as caught:
            list(batches(images, 8))
        assert str(caught.value).startswith(f"b/003.png in {tmp_path / 'set'} cannot be read (")
        assert "Traceback" not in str(caught.value)


@MORE_WORKERS
@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (50, 37)])
def test_grey_printed_and_tiny_photographs(
    picture: Callable[..., Image.Image], compressed: Callable[..., bytes], mode: str, height: int, width: int
) -> None:
    blob = compressed(picture(3, height, width, mode), "JPEG")
    out = decode_crop(blob, (3, 16, 16), 0.08, crop_generator(0, 0, 0))
    assert out.shape == (3, 16, 16)
    if mode == "L":
        assert np.array_equal(out[0], out[1])


@MORE_WORKERS
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_large_jpegs_are_decoded_small_and_look_the_same(tmp_path: Path, orientation: int) -> None:
    ramp = np.linspace(0, 255, 600)
    shades = np.stack([ramp[:480, None] + 0 * ramp, 0 * ramp[:480, None] + ramp, 0.5 * (ramp[:480, None] + ramp)], 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(shades.astype(np.uint8)).save(tmp_path / "x.jpg", quality=95, exif=exif)
    drafts: list[Any] = []
    real = Image.Image.draft
    for seed in range(8):
        fast = decode_crop(tmp_path / "x.jpg", (3, 32, 32), 0.08, crop_generator(seed, 0, 0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
            exact = decode_crop(tmp_path / "x.jpg", (3, 32, 32), 0.08, crop_generator(seed, 0, 0))
        assert np.abs(fast.astype(int) - exact).max() <= 3
        drafts.append(np.array_equal(fast, exact))
    assert not all(drafts)
    assert Image.Image.draft is real


@MORE_WORKERS
def test_no_more_than_a_few_batches_are_in_memory(
    tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    path = image_folder(tmp_path / "set", {"a": 100, "b": 100}, height=8, width=8)
    info = photographs("p", (3, 160, 160), (0.5,) * 3, (0.2,) * 3, ("a", "b"))
    monkeypatch.setenv("RESOLUTE_WORKERS", "0")
    images = stream(open_folder(path), info, "train+validation", 160)
    batch, whole = 4 * 3 * 160 * 160, 160 * 3 * 160 * 160
    next(batches(images, 4))  # imports what decodes
    tracemalloc.start()
    seen = 0
    for x, _ in batches(images, 4):
        seen += len(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 160
    assert batch < peak < 4 * batch + 2**20 < whole / 4


@MORE_WORKERS
def test_workers_do_not_run_ahead(streamed: Callable[..., Images], tmp_path: Path) -> None:
    """A batch that nobody asked for is not read while the ones before it wait: the files behind stay unopened."""
    import time

    images = streamed(2)
    walk = batches(images, 1)
    next(walk)
    time.sleep(1.0)
    ahead = 1 + 2 * under_test.PREFETCH + 1
    for k, file in enumerate(file for k, file in enumerate(sorted((tmp_path / "set").rglob("*.png"))) if k % 5 != 4):
        if k > ahead:
            file.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        list(walk)


@MORE_WORKERS
def test_workers_leave_torchs_global_generator_alone(streamed: Callable[..., Images]) -> None:
    before = torch.get_rng_state()
    run(streamed(2))
    assert torch.equal(torch.get_rng_state(), before)


@MORE_WORKERS
def test_the_number_of_workers_is_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESOLUTE_WORKERS", raising=False)
    assert 1 <= worker_count() <= min(16, os.cpu_count() or 1)
    monkeypatch.setenv("RESOLUTE_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.setenv("RESOLUTE_WORKERS", "-1")
    with pytest.raises(InputError, match="RESOLUTE_WORKERS is '-1'"):
        worker_count()


@MORE_WORKERS
def test_a_stream_survives_a_pickle(streamed: Callable[..., Images]) -> None:
    import pickle

    images = streamed()
    assert torch.equal(run(pickle.loads(pickle.dumps(images))), run(images))


@MORE_WORKERS
def test_a_part_of_the_images_stays_on_the_disk(streamed: Callable[..., Images]) -> None:
    whole, index = streamed(), torch.tensor([1, 5, 8])
    part = whole.part(index)
    assert len(part.x) == 0
    x, y = next(iter(batches(whole, len(whole))))
    [(own_x, own_y)] = batches(part, 3)
    assert torch.equal(own_x, x[index])
    assert torch.equal(own_y, y[index])


@MORE_WORKERS
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            signal.SIGKILL,
            r"was killed \(.*\): is the memory full\? RESOLUTE_WORKERS=N starts fewer\. The last checkpoint",
        ),
        (signal.SIGSTOP, r"gave nothing for 2 s: is .*set on a disk that hangs\? The last checkpoint is kept"),
    ],
)
def test_a_decoder_that_is_killed_or_hangs_is_told_of(
    streamed: Callable[..., Images], monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    decode = under_test._Decoder.__getitem__

    def slowly(decoder: Any, places: list[int]) -> Any:
        time.sleep(0.1)  # so that the main thread waits: torch raises wherever it is
        return decode(decoder, places)

    monkeypatch.setattr(under_test._Decoder, "__getitem__", slowly)
    monkeypatch.setattr(under_test, "PATIENCE", 2.0)
    found: list[multiprocessing.process.BaseProcess] = []

    def strike() -> None:
        found.extend(child for child in multiprocessing.active_children() if child not in others)
        assert found[0].pid
        os.kill(found[0].pid, number)

    others = multiprocessing.active_children()  # that another test may have left
    walk = batches(streamed(1), 1)
    next(walk)
    threading.Timer(0.5, strike).start()
    try:
        with pytest.raises(InputError, match=message):
            list(walk)
    finally:
        found[0].kill()
