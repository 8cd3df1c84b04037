"""How the files of each published set are had and read: torchvision's places, addresses and checksums.

Those are looked up in torchvision's classes when files are needed, so that none of them is written twice.
"""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from resolute.data.fetch import Download, fetch, verify
from resolute.data.formats import MOST_PICKLED, read_batches, read_idx, read_mat, unpacked
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor


MOST_MEMBERS = 100
"""Members of an archive of batches; CIFAR's have 9 and 5."""


class Host(Protocol):
    """What gives the parts of a published set."""

    def read(self, root: Path, part: str) -> tuple[Tensor, Tensor]:
        """Read one part, after a download if its files are not there."""


@dataclass(frozen=True, slots=True)
class IDX:
    """MNIST and the sets in its format, four files ``root/FOLDER/raw/*-ubyte``, packed (``.gz``) or not.

    Attributes:
        folder: The name of torchvision's class, which is also the name of the folder.
        title: What the set is called in messages.
    """

    folder: str
    title: str

    def read(self, root: Path, part: str) -> tuple[Tensor, Tensor]:
        """Read one part; see :class:`Host`."""
        kind, raw = _torchvision(self.folder), root / self.folder / "raw"
        names = [name.removesuffix(".gz") for name, _ in kind.resources]
        if not all((raw / name).is_file() for name in names):
            files = [
                Download(f"{self.folder}/raw/{name}", md5, tuple(f"{mirror}{name}" for mirror in kind.mirrors))
                for name, md5 in kind.resources
                if not (raw / name.removesuffix(".gz")).is_file()
            ]
            _obtain(self.title, root, raw, files, "packed (.gz) or unpacked: " + ", ".join(names))
        prefix = "train" if part == "train" else "t10k"
        chosen = [_packed_or_not(raw, name) for name in names if name.startswith(prefix)]
        try:
            x, y = read_idx(unpacked(chosen[0]), unpacked(chosen[1]))
            _check_grey(x, y, 10)
        except (OSError, ValueError) as error:
            _refuse_damaged(self.title, chosen, error)
        return x, y


@dataclass(frozen=True, slots=True)
class EMNIST:
    """EMNIST's balanced split, four files ``root/EMNIST/raw/emnist-balanced-*-ubyte``, or the archive that has them."""

    def read(self, root: Path, part: str) -> tuple[Tensor, Tensor]:
        """Read one part; see :class:`Host`. The files hold the images transposed, and here they stand upright."""
        raw = root / "EMNIST" / "raw"
        names = [f"emnist-balanced-{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
        files = [_packed_or_not(raw, name) for name in names]
        members: list[str | None] = [None, None]
        if not all(file.is_file() for file in files):
            kind = _torchvision("EMNIST")
            archive = Download("EMNIST/raw/gzip.zip", kind.md5, (kind.url,))
            wanted = f"gzip.zip, or unpacked from it {' and '.join(names)}"
            files, members = _obtain("EMNIST", root, raw, [archive], wanted) * 2, [f"gzip/{name}.gz" for name in names]
        try:
            contents = [unpacked(file, member) for file, member in zip(files, members, strict=True)]
            x, y = read_idx(contents[0], contents[1], transposed=True)
            _check_grey(x, y, 47)
        except (OSError, ValueError) as error:
            _refuse_damaged("EMNIST", files, error)
        return x, y


@dataclass(frozen=True, slots=True)
class SVHN:
    """SVHN's cropped digits, ``root/PART_32x32.mat``."""

    def read(self, root: Path, part: str) -> tuple[Tensor, Tensor]:
        """Read one part; see :class:`Host`. The label 10 becomes 0."""
        url, name, md5 = _torchvision("SVHN").split_list[part]
        [file] = _obtain("SVHN", root, root, [Download(name, md5, (url,))], name)
        try:
            return read_mat(file)
        except (OSError, ValueError) as error:
            _refuse_damaged("SVHN", [file], error)


@dataclass(frozen=True, slots=True)
class CIFAR:
    """CIFAR's pickled batches, in a folder below ``root`` or in the archive that has it, which is then unpacked once.

    Attributes:
        kind: The name of torchvision's class.
        title: What the set is called in messages.
        label: The key of the labels.
    """

    kind: str
    title: str
    label: str

    def read(self, root: Path, part: str) -> tuple[Tensor, Tensor]:
        """Read one part; see :class:`Host`. A batch whose checksum is not the published one is not opened."""
        kind = _torchvision(self.kind)
        folder, batches = root / kind.base_folder, kind.train_list + kind.test_list
        if not all((folder / name).is_file() for name, _ in batches):
            archive = Download(kind.filename, kind.tgz_md5, (kind.url,))
            wanted = f"{kind.filename}, or the folder {kind.base_folder} that it holds"
            [packed] = _obtain(self.title, root, root, [archive], wanted)
            _unpack(packed, folder, [name for name, _ in batches])
        chosen = kind.train_list if part == "train" else kind.test_list
        files = [folder / name for name, _ in chosen]
        for file, (_, md5) in zip(files, chosen, strict=True):
            verify(file, md5)
        try:
            return read_batches(files, self.label)
        except (OSError, ValueError) as error:
            _refuse_damaged(self.title, files, error)


def _torchvision(name: str) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, name)


