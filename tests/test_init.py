"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import resolute

HEAVY = ("lightning", "lightning_fabric", "torchvision", "matplotlib", "scipy", "sklearn", "timm", "pyarrow", "pandas")


@pytest.mark.parametrize(
    ("code", "torch"),
    [("import resolute", False), ("import resolute; resolute.perturb; resolute.robustify; resolute.Perturb", True)],
)
def test_import_is_light(code: str, torch: bool) -> None:
    """In a fresh process: this one has loaded everything."""
    listing = f"import sys; {code}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint(HEAVY)
    assert ("torch" in loaded) == torch


def test_every_public_name_is_there_and_listed() -> None:
    names = {
        "perturb", "Perturb", "robustify", "unrobustify", "is_robust", "set_eps", "sites", "Site", "models", "data",
        "methods", "shifts", "attacks", "recipes", "train", "evaluate", "compare",
        "unreached", "Unreached", "quiet", "update_bn", "EpsSchedule", "strength", "Strength", "calibrate",
    }  # fmt: skip
    assert set(dir(resolute)) == set(resolute.__all__) == names
    for name in names:
        assert getattr(resolute, name) is getattr(resolute, name)


def test_a_function_named_as_its_module_stays_the_function() -> None:
    import resolute.noise.strength

    assert callable(resolute.strength)
    assert resolute.strength is resolute.noise.strength.strength
    assert resolute.unreached is importlib.import_module("resolute.noise.unreached").unreached


def test_an_unknown_name_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(
        AttributeError,
        match=r"no attribute 'robust'; it has EpsSchedule, Perturb, Site, Strength, Unreached, attacks, .* update_bn$",
    ):
        _ = resolute.robust
