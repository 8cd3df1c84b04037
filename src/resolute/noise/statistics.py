"""BatchNorm's running statistics, estimated again without the noise that they were learned under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from resolute.errors import InputError
from resolute.noise import sites
from resolute.noise.robustify import quiet, trust_statistics

_Model = TypeVar("_Model", bound=nn.Module)

ENOUGH = 50
"""Batches that suffice: up to 2 % of the answers of a WRN-16-1 and of a pretrained tf_efficientnet_lite0 differ from
those with 100 batches (1 to 5 % with 10 batches, 2 to 6 with 5), the errors do not (experiments/LOG.md, 2026-11-30)."""


def update_bn(
    model: _Model,
    loader: Iterable[Any],
    *,
    device: torch.device | str | int | None = None,
    batches: int | None = None,
) -> _Model:
    """Estimate the running statistics of BatchNorm again without noise, in place: call it after training.

    In training, BatchNorm learns the mean and the variance of noisy values, which are not those of evaluation. This
    runs the network on training images as it is evaluated, without noise, dropout and stochastic depth, but for
    BatchNorm itself, and takes the mean over the batches, as `torch.optim.swa_utils.update_bn` does. Weights, modes,
    momentum and noise are afterwards what they were. A network without BatchNorm is left alone.

    Args:
        model: A network, with or without noise, compiled or not. Its BatchNorm layers in evaluation mode are left alone
            if the network is in training mode: they are frozen. Under DDP, call it in every process: the mean over all
            processes is taken.
        loader: Training images in random order, augmented as in training, in batches as large: tensors, tuples or lists
            that begin with one, or dicts of the forward's arguments.
        device: Where to move the batches; by default where the first parameter is.
        batches: Batches to take, at least 1; by default all. `ENOUGH` of them are.

    Returns:
        The same model.

    Raises:
        InputError: If the loader gives no batch, or something else; the statistics are then what they were.

    Example:
        >>> from resolute import robustify
        >>> model = robustify(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8)), eps=0.5)
        >>> x = torch.rand(64, 4)
        >>> _ = update_bn(model, [x])
        >>> torch.allclose(model[2].running_mean, torch.relu(model[0](x)).mean(0))
        True
    """
    sites.check_model(model)
    if batches is not None and batches < 1:
        raise InputError(f"batches is {batches}; it must be at least 1, or None for all of the loader.")
    trust_statistics(model, watch=True)
    layers = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.training >= model.training
    ]
    parallel = next((each for each in model.modules() if isinstance(each, DistributedDataParallel)), None)
    own = next((weight.device for weight in model.parameters()), None) if device is None else device
    if layers:
        with _estimating(model, layers):
            seen = 0
            for batch in islice(loader, batches):
                _run(parallel.module if parallel else model, batch, own)
                seen += 1
            if not seen:
                raise InputError("the loader gave no batch: BatchNorm's statistics stay as they are.")
    if parallel:
        group: Any = parallel.process_group
        for buffer in (buffer for layer in layers for buffer in layer.buffers(False) if buffer.is_floating_point()):
            torch.distributed.all_reduce(buffer, group=group)
            buffer.div_(group.size())
    return model


@contextmanager
def _estimating(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    """Have these layers alone learn, from nothing, the mean over all batches."""
    modes = {module: module.training for module in model.modules()}
    before = [(layer, layer.momentum, [buffer.clone() for buffer in layer.buffers(False)]) for layer in layers]
    try:
        for module in modes:  # not by eval() and train(), which take along an activation inside a BatchNorm
            module.training = False
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum, layer.training = None, True
        with quiet(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    except BaseException:
        for layer in layers:
            layer.reset_running_stats()
        raise
    finally:
        for module, mode in modes.items():
            module.training = mode
        for layer, momentum, buffers in before:
            layer.momentum = momentum
            if not layer.num_batches_tracked:  # no batch came by, as at a head for training alone
                for buffer, old in zip(layer.buffers(False), buffers, strict=True):
                    buffer.copy_(old)


def _run(model: nn.Module, batch: Any, device: Any) -> None:
    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    if isinstance(batch, Mapping):
        model(**{name: moved(value) for name, value in batch.items()})
        return
    x = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(x, Tensor):
        raise InputError(
            f"the loader gave a {type(batch).__name__}; wanted are tensors of images, tuples or lists that begin with "
            "one, or dicts of the forward's arguments."
        )
    model(moved(x))
