"""Networks of many kinds: fused, compiled, scripted, gated, for text and for sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noise.functional import BasicConv, X, layers
from resolute.noise.robustify import robustify
from resolute.noise.sites import sites
from resolute.noise.unreached import unreached

if TYPE_CHECKING:
    from resolute.noise.sites import Where


def test_the_fused_path_of_evaluation_does_not_hide_what_training_computes() -> None:
    model = layers().eval()
    assert len(unreached(model, X)) == 3
    assert not model.training


@pytest.mark.usefixtures("compiler")
def test_a_compiled_network_is_looked_into() -> None:
    model = torch.compile(BasicConv(), backend="eager")
    model(X)
    found = unreached(model, X)  # type: ignore[arg-type]
    assert [(u.name, u.function, u.where) for u in found] == [("_orig_mod", "relu", BasicConv)]


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit")
def test_scripted_modules_do_not_break_it() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), BasicConv())
    assert [u.name for u in unreached(model, X)] == ["1"]


def test_gates_are_no_activations() -> None:
    from timm.layers import HardSigmoid

    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x) + torch.tanh(x).softmax(-1)

    assert unreached(nn.Sequential(HardSigmoid(), nn.Sigmoid(), Gate()), X) == []


def lstm(functional: bool) -> nn.Module:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Embedding(9, 4), nn.LSTM(4, 4, batch_first=True)
            self.fc1, self.act, self.fc2 = nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc1(self.lstm(self.embed(x))[0][:, -1])
            return self.fc2(F.relu(x) if functional else self.act(x))  # type: ignore[no-any-return]

    return Classifier()


def audio(functional: bool) -> nn.Module:
    class Audio(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv1d(1, 4, 8, 4), nn.BatchNorm1d(4)
            self.conv2, self.bn2 = nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4)
            self.act = nn.LeakyReLU(0.1, inplace=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            act = F.leaky_relu if functional else self.act
            x = act(self.bn2(self.conv2(act(self.bn1(self.conv1(x))))))
            return self.head(x.mean(-1))  # type: ignore[no-any-return]

    return Audio()


OTHERS: dict[str, tuple[nn.Module, Tensor, int, list[Where | None]]] = {
    "lstm, functions": (lstm(True), torch.arange(8).view(2, 4), 1, ["fc2:input"]),
    "lstm, modules": (lstm(False), torch.arange(8).view(2, 4), 1, []),
    "audio, functions": (audio(True), torch.rand(2, 1, 64), 1, ["conv2:input", None]),
    "audio, modules": (audio(False), torch.rand(2, 1, 64), 1, []),
    "transformer": (layers(), torch.rand(2, 3, 4), 0, ["layers.*.dropout:input"] * 3),
}


@pytest.mark.filterwarnings("ignore:.*calls activations as functions")
@pytest.mark.parametrize("name", OTHERS)
def test_networks_for_text_and_sound(name: str) -> None:
    model, x, hidden, wanted = OTHERS[name]
    where = [u.where for u in unreached(model, x)]
    assert where == wanted
    plain = model.eval()(x)
    robustify(model, eps=0.3, where=["hidden", *set(where)])
    assert torch.equal(model(x), plain)
    assert len(sites(model, ["hidden", *set(where)])) >= max(1, hidden)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    out = model(x)
    assert not torch.equal(out, model(x))
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
