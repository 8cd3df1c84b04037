"""Signals end the step, write the state, and then do what they did before; the rest is as if nothing had been."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from cases import tiny_convolution, tiny_images
from resolute.config import TrainConfig
from resolute.errors import InputError
from resolute.training import checkpoint as files
from resolute.training import loop
from resolute.training.loop import train
from resolute.training.preemption import Stopped, held

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("interruptible")
SCRIPT = Path(__file__).with_name("preempted.py")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT raise: a shell starts what it puts in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(out: Path) -> subprocess.Popen[str]:
    places = os.pathsep.join([str(SCRIPT.parent.parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, SCRIPT, out, "12"], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": places}
    )


def last_line(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate()
    return out.splitlines()[-1]


@pytest.mark.slow
def test_a_signal_writes_a_checkpoint_in_mid_epoch_and_the_rest_is_bit_for_bit_the_same(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "undisturbed")
    expected = last_line(undisturbed)
    for number, code, lines in ((signal.SIGTERM, 143, 5), (signal.SIGINT, 130, 9)):
        process = start(tmp_path / "run")
        assert process.stdout
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(number)
        begin = time.monotonic()
        process.communicate()
        assert time.monotonic() - begin < 5
        assert process.returncode == code
        _, _, content = (tmp_path / "run/checkpoint.pt").read_bytes().partition(b"\n")
        stored = torch.load(io.BytesIO(content), weights_only=True)
        assert stored["within"] is None or 0 < stored["within"]["step"] < 3
    again = start(tmp_path / "run")
    assert last_line(again) == expected
    assert again.returncode == 0


def test_a_stop_between_any_two_steps_is_gone_on_from_bit_for_bit(tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, batch_size=16, lr=0.05, device="cpu")
    whole, model = tiny_convolution(), tiny_convolution()
    expected = train(whole, tiny_images(), method="r+fgsm", config=config)
    stops = 0
    for _ in range(7):
        model = tiny_convolution()
        try:
            log = train(
                model, tiny_images(), method="r+fgsm", config=config, out=tmp_path,
                on_step=lambda _: signal.raise_signal(signal.SIGINT),
            )  # fmt: skip
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == 5 or stops == 6
    assert [row.loss for row in log] == [row.loss for row in expected]
    assert [row.train_error for row in log] == [row.train_error for row in expected]
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_signals_are_held_back_and_raised_at_the_end() -> None:
    passed = []

    def work() -> None:
        with held() as asked:
            passed.append(asked())
            signal.raise_signal(signal.SIGINT)
            passed.append(asked())

    with pytest.raises(KeyboardInterrupt):
        work()
    assert passed == [False, True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_takes_effect_at_once() -> None:
    passed = []

    def work() -> None:
        with held():
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
                passed.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert passed == [True]


def test_a_step_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolute.training.preemption.GRACE", 0.1)
    begin = time.monotonic()

    def work() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - begin < 10


def test_a_loss_that_is_no_number_never_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(epochs=3, batch_size=16, lr=0.05, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_convolution(), tiny_images(), config=config, out=tmp_path,
            on_step=lambda done: signal.raise_signal(signal.SIGINT) if done > 1.3 else None,
        )  # fmt: skip
    before = (tmp_path / files.CHECKPOINT).read_bytes()
    monkeypatch.setattr("resolute.training.loop.losses.loss", lambda *a: a[3].sum() * float("nan"))
    monkeypatch.setattr(loop, "_SECONDS_WITHIN_EPOCH", -1)
    with pytest.raises(InputError, match=r"the loss became nan in epoch 2 .*The last checkpoint before it is kept"):
        train(tiny_convolution(), tiny_images(), config=config, out=tmp_path)
    assert (tmp_path / files.CHECKPOINT).read_bytes() == before


def test_stopped_is_a_keyboard_interrupt() -> None:
    """So that what cleans up after Ctrl-C cleans up after it, and no ``except Exception`` takes it for an error."""
    assert issubclass(Stopped, KeyboardInterrupt)
