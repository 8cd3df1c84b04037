"""Signals that ask a training to stop: the step is ended and the state written before they take effect."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they take a machine away."""
GRACE = 10.0
"""Seconds after which a signal takes effect although the step has not ended: a worker that hangs, say."""


class Stopped(KeyboardInterrupt):
    """A training was asked to stop, and its state is on the disk."""


@contextlib.contextmanager
def held(*, forward: bool = False) -> Iterator[Callable[[], bool]]:
    """Hold SIGINT and SIGTERM back, and raise the first one again at the end, as it was handled before.

    A second signal, or ``GRACE`` seconds, end the holding at once. In another thread than the main one nothing is held
    back, since Python handles signals there alone.

    Args:
        forward: Pass the signals on to the processes that this one has started.

    Yields:
        A function that says whether a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    holder = _Holder(forward)
    try:
        yield lambda: holder.came is not None
    finally:
        holder.release()


class _Holder:
    """The handler of the signals while they are held back."""

    def __init__(self, forward: bool) -> None:
        self.came: int | None = None
        self.forward = forward
        self.timer: threading.Timer | None = None
        self.before: dict[int, Any] = {}
        for number in SIGNALS:
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                self.before[number] = signal.signal(number, self.note)

    def note(self, number: int, _frame: object) -> None:
        if self.came is not None:
            self.release()
            return
        self.came = number
        for child in multiprocessing.active_children() if self.forward else ():
            if child.pid:
                os.kill(child.pid, number)
        self.timer = threading.Timer(GRACE, os.kill, (os.getpid(), number))
        self.timer.daemon = True
        self.timer.start()

    def release(self) -> None:
        """Handle signals as before, and raise the one that came."""
        if self.timer:
            self.timer.cancel()
        while self.before:
            signal.signal(*self.before.popitem())
        came, self.came = self.came, None
        if came is not None:
            signal.raise_signal(came)
