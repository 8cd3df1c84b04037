"""Image folders: what is found, in which order, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolute.data import load
from resolute.data.folders import open_folder
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"a": 3, "b": 3})
    (path / "a" / "._000.png").write_bytes(b"")
    (path / "a" / "Thumbs.db").write_bytes(b"")
    (path / "README.md").write_text("about")
    for hidden in (".git", "__MACOSX"):
        (path / hidden).mkdir()
    assert len(open_folder(path).y) == 6


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train", "test"), {"train": 3, "test": 2}),
        (("Training", "Testing"), {"train": 3, "test": 2}),
        (("train", "val"), {"train": 3, "validation": 2}),
        (("valid", "train"), {"train": 2, "validation": 3}),
        (("test", "validation", "train"), {"train": 4, "validation": 2, "test": 3}),
        (("val",), {"validation": 3}),
    ],
)
def test_parts(tmp_path: Path, image_folder: WriteFolder, names: tuple[str, ...], parts: dict[str, int]) -> None:
    for name, count in zip(names, (3, 2, 4), strict=False):
        image_folder(tmp_path / "set" / name, {"a": count - 1, "b": 1})
    found = open_folder(tmp_path / "set")
    assert list(found.counts.items()) == list(parts.items())
    assert found.y.tolist() == [k for count in parts.values() for k in [0] * (count - 1) + [1]]


def test_one_part_alone_is_a_set_that_nobody_split(tmp_path: Path, image_folder: WriteFolder) -> None:
    image_folder(tmp_path / "set" / "val", {"a": 5, "b": 5})
    assert len(load(tmp_path / "set", split="test")) == 2


def test_a_class_may_be_called_train(tmp_path: Path, image_folder: WriteFolder) -> None:
    found = open_folder(image_folder(tmp_path / "set", {"car": 2, "train": 3}))
    assert found.class_names == ("car", "train")


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(path)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    refused(tmp_path / "set", "there are no images in it. Wanted is a sub-folder for each class")
    (tmp_path / "set" / "cat").mkdir()
    refused(tmp_path / "set", "there are no images in it")


def test_images_outside_class_folders(tmp_path: Path, image_folder: WriteFolder) -> None:
    refused(image_folder(tmp_path / "set", {"cat": 3}) / "cat", "its images are in no class folder")


def test_one_class(tmp_path: Path, image_folder: WriteFolder) -> None:
    refused(image_folder(tmp_path / "set", {"cat": 3}), "has one class, 'cat': a classifier needs two or more")


def test_class_folders_without_images(tmp_path: Path, image_folder: WriteFolder) -> None:
    path = image_folder(tmp_path / "set", {"cat": 3, "dog": 3, "eel": 0, "fox": 0})
    refused(path, "class folders without images: eel, fox")


def test_two_folders_for_one_part(tmp_path: Path, image_folder: WriteFolder) -> None:
    for part in ("train", "val", "valid"):
        image_folder(tmp_path / "set" / part, {"a": 2, "b": 2})
    refused(tmp_path / "set", "two folders for validation: val and valid")


def test_parts_without_train(tmp_path: Path, image_folder: WriteFolder) -> None:
    for part in ("test", "val"):
        image_folder(tmp_path / "set" / part, {"a": 2, "b": 2})
    refused(tmp_path / "set", "test and validation but no train|validation and test but no train")


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
