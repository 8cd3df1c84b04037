"""Flags that several commands have, with one help each; a command's default stands in its signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeData = Annotated[str | None, typer.Option(help="digits, mnist, cifar10, ..., or a folder of images or parquet.")]
Data = Annotated[str, typer.Option(help="digits, mnist, or a folder of images or parquet files.")]
DataDir = Annotated[str | None, typer.Option(help="Folder that holds named data sets.")]
Size = Annotated[int | None, typer.Option(help="Side in pixels that images of many sizes are brought to.")]
FolderSize = Annotated[int | None, typer.Option(help="Side in pixels that a folder's images are brought to.")]

Model = Annotated[str | None, typer.Option(help="lenet, wrn-D-K, timm/NAME or torchvision/NAME.")]
NamedModel = Annotated[str | None, typer.Option(help="Or a network by name, with --weights: timm/NAME.")]
Weights = Annotated[Path | None, typer.Option(help="Its weights: .safetensors, or .pth of tensors.")]
Factory = Annotated[
    str | None, typer.Option(help="Or package.module:function, which returns a network; this runs your code.")
]

Epochs = Annotated[int | None, typer.Option(help="Passes over the training set.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", "-b", help="Images in a step.")]
LearningRate = Annotated[float | None, typer.Option(help="Highest learning rate.")]
WeightDecay = Annotated[float | None, typer.Option(help="L2 penalty.")]
TrainFraction = Annotated[float | None, typer.Option(help="Share of each class that is trained on.")]
UpdateBatchNorm = Annotated[
    bool | None, typer.Option("--update-bn/--no-update-bn", help="Estimate BatchNorm anew at the end, noiseless.")
]

Eps = Annotated[float | None, typer.Option(help="Strength of the noise, at least 0 and below 1.")]
Where = Annotated[str | None, typer.Option(help="input, hidden, both, or a pattern over module names.")]
DisturbanceSeed = Annotated[int, typer.Option(help="Seed of the disturbances.")]

Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[str | None, typer.Option(help="32-true or bf16-mixed.")]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile.")]
