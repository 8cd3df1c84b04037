"""Flags made from dataclass fields: the field names the flag, its type reads it, its Attributes entry is the help."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import shlex
import sys
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import typer
from rich.console import Console

from resolute.errors import InputError, located, parse_radius, shown
from resolute.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ALIASES = {
    "batch_size": "-b",
    "optimizer": "--opt",
    "damping": "--opt-eps",
    "clip_norm": "--clip-grad",
    "schedule": "--sched",
    "gamma": "--decay-rate",
    "lr_floor": "--min-lr",
    "label_smoothing": "--smoothing",
    "ema": "--model-ema",
    "hold_out": " /--train-on-all",
}
"""Second names by field, most of them timm's. One that begins with " /" says no."""
MOST_SEEDS = 10_000
"""Paired seeds of a run: more is a slip of the finger."""


class Flag(NamedTuple):
    """One setting on the command line, and how its text becomes the field's value."""

    parameter: inspect.Parameter
    read: Callable[[Any], Any]


def of(config: type, *only: str, but: tuple[str, ...] = (), unset: bool = False, **defaults: str) -> list[Flag]:
    """Make flags of a dataclass's fields: of some or all, with its defaults or other ones, or without any."""
    kinds, helps = get_type_hints(config), _helps(config)
    found = []
    for each in dataclasses.fields(config):
        kind = _without_none(kinds[each.name])
        if dataclasses.is_dataclass(kind) or each.name in but or (only and each.name not in only):
            continue
        default = defaults.get(each.name, None if unset else _text(each.default))
        found.append(_flag(each.name, kind, default, helps[each.name]))
    return found


def _helps(config: type) -> dict[str, str]:
    """The first sentence that a class's docstring says of each field."""
    section = (inspect.getdoc(config) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    words = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    plain = (re.sub(r'``"?|"?``', "", " ".join(text.split())) for text in words[1::2])
    return {name: re.split(r"(?<=\.) ", text)[0] for name, text in zip(words[::2], plain, strict=True)}


def _without_none(kind: Any) -> Any:
    parts = get_args(kind)
    return next(part for part in parts if part is not NoneType) if NoneType in parts else kind


def _flag(name: str, kind: Any, default: Any, help_text: str) -> Flag:
    dashed = f"--{name.replace('_', '-')}"
    names = [f"{dashed}/--no{dashed[1:]}" if kind is bool else dashed, *filter(None, [ALIASES.get(name)])]
    read, metavar = READERS.get(name), None
    if get_origin(kind) is tuple:
        read = read or functools.partial(_split, dashed, get_args(kind)[0])
    elif get_origin(kind) is Literal:
        metavar = f"[{'|'.join(get_args(kind))}]"
    elif words := [word for part in get_args(kind) if get_origin(part) is Literal for word in get_args(part)]:
        read = functools.partial(_number_or, words, dashed)
    typed = str if read or metavar or kind is Any else kind
    option = typer.Option(*names, help=help_text, metavar=metavar)
    annotation = Annotated[typed | None, option]  # type: ignore[valid-type]
    parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    return Flag(parameter, read or (lambda value: value))


def _text(value: Any) -> Any:
    """A value as it is typed: lists with commas, an empty one not at all."""
    return ",".join(map(str, value)) or None if isinstance(value, tuple) else value


def _split(flag: str, kind: type, text: str) -> tuple[Any, ...]:
    """Read values separated by commas."""
    kinds: dict[type, tuple[Callable[[str], Any], str]] = {
        int: (whole, "whole numbers"), float: (float, "numbers"), str: (str, "names"),
    }  # fmt: skip
    read, wanted = kinds[str if get_origin(kind) is Literal else kind]
    found = []
    for part in map(str.strip, text.split(",")):
        try:
            found.append(read(part))
        except ValueError:
            raise InputError(f"{flag} got {shown(part)}; it takes {wanted}, separated by commas.") from None
    return tuple(found)


def _number_or(words: list[str], flag: str, text: str) -> float | str:
    """Read a number, or one of some words."""
    try:
        return text if text in words else float(text)
    except ValueError:
        raise InputError(f"{flag} got {shown(text)}; it takes a number, or {' or '.join(words)}.") from None


def whole(text: str) -> int:
    """Read a whole number of few digits, 0 or more."""
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _seeds(text: str) -> tuple[int, ...]:
    numbers = re.fullmatch(r"(?:(\d{1,15})-)?(\d{1,15})", text.strip(), re.ASCII)
    if not numbers:
        raise InputError(f"--seeds got {shown(text)}; it takes how many, 5, or from which to which, 100-119.")
    first, last = numbers.groups()
    seeds = range(int(first), int(last) + 1) if first else range(int(last))
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise InputError(f"--seeds got {text!r}, which are {len(seeds):,} seeds; wanted are 1 to {MOST_SEEDS:,}.")
    return tuple(seeds)


READERS: dict[str, Callable[[Any], Any]] = {
    "radius": parse_radius, "seeds": _seeds, **dict.fromkeys(("data_dir", "weights"), lambda text: str(located(text))),
}  # fmt: skip
"""How fields are read whose type does not say it."""


def takes(*groups: list[Flag]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags: it gets the values of those that were given, or have a default, by field."""
    flags = {flag.parameter.name: flag for group in groups for flag in group}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**words: Any) -> None:
            given = {
                name: flags[name].read(value) if name in flags else _path(value)
                for name, value in words.items()
                if value is not None or name not in flags
            }
            try:
                function(**given)
            except KeyboardInterrupt:
                say("Stopped. Run the same command again to continue.", Console(stderr=True))
                raise typer.Exit(130) from None

        own = inspect.signature(function, eval_str=True).parameters.values()
        before = [each for each in own if each.kind is each.POSITIONAL_OR_KEYWORD]
        after = [each for each in own if each.kind is each.KEYWORD_ONLY]
        merged = [*before, *(flag.parameter for flag in flags.values()), *after]
        command.__dict__["__signature__"] = inspect.Signature([each.replace(kind=each.KEYWORD_ONLY) for each in merged])
        command.__annotations__ = {each.name: each.annotation for each in merged}
        return command

    return decorate


def _path(value: Any) -> Any:
    return located(value) if isinstance(value, Path) else [*map(_path, value)] if isinstance(value, list) else value


def settings_for(config: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the values that belong to a dataclass."""
    return {each.name: given[each.name] for each in dataclasses.fields(config) if each.name in given}


def as_words(given: Mapping[str, Any]) -> list[str]:
    """Write values back as the flags that give them."""
    words = []
    for name, value in given.items():
        dashed = name.replace("_", "-")
        switch = [f"--{dashed}" if value else f"--no-{dashed}"]
        words += switch if isinstance(value, bool) else [f"--{dashed}", str(_text(value))]
    return words


def command_line() -> str:
    """Give this process's command as it can be pasted into a shell."""
    return shlex.join(["resolute", *sys.argv[1:]])
