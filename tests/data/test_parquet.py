"""Parquet files as Hugging Face writes them, and without its description."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resolute.data import load
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteFile = Callable[..., Path]
    Pictures = Callable[..., list[bytes]]

FEATURES = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ant", "bee", "cow"]}}


@pytest.fixture
def pictures(picture: Callable[..., Image.Image], compressed: Callable[..., bytes]) -> Pictures:
    """Files of noise, a different one for each seed: ``pictures(first, last)``."""
    return lambda first, last: [compressed(picture(seed), "JPEG" if seed % 2 else "PNG") for seed in range(first, last)]


def decoded(blobs: list[bytes]) -> Any:
    return np.stack([np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")) for blob in blobs]).transpose(0, 3, 1, 2)


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(path)


def test_shards_with_a_description(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    blobs, labels = pictures(0, 600), [i % 3 for i in range(600)]
    for k, (a, b) in enumerate([(0, 300), (300, 540)]):
        file = tmp_path / "set" / f"train-0000{k}-of-00002.parquet"
        hugging_face_file(file, {"img": blobs[a:b], "label": labels[a:b]}, FEATURES)
    hugging_face_file(
        tmp_path / "set" / "test-00000-of-00001.parquet", {"img": blobs[540:], "label": labels[540:]}, FEATURES
    )
    for split, index in {
        "train": [i for i in range(540) if i % 10 != 9],
        "validation": range(9, 540, 10),
        "test": range(540, 600),
    }.items():
        images = load(tmp_path / "set", split=split)
        assert images.y.tolist() == [labels[i] for i in index]
        assert np.array_equal(images.x.numpy(), decoded([blobs[i] for i in index]))
    assert images.info.class_names == ("ant", "bee", "cow")


def test_a_repository_with_a_data_folder(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    file = tmp_path / "set" / "data" / "train-00000.parquet"
    hugging_face_file(file, {"img": pictures(0, 6), "label": [0, 1, 2] * 2}, FEATURES)
    assert len(load(tmp_path / "set", split="test")) == 1


@pytest.mark.parametrize("name", ["validation-00000-of-00001.parquet", "0000.parquet", "train.parquet"])
def test_one_part_alone_is_a_set_that_nobody_split(
    tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures, name: str
) -> None:
    labels = [i % 3 for i in range(20)]
    hugging_face_file(tmp_path / "set" / name, {"img": pictures(0, 20), "label": labels}, FEATURES)
    assert load(tmp_path / "set", split="test").y.tolist() == [labels[i] for i in range(20) if i % 5 == 4]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct([("path", pa.string()), ("bytes", pa.binary())])]
)
@pytest.mark.parametrize("labels", [[3, 7, 3, 7, 7], ["b", "a", "b", "a", "a"]])
def test_columns_are_found_by_type(tmp_path: Path, pictures: Pictures, kind: pa.DataType, labels: list[Any]) -> None:
    blobs = pictures(0, 5)
    values = [{"path": "p", "bytes": blob} for blob in blobs] if pa.types.is_struct(kind) else blobs
    table = pa.table({"weight": [0.5] * 5, "what": labels, "photograph": pa.array(values, kind)})
    (tmp_path / "set").mkdir()
    pq.write_table(table, tmp_path / "set" / "0.parquet")
    images = load(tmp_path / "set", split="train")
    assert images.info.class_names == tuple(str(v) for v in sorted(set(labels)))
    assert [images.info.class_names[k] for k in images.y] == [str(v) for v in labels[:4]]
    assert np.array_equal(images.x.numpy(), decoded(blobs[:4]))


def test_labels_kept_as_a_dictionary(tmp_path: Path, pictures: Pictures) -> None:
    label = pa.array(["x", "y", "x", "y"]).dictionary_encode()
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"image": pictures(0, 4), "label": label}), tmp_path / "set" / "0.parquet")
    assert load(tmp_path / "set").y.tolist() == [0, 1, 0, 1]


def test_a_described_label_wins_over_other_numbers(
    tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures
) -> None:
    columns = {"id": range(5, 11), "img": pictures(0, 6), "label": [2, 0, 1, 1, 2, 0], "name": ["p", "q"] * 3}
    hugging_face_file(tmp_path / "set" / "train-0.parquet", columns, FEATURES)
    assert load(tmp_path / "set", split="train+validation").y.tolist() == [2, 0, 1, 1, 0]


def test_a_description_of_columns_that_are_not_there_counts_for_nothing(
    tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures
) -> None:
    columns = {"image": pictures(0, 4), "kind": ["x", "y", "y", "x"]}
    hugging_face_file(tmp_path / "set" / "train-0.parquet", columns, FEATURES)
    assert load(tmp_path / "set").info.class_names == ("x", "y")


def test_no_label_column(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 3), "weight": [0.1, 0.2, 0.3]})
    refused(tmp_path / "set", "train-0.parquet has no label column: wanted is a column of whole numbers or names")


@pytest.mark.parametrize("parts", [["train"], ["train", "test"]])
def test_a_class_without_images_is_named(
    tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures, parts: list[str]
) -> None:
    for part in parts:
        hugging_face_file(tmp_path / f"set/{part}-0.parquet", {"img": pictures(0, 4), "label": [0, 2, 0, 2]}, FEATURES)
    refused(tmp_path / "set", "classes (have fewer than two: 'bee' .0.|without an image: 'bee')")


def test_labels_in_turn_leave_no_class_out(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    hugging_face_file(tmp_path / "set/train-0.parquet", {"img": pictures(0, 200), "label": [*range(10)] * 20})
    for split, n in (("train", 14), ("validation", 2), ("test", 4)):
        found = load(tmp_path / "set", split=split).y.bincount(minlength=10)
        assert ((found >= n - 1) & (found <= n + 1)).all()


def test_a_number_for_each_row_is_no_label(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 3), "id": [4, 5, 6]})
    refused(tmp_path / "set", "no label column: 'id' differs in each of its 3 rows")


def test_no_image_column(tmp_path: Path, hugging_face_file: WriteFile) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"text": ["a", "b"], "label": [0, 1]})
    refused(tmp_path / "set", "has no image column: wanted is a column of image files' bytes")


def test_two_labels(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    columns = {"img": pictures(0, 3), "fine_label": [0, 1, 2], "coarse_label": [0, 0, 1]}
    hugging_face_file(tmp_path / "set" / "train-0.parquet", columns)
    refused(tmp_path / "set", "2 columns that could be the label: 'fine_label', 'coarse_label'")
    kind = {"_type": "ClassLabel", "names": ["a", "b", "c"]}
    features = {"img": {"_type": "Image"}, "fine_label": kind, "coarse_label": kind}
    hugging_face_file(tmp_path / "set" / "train-0.parquet", columns, features)
    refused(tmp_path / "set", "2 columns that could be the label: 'fine_label', 'coarse_label'")


def test_two_images(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    columns = {"img": pictures(0, 3), "image": pictures(3, 6), "label": [0, 1, 1]}
    hugging_face_file(tmp_path / "set" / "train-0.parquet", columns)
    refused(tmp_path / "set", "2 columns that could be the image: 'img', 'image'")


@pytest.mark.parametrize("bad", [-1, 3])
def test_labels_out_of_range(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures, bad: int) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 4), "label": [0, 1, bad, 2]}, FEATURES)
    refused(tmp_path / "set", f"labels out of range in its column 'label': {bad}; its 3 classes are 0 to 2")


def test_a_negative_label_without_a_description(
    tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures
) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 4), "label": [-1, 0, 1, 1]})
    refused(tmp_path / "set", "has the label -1")


def test_rows_without_a_label(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 4), "label": [0, None, 1, None]})
    refused(tmp_path / "set", "has 2 of 4 rows without a label in its column 'label'")


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    table = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "set" / "train-0.parquet")
    refused(tmp_path / "set", "has no rows")


def test_a_class_missing_in_the_test_part(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 4), "label": [0, 1, 2, 2]}, FEATURES)
    hugging_face_file(tmp_path / "set" / "test-0.parquet", {"img": pictures(4, 6), "label": [0, 2]}, FEATURES)
    refused(tmp_path / "set", "has classes in train but not in test: 'bee'")


def test_rows_without_an_image_are_named(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    first, second, *rest = pictures(0, 4)
    file = tmp_path / "set" / "train-0.parquet"
    blobs = [first, None, second, second[:20], *rest]
    hugging_face_file(file, {"img": blobs, "label": [0, 1, 2, 0, 1, 2]}, FEATURES)
    refused(
        tmp_path / "set", r"2 of 6 images .* train-0\.parquet row 1 \(it holds no bytes\), train-0\.parquet row 3 \("
    )


def test_a_file_that_is_no_parquet(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train-0.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    refused(tmp_path / "set", r"train-0\.parquet cannot be read as parquet \(.*\): delete it and fetch it again")
    file = hugging_face_file(
        tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 9), "label": [0, 1, 2] * 3}, FEATURES
    )
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    refused(tmp_path / "set", r"cannot be read as parquet")
    file.write_bytes(content[:4] + bytes(500) + content[504:])
    refused(tmp_path / "set", r"cannot be read as parquet")


def test_files_that_disagree(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    hugging_face_file(tmp_path / "set" / "train-0.parquet", {"img": pictures(0, 4), "label": [0, 1, 2, 2]}, FEATURES)
    hugging_face_file(tmp_path / "set" / "train-1.parquet", {"image": pictures(4, 6), "label": [0, 2]})
    refused(tmp_path / "set", r"train-1\.parquet has other columns or classes than .*train-0\.parquet")


def test_files_of_no_part(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    for name in ("train-0", "test-0", "extra-0"):
        hugging_face_file(tmp_path / "set" / f"{name}.parquet", {"img": pictures(0, 2), "label": [0, 1]}, FEATURES)
    refused(tmp_path / "set", r"parquet files that belong to no part: extra-0\.parquet")


def test_parts_without_train(tmp_path: Path, hugging_face_file: WriteFile, pictures: Pictures) -> None:
    for name in ("test-0", "validation-0"):
        hugging_face_file(tmp_path / "set" / f"{name}.parquet", {"img": pictures(0, 2), "label": [0, 1]}, FEATURES)
    refused(tmp_path / "set", "test and validation but no train")
