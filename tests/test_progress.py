from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from resolute.progress import clock, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    now = [1000.0]
    monkeypatch.setattr("resolute.progress.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_without_a_terminal_a_line_a_minute_and_one_for_each_part(wait: Callable[[float], None]) -> None:
    written = io.StringIO()
    with progress(100, Console(file=written)) as meter:
        for done in range(1, 11):
            wait(12)
            meter.tell(done, f"step {done}")
        meter.tell(10, "part 1 done", part=True)
    assert written.getvalue().splitlines() == [
        "step 5, 0:01:00, 0:19:00 left",
        "step 10, 0:02:00, 0:18:00 left",
        "part 1 done, 0:02:00, 0:18:00 left",
    ]


def test_what_was_done_before_says_nothing_of_the_pace(wait: Callable[[float], None]) -> None:
    """Ninety of a hundred were found; the first of the last ten takes a minute, so nine minutes are left."""
    written = io.StringIO()
    with progress(100, Console(file=written), found=90) as meter:
        meter.tell(90, "found", part=True)
        wait(60)
        meter.tell(91, "new", part=True)
    assert written.getvalue().splitlines() == ["new, 0:01:00, 0:09:00 left"]


def test_a_terminal_gets_a_bar_with_the_same_time(wait: Callable[[float], None]) -> None:
    written = io.StringIO()
    with progress(4, Console(file=written, force_terminal=True, width=80)) as meter:
        wait(30)
        meter.tell(1, "epoch 2")
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue()).strip().splitlines()[-1]
    assert last.startswith("epoch 2 ")
    assert last.endswith("0:01:30 left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"), (90000, "1 day, 1:00:00")]
)
def test_a_time_in_words(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]" + "x" * 300)
    assert capsys.readouterr().out == "[bold]" + "x" * 300 + "\n"
