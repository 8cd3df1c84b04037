"""The network of evaluation mode leaves PyTorch as the plain one does: the same graph, the same numbers."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from frameworks.byhand import EPS, Net, SmoothNet, batches, net, train_by_hand
from resolute.noise.robustify import robustify, unrobustify

if TYPE_CHECKING:
    from pathlib import Path

N = Dim("n", min=2, max=64)


def pair() -> tuple[nn.Module, nn.Module]:
    """A trained robust network and the plain one with its weights, both in evaluation mode."""
    robust, plain = train_by_hand(robustify(net(eps=0), EPS), batches()), net(eps=0)
    plain.load_state_dict(robust.state_dict())
    return robust.eval(), plain.eval()


def operations(model: nn.Module, x: Tensor) -> list[str]:
    program = export(model, (x,), dynamic_shapes=({0: N},))
    return [f"{node.op} {node.target}" for node in program.graph.nodes]


def test_export_is_that_of_the_plain_network() -> None:
    robust, plain = pair()
    x = batches()[0][0]
    assert operations(robust, x) == operations(plain, x)
    assert torch.equal(export(robust, (x,)).module()(x), plain(x))


def test_export_in_training_mode_carries_the_noise() -> None:
    """Exporting before `eval()` is a mistake that the user can see: the graph draws random numbers."""
    x, model = batches()[0][0], robustify(net(SmoothNet, eps=0), EPS)
    drawn = [[str(node.target) for node in export(m, (x,)).graph.nodes if "rand" in str(node.target)] for m in (
        model, copy.deepcopy(model).eval(),
    )]  # fmt: skip
    assert len(drawn[0]) == 4
    assert drawn[1] == []


def test_a_network_with_noise_at_its_input_keeps_the_names_of_its_arguments() -> None:
    robust, plain = net().eval(), net(eps=0).eval()
    x = batches()[0][0]
    assert inspect.signature(robust.forward) == inspect.signature(plain.forward)
    assert operations(robust, x) == operations(plain, x)


# torch.onnx's own use of PyTorch and of onnxscript
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_is_that_of_the_plain_network(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    robust, plain = pair()
    x, files = batches()[0][0], []
    for name, model in (("robust", robust), ("plain", plain)):
        files.append(tmp_path / f"{name}.onnx")
        torch.onnx.export(
            model, (x,), files[-1], input_names=["x"], dynamic_shapes=({0: N},), dynamo=True,
            verbose=False,
        )  # fmt: skip
    kinds = [[node.op_type for node in onnx.load(file).graph.node] for file in files]
    assert kinds[0] == kinds[1]
    for n in (8, 5):
        outs = [onnxruntime.InferenceSession(file).run(None, {"x": x[:n].numpy()})[0] for file in files]
        assert (outs[0] == outs[1]).all()
        torch.testing.assert_close(torch.from_numpy(outs[0]), plain(x[:n]))


# torch.jit itself is on its way out
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
def test_torchscript_trace_is_that_of_the_plain_network() -> None:
    robust, plain = pair()
    x = batches()[0][0]
    traced = torch.jit.trace(robust, x)
    assert torch.equal(traced(x), plain(x))


def test_weights_go_to_the_plain_network_and_back(tmp_path: Path) -> None:
    robust, plain = pair()
    torch.save(robust.state_dict(), tmp_path / "weights.pt")
    fresh = net(Net, eps=0).eval()
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), strict=True)
    x = batches()[0][0]
    assert torch.equal(fresh(x), plain(x))
    assert torch.equal(unrobustify(robust)(x), plain(x))
    robustify(robust).load_state_dict(plain.state_dict(), strict=True)
