from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cases import as_float, tiny_images, tiny_network
from resolute.errors import InputError
from resolute.evaluation.measure import measure
from resolute.experiment.evaluation import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable

SUITES = ("clean", "noise", "fgsm", "pgd")
X, Y = as_float(tiny_images(60))


def test_a_loader_gives_the_records_of_its_images() -> None:
    images = tiny_images(60)
    whole = evaluate(tiny_network(), images, SUITES)
    for batch_size in (7, 60):
        loader = DataLoader(TensorDataset(X, Y), batch_size=batch_size)
        assert evaluate(tiny_network(), loader, SUITES, info=images.info, batch_size=13) == whole
    assert len({record.correct for record in whole}) > 3


def test_without_a_description_a_loader_has_the_classes_of_the_network() -> None:
    [record] = evaluate(tiny_network(), [(X, Y)])
    assert (record.data, record.n) == ("loader", 60)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(X * 255, Y)], "the images reach from .* to .*; wanted is \\[0, 1\\]: pixels divided by 255"),
        ([(X - 0.5, Y)], "the images reach from -"),
        ([((X * 255).to(torch.uint8), Y)], "uint8 \\(60, 1, 6, 6\\); wanted are floats"),
        ([(torch.where(X > 0.9, torch.nan, X), Y)], "the images reach from nan"),
        ([(X.movedim(1, -1), Y)], "wanted is \\[n, 1 or 3, height, width\\]: move the channels"),
        ([X], "the loader gives Tensor; wanted are batches \\(x, y\\)"),
        ([(X, Y, Y)], "the loader gives 3 things"),
        ([(X, Y[:5])], "the labels of a batch are int64 \\(5,\\); wanted is one class number for each of its 60"),
        ([(X, Y.float())], "the labels of a batch are float32"),
        ([(X, Y + 1)], "the labels reach from 1 to 3, and there are 3 classes"),
        ([(X, Y), (X[..., :5], Y)], "the images have several shapes"),
        ([], "the loader gave no batch"),
    ],
)
def test_what_is_no_batch_of_labelled_images_is_refused(batches: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(tiny_network(), batches)


class Answers(nn.Module):
    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.change = tiny_network(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.network(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: (logits, logits), "the model returns a tuple of 2; wanted is one tensor of logits"),
        (lambda logits: {"logits": logits}, "the model returns a dict"),
        (lambda logits: logits.softmax(1), "the model returns probabilities; wanted are logits"),
        (lambda logits: logits[:, 0], "the model returns \\(16,\\) for 16 images"),
        (lambda logits: torch.cat([logits, logits], 1), "tells 6 classes apart, and tiny has 3"),
        (lambda logits: logits / 0, "NaN or infinity"),
    ],
)
def test_what_are_no_logits_is_refused(change: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(Answers(change), tiny_images(), ["clean"])


def test_a_network_for_other_images_is_refused() -> None:
    with pytest.raises(InputError, match="cannot take images of 1x6x6 pixels"):
        measure(tiny_network(shape=(1, 8, 8)), tiny_images(), ["clean"])


def test_images_stay_exact_before_a_network_in_half_precision() -> None:
    right = measure(tiny_network().bfloat16(), tiny_images(60), ["clean", "fgsm"])
    full = measure(tiny_network(), tiny_images(60), ["clean", "fgsm"])
    assert all(abs(int(right[key].sum()) - int(full[key].sum())) <= 5 for key in full)
