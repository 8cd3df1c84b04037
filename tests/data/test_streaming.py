"""Photographs from the disk: the same ones whatever the workers, never many at a time, and broken ones named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from resolute.config import Augment
from resolute.data import dataset as under_test
from resolute.data.augment import augment
from resolute.data.dataset import (
    Crop,
    Images,
    augment_generator,
    batches,
    crop_generator,
    epoch_order,
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

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than processors
INFO = photographs("p", (3, 16, 16), (0.5,) * 3, (0.2,) * 3, ("a", "b"))
CROPPED = Augment(flip=True, crop=0.08)


@pytest.fixture
def streamed(tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Images]:
    """Images of 24x30 that stay on the disk: ``streamed(workers, n=40)``."""
    path = image_folder(tmp_path / "set", {"a": 20, "b": 20}, height=24, width=30)

    def make(workers: int = 0, split: str = "train+validation") -> Images:
        monkeypatch.setenv("RESOLUTE_WORKERS", str(workers))
        return stream(open_folder(path), INFO, split, 18)

    return make


def run(images: Images, policy: Augment = CROPPED, seed: int = 1, epoch: int = 2, **how: Any) -> torch.Tensor:
    order = epoch_order(len(images), seed, epoch)
    return torch.cat([x for x, _ in training_batches(images, 8, policy, seed=seed, epoch=epoch, order=order, **how)])


def test_file_order_and_the_centre_without_an_order(streamed: Callable[..., Images], tmp_path: Path) -> None:
    images = streamed()
    transform = v2.Compose([v2.Resize(18), v2.CenterCrop(16), v2.PILToTensor()])
    files = sorted((tmp_path / "set").rglob("*.png"))
    wanted = torch.stack([transform(Image.open(file)) for k, file in enumerate(files) if k % 5 != 4])
    x, y = (torch.cat(part) for part in zip(*batches(images, 7), strict=True))
    assert torch.equal(x, wanted.float() / 255)
    assert y.tolist() == [0] * 16 + [1] * 16
    assert len(images) == 32


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(streamed: Callable[..., Images], workers: int) -> None:
    assert torch.equal(run(streamed(workers)), run(streamed(0)))
    for (x, y), (want_x, want_y) in zip(batches(streamed(workers), 5), batches(streamed(0), 5), strict=True):
        assert torch.equal(x, want_x)
        assert torch.equal(y, want_y)


def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_same_images(streamed: Callable[..., Images]) -> None:
    whole = run(streamed())
    assert torch.equal(run(streamed(), first_step=2), whole[16:])
    rest = training_batches(streamed(), 8, CROPPED, seed=1, epoch=2, order=epoch_order(32, 1, 2), first_step=4)
    assert list(rest) == []


def test_another_seed_or_epoch_gives_other_crops(streamed: Callable[..., Images]) -> None:
    images = streamed()
    first = [images.stream.pixels(3, Crop(0.08, *key)) for key in ((0, 0), (0, 1), (1, 0), (0, 0))]  # type: ignore[union-attr]
    assert np.array_equal(first[0], first[3])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], first[2])


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


def test_sets_in_memory_are_augmented_as_ever(streamed: Callable[..., Images]) -> None:
    x = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    images = Images(INFO, x, torch.arange(20) % 2, "train")
    order, policy = epoch_order(20, 3, 4), Augment(2, "reflect", flip=True, erase=0.5, rotation=5)
    got = training_batches(images, 8, policy, seed=3, epoch=4, order=order, rank=1)
    for step, ((a, b), (x, y)) in enumerate(zip(got, batches(images, 8, order=order), strict=True)):
        assert torch.equal(a, augment(x, policy, augment_generator(3, 4, step, rank=1)))
        assert torch.equal(b, y)


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
    rows = stream(open_parquet(tmp_path / "rows"), INFO, "train+validation", 18)
    assert rows.stream is not None
    for i in (0, 6, 7, 19, 20, 33, 39):
        assert rows.stream.blobs.read(i) == blobs[i]
        assert rows.stream.blobs.describe(i) == f"train-{i // 20}.parquet row {i % 20}"
    order = torch.tensor([31, 0, 8, 20, 5])
    [(x, _)] = batches(rows, 9, order=order)
    for k, i in enumerate(order.tolist()):
        wanted = rows.stream.pixels(i, None)
        assert np.array_equal(x[k].mul(255).numpy(), wanted)


def test_a_broken_image_is_named_also_from_a_worker(streamed: Callable[..., Images], tmp_path: Path) -> None:
    file = tmp_path / "set" / "b" / "003.png"
    file.write_bytes(file.read_bytes()[:300])
    for workers in (0, 2):
        images = streamed(workers)
        with pytest.raises(InputError) as caught:
            list(batches(images, 8))
        assert str(caught.value).startswith(f"b/003.png in {tmp_path / 'set'} cannot be read (")
        assert "Traceback" not in str(caught.value)


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


def test_no_more_than_a_few_batches_are_in_memory(
    tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    path = image_folder(tmp_path / "set", {"a": 100, "b": 100}, height=8, width=8)
    info = photographs("p", (3, 160, 160), (0.5,) * 3, (0.2,) * 3, ("a", "b"))
    monkeypatch.setenv("RESOLUTE_WORKERS", "0")
    images = stream(open_folder(path), info, "train+validation", 160)
    batch, whole = 4 * 3 * 160 * 160, 160 * 3 * 160 * 160
    tracemalloc.start()
    seen = 0
    for x, _ in batches(images, 4):
        seen += len(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 160
    assert batch < peak < 4 * batch + 2**20 < whole / 4


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


def test_torchs_global_generator_is_left_alone(streamed: Callable[..., Images]) -> None:
    before = torch.get_rng_state()
    run(streamed(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_of_workers_is_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESOLUTE_WORKERS", raising=False)
    assert 1 <= worker_count() <= min(16, os.cpu_count() or 1)
    monkeypatch.setenv("RESOLUTE_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.setenv("RESOLUTE_WORKERS", "-1")
    with pytest.raises(InputError, match="RESOLUTE_WORKERS is '-1'"):
        worker_count()


def test_a_stream_survives_a_pickle(streamed: Callable[..., Images]) -> None:
    import pickle

    images = streamed()
    assert torch.equal(run(pickle.loads(pickle.dumps(images))), run(images))


def test_a_part_of_the_images_stays_on_the_disk(streamed: Callable[..., Images]) -> None:
    whole, index = streamed(), torch.tensor([1, 5, 8])
    part = whole.part(index)
    assert len(part.x) == 0
    x, y = next(iter(batches(whole, len(whole))))
    [(own_x, own_y)] = batches(part, 3)
    assert torch.equal(own_x, x[index])
    assert torch.equal(own_y, y[index])


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
