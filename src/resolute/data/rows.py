"""Compressed images that are rows of parquet files."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.data.encoded import CHUNK
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.data.pixels import Blob


LEAST_IMAGE = 8
"""Bytes of a file for each image in it, at least; the smallest PNG file has 67, and rows may share one."""
INFLATION = 100
"""How many times its size a file may unfold to: compressed images hardly do."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Compressed images that are rows of parquet files; see :class:`~resolute.data.encoded.Blobs`.

    Attributes:
        paths: The files, in order.
        column: The column that holds the images.
        groups: int64 [g, 3], for each row group the number of its file, its number there, and the position of the
            first row behind it.
    """

    paths: tuple[Path, ...]
    column: str
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, paths: Sequence[Path], column: str) -> Rows:
        """Read from the files' ends where their rows are.

        Args:
            paths: The files, in order.
            column: The column that holds the images.

        Returns:
            The rows of all files.
        """
        sizes = []
        for number, path in enumerate(paths):
            with reading(path):
                metadata = checked(path)
            sizes += [(number, k, metadata.row_group(k).num_rows) for k in range(metadata.num_row_groups)]
        groups = np.array(sizes, dtype=np.int64)
        groups[:, 2] = groups[:, 2].cumsum()
        return cls(tuple(paths), column, groups)

    def read(self, i: int) -> bytes | None:
        """Read one image, by way of its row group, of which the last few stay in memory.

        Args:
            i: Its position.

        Returns:
            The image's file, or nothing if the row holds none.
        """
        k, row = self._find(i)
        number, group, _ = self.groups[k].tolist()
        value: bytes | None = _group(self.paths[number], group, self.column)[row].as_py()
        return value

    def chunks(self) -> Iterator[list[Blob]]:
        """Go through all images in order.

        Yields:
            At most ``CHUNK`` at a time.
        """
        import pyarrow.parquet as pq

        for path in self.paths:
            with reading(path), pq.ParquetFile(path) as opened:
                left = opened.metadata.num_rows
                for batch in opened.iter_batches(CHUNK, columns=[self.column]):
                    left -= len(batch)
                    _check_rows(path, left >= 0)
                    yield _content(batch.column(0)).to_pylist()
                _check_rows(path, left == 0)

    def describe(self, i: int) -> str:
        """Name an image, for messages.

        Args:
            i: Its position.

        Returns:
            Its file and its row there.
        """
        k, _ = self._find(i)
        of_file = self.groups[self.groups[:, 0] == self.groups[k, 0]]
        first = self.groups[self.groups[:, 0] < self.groups[k, 0]][:, 2].max(initial=0)
        return f"{self.paths[of_file[0, 0]].name} row {i - first}"

    def files(self) -> Iterator[Path]:
        """List the files that the images are in.

        Yields:
            Each once.
        """
        yield from self.paths

    def _find(self, i: int) -> tuple[int, int]:
        k = int(np.searchsorted(self.groups[:, 2], i, side="right"))
        return k, i - (int(self.groups[k - 1, 2]) if k else 0)


def checked(path: Path) -> Any:
    """Read a file's footer, and refuse one that announces more than the file can hold.

    Args:
        path: The file.

    Returns:
        pyarrow's description of it.

    Raises:
        InputError: If it announces more rows than images fit in, or pages that unfold as images do not.
    """
    import pyarrow.parquet as pq

    metadata, size = pq.read_metadata(path), path.stat().st_size
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    rows = [group.num_rows for group in groups]
    unfolded = sum(
        max(0, group.column(k).total_uncompressed_size) for group in groups for k in range(group.num_columns)
    )
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows or metadata.num_rows * LEAST_IMAGE > size:
        raise InputError(f"{path} announces {metadata.num_rows:,} images in {size:,} bytes: it is damaged, or a trap")
    if unfolded > INFLATION * size:
        raise InputError(f"{path} would unfold from {size:,} to {unfolded:,} bytes, as images do not: delete it")
    return metadata


def _check_rows(path: Path, holds: bool) -> None:
    if not holds:
        raise InputError(f"{path} holds another number of images than it announces: delete it and fetch it again")


@functools.lru_cache(maxsize=2)
def _group(path: Path, group: int, column: str) -> Any:
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as opened:
        return _content(opened.read_row_group(group, columns=[column]).column(0).combine_chunks())


def _content(values: Any) -> Any:
    import pyarrow as pa

    return values.field("bytes") if pa.types.is_struct(values.type) else values


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into a refusal.

    Args:
        file: The file that is read meanwhile.

    Yields:
        Nothing.

    Raises:
        InputError: If it cannot be read.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} cannot be read as parquet ({reason}): delete it and fetch it again") from error
