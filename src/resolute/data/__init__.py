"""Labelled images, in memory or on the disk, by name or by path; their splits, batches and augmentation."""

from __future__ import annotations

from resolute.data.augmentation import Augment, augment
from resolute.data.batching import batches, take, training_batches
from resolute.data.catalog import DATASETS, customs, data_root, load
from resolute.data.info import DataInfo, Images
from resolute.data.seeding import augment_generator, epoch_order
from resolute.data.splits import SPLITS, balanced_part

__all__ = [
    "DATASETS",
    "SPLITS",
    "Augment",
    "DataInfo",
    "Images",
    "augment",
    "augment_generator",
    "balanced_part",
    "batches",
    "customs",
    "data_root",
    "epoch_order",
    "load",
    "take",
    "training_batches",
]
