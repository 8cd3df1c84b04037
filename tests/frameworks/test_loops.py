"""Training loops of other libraries: each ends with the weights of a loop written by hand, bit for bit."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from frameworks.byhand import EPS, SmoothNet, batches, data, equal, loader, net, sgd, state, train_by_hand, wanted
from resolute.noise.robustify import set_eps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

State = dict[str, Tensor]


class Way(NamedTuple):
    """How to train: batches to a step, and whether under autocast to bfloat16."""

    accumulate: int = 1
    bf16: bool = False


def by_lightning(model: nn.Module, seed: int, way: Way, epochs: int = 1, callbacks: Sequence[Any] = ()) -> State:
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def on_train_start(self) -> None:
            torch.manual_seed(seed)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self)

    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, precision="bf16-mixed" if way.bf16 else "32-true",
        accumulate_grad_batches=way.accumulate, callbacks=list(callbacks), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), loader())
    return state(model)


class WithLoss(nn.Module):
    """What the Trainer of transformers wants: labels in, a loss out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def by_transformers(model: nn.Module, seed: int, way: Way) -> State:
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Seed(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 0:
                torch.manual_seed(seed)

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(data())

    arguments = TrainingArguments(
        output_dir="runs", num_train_epochs=1, per_device_train_batch_size=8, max_grad_norm=0, use_cpu=True,
        save_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False,
        dataloader_pin_memory=False, gradient_accumulation_steps=way.accumulate, bf16=way.bf16,
    )  # fmt: skip
    optimizer = sgd(model)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    rows = [{"x": x, "labels": y} for x, y in zip(*data().tensors, strict=True)]
    trainer = InOrder(
        WithLoss(model), arguments, train_dataset=cast("Any", rows), callbacks=[Seed()],
        optimizers=(optimizer, constant),
    )  # fmt: skip
    trainer.train()
    return state(model)


def by_accelerate(model: nn.Module, seed: int, way: Way) -> State:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    precision = "bf16" if way.bf16 else "no"
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=way.accumulate, mixed_precision=precision)
    prepared, optimizer, served = accelerator.prepare(model, sgd(model), loader())
    prepared.train()
    rows = iter(served)
    torch.manual_seed(seed)
    for x, y in rows:
        with accelerator.accumulate(prepared):
            accelerator.backward(cross_entropy(prepared(x), y))
            optimizer.step()
            optimizer.zero_grad()
    return state(accelerator.unwrap_model(prepared))


def by_timm(model: nn.Module, seed: int, way: Way) -> State:
    """Train as `train_one_epoch` of timm's train.py does: a task, a scaler that steps, an average of the weights."""
    from timm.models import model_parameters
    from timm.task import ClassificationTask
    from timm.utils.cuda import NativeScaler
    from timm.utils.model_ema import ModelEmaV3

    task = ClassificationTask(model, nn.CrossEntropyLoss(), device=torch.device("cpu"), verbose=False)
    optimizer, average = sgd(model), ModelEmaV3(model)
    scaler = NativeScaler(device="cpu")  # type: ignore[no-untyped-call]
    model.train()
    torch.manual_seed(seed)
    for step, (x, y) in enumerate(loader(), start=1):
        with torch.autocast("cpu", enabled=way.bf16):
            loss = task(x, y)["loss"] / way.accumulate
        updates = step % way.accumulate == 0
        scaler(loss, optimizer, clip_grad=1e6, parameters=model_parameters(model), need_update=updates)
        if updates:
            optimizer.zero_grad()
            average.update(model, step=step)
    return state(model)


def by_fabric(model: nn.Module, seed: int, way: Way) -> State:
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if way.bf16 else "32-true")
    wrapped, optimizer = fabric.setup(model, sgd(model))
    wrapped.train()
    torch.manual_seed(seed)
    for step, (x, y) in enumerate(loader(), start=1):
        fabric.backward(cross_entropy(wrapped(x), y) / way.accumulate)
        if step % way.accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return state(wrapped.module)


LOOPS: dict[str, Callable[[nn.Module, int, Way], State]] = {
    "lightning": by_lightning,
    "fabric": by_fabric,
    "transformers": by_transformers,
    "accelerate": by_accelerate,
    "timm": by_timm,
}


# Lightning's own use of PyTorch's trees
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("way", [Way(), Way(accumulate=2), Way(bf16=True)], ids=["plain", "accumulate", "bf16"])
def test_trains_as_the_loop_written_by_hand(name: str, way: Way) -> None:
    # Fabric hands the images over in bfloat16, so that noise at the input is rounded to it.
    dtype = torch.bfloat16 if way.bf16 and name == "fabric" else torch.float32
    by_hand = functools.partial(wanted, dtype=dtype, accumulate=way.accumulate, bf16=way.bf16)
    trained = LOOPS[name](net(), 11, way)
    assert equal(trained, by_hand(11))
    assert not equal(trained, by_hand(12))
    assert not equal(trained, by_hand(11, eps=0))


def test_the_loop_written_by_hand_meets_new_noise_at_each_step() -> None:
    """Else all comparisons here would compare nothing."""
    model, plain = net(SmoothNet), net(SmoothNet, eps=0)
    (x, _), *_ = batches()
    outs = [model(x) for _ in range(3)]
    assert len(torch.stack(outs).unique(dim=0)) == 3
    assert equal(state(model), state(plain))
    assert torch.equal(model.eval()(x), plain.eval()(x))


def schedule(epoch: int) -> float:
    return (0.0, 0.2, 0.4)[epoch]


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_a_callback_of_lightning_can_change_eps() -> None:
    from lightning.pytorch import Callback, LightningModule, Trainer

    class Schedule(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            set_eps(pl_module, schedule(trainer.current_epoch))

    trained = by_lightning(net(), 11, Way(), epochs=3, callbacks=[Schedule()])
    assert equal(trained, by_hand_with_schedule())
    assert not equal(trained, by_hand_with_schedule(silent=True))


def by_hand_with_schedule(silent: bool = False) -> State:
    model = net(eps=EPS)
    optimizer = sgd(model.train())
    torch.manual_seed(11)
    for epoch in range(3):
        set_eps(model, 0 if silent else schedule(epoch))
        train_by_hand(model, batches(), optimizer=optimizer)
    return state(model)


@pytest.mark.filterwarnings("ignore:Net is evaluated with BatchNorm statistics")
def test_validation_in_between_draws_nothing() -> None:
    def validate(model: nn.Module) -> None:
        model.eval()
        with torch.no_grad():
            model(batches()[0][0])
        model.train()

    model = net()
    torch.manual_seed(11)
    optimizer = sgd(model)
    for batch in batches():
        validate(model)
        train_by_hand(model, [batch], optimizer=optimizer)
    assert equal(state(model), wanted(11))
