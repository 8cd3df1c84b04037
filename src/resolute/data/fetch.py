"""Files of published data sets: already on the disk, or fetched from their hosts, whole and checked or not at all.

A transfer that breaks off goes on where it stopped, also in a later run: what has come lies beside the target as
``NAME.part``. Nothing gets its final name before its checksum is right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ATTEMPTS = 3
"""Transfers tried from one source; each goes on where the one before broke off."""
TIMEOUT = 30
"""Seconds without an answer after which a source is given up."""
MOST = 2**32
"""Bytes of a download; the largest published file here, SVHN's extra images, has 1.3 billion."""
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Download:
    """A file of a published data set.

    Attributes:
        path: Where it lies below the data folder: torchvision's place.
        md5: Its published checksum.
        urls: Where it can be had, in the order in which to try.
    """

    path: str
    md5: str
    urls: tuple[str, ...]


def fetch(root: Path, file: Download) -> Path:
    """Fetch a file, if it is not there."""
    # The variable RESOLUTE_MIRROR may name the address of a folder with the same files below the same paths; it is
    # tried first. Then come the file's own sources, each up to ``ATTEMPTS`` times.
    target = root / file.path
    if target.is_file():
        return target
    mirror = os.environ.get("RESOLUTE_MIRROR")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise InputError(f"RESOLUTE_MIRROR is {mirror!r}: it is an address that begins with http:// or https://")
    urls = ((f"{mirror.rstrip('/')}/{file.path}",) if mirror else ()) + tuple(secured(file.urls))
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_name(f"{target.name}.part")) as part:
            reasons = [] if target.is_file() else _try_sources(urls, file.md5, part, target)
    except OSError as error:
        reasons = [f"{error.strerror}: {error.filename}"]
    if reasons:
        with suppress(OSError):  # one that holds something stays, and so do those above it
            for folder in made:
                folder.rmdir()
        raise InputError("; ".join(dict.fromkeys(reasons)))
    return target


def secured(urls: Sequence[str]) -> Iterator[str]:
    """Put https before http, which is left for hosts that have nothing else: the checksum decides what is kept."""
    for url in urls:
        if url.startswith("http://") and urllib.parse.urlsplit(url).hostname != "127.0.0.1":
            yield f"https://{url.removeprefix('http://')}"
        yield url


def md5_of(path: Path) -> str:
    """Work out a file's MD5 checksum, reading a little at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def verify(path: Path, md5: str) -> None:
    """Refuse a file that is not what was published."""
    found = md5_of(path)
    if found != md5:
        raise InputError(
            f"{path} is damaged or another file: its MD5 checksum is {found}, published is {md5}. Delete it and it is "
            "fetched anew, or put the right file in its place"
        )


def _try_sources(urls: Sequence[str], md5: str, part: Path, target: Path) -> list[str]:
    """Try the sources in turn; why each of them failed, or nothing once the file has come."""
    reasons = []
    for url in urls:
        host = urllib.parse.urlsplit(url).netloc
        for _ in range(ATTEMPTS):
            begun = part.stat().st_size
            try:
                _transfer(url, part)
            except (OSError, http.client.HTTPException) as error:
                reasons.append(f"{host}: {error}")
                if isinstance(error, urllib.error.HTTPError) or part.stat().st_size == begun:
                    break
                continue
            if md5_of(part) == md5:
                part.replace(target)
                return []
            reasons.append(f"{host}: what came is not the published file (wrong MD5 checksum)")
            part.write_bytes(b"")
            if not begun:
                break
    return reasons


def _transfer(url: str, part: Path) -> None:
    """Append what is missing of a file, or write all of it where the source cannot go on from the middle."""
    have = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 see fetch
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # All of it is there already; the checksum decides.
        raise
    with response, part.open("r+b") as file:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        file.seek(have if goes_on else 0)
        file.truncate()
        length = response.headers.get("Content-Length")
        wanted = file.tell() + int(length) if length else None
        with _progress(url, file.tell(), wanted) as advance:
            _copy(response, file, advance)
        if wanted is not None and file.tell() < wanted:
            raise ConnectionError(f"the transfer broke off after {file.tell():,} of {wanted:,} bytes")


def _copy(response: IO[bytes], file: IO[bytes], advance: Any) -> None:
    while block := response.read(_BLOCK):
        if file.tell() + len(block) > MOST:
            raise OSError(f"it sends more than {MOST:,} bytes, which no published file has")
        file.write(block)
        advance(len(block))


@contextmanager
def _progress(url: str, done: int, total: int | None) -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(url.rsplit("/", 1)[1], total=total, completed=done)
        yield lambda n: bar.advance(task, n)


@contextmanager
def _alone(part: Path) -> Iterator[Path]:
    """Hold a transfer's file alone among processes; an empty one is removed in the end."""
    with part.open("ab") as held:
        try:
            import fcntl
        except ImportError:  # Windows has no such lock; there, start one process first.
            pass
        else:
            fcntl.flock(held, fcntl.LOCK_EX)
        part.touch()  # Whoever held it before may have given it its final name.
        try:
            yield part
        finally:
            if part.is_file() and part.stat().st_size == 0:
                part.unlink()
