"""Train on a data set of noise in a process that a test sends signals to.

Run as ``python preempted.py OUT EPOCHS [DEVICES]``: it prints a line after each step, and a hash of the weights in
the end. It ends as the command line does, without waiting for Python to clear up.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import torch

from cases import tiny_convolution, tiny_images
from resolute.config import TrainConfig
from resolute.training.loop import train


def main(out: Path, epochs: int, devices: int = 1) -> None:
    """Train slowly."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))
    config = TrainConfig(epochs=epochs, batch_size=16, lr=0.01, device="cpu", devices=devices, ema=0.9)

    def told(done: float) -> None:
        print("at", done, flush=True)
        time.sleep(0.02)

    model = tiny_convolution()
    log = train(model, tiny_images(), method="r", config=config, out=out, on_step=told)
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values()))
    print(digest.hexdigest(), [row.loss for row in log], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
