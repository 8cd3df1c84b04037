"""`resolute train`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import Annotated

import typer
from rich.console import Console

from resolute.cli.compare import command_line, make_recipe
from resolute.cli.flags import DataDir, Device, Epochs, Eps, Model, Precision, Size, Where
from resolute.errors import InputError


def train(
    data: Annotated[str, typer.Option(help="digits, mnist, cifar10, ..., or a folder of images.")] = "digits",
    data_dir: DataDir = None,
    size: Size = None,
    model: Model = None,
    methods: Annotated[str, typer.Option("--method", help="base, fgsm, r, ...; a + joins two.")] = "r",
    seed: Annotated[int, typer.Option(help="Seed of weights, order, augmentation and noise.")] = 0,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Images in a step, over all.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; it is not scaled by devices.")] = None,
    eps: Eps = None,
    where: Where = None,
    suites: Annotated[str, typer.Option(help="What the network is judged by, comma-separated.")] = "clean",
    device: Device = None,
    devices: Annotated[int | None, typer.Option(help="Processes on each machine that train together.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines; torchrun or SLURM starts the processes.")] = None,
    strategy: Annotated[str | None, typer.Option(help="ddp, or fsdp to share out the weights.")] = None,
    global_noise: Annotated[
        bool | None, typer.Option("--global-noise/--no-global-noise", help="R's noise as one process would draw it.")
    ] = None,
    sync_bn: Annotated[bool | None, typer.Option("--sync-bn/--no-sync-bn", help="BatchNorm over all GPUs.")] = None,
    precision: Precision = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint; by default runs/NAME-HASH.")] = None,
) -> None:
    """Train one network by one method and judge it; over several devices and machines if asked.

    The same command goes on where a killed one stopped. On several machines, on each: torchrun --nnodes M
    --nproc-per-node N --rdzv-endpoint HOST:PORT -m resolute train --nodes M --devices N ...
    """  # noqa: DOC501 the docstring is the command's help
    from dataclasses import replace

    given = {name: value for name, value in locals().items() if name not in ("seed", "out") and value is not None}
    from resolute.experiment import grid

    if "," in methods:
        raise InputError(f"--method got {methods!r}; it takes one method. Several are trained by `resolute compare`.")
    recipe = replace(make_recipe(None, given | {"seeds": 1, "baseline": methods}), seeds=(seed,))
    try:
        folder, records = grid.train_one(recipe, out, command=command_line())
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here.")
        raise typer.Exit(130) from None
    console = Console()
    for record in records:
        shift = "clean" if record.suite == "clean" else f"{record.suite}, {record.shift} {record.severity:.4g}"
        console.print(f"{shift}: {100 * record.error:.2f} % wrong of {record.n:,}", highlight=False)
    if records:
        console.print(f"network: {folder}", soft_wrap=True, highlight=False)