def _packed_or_not(folder: Path, name: str) -> Path:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), folder / name)


def _obtain(title: str, root: Path, folder: Path, files: Sequence[Download], wanted: str) -> list[Path]:
    """Fetch what is missing, and check what was there before against its published checksum."""
    for file in files:
        if (root / file.path).is_file():
            verify(root / file.path, file.md5)
    try:
        return [fetch(root, file) for file in files]
    except InputError as error:
        raise InputError(
            f"{title} is not in {folder} and could not be fetched ({error}). Put there {wanted}. Or say where they "
            "are: --data-dir, or the variable RESOLUTE_DATA, names the data folder, "
            f"{'which they lie in' if folder == root else f'which holds {folder.relative_to(root).as_posix()}'}; "
            "RESOLUTE_MIRROR names the address of another source"
        ) from error


def _unpack(archive: Path, folder: Path, names: Sequence[str]) -> None:
    """Unpack files of an archive beside its folder and move the whole: a try that breaks off leaves nothing."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            with tarfile.open(archive) as opened:
                members = list(_wanted(opened, {f"{folder.name}/{name}" for name in names}))
                opened.extractall(scratch, members, filter="data")
            fresh = Path(scratch) / folder.name
            _check_whole(fresh, names)
            folder.mkdir(exist_ok=True)
            for file in fresh.iterdir():
                file.replace(folder / file.name)
    except (OSError, tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{archive} cannot be unpacked into {folder} ({error})") from error


def _check_whole(folder: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing[:5])}")


def _wanted(opened: tarfile.TarFile, names: set[str]) -> Iterator[tarfile.TarInfo]:
    """Choose members by name: regular files of bounded size, whatever else the archive holds."""
    for number, member in enumerate(opened):
        if member.size > MOST_PICKLED or number > MOST_MEMBERS:
            raise ValueError(f"its member {number}, {member.name[:80]!r}, announces {member.size:,} bytes")
        if member.name in names and member.isreg():
            yield member


def _check_grey(x: Tensor, y: Tensor, classes: int) -> None:
    if x.shape[1:] != (1, 28, 28) or not len(y) or int(y.max()) >= classes:
        highest = int(y.max()) if len(y) else None
        raise ValueError(f"images {tuple(x.shape)}, labels {tuple(y.shape)} up to {highest}")


def _refuse_damaged(title: str, files: Sequence[Path], reason: Exception) -> NoReturn:
    names = ", ".join(dict.fromkeys(file.name for file in files))
    raise InputError(
        f"the {title} files in {files[0].parent} cannot be read ({reason}): delete {names} there, and they are fetched "
        "anew"
    ) from reason
