"""Folders as people keep them: what is read as a part, what as a class, what is passed over, and what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from resolute.data import load
from resolute.data.dataset import understood
from resolute.data.folders import open_folder
from resolute.data.layouts import part_of
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    WriteFolder = Callable[..., Path]


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
        with pytest.raises(InputError, match="train, which is full of folders, is a part of the set or a class as"):
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
        (*below(["train"]), "unlabeled"), "full of folders, is a part of the set or a class as unlabeled", ""
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
        f"{path}: 2 classes ('cat', 'dog'); 29 train, 3 validation and 8 test images of 3x8x8; "
        "passed over: 1 file without the suffix of an image (1 .txt)"
    )


def test_a_folder_that_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    path = grown(tmp_path / "set", "cat", "dog")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"set cannot be searched: .*Permission denied"):
        load(path)
