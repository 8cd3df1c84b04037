"""BatchNorm's statistics, estimated anew when training is over."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from resolute import counter
from resolute.data import epoch_order, training_batches
from resolute.surgery import unrobustify

if TYPE_CHECKING:
    from resolute.training.epoch import Job, Trainee


def update_statistics(trainee: Trainee, job: Job) -> None:
    """Estimate BatchNorm's statistics on a copy without noise, so that the network keeps its own.

    Args:
        trainee: The network, which is changed.
        job: What it was trained on.
    """
    from torch.optim.swa_utils import update_bn

    fabric, epoch = trainee.fabric, job.config.epochs
    torch.manual_seed(counter.key(job.seed, "statistics"))
    silent = unrobustify(copy.deepcopy(trainee.kept))
    size = min(job.config.batch_size, len(job.data))
    order = epoch_order(len(job.data), job.seed, epoch)[: len(job.data) // size * size]
    policy = job.config.augment or job.data.info.augment
    walk: Any = training_batches(job.data, size, policy, seed=job.seed, epoch=epoch, order=order, device=fabric.device)
    with fabric.autocast():
        update_bn(walk, silent)
    trainee.kept.load_state_dict(silent.state_dict())
