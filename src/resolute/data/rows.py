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
        import pyarrow.parquet as pq

        sizes = []
        for number, path in enumerate(paths):
            with reading(path):
                metadata = pq.read_metadata(path)
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
                for batch in opened.iter_batches(CHUNK, columns=[self.column]):
                    yield _content(batch.column(0)).to_pylist()

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
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} cannot be read as parquet ({reason}): delete it and fetch it again") from error
