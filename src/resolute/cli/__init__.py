"""The command line, one file a command. Everything heavy is imported by the command that needs it: --help is quick."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from resolute.cli.compare import compare
from resolute.cli.curvature import curvature
from resolute.cli.disturb import disturb
from resolute.cli.evaluate import evaluate
from resolute.cli.list import list_
from resolute.cli.report import report
from resolute.cli.reproduce import reproduce
from resolute.cli.train import train
from resolute.cli.tune import tune
from resolute.errors import InputError, in_words, visible
from resolute.progress import say, say_warning

app = typer.Typer(
    help="Feed-forward robust training: does sign noise at the activations help your classifier?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (compare, train, evaluate, curvature, report, reproduce, tune, disturb):
    app.command()(_command)
app.command("list")(list_)


def _show_version(asked: bool) -> None:
    if asked:
        import resolute

        say(f"resolute {resolute.__version__}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


_MISTYPED: Any = typer.BadParameter.__mro__[1]
"""Click's UsageError, from wherever typer has click."""


def main() -> None:
    """Run the command line; a user's mistake ends with its message and exit code 2, without a traceback."""
    try:
        _refuse_empty(sys.argv)
        code = app(prog_name="resolute", standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except _MISTYPED as error:
        error.message = visible(error.message)
        error.show()
        sys.exit(2)
    except Exception as error:
        told = _lost(error) or in_words(error)
        if told is None or isinstance(error, BrokenPipeError):
            raise
        _refuse(told)
    sys.exit(code)


def _refuse_empty(words: list[str]) -> None:
    """Refuse an empty argument, which stands for the folder here or for no setting at all."""
    for before, word in itertools.pairwise(words):
        if not word or re.fullmatch("--[a-z-]+=", word):
            flag = word[:-1] or before
            raise InputError(f"nothing came after {flag!r} but an empty text. Is a variable of the shell not set?")


def _lost(error: Exception) -> InputError | None:
    if not isinstance(error, RuntimeError):
        return None
    from resolute.data.dataset import is_loss, lost

    return lost(error) if is_loss(error) else None


def _refuse(error: InputError) -> NoReturn:
    with contextlib.suppress(OSError):
        say(str(error), Console(stderr=True), "error:")
    sys.exit(2)


def run() -> None:
    """Run the command line as a process of its own; a signal ends it with 128 and its number, a mistake with 2.

    Raises:
        SystemExit: If it ends with anything else than 0.
    """
    signal.signal(signal.SIGTERM, _stop)
    warnings.showwarning = say_warning  # type: ignore[assignment]
    try:
        main()
    except SystemExit as end:
        if end.code not in (2, 128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError):
                stream.flush()
        # at once: a scheduler does not wait for Python, nor Python for a worker that hangs
        os._exit(int(end.code or 0))


def _stop(number: int, _frame: object) -> None:
    say("Stopped by a signal. Run the same command again to continue.", Console(stderr=True))
    sys.exit(128 + number)
