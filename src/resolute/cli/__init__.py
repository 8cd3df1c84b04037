"""The command line, one file a command. Everything heavy is imported by the command that needs it: --help is quick."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from resolute.cli.compare import compare
from resolute.cli.curvature import curvature
from resolute.cli.disturb import disturb
from resolute.cli.evaluate import evaluate
from resolute.cli.list import list_
from resolute.cli.report import report
from resolute.cli.reproduce import reproduce
from resolute.cli.train import train
from resolute.cli.tune import tune
from resolute.errors import InputError, out_of_memory

app = typer.Typer(
    help="Feed-forward robust training: does sign noise at the activations help your classifier?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(compare)
app.command()(train)
app.command()(evaluate)
app.command()(curvature)
app.command()(report)
app.command()(reproduce)
app.command()(tune)
app.command()(disturb)
app.command("list")(list_)


def main() -> None:
    """Run the command line; a user's mistake ends with its message and exit code 2, without a traceback."""
    try:
        app(prog_name="resolute")
    except InputError as error:
        _refuse(error)
    except (RuntimeError, MemoryError) as error:
        from resolute.data.dataset import is_loss, lost

        told = lost(error) if is_loss(error) else out_of_memory(error)
        if told is None:
            raise
        _refuse(told)


def _refuse(error: InputError) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
    sys.exit(2)


def run() -> None:
    """Run the command line as a process of its own; a signal ends it with 128 and its number, a mistake with 2.

    Raises:
        SystemExit: If it ends with anything else than 0.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        main()
    except SystemExit as end:
        if end.code not in (2, 128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(
            int(end.code or 0)
        )  # at once: a scheduler does not wait for Python, nor Python for a worker that hangs


def _stop(number: int, _frame: object) -> None:
    Console(stderr=True).print("Stopped by a signal. Run the same command again to continue.")
    sys.exit(128 + number)
