"""Files of a run directory: what is written comes back, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import platform
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import Timeout
from hypothesis import given, settings
from hypothesis import strategies as st

from pictures import LEGAL, flipped
from resolute import run_folder
from resolute.errors import InputError
from resolute.run_folder import (
    GROWS,
    Record,
    RunFolder,
    cell_name,
    environment,
    file_name,
    go_through,
    is_sealed,
    locked,
    read_bits,
    read_json,
    read_part,
    read_records,
    read_sealed,
    seal,
    write_atomic,
    write_bits,
    write_json,
    write_part,
    write_records,
    write_sealed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from resolute.run_folder import Key

CLEAN = Record("digits", "lenet", "base", 3, "clean", "clean", 0.0, correct=355, n=360)
NOISY = Record("/data/ü images", "wrn-16-2", "r", 0, "noise", "gaussian-noise", 0.1, correct=0, n=1)


def draw(*sizes: int) -> dict[Key, NDArray[np.bool_]]:
    bits = np.random.default_rng(0)
    return {("noise", "gaussian-noise", 0.1 * i): bits.random(n) < 0.5 for i, n in enumerate(sizes)}


def test_a_record_knows_its_column_and_its_error() -> None:
    assert NOISY.key == ("noise", "gaussian-noise", 0.1)
    assert CLEAN.error == pytest.approx(5 / 360)
    assert NOISY.error == 1
    with pytest.raises(AttributeError):
        CLEAN.n = 3  # type: ignore[misc]


def test_cell_names() -> None:
    assert cell_name("fgsm", 12) == "fgsm-seed12"


# Round trips


@pytest.mark.parametrize("content", ["", "two\nlines ü\n", b"\x00\xff\r\n"])
def test_what_is_written_is_in_the_file_and_nothing_beside_it(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "deeper" / "file.txt"
    for _ in range(2):
        write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_json_comes_back_in_its_order(tmp_path: Path) -> None:
    value = {"b": [1, 0.1, None, "ü"], "a": {"x": True}}
    write_json(tmp_path / "recipe.json", value)
    assert read_json(tmp_path / "recipe.json") == value
    assert list(read_json(tmp_path / "recipe.json")) == ["b", "a"]


def test_json_refuses_nan_and_keeps_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "cost.json", {"step_ms": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "cost.json", {"step_ms": float("nan")})
    assert read_json(tmp_path / "cost.json") == {"step_ms": 1.5}


def test_records_come_back_in_their_order(tmp_path: Path) -> None:
    written = [NOISY, CLEAN, NOISY]
    write_records(tmp_path / "records.jsonl", iter(written))
    assert read_records(tmp_path / "records.jsonl") == written
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1])["correct"] == 355
    write_records(tmp_path / "records.jsonl", [])
    assert read_records(tmp_path / "records.jsonl") == []


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 360, 1001])
def test_bits_come_back_at_one_bit_an_image(tmp_path: Path, n: int) -> None:
    bits = {
        **draw(n, n, n),
        ("clean", "clean", 0.0): np.ones(n, bool),
        ("a", "b", np.float64(1 / 3)): np.zeros(n, bool),
    }
    write_bits(tmp_path / "bits.npz", bits)
    read = read_bits(tmp_path / "bits.npz")
    assert list(read) == list(bits)
    for key, right in bits.items():
        assert read[key].dtype == np.bool_
        assert np.array_equal(read[key], right)
    with np.load(tmp_path / "bits.npz") as stored:
        assert stored["clean/clean/0.0"].nbytes == -(-n // 8)


@pytest.mark.parametrize("sizes", [(), (8, 9)])
def test_bits_of_different_images_are_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="every shift needs the same images"):
        write_bits(tmp_path / "bits.npz", draw(*sizes))
    assert not (tmp_path / "bits.npz").exists()


# Crashes and folders that cannot be written


def fail(error: BaseException) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


@pytest.mark.parametrize("step", ["fsync", "rename"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "records.jsonl"
    write_atomic(path, "old")
    with monkeypatch.context() as broken:
        if step == "fsync":
            broken.setattr(os, "fsync", fail(error))
        else:
            broken.setattr(Path, "replace", fail(error))
        wanted = InputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(wanted) as caught:
            write_atomic(path, "new, and longer")
    if wanted is InputError:
        assert str(caught.value).startswith(f"cannot write {path}: No space left on device. Make room; the same")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_synced_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        done.append("sync")
        sync(handle)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        assert self.parent == target.parent, "a rename is atomic only within a file system"
        assert self.read_text() == "all of it"
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    write_atomic(tmp_path / "file", "all of it")
    assert done == ["sync", "rename", "sync"]


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "records.jsonl", tmp_path / "file" / "deeper" / "records.jsonl"):
        with pytest.raises(
            InputError, match=rf"^cannot write {path}: .+\. Choose a folder that can be written \(--out\)"
        ):
            write_atomic(path, "x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(InputError, match=r"^cannot write .*Is a directory"):
        write_atomic(tmp_path / "directory", "x")
    assert {p.name for p in tmp_path.iterdir()} == {"file", "directory"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"^cannot write .*Permission denied"):
        write_atomic(tmp_path / "file", "x")


# Files that are missing or broken


@pytest.mark.parametrize("read", [read_json, read_records, read_bits])
def test_a_missing_file_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=rf"^cannot read {tmp_path}/absent.*No such file"):
        read(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_what_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(InputError, match=r"recipe.json is not JSON \(.+\)\. Restore it, or run again"):
        read_json(tmp_path / "recipe.json")


@pytest.mark.parametrize(
    "line", ["", "{", "[1]", "3", "null", '{"data": "digits"}', '{"data": "digits", "extra": 1}', "\udcff\udcfe"]
)
def test_a_broken_record_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [CLEAN, NOISY])
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(
        InputError, match=r"records.jsonl, line 3 is not a record \(.+\)\. Delete the cell and run again"
    ):
        read_records(path)


def test_a_record_cut_short_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [CLEAN, NOISY])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="line 2 is not a record"):
        read_records(path)


def test_bits_that_are_broken_anywhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bits.npz"
    write_bits(path, draw(1001, 1001))
    raw, wanted = path.read_bytes(), read_bits(path)
    cuts = [raw[:length] for length in (1, 60, len(raw) // 2, len(raw) - 1)]
    for broken in (b"", b"not a zip file", *cuts):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=rf"^cannot read {path} \(.+\)\. Delete the cell and run again\.$"):
            read_bits(path)
    for place in random.sample(range(len(raw)), 200):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << random.randrange(8)]) + raw[place + 1 :])
        with contextlib.suppress(InputError):
            read = read_bits(path)
            known = read.keys() & wanted.keys()  # a flip may hide a column
            assert all(np.array_equal(read[key], wanted[key]) for key in known), "a flipped bit changed an answer"


# The stamp of the machine


def test_environment_is_json_and_names_versions_but_not_the_machine_or_its_user() -> None:
    stamp = environment()
    text = json.dumps(stamp, allow_nan=False)
    for name in ("resolute", "python", "torch", "numpy", "torchvision", "timm", "lightning-fabric"):
        assert stamp[name][0].isdigit(), name
    assert stamp["threads"] >= 1
    assert stamp["cores"] == os.cpu_count()
    for private in (platform.node(), str(Path.home()), str(Path.cwd())):
        assert private not in text
    assert stamp["platform"].split()[0] == platform.system()


def test_a_package_that_is_not_installed_is_said_to_be_so() -> None:
    assert run_folder._version("no-such-package") == "not installed"


# Locks


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    with locked(tmp_path / "locks", "a"):
        with pytest.raises(Timeout):
            locked(tmp_path / "locks", "a")
        with locked(tmp_path / "locks", "b"):
            pass
    with locked(tmp_path / "locks", "a"):
        pass


def test_parts_are_shared_and_each_is_done_once(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def work(worker: int) -> None:
        def do(part: int) -> bool:
            file = tmp_path / f"{part}.done"
            try:
                with locked(tmp_path / "locks", str(part)):
                    if not file.exists():
                        time.sleep(0.01)
                        done.append((part, worker))
                        file.touch()
            except Timeout:
                pass
            return file.exists()

        go_through(range(12), do)
        assert len(list(tmp_path.glob("*.done"))) == 12, "nobody leaves before all parts are done"

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(3)))
    assert sorted(part for part, _ in done) == list(range(12))
    assert len({worker for _, worker in done}) > 1


# Names of files


SUFFIXES = ("", ".json", ".npz", ".checks.json", "-seed9999")
NAMES = st.text(max_size=40) | st.text("a*?@=:/%.~ \u00e9\0\n-_A", max_size=300) | st.text(min_size=1800, max_size=2000)
SPECIAL = "*?@=:/%.~ _-+,\\\u00e9\u00c9"


def check_name(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9@=,+_%~-][A-Za-z0-9@=,+._%~-]*", name), "one part of a path, and not hidden"
    for suffix in SUFFIXES:
        assert len(f".{name}{suffix}.abcdefgh".encode()) <= 255, "a temporary name beside it fits too"


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(NAMES, NAMES)
def test_another_name_is_another_file(one: str, other: str) -> None:
    for name in (one, other):
        check_name(file_name(name))
    assert (file_name(one) == file_name(other)) == (one == other)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(NAMES, st.sampled_from(SPECIAL), st.sampled_from(SPECIAL), st.floats(0, 1))
def test_names_that_differ_in_one_letter_are_two_files(name: str, one: str, other: str, place: float) -> None:
    at = int(place * len(name))
    names = {name[:at] + letter + name[at:] for letter in (one, other, "")}
    coded = {file_name(each) for each in names}
    assert len(coded) == len(names)
    assert all("/" not in each and "*" not in each for each in coded)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(NAMES)
def test_a_coded_name_is_not_taken_for_the_name_that_it_stands_for(name: str) -> None:
    coded = file_name(name)
    assert coded == name or file_name(coded) != coded, "coding is undone by no other name"


@pytest.mark.parametrize(
    ("name", "coded"),
    [
        ("r@eps=0.5@where=both", "r@eps=0.5@where=both"),
        ("r+fgsm", "r+fgsm"),
        ("**1", "%2A%2A1"),
        ("??1", "%3F%3F1"),
        ("__1", "__1"),
        ("a/b", "a%2Fb"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("", "%00"),
        ("\u00e9", "%C3%A9"),
    ],
)
def test_names_are_coded_as_in_addresses(name: str, coded: str) -> None:
    assert file_name(name) == coded


def test_folders_of_cells_differ_where_methods_differ(tmp_path: Path) -> None:
    methods = [
        "r@where=**1",
        "r@where=??1",
        "r@where=__1",
        "r@where=a/b",
        "r@where=" + 190 * "x",
        "r@where=" + 191 * "x",
    ]
    folders = {cell_name(method, 0) for method in methods}
    assert len(folders) == len(methods)
    for folder in folders:
        write_json(tmp_path / "cells" / folder / "model.json", {"name": folder})
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == sorted(folders)


# Parts and seals


OURS = {"seed": 0, "images": {"train": {"pixels": 64 * "a"}}}
OTHERS = [
    ({"seed": 1, "images": OURS["images"]}, "seed is 1 there and 0 here"),
    ({"images": OURS["images"]}, "seed is None there and 0 here"),
    (OURS | {"more": 1}, "more is said there and unknown here"),
    (
        OURS | {"images": {"train": {"pixels": 64 * "b"}}},
        "images.train.pixels is 'bbbbbbbb...' there and 'aaaaaaaa...'",
    ),
    (OURS | {"images": {"train": {"pixels": 64 * "a", "n": 3}}}, "images.train.n is 3 there and None here"),
]


def make_sealed(folder: Path, identity: Any = OURS) -> Path:
    for name in ("one.txt", "two.bin"):
        write_atomic(folder / name, f"content of {name}")
    seal(folder, identity, ("one.txt", "two.bin"))
    return folder


def test_a_part_comes_back_to_its_own_work_alone(tmp_path: Path) -> None:
    path = tmp_path / "part"
    assert read_part(path, OURS) is None
    write_part(path, b"content\nof two lines", OURS)
    assert read_part(path, OURS) == b"content\nof two lines"
    assert read_part(path, {"images": OURS["images"], "seed": 0}) == b"content\nof two lines", "in any order of keys"


@pytest.mark.parametrize(("theirs", "differs"), OTHERS)
def test_what_belongs_to_other_work_is_refused_by_what_differs(tmp_path: Path, theirs: Any, differs: str) -> None:
    told = rf" belongs to other work: {re.escape(differs)}.*\. Delete it, or choose another folder with --out\.$"
    write_part(tmp_path / "part", b"content", theirs)
    with pytest.raises(InputError, match=f"^{tmp_path}/part{told}"):
        read_part(tmp_path / "part", OURS)
    make_sealed(tmp_path / "cell", theirs)
    with pytest.raises(InputError, match=f"^{tmp_path}/cell{told}"):
        is_sealed(tmp_path / "cell", OURS)


@pytest.mark.parametrize("theirs", [None, [], "this run"])
def test_what_names_no_work_is_refused(tmp_path: Path, theirs: Any) -> None:
    make_sealed(tmp_path, theirs)
    assert is_sealed(tmp_path)
    with pytest.raises(InputError, match="belongs to other work: it does not say what it belongs to"):
        is_sealed(tmp_path, OURS)


def test_every_flipped_bit_of_a_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part"
    write_part(path, b"content", OURS)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(flipped(whole, place, place % 8))
        with pytest.raises(InputError, match=f"^{path} (is damaged|belongs to other work)"):
            read_part(path, OURS)


@pytest.mark.parametrize("name", ["one.txt", "checksums.json"])
def test_every_flipped_bit_of_a_sealed_folder_is_refused_or_without_meaning(tmp_path: Path, name: str) -> None:
    make_sealed(tmp_path)
    assert is_sealed(tmp_path, OURS)
    whole = (tmp_path / name).read_bytes()
    for place in range(len(whole)):
        (tmp_path / name).write_bytes(flipped(whole, place, place % 8))
        try:
            assert is_sealed(tmp_path, OURS)
        except InputError:
            continue
        assert chr(whole[place]).isspace(), f"byte {place} was flipped, and nobody saw it"


@pytest.mark.parametrize("name", ["one.txt", "two.bin"])
def test_a_missing_file_of_a_sealed_folder_is_named_and_what_to_do(tmp_path: Path, name: str) -> None:
    make_sealed(tmp_path)
    (tmp_path / name).unlink()
    told = f"^{tmp_path}/{name} is missing. Delete the folder {tmp_path} and give the same command again: it makes"
    with pytest.raises(InputError, match=told):
        is_sealed(tmp_path, OURS)


def test_a_damaged_file_of_a_sealed_folder_is_named_and_what_to_do(tmp_path: Path) -> None:
    make_sealed(tmp_path)
    (tmp_path / "two.bin").write_bytes(b"content of two.bim")
    told = rf"^{tmp_path}/two.bin is damaged: .*checksums.json says\. Delete the folder {tmp_path} and give the same"
    with pytest.raises(InputError, match=told):
        is_sealed(tmp_path, OURS)


def test_a_folder_without_checksums_is_not_finished(tmp_path: Path) -> None:
    assert not is_sealed(make_unsealed(tmp_path), OURS)


def make_unsealed(folder: Path) -> Path:
    write_atomic(folder / "one.txt", "content")
    return folder


def test_sealed_json_comes_back_without_its_checksum_and_every_change_is_seen(tmp_path: Path) -> None:
    path, value = tmp_path / "tuning.json", {"b": [1, 0.1, None, "\u00fc"], "a": {"x": True, "sha256": 64 * "f"}}
    write_sealed(path, value)
    assert read_sealed(path) == read_json(path) == value
    assert list(read_sealed(path)) == ["b", "a"]
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(flipped(whole, place, place % 8))
        for read in (read_sealed, read_json):
            with contextlib.suppress(InputError):
                assert read(path) == value


def test_json_without_a_checksum_is_of_an_earlier_version(tmp_path: Path) -> None:
    write_json(tmp_path / "recipe.json", {"name": "digits"})
    assert read_json(tmp_path / "recipe.json") == {"name": "digits"}
    told = r"recipe.json carries no checksum: an earlier version wrote it, or it was changed by hand.*\(--out\)"
    with pytest.raises(InputError, match=told):
        read_sealed(tmp_path / "recipe.json")


# Claims


IDENTITY = {"name": "digits", "images": {"test": {"labels": 64 * "c"}}, "methods": ["base", "r"], "seeds": [0]}


def folder_of(path: Path, grows: tuple[str, ...] = GROWS) -> RunFolder:
    return RunFolder(path, "recipe.json", "comparison", grows)


def listing(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() if file.is_file() else b"" for file in path.rglob("*")}


@pytest.mark.parametrize("name", LEGAL)
def test_any_legal_name_may_be_claimed(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "within" / name)
    for _ in range(2):
        folder.claim(IDENTITY, {"command": "resolute compare"})
        with folder.lock(name):
            write_part(folder.path / file_name(name), b"content", IDENTITY)
    assert read_part(folder.path / file_name(name), IDENTITY) == b"content"
    assert [path.name for path in (tmp_path / "within").iterdir()] == [name]
    stored = read_sealed(folder.path / "recipe.json")
    assert stored == {"command": "resolute compare", "identity": IDENTITY}
    assert "torch" in read_sealed(folder.path / "environment.json")


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"name": "mnist"}, "name is 'digits' there and 'mnist' here"),
        (
            {"images": {"test": {"labels": 64 * "d"}}},
            "images.test.labels is 'cccccccc...' there and 'dddddddd...' here",
        ),
        ({"methods": ["base"]}, "methods is ['base', 'r'] there and ['base'] here"),
        ({"seeds": [1]}, "seeds is [0] there and [1] here"),
        ({"later": 1}, "later is None there and 1 here"),
    ],
)
def test_a_claim_of_another_work_is_refused_and_leaves_all_as_it_was(
    tmp_path: Path, change: dict[str, Any], differs: str
) -> None:
    folder_of(tmp_path / "run").claim(IDENTITY, {})
    before = listing(tmp_path)
    told = f"{tmp_path}/run holds another comparison: {differs}. Methods and seeds can be added, nothing else changed. "
    with pytest.raises(InputError, match=re.escape(f"{told}Choose another folder with --out.")):
        folder_of(tmp_path / "run").claim(IDENTITY | change, {})
    assert listing(tmp_path) == before


def test_a_claim_may_grow_by_methods_and_seeds_where_that_is_said(tmp_path: Path) -> None:
    more = IDENTITY | {"methods": ["r", "fgsm", "base"], "seeds": [0, 1]}
    folder_of(tmp_path / "run").claim(IDENTITY, {"command": "first"})
    with pytest.raises(InputError, match=r"methods is \['base', 'r'\] there and .* here; seeds is \[0\] there and"):
        folder_of(tmp_path / "run", ()).claim(more, {})
    folder_of(tmp_path / "run").claim(more, {"command": "second"})
    assert read_sealed(tmp_path / "run/recipe.json") == {"command": "second", "identity": more}
    folder_of(tmp_path / "run").claim(more, {"command": "third"})
    assert read_sealed(tmp_path / "run/recipe.json")["command"] == "second", "nothing grew"


def test_a_refused_claim_leaves_nothing_behind_in_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("words")
    write_json(tmp_path / "old/recipe.json", {"name": "digits"})
    write_sealed(tmp_path / "strange/recipe.json", {"name": "digits"})
    before = listing(tmp_path)
    for name, told in (
        ("thesis", "is not empty and holds no comparison. Choose another folder with --out"),
        ("old", "carries no checksum: an earlier version wrote it"),
        ("strange", "does not say which images and settings the folder is of. Choose another folder with --out"),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            folder_of(tmp_path / name).claim(IDENTITY, {})
    assert listing(tmp_path) == before


def test_a_run_killed_at_its_first_write_is_claimed_again(tmp_path: Path) -> None:
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks/claim").touch()
    (tmp_path / ".recipe.json.abcdefgh").write_text("{")
    folder_of(tmp_path).claim(IDENTITY, {})
    assert read_sealed(tmp_path / "recipe.json") == {"identity": IDENTITY}


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match=r"cannot lock .*run/.locks/claim: .*choose, with --out, a folder that can be"):
        folder_of(tmp_path / "run").claim(IDENTITY, {})


def test_two_processes_that_claim_a_folder_at_once_are_told_apart(tmp_path: Path) -> None:
    """One of two works gets it, whole, and the other is refused; of one work both get it."""
    context = multiprocessing.get_context("fork")
    for number, seeds in enumerate([(0, 1)] * 6 + [(0, 0)] * 2):
        start, told = context.Barrier(2), context.Queue()
        children = [
            context.Process(target=claim_at_once, args=(tmp_path / str(number), seed, start, told)) for seed in seeds
        ]
        for child in children:
            child.start()
        found = sorted((told.get(timeout=60) for _ in children), key=len)
        for child in children:
            child.join()
        assert found[0] == "claimed"
        assert found[1] == "claimed" if seeds == (0, 0) else "holds another comparison: seed is " in found[1]
        assert read_sealed(tmp_path / str(number) / "recipe.json")["identity"]["seed"] in seeds


def claim_at_once(out: Path, seed: int, start: Any, told: Any) -> None:
    start.wait()
    try:
        folder_of(out, ()).claim({"seed": seed}, {})
    except InputError as error:
        told.put(str(error))
    else:
        told.put("claimed")
