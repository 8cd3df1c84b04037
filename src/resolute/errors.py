"""The exceptions that mean: what came in is of no use, and here is what to do about it; and checks of numbers."""

from __future__ import annotations

import difflib
import re
import unicodedata
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of what acts on a terminal or a page, or cannot be encoded, and has no shape of its own."""
_JOINERS = "\u200c\u200d"  # but these shape Persian words and emoji
_OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryError", "can't allocate memory")
"""How Python and NumPy, torch for a GPU, and torch for the CPU begin to say it."""


_NAMED = 3
"""Fields that a message names, and..."""
_LENGTH = 100
"""...letters of a value that it shows, and..."""
_MOST = 60
"""...names of a table that it lists."""
_HASH = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{32,}\b")
"""Of a hash, its first eight digits tell it from another."""


class InputError(ValueError):
    """What came in cannot be used."""

    # The message says what came, what was wanted and what to do. The command line prints it without a traceback and
    # exits with code 2; a program may catch it as the ``ValueError`` that it is.


class DivergedError(InputError):
    """Training broke off: its loss is no longer a number. A comparison continues with its other cells."""


class MissingPackageError(InputError, ModuleNotFoundError):
    """A package is not installed that what was asked for needs; the message names the extra that brings it."""


def check_strength(eps: float, p: float = 0.5) -> None:
    """Refuse an eps or a p that the method has no meaning for."""
    given: dict[str, Any] = {"eps": eps, "p": p}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(f"{name} is {value!r}, a {type(value).__name__}; it must be a number such as 0.1.")
    if not 0 <= eps < 1:
        raise InputError(f"eps is {eps}; it must be at least 0 and below 1. 0.1 is the default, 0 is no noise.")
    if not 0 <= p <= 1:
        raise InputError(f"p is {p}; it is a probability, from 0 to 1. The paper uses 0.5.")


def parse_radius(radius: float | str, largest: float = 1.0, name: str = "radius") -> float:
    """Read a radius given as a number or as a fraction in text.

    Args:
        radius: 0.03 or ``"0.03"`` or ``"8/255"``, in pixel units.
        largest: The largest that makes sense: 1 for the change of a pixel.
        name: What it is called in the message.

    Returns:
        The radius as a float in [0, largest].

    Raises:
        InputError: If it is not a number in [0, largest].

    Example:
        >>> parse_radius("51/255")
        0.2
    """
    over, _, under = str(radius).partition("/")
    try:
        value = float(over) / (float(under) if under else 1.0)
    except (ValueError, ZeroDivisionError):
        value = float("nan")
    if not 0 <= value <= largest:
        raise InputError(
            f"{name} is {radius!r}; it is a number of pixel units from 0 to {largest:g}, such as 0.1 or 8/255."
        )
    return value


def visible(text: str) -> str:
    r"""Write what would act on a terminal or a page as its code, ``\x1b``, ``\n``, ``\u202e``: every name leaves so."""
    if text.isprintable():
        return text
    hide = {each for each in text if unicodedata.category(each) in _HIDDEN} - {*_JOINERS}
    return "".join(_code(each) if each in hide else each for each in text)


def _code(letter: str) -> str:
    is_byte = "\udc80" <= letter <= "\udcff"  # of a name that is no UTF-8, as Python holds it
    return f"\\x{ord(letter) - 0xDC00:02x}" if is_byte else letter.encode("unicode_escape").decode()


def shown(value: Any) -> str:
    """Write a value of any length into a message."""
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."


def located(path: str | Path) -> Path:
    """Give the path that a text means, ``~`` a home; refuse one that can be no path, or is a link to nothing."""
    text = str(path)
    if not text or "\0" in text or any(len(part.encode(errors="replace")) > 255 for part in text.split("/")):
        raise InputError(f"{shown(text)} is no path: it is empty, or a name in it is longer than 255 bytes.")
    try:
        found = Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{shown(text)} is no path: there is no such user here.") from error
    if found.is_symlink() and not found.exists():
        raise InputError(f"{found} is a link to {found.readlink()}, and nothing is there. Mend the link, or delete it.")
    return found


def in_words(error: BaseException) -> InputError | None:
    """Say what is wrong, and what to do, where an error of Python or torch means something that a user can mend."""
    if isinstance(error, InputError):
        return error
    text = f"{type(error).__name__}: {error}"
    if lines := [line for line in text.splitlines() if any(sign in line for sign in _OUT_OF_MEMORY)]:
        said = lines[-1].partition(": ")[2]
        return InputError(
            f"out of memory ({said}). A smaller --batch-size needs less, and so do fewer --jobs. What is finished is "
            "kept; the same command continues."
        )
    if "Expected more than 1 value per channel when training" in text:
        return InputError(
            "this network's BatchNorm got one value for each channel, of which it takes no variance: one image, of one "
            "pixel there. Give a larger --batch-size (on several devices, for each), larger images or another network."
        )
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else "cannot write what is to be shown: "
        return InputError(f"{place}{error.strerror}. What is finished is kept; the same command continues.")
    return None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that no table holds a name, with the nearest names that one does."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    near = near and difflib.get_close_matches(name.lower(), near, cutoff=_likeness(name, near[0]) - 0.05)
    more = f" and {len(names) - _MOST:,} more" if len(names) > _MOST else ""
    there_are = f"there are: {', '.join(names[:_MOST])}{more}."
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else there_are
    return f"unknown {kind} {shown(name)}: {hint}"


def differences(theirs: Any, ours: Any) -> str:
    """Say in what a stored description differs from this one, down to the field."""
    found = list(_differing(theirs, ours, ""))
    more = [f"{len(found) - _NAMED} more"] if len(found) > _NAMED else []
    return "; ".join([*found[:_NAMED], *more])


def _differing(theirs: Any, ours: Any, name: str) -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in {**ours, **theirs} if name else ours:
            yield from _differing(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
    elif theirs != ours:
        yield f"{name} is {_short(theirs)} there and {_short(ours)} here"


def _short(value: Any) -> str:
    return _cut(_HASH.sub(r"\1...", repr(value)))


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, b, a.lower()).ratio()
