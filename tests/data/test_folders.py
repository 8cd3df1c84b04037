"""Image folders: what is found, in which order, what is read from it, and what is refused."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from resolute.data import folders as under_test
from resolute.data import load
from resolute.data.dataset import batches, fingerprint, understood
from resolute.data.decode import Header, decode_all
from resolute.data.folders import common_shape, open_folder, part_of
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    WriteFolder = Callable[..., Path]


def test_classes_and_files_are_sorted_by_name(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"dog": 2, "ant": 3})
    deep = path / "ant" / "more"
    deep.mkdir()
    (path / "ant" / "000.png").rename(deep / "z.PNG")
    found = open_folder(path)
    assert [found.blobs.describe(i) for i in range(5)] == [
        "ant/001.png", "ant/002.png", "ant/more/z.PNG", "dog/000.png", "dog/001.png",
    ]  # fmt: skip
    assert found.y.tolist() == [0, 0, 0, 1, 1]
    assert found.class_names == ("ant", "dog")
    assert found.counts == {"train": 5}


def test_one_part_alone_is_a_set_that_nobody_split(tmp_path: Path, image_folder: WriteFolder) -> None:
    image_folder(tmp_path / "set" / "val", {"a": 5, "b": 5})
    assert len(load(tmp_path / "set", split="test")) == 2


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(path)


def test_one_class(tmp_path: Path, image_folder: WriteFolder) -> None:
    refused(image_folder(tmp_path / "set", {"cat": 3}), "has one class, 'cat': a classifier needs two or more")


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"cat": 9, "dog": 1, "eel": 2})
    for split in ("train", "validation", "train+validation"):
        with pytest.raises(InputError, match=r"classes have fewer than two: 'dog' \(1\)\. Add images to them"):
            load(path, split=split)
    assert len(load(path, split="test")) == 2
    image_folder(path, {"dog": 2})
    assert set(load(path).y.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("limit", [2**30, 0], ids=["in memory", "streamed"])
def test_a_folder_is_resized_as_asked(
    tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    path = image_folder(tmp_path / "set", {"a": 20, "b": 20}, height=24, width=30)
    monkeypatch.setattr(under_test, "SAMPLE", 10)
    monkeypatch.setattr(under_test, "MEMORY_LIMIT", limit or 10 * 3 * 16 * 16)
    prints = set()
    for name in ("bilinear", "bicubic", "bilinear"):
        images = load(path, split="test", size=16, interpolation=name)
        files = [file for k, file in enumerate(sorted(path.rglob("*.png"))) if k % 5 == 4]
        filters = v2.Compose([v2.Resize(16, v2.InterpolationMode(name)), v2.CenterCrop(16), v2.PILToTensor()])
        [(x, _)] = batches(images, 40)
        assert torch.equal(x, torch.stack([filters(Image.open(file)) for file in files]).float() / 255)
        assert (images.stream is None) == bool(limit)
        assert images.info.interpolation == name
        prints.add(fingerprint(images)["pixels"])
    assert len(prints) == 2
    with pytest.raises(InputError, match="unknown interpolation 'lanczos': there are: bicubic, bilinear"):
        load(path, interpolation="lanczos")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="interpolation bicubic came with 'digits', which is no folder: leave it out"):
        load("digits", interpolation="bicubic")


def test_large_images_of_a_stream_are_measured_few_at_a_time(
    tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image_folder(tmp_path / "set", {"a": 30, "b": 30}, height=16, width=16)
    most: list[int] = []

    def counted(few: Any, n: int, *how: Any) -> Any:
        most.append(n)
        return decode_all(few, n, *how)

    monkeypatch.setattr(under_test, "MEMORY_LIMIT", 10 * 3 * 16 * 16)
    monkeypatch.setattr(under_test, "decode_all", counted)
    assert load(path).stream is not None
    assert most == [10]


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_class_missing_in_the_test_part(tmp_path: Path, image_folder: WriteFolder, test: str) -> None:
    image_folder(tmp_path / "set" / "train", {"cat": 2, "dog": 2, "eel": 2})
    image_folder(tmp_path / "set" / test, {"cat": 2, "dog": 2})
    refused(tmp_path / "set", "has classes in train but not in (test|validation): 'eel'")


def test_a_class_that_cannot_be_learned(tmp_path: Path, image_folder: WriteFolder) -> None:
    image_folder(tmp_path / "set" / "train", {"cat": 2, "dog": 2})
    image_folder(tmp_path / "set" / "test", {"cat": 2, "dog": 2, "Dog": 1})
    refused(tmp_path / "set", "has classes in test but not in train: 'Dog'")


def test_a_validation_part_beside_a_test_part_may_lack_a_class(tmp_path: Path, image_folder: WriteFolder) -> None:
    for part, b in (("train", 2), ("test", 1), ("val", 0)):
        image_folder(tmp_path / "set" / part, {"a": 2, **({"b": b} if b else {})})
    assert load(tmp_path / "set", split="validation").y.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(100, 300), (90, 80), (200, 260)], 64),
        ([(250, 300), (600, 800), (1000, 900)], 224),
        ([(20, 21), (22, 23), (900, 900)], 32),
        ([(40, 40), (64, 200), (70, 64)], 64),
        ([(130, 128), (200, 150)], 128),
    ],
)
def test_mixed_sizes_get_a_customary_side_near_the_median(sizes: list[tuple[int, int]], side: int) -> None:
    assert common_shape([Header(False, h, w) for h, w in sizes], None) == (3, side, side)


def test_one_size_is_kept_and_a_wish_wins() -> None:
    headers = [Header(True, 300, 17)] * 3
    assert common_shape(headers, None) == (1, 300, 17)
    assert common_shape(headers, 20) == (1, 20, 20)


def test_one_colour_image_makes_a_colour_set() -> None:
    assert common_shape([Header(True, 4, 4), Header(False, 4, 4)], None)[0] == 3


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_and_moments_are_those_of_a_plain_loop(tmp_path: Path, image_folder: WriteFolder, mode: str) -> None:
    path = image_folder(tmp_path / "set", {"a": 40, "b": 41}, height=24, width=30, mode=mode)
    transform = v2.Compose([v2.Resize(16), v2.CenterCrop(16), v2.PILToTensor()])
    slow = ImageFolder(str(path), transform)
    x = torch.stack([slow[i][0] for i in range(81)])[:, : len(mode)]
    for split, chosen in {
        "test": [i for i in range(81) if i % 5 == 4],
        "train+validation": [i for i in range(81) if i % 5 != 4],
    }.items():
        images = load(path, split=split, size=16)
        assert torch.equal(images.x, x[chosen])
        assert images.y.tolist() == [slow[i][1] for i in chosen]
        pixels = x[[i for i in range(81) if i % 5 != 4]].double() / 255
        assert images.info.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=5.1e-5)
        assert images.info.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=5.1e-5)


def test_all_splits_share_one_description(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"a": 20, "b": 20})
    infos = [load(path, split=split).info for split in ("train", "validation", "test", "train+validation")]
    assert all(info == infos[0] for info in infos)
    assert infos[0].class_names == ("a", "b")


def test_flat_images_have_a_std_to_divide_by(tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (4, 4), (255, 0, 51)).save(tmp_path / "set" / name / f"{i}.png")
    info = load(tmp_path / "set").info
    assert info.mean == (1.0, 0.0, 0.2)
    assert info.std == (0.0039,) * 3


def test_images_that_cannot_be_read_are_counted_and_named(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"cat": 20, "dog": 20}, height=64, width=64)
    for i in (0, 1, 2, 5):
        file = path / "dog" / f"{i:03}.png"
        file.write_bytes(file.read_bytes()[:2000])
    (path / "cat" / "003.png").write_bytes(b"<html>not found</html>")
    (path / "cat" / "007.png").write_bytes(b"")
    (path / "cat" / "009.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert "7 of 40 images" in message
    assert "cat/003.png (" in message
    assert "dog/001.png (image file is truncated" in message
    assert message.endswith("and 2 more. Delete or replace them")
    assert "dog/002.png" not in message


def test_nothing_but_unreadable_images(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"cat": 2, "dog": 2})
    for file in path.rglob("*.png"):
        file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="4 of 4 images"):
        load(path)


@pytest.mark.parametrize("size", [16, None])
def test_a_set_too_large_for_memory_is_streamed_with_the_same_pixels(
    tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    path = image_folder(tmp_path / "set", {"a": 30, "b": 31}, height=24 if size else 16, width=16)
    whole = {split: load(path, split=split, size=size) for split in ("train", "validation", "test")}
    assert whole["train"].stream is None
    monkeypatch.setattr(under_test, "MEMORY_LIMIT", 61 * 3 * 16 * 16 - 1)
    monkeypatch.setattr(under_test, "SAMPLE", 20)
    monkeypatch.setenv("RESOLUTE_WORKERS", "0")
    for split, wanted in whole.items():
        streamed = load(path, split=split, size=size)
        assert streamed.stream is not None
        assert len(streamed) == len(wanted)
        for (x, y), (want_x, want_y) in zip(batches(streamed, 7), batches(wanted, 7), strict=True):
            assert torch.equal(x, want_x)
            assert torch.equal(y, want_y)
        assert streamed.info.mean == pytest.approx(wanted.info.mean, abs=0.02)
        assert dataclasses.replace(streamed.info, mean=wanted.info.mean, std=wanted.info.std) == wanted.info


def test_an_absurd_size_is_refused_before_any_file_is_opened(
    tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image_folder(tmp_path / "set", {"a": 10, "b": 10})
    monkeypatch.setattr(under_test, "peek_all", None)
    with pytest.raises(InputError, match="size is 40000: it is a number of pixels, 1,672 at most"):
        load(path, size=40_000)


def test_a_second_load_decodes_nothing(
    tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image_folder(tmp_path / "set", {"a": 10, "b": 10})
    first = load(path, split="train+validation")
    monkeypatch.setattr(under_test, "decode_all", None)
    assert torch.equal(load(path, split="train+validation").x, first.x)
    assert load(path, split="test").info == first.info
    monkeypatch.undo()
    image_folder(path, {"a": 11, "b": 10})
    assert len(load(path, split="train+validation")) == 17
    assert load(path, split="test", size=4).x.shape == (4, 3, 4, 4)


def test_too_few_images_to_split(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"a": 2, "b": 2})
    assert len(load(path)) == 4
    with pytest.raises(InputError, match=r"'test' of .* is empty: 4 images are too few"):
        load(path, split="test")


def test_more_images_than_a_chunk(tmp_path: Path, image_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image_folder(tmp_path / "set", {"a": 30, "b": 30}, height=4, width=4)
    whole = load(path).x
    monkeypatch.setattr("resolute.data.folders.CHUNK", 7)
    monkeypatch.setattr("resolute.data.decode._PER_TASK", 3)
    monkeypatch.setattr(under_test, "recall", lambda *_: None)
    assert torch.equal(load(path).x, whole)
    assert len(np.unique(whole.flatten(1).numpy(), axis=0)) == len(whole)


# Layouts


def grown(path: Path, *folders: str, each: int = 2) -> Path:
    """Make a tree of folders; one whose name ends with ``/`` stays empty, the others get images that hold nothing."""
    path.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        (path / folder).mkdir(parents=True, exist_ok=True)
        for k in range(0 if folder.endswith("/") else each):
            (path / folder / f"{k}.png").touch()
    return path


def below(parts: Iterable[str], classes: Iterable[str] = ("cat", "dog")) -> list[str]:
    return [f"{part}/{name}" for part in parts for name in classes]


def found(path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    encoded = open_folder(path)
    return encoded.counts, encoded.class_names


CATS = ("cat", "dog")
NAMES = [
    ("train", "test"), ("train", "val", "test"), ("training_set", "test_set"), ("training", "testing"),
    ("Train", "Valid", "Test"), ("TRAIN", "TEST"), ("train", "validation"), ("train", "dev", "eval"),
    ("Training Set", "Test Set"), ("seg_train", "seg_test"), ("train_images", "test_images"), ("trainset", "testset"),
    ("cars-train", "cars-test"), ("train_data", "validation_data", "test_data"), ("training", "evaluation"), ("val",),
]  # fmt: skip


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
@pytest.mark.parametrize("beside", [(), ("unlabeled",), ("single_prediction", "annotations/", "__MACOSX/train/cat")])
def test_parts(tmp_path: Path, names: tuple[str, ...], beside: tuple[str, ...]) -> None:
    path = grown(tmp_path / "set", *below(names), *beside if len(names) > 1 else ())
    if names == ("val",):
        assert found(path) == ({"validation": 4}, CATS)
        return
    images = [name for name in beside if not name.endswith("/")]
    if images:
        with pytest.warns(UserWarning, match=r"set: passed over .*") as caught:
            parts, classes = found(path)
        assert [str(warning.message).count(name.split("/")[0]) for warning in caught for name in images] == [1] * len(
            images
        )
    else:
        parts, classes = found(path)
    assert (parts, classes) == (dict.fromkeys(map(part_of, names), 4), CATS)


@pytest.mark.parametrize(
    ("name", "part"),
    [("latest", None), ("contest", None), ("trains", None), ("strain", None), ("retrain", None), ("test_drive", None),
     ("bus", None), ("Test-Images", "test"), ("valid", "validation"), ("evaluate", None)],
)  # fmt: skip
def test_a_word_that_holds_the_name_of_a_part_is_none(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("folders", "counts", "classes"),
    [
        (("train", "bus", "car"), {"train": 6}, ("bus", "car", "train")),
        (("test", "bus"), {"train": 4}, ("bus", "test")),
        (("train/express", "train", "bus", "car"), None, ()),
        (below(("cat", "dog"), ("train", "test")), {"train": 4, "test": 4}, CATS),
        (below(("cat", "dog"), ("Training", "Valid", "Test")), {"train": 4, "validation": 4, "test": 4}, CATS),
        (("cat/a", "cat/b", "dog/c", "dog/d"), {"train": 8}, CATS),
        (("cat/more", "cat", "dog"), {"train": 6}, CATS),
        (("cat/cat", "dog"), {"train": 4}, CATS),
        (("train/train/cat", "train/train/dog", "test/test/cat", "test/test/dog"), {"train": 4, "test": 4}, CATS),
        (
            ("train/pets/cat", "train/cars/bus", "test/pets/cat", "test/cars/bus"),
            {"train": 4, "test": 4},
            ("cars", "pets"),
        ),
    ],
)
def test_layouts(
    tmp_path: Path, folders: Iterable[str], counts: dict[str, int] | None, classes: tuple[str, ...]
) -> None:
    path = grown(tmp_path / "set", *folders)
    if counts is None:
        with pytest.raises(InputError, match="is train, which is full of folders, a part of the set or a class as"):
            open_folder(path)
    else:
        assert found(path) == (counts, classes)


REFUSED = {
    "wrapped": (below(("data/train", "data/test")), "", "{}/data, which holds 2 classes in train and test (cat, dog)"),
    "wrapped twice": (below(("a/b/train", "a/b/test")), "", "{}/a/b, which holds 2 classes in train and test"),
    "wrapped classes": (("pets/cat", "pets/dog"), "the only folder", "{}/pets, which holds 2 classes (cat, dog)"),
    "repository": (
        (*below(["Dataset"], map(str, range(10))), "Examples", "src/"),
        "Dataset is full of folders, and Examples of images, so it is",
        "{}/Dataset, which holds 10 classes (0, 1, 2, 3, 4 and 5 more)?",
    ),
    "repository with parts": (
        (*below(("data/train", "data/test")), "docs", "src/"), "data holds test, train", "{}/data, which holds 2"
    ),
    "domains": (below(("amazon", "dslr", "webcam")), "hold the same folders (cat, dog)", "{}/amazon, which holds 2"),
    "two sets": (below(("a/train", "a/test", "b/train", "b/test")), "a holds test, train", "{}/b, which holds 2"),
    "part of the classes": (
        (*below(["cat"], ("train", "test")), "dog"), "cat are divided into parts (test, train), and dog are not", ""
    ),
    "one part beside others": (
        (*below(["train"]), "unlabeled"), "full of folders, a part of the set or a class as unlabeled?", ""
    ),
    "flat parts": (("train", "test", "unlabeled"), "train: its images are in no class folder", ""),
    "two names of a part": (below(("train", "val", "valid")), "two folders for validation: val and valid. Which", ""),
    "no train": (below(("test", "val")), "validation but no train", ""),
    "empty class": (("cat", "dog", "eel/", "fox/"), "eel, fox hold no images, and here every folder is a class. W", ""),
    "nothing": ((), "there are no images in it. Wanted is a sub-folder for each class", ""),
    "no images": (("cat/",), "there are no images in it. Wanted is a sub-folder for each class", ""),
    "no class": (("",), "its images are in no class folder. Wanted is a sub-folder for each class", ""),
    "empty part": ((*below(["train"]), "test/"), "test: there are no images in it", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_looks_one_level_off_is_refused_and_the_likely_folder_named(tmp_path: Path, name: str) -> None:
    folders, reason, likely = REFUSED[name]
    path = grown(tmp_path / "set", *folders)
    with pytest.raises(InputError) as caught:
        load(path)
    said = str(caught.value)
    assert reason in said
    assert likely.format(path) in said
    assert ("Did you mean" in said) == bool(likely)
    assert not {"delete", "fill", "remove"} & set(said.lower().split())


def test_what_is_likely_is_read(tmp_path: Path) -> None:
    path = grown(tmp_path / "set", *below(["Dataset"], "0123456789"), "Examples", "src/")
    assert found(path / "Dataset") == ({"train": 20}, tuple("0123456789"))


def test_hidden_and_foreign_files_are_counted(tmp_path: Path) -> None:
    path = grown(tmp_path / "set", "a", "b", ".git/", "__MACOSX/", each=3)
    for name in ("a/._000.png", "a/Thumbs.db", "README.md", "b/x.heic", "b/y.HEIC"):
        (path / name).touch()
    encoded = open_folder(path)
    assert len(encoded.y) == 6
    assert encoded.passed_over == "2 folders and 5 files without the suffix of an image (2 .heic, 1 .md, 1 .png, ...)"


def test_hidden_folders_with_images_are_named_once(tmp_path: Path) -> None:
    path = grown(tmp_path / "set", "a", "b", "__other__", "a/.ipynb_checkpoints", ".thumbs/deep")
    (path / "stray.jpg").touch()
    with pytest.warns(UserWarning, match="set: passed over") as caught:
        encoded = open_folder(path)
    [said] = [str(warning.message) for warning in caught]
    for name in (
        ".thumbs (2 images)",
        "__other__ (2 images)",
        ".ipynb_checkpoints (2 images)",
        "1 images beside the class",
    ):
        assert said.count(name) == 1
    assert len(encoded.y) == 4


def test_suffixes(tmp_path: Path) -> None:
    path = grown(tmp_path / "set", "a", "b", each=0)
    names = ["x.jfif", "x.JPG", "x.jpeg", "x.webp", "x.tif", "x.bmp", "x.png", "x.jpe", "x.avif"]
    for name in names:
        (path / "a" / name).touch()
        (path / "b" / name).touch()
    assert len(open_folder(path).y) == 2 * len(names)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    path = grown(tmp_path / "set", "cat", "dog")
    grown(tmp_path / "elsewhere", "more", "fox")
    (path / "cat" / "more").symlink_to(tmp_path / "elsewhere/more")
    (path / "fox").symlink_to(tmp_path / "elsewhere/fox")
    assert found(path) == ({"train": 8}, ("cat", "dog", "fox"))


def test_links_that_lead_back_are_named(tmp_path: Path) -> None:
    path = grown(tmp_path / "set", "cat", "dog")
    (path / "cat" / "back").symlink_to(path)
    (path / "dog" / "here").symlink_to(".")
    with pytest.warns(UserWarning, match=r"cat/back \(a link to a folder that it is in\), .*dog/here \(a link to"):
        assert found(path) == ({"train": 4}, CATS)


@pytest.mark.parametrize("link", ["fox", "cat/more", "cat/9.png", "cat/notes.txt"])
@pytest.mark.parametrize("target", ["/nowhere/at/all", "itself"])
def test_links_that_lead_nowhere_are_refused(tmp_path: Path, link: str, target: str) -> None:
    path = grown(tmp_path / "set", "cat", "dog")
    (path / link).symlink_to(path / link if target == "itself" else target)
    with pytest.raises(InputError, match=f"has links that lead nowhere: .*{link}"):
        load(path)


def test_links_that_lead_nowhere_beside_the_parts_are_no_matter(tmp_path: Path) -> None:
    path = grown(tmp_path / "set", *below(("train", "test")))
    (path / "latest").symlink_to("gone")
    assert found(path) == ({"train": 4, "test": 4}, CATS)


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff"])
def test_a_class_name_that_is_no_utf8_is_refused_before_any_work(tmp_path: Path, name: bytes) -> None:
    path = grown(tmp_path / "set", "cat", os.fsdecode(name))
    with pytest.raises(InputError, match=r"the name of a class is no UTF-8: .*\\x") as caught:
        load(path)
    str(caught.value).encode()
    with pytest.raises(InputError, match=r"no UTF-8, in which reports are written") as caught:
        load(path / os.fsdecode(name))
    str(caught.value).encode()


def test_a_file_name_that_is_no_utf8_is_read_and_can_be_told(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"a": 9, "b": 9})
    (path / "a/000.png").rename(path / "a" / os.fsdecode(b"\xff.png"))
    assert len(load(path)) == 14
    (path / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a/\\xff\.png \(") as caught:
        load(path)
    str(caught.value).encode()


def test_names_are_data(tmp_path: Path, image_folder: WriteFolder) -> None:
    names = ("=1+1", "a\nb", "\x1b[31mred", "é")
    images = load(image_folder(tmp_path / "set", dict.fromkeys(names, 3)))
    assert images.info.class_names == tuple(sorted(names))
    assert "\n" not in (said := understood(images))
    assert "\x1b" not in said


def test_what_was_understood_is_a_line(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"cat": 20, "dog": 20})
    (path / "notes.txt").touch()
    splits = [load(path, split=split) for split in ("train", "validation", "test")]
    assert understood(*splits) == (
        f"'{path}': 2 classes ('cat', 'dog'); 29 train, 3 validation, 8 test images of 3x8x8; "
        "passed over: 1 file without the suffix of an image (1 .txt)"
    )


def test_a_folder_that_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    path = grown(tmp_path / "set", "cat", "dog")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"set cannot be searched: .*Permission denied"):
        load(path)
