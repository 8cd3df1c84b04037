from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases import as_float, tiny_images, tiny_network
from resolute.evaluation import sanity
from resolute.evaluation.sanity import CHECK_COUNT, Check, check_attacks, checks_sentence
from resolute.run_folder import Record

CLEAN = Record("d", "m", "-", 0, "clean", "clean", 0.0, 90, 100)
X, Y = as_float(tiny_images(100))


class Masked(nn.Module):
    """A network whose gradient is gone: its images are rounded to 16 levels before it looks at them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = self.network((15 * x).round() / 15)
        return rounded


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    model = tiny_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model.eval()


def counted(**right: int) -> list[Record]:
    own = [dataclasses.replace(CLEAN, suite="x", shift=s, severity=0.05, correct=c) for s, c in right.items()]
    return [CLEAN, *own]


def test_a_plain_network_passes_every_check(trained: nn.Module) -> None:
    before = torch.random.get_rng_state()
    told: list[None] = []
    found = check_attacks(trained, X, Y, 0.05, counted(pgd=10, square=30), on_check=lambda: told.append(None))
    assert len(told) == len(found) == CHECK_COUNT
    assert [check.result for check in found] == ["passed"] * 6, found
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_without_gradients_is_found_out(trained: nn.Module) -> None:
    results = {c.name: c.result for c in check_attacks(Masked(trained), X, Y, 0.05, counted(pgd=80, square=30))}
    assert results["The gradient of the loss is not zero"] == "failed"
    assert results["Without a bound nothing is left"] == "failed"
    assert results["The black-box attack is not stronger than the white-box one"] == "failed"


def test_what_was_not_run_is_said_to_be_so(trained: nn.Module) -> None:
    assert check_attacks(trained, X, Y, 0.05, counted(pgd=10))[-1].result == "not run"


@pytest.mark.parametrize(
    ("records", "results", "words"),
    [
        (counted(), [], "No attack was run"),
        (counted(fgsm=50, pgd=4), [], "Not an adversarial defence: 4.0 % right of 100 under pgd at radius 0.05."),
        (counted(fgsm=50, pgd=40), [], "no claim of adversarial robustness: run autoattack"),
        (counted(pgd=40, autoattack=30), [], "30.0 % right of 100 under autoattack at radius 0.05. That is an upper"),
        (counted(pgd=40, autoattack=30), ["failed", "passed"], "cannot be trusted, since 1 of the checks"),
        (counted(pgd=0, autoattack=1), ["failed"], "Not an adversarial defence"),
    ],
)
def test_no_more_is_said_than_was_measured(records: list[Record], results: list[str], words: str) -> None:
    found = [Check("c", result, "") for result in results]  # type: ignore[arg-type]
    assert words in checks_sentence(records, found, 0.05)


def test_the_customary_radius_is_spoken_of() -> None:
    strong = dataclasses.replace(CLEAN, suite="x", shift="pgd", severity=0.5, correct=0)
    assert "40.0 % right of 100 under pgd at radius 0.05" in checks_sentence([*counted(pgd=40), strong], [], 0.06)


class Reads(nn.Module):
    """Says class 0 where the first pixel is bright, class 1 elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, 0, 0, 0]
        return torch.stack([bright, 1 - bright], 1)


@pytest.mark.parametrize(("only_fgsm", "only_pgd", "result"), [(8, 4, "passed"), (4, 0, "passed"), (30, 2, "failed")])
def test_a_few_images_do_not_make_pgd_weaker(
    only_fgsm: int, only_pgd: int, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 200, 100 fall to both attacks; McNemar's p is 0.39, 0.13 and 3e-7."""
    by_fgsm, by_pgd = torch.ones(200, 1, 2, 2), torch.ones(200, 1, 2, 2)
    by_fgsm[: 100 + only_fgsm] = 0
    by_pgd[:100] = by_pgd[200 - only_pgd :] = 0
    monkeypatch.setattr(sanity, "fgsm", lambda *_: by_fgsm)
    monkeypatch.setattr(sanity, "pgd", lambda *_, **__: by_pgd)
    found = sanity._fgsm_or_pgd(Reads(), torch.ones(200, 1, 2, 2), torch.zeros(200, dtype=torch.int64), 0.1)
    assert found.result == result
    assert "Right of 200 images" in found.found
