"""A recipe's training in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolute.data import Augment
    from resolute.recipes import Recipe
    from resolute.training import TrainConfig


def training_words(recipe: Recipe, loss: str) -> str:
    """Say how a network is trained.

    Args:
        recipe: The recipe.
        loss: What is minimised, in words.

    Returns:
        Network, epochs, batch, optimizer, rate and its schedule, decay, augmentation, loss, noise: one sentence.
    """
    train = recipe.train
    optimizer = {"sgd": "Nesterov SGD" if train.nesterov else "SGD", "adam": "Adam", "rmsprop": "RMSProp"}
    parts = [
        f"`{recipe.model}`",
        f"{train.epochs} epochs of batch {train.batch_size:,}",
        f"{optimizer[train.optimizer]} at {train.lr:g}, {_schedule(train)}",
        f"weight decay {train.weight_decay:g}",
        _augmentation(train.augment),
        *([f"average of the weights {train.ema:g}"] if train.ema else []),
        *([f"gradients clipped at {train.clip_norm:g}"] if train.clip_norm else []),
        loss,
        *(["validation images held out"] if recipe.hold_out else []),
        *([f"R: eps {recipe.settings.eps:g} at {recipe.settings.where}"] if "r" in recipe.methods else []),
    ]
    return f"{'; '.join(parts)}."


def _schedule(train: TrainConfig) -> str:
    falls = {
        "cosine": "cosine to 0",
        "linear": "linear to 0",
        "step": f"times {train.gamma:g} at epochs {', '.join(map(str, train.milestones))}",
        "exponential": f"times {train.gamma:g} each {train.decay_epochs:.3g} epochs, smoothly",
        "staircase": f"times {train.gamma:g} each {train.decay_epochs:.3g} epochs",
    }
    warm = f" after {train.warmup_epochs:g} of warm-up" if train.warmup_epochs else ""
    return falls[train.schedule] + warm


def _augmentation(augment: Augment | None) -> str:
    if augment is None:
        return "crops of 8 to 100 % and flips"
    parts = [
        f"shifts of {augment.shift}{' (reflected)' if augment.padding == 'reflect' else ''}" if augment.shift else "",
        "flips" if augment.flip else "",
        f"turns of {augment.rotation:g} degrees" if augment.rotation else "",
        f"erasing with probability {augment.erase:g}" if augment.erase else "",
    ]
    return ", ".join(filter(None, parts)) or "no augmentation"
