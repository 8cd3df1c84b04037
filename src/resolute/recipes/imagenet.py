"""How the networks for ImageNet were trained at their sources: the customary augmentation is the data set's own."""

from __future__ import annotations

from resolute.recipes.source import source
from resolute.training import TrainConfig

_IMAGENET = 1_281_167
_CONDENSENET = TrainConfig(epochs=120, batch_size=256, lr=0.1, weight_decay=1e-4, channels_last=True)
_NASNET = TrainConfig(
    epochs=round(250_000 * 1600 / _IMAGENET),
    batch_size=1600,
    optimizer="rmsprop",
    damping=1.0,
    lr=1.5,
    weight_decay=5e-5,
    clip_norm=10.0,
    schedule="staircase",
    gamma=0.97,
    decay_epochs=2.4,
    label_smoothing=0.1,
    ema=0.9999,
    channels_last=True,
)
_SENET = TrainConfig(
    epochs=100,
    batch_size=1024,
    lr=0.6,
    weight_decay=1e-4,
    schedule="step",
    milestones=(30, 60, 90),
    label_smoothing=0.1,
    channels_last=True,
)
_GOOGLENET = TrainConfig(
    epochs=250,
    batch_size=256,
    lr=0.01,
    nesterov=False,
    weight_decay=1e-4,
    schedule="staircase",
    gamma=0.96,
    decay_epochs=8,
    ema=0.9999,
    channels_last=True,
)
_INCEPTION_V3 = TrainConfig(
    epochs=100,
    batch_size=1600,
    optimizer="rmsprop",
    damping=1.0,
    lr=0.045,
    weight_decay=4e-5,
    clip_norm=2.0,
    schedule="staircase",
    gamma=0.94,
    decay_epochs=2,
    label_smoothing=0.1,
    ema=0.9999,
    channels_last=True,
)
_MOBILENET = TrainConfig(
    epochs=100,
    batch_size=96,
    optimizer="rmsprop",
    damping=1.0,
    lr=0.045,
    weight_decay=4e-5,
    schedule="staircase",
    gamma=0.94,
    decay_epochs=2.5,
    ema=0.9999,
    channels_last=True,
)
_SHUFFLENET = TrainConfig(
    epochs=round(300_000 * 1024 / _IMAGENET),
    batch_size=1024,
    lr=0.5,
    weight_decay=4e-5,
    schedule="linear",
    channels_last=True,
)

_SMOOTHED = "cross-entropy with label smoothing 0.1"
_AUX = "No auxiliary classifier (weight {} at the source)."
_QUOTED = "as quoted in NASNet (arXiv:1707.07012), Table 3"

IMAGENET = (
    *(
        source(
            f"condensenet-g{groups}-imagenet",
            f"condensenet-g{groups}",
            "imagenet",
            _CONDENSENET,
            error,
            "Huang et al. (arXiv:1711.09224); ShichenLiu/CondenseNet",
            "The source's error is that of the converted network, with half of the classifier's inputs: "
            "models.condense(model, classifier=0.5).",
            size=224,
        )
        for groups, error in ((8, 29.0), (4, 26.2))
    ),
    source(
        "nasnet-a-large-imagenet",
        "nasnet-a-large",
        "imagenet",
        _NASNET,
        17.3,
        "Zoph et al. (arXiv:1707.07012), Table 2; tensorflow/models slim/nets/nasnet",
        _AUX.format("0.4"),
        "No ScheduledDropPath (keep 0.7 at the source) and no dropout before the classifier (keep 0.5).",
        "timm's BatchNorm forgets faster: momentum 0.1 in place of 0.0003. It is over a process's share of the 1600 "
        "images, at the source over 16.",
        "Pixels are scaled by ImageNet's mean and deviation, at the source to [-1, 1]; no distortion of colours.",
        "Epochs from the 250,000 steps of its drop-path schedule; the length of training is not stated.",
        loss=_SMOOTHED,
        size=331,
    ),
    source(
        "senet-154-imagenet",
        "senet-154",
        "imagenet",
        _SENET,
        17.3,
        "Hu et al. (arXiv:1709.01507), Table 8: 17.28 at a crop of 320 pixels",
        "No rotation of up to 10 degrees and no jitter of pixel values.",
        "BatchNorm is not frozen for the last epochs.",
        "Momentum 0.9 and weight decay 1e-4 were chosen here.",
        "Judged at 224 pixels (18.68 at the source), not at 320.",
        loss=_SMOOTHED,
        size=224,
    ),
    source(
        "inception-v1-imagenet",
        "inception-v1",
        "imagenet",
        _GOOGLENET,
        30.2,
        f"Szegedy et al. (arXiv:1409.4842), {_QUOTED}",
        _AUX.format("0.3"),
        "Synchronous steps; the source's are asynchronous, with Polyak averaging of the weights.",
        "Only momentum and the fall by 0.96 every 8 epochs are stated; rate, batch, epochs and decay were chosen here.",
        "No photometric distortion.",
        size=224,
    ),
    source(
        "inception-v3-imagenet",
        "inception-v3",
        "imagenet",
        _INCEPTION_V3,
        None,
        "Szegedy et al. (arXiv:1512.00567), section 8",
        _AUX.format("0.4"),
        "50 workers of 32 images step together; the source's step each on its own.",
        "Weight decay 4e-5 (TF-slim's) and the average's decay 0.9999 were chosen here.",
        loss=_SMOOTHED,
        size=299,
    ),
    source(
        "mobilenet-v1-imagenet",
        "mobilenet-v1",
        "imagenet",
        _MOBILENET,
        29.4,
        f"Howard et al. (arXiv:1704.04861), {_QUOTED}; TF-slim",
        "Weight decay 4e-5 on depthwise kernels too; the source has none there.",
        "Only optimizer and decay are stated; rate, schedule, batch and epochs were chosen after TF-slim's Inception.",
        size=224,
    ),
    source(
        "shufflenet-v1-2x-imagenet",
        "shufflenet-v1-2x",
        "imagenet",
        _SHUFFLENET,
        29.1,
        f"Zhang et al. (arXiv:1707.01083 v1), {_QUOTED}",
        "Crops are as usual; the source uses a milder scale augmentation.",
        size=224,
    ),
)
"""Sources for ImageNet."""
