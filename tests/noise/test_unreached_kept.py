"""A network and the generators are afterwards what they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noise.functional import X
from resolute.noise.robustify import robustify
from resolute.noise.unreached import unreached

WRONG = torch.rand(2, 7, 3)


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.register = nn.BatchNorm1d(2), None
        self.frozen = nn.BatchNorm1d(2).eval()
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))
        self.alias = nn.Module()
        self.alias.register_buffer("steps", self.steps)

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        if self.training:
            x = x + torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return F.relu(self.frozen(self.norm(x)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_everything_is_as_it_was(training: bool, fails: bool) -> None:
    model = Stateful().train(training)
    model.frozen.eval()
    robustify(model, where=nn.BatchNorm1d)
    before = {name: (t, t._version, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    flags = [module.training for module in model.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    if fails:
        with pytest.raises(RuntimeError, match="running_mean"):
            unreached(model, WRONG)
    else:
        assert len(unreached(model, X)) == 1
    after = model.state_dict(keep_vars=True)
    for name, (tensor, version, value) in before.items():
        assert after[name] is tensor, name
        assert tensor._version == version
        assert torch.equal(tensor, value)
    assert model.alias.steps is model.steps
    assert [module.training for module in model.modules()] == flags
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all("_noise" in vars(m) and m._noise for m in (model.norm, model.frozen))
