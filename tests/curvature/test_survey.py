"""The run folder of curvature: its images, networks and files are those that it names."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from experiment.made_up import quiet
from pictures import CHANGES, OF_TRAINING, flipped, make_pictures
from resolute import models
from resolute.config import CurvatureConfig
from resolute.curvature import survey as surveys
from resolute.curvature.survey import survey, survey_folder
from resolute.data import load
from resolute.errors import InputError
from resolute.evaluation.networks import from_checkpoint
from resolute.models import checkpoint

if TYPE_CHECKING:
    from resolute.data.dataset import Images
    from resolute.evaluation.networks import Network

PLAN = CurvatureConfig(images=8, top=1, steps=2, probes=1, surface=0)


def network(images: Images, seed: int = 0) -> Network:
    """Save an untrained network where `compare` would, and load it."""
    import torch

    torch.manual_seed(seed)
    info = images.info
    folder = Path(f"cells/r-seed{seed}")
    spec = {"name": "lenet", "classes": info.classes, "shape": info.shape, "class_names": list(info.class_names)}
    model = models.build("lenet", classes=info.classes, shape=info.shape)
    checkpoint.save_network(model, folder, spec | {"method": "r", "seed": seed})
    return from_checkpoint(folder, info)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure one network on pictures; give the folder of both."""
    folder = tmp_path_factory.mktemp("measured")
    make_pictures(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        images = load("pictures")
        survey([network(images)], images, PLAN, Path("run"), console=quiet())
    return folder


def copied(measured: Path) -> None:
    make_pictures(Path("pictures"))
    for name in ("run", "cells"):
        shutil.copytree(measured / name, name)


@pytest.mark.parametrize("change", OF_TRAINING)
def test_changed_images_are_refused_under_a_folders_name_and_get_another_without(
    measured: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    copied(measured)
    monkeypatch.setattr(surveys, "measure_network", pytest.fail)
    images = load("pictures")
    own = from_checkpoint(Path("cells/r-seed0"), images.info)
    survey([own], images, PLAN, Path("run"), console=quiet())
    CHANGES[change](Path("pictures"))
    changed = load("pictures")
    told = r"run holds another curvature run: images\.\w+ is .* there and .* here.*Choose another folder with --out"
    with pytest.raises(InputError, match=told):
        survey([own], changed, PLAN, Path("run"), console=quiet())
    with pytest.raises(InputError, match=told):
        survey([own, network(images, seed=1)], changed, PLAN, Path("run"), console=quiet())
    assert survey_folder([own], images, PLAN) != survey_folder([own], changed, PLAN)


def test_a_network_of_another_name_or_other_weights_is_measured_anew_or_refused(measured: Path) -> None:
    copied(measured)
    images = load("pictures")
    own, other = from_checkpoint(Path("cells/r-seed0"), images.info), network(images, seed=1)
    with pytest.raises(InputError, match=r"holds another curvature run: networks is .* can be added"):
        survey([replace(own, sha256=other.sha256)], images, PLAN, Path("run"), console=quiet())
    survey([own, other], images, PLAN, Path("run"), console=quiet())
    shutil.copy("run/networks/r-seed0.json", "run/networks/r-seed1.json")
    told = r"networks/r-seed1.json belongs to other work: network.name is 'r-seed0' there and 'r-seed1' here;.*--out"
    with pytest.raises(InputError, match=told):
        survey([own, other], images, PLAN, Path("run"), console=quiet())


def test_networks_whose_names_were_one_file_are_two(measured: Path) -> None:
    copied(measured)
    images = load("pictures")
    names = ["r@where=**1", "r@where=??1", "r@where=__1", 200 * "x" + "1", 200 * "x" + "2"]
    networks = [replace(network(images, seed), name=name) for seed, name in enumerate(names)]
    plan = replace(PLAN, images=4, steps=1)
    found = survey(networks, images, plan, Path("named"), console=quiet())
    assert len(list(Path("named/networks").glob("*.json"))) == len(names)
    assert [each["name"] for each in found.networks] == names
    assert len({each["quantities"]["input-top"]["value"] for each in found.networks}) == len(names)


@pytest.mark.parametrize("name", ["survey.json", "environment.json", "networks/r-seed0.json"])
def test_a_flipped_bit_is_refused_or_changes_no_figure(
    measured: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    copied(measured)
    monkeypatch.setattr(surveys, "measure_network", pytest.fail)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    images = load("pictures")
    own = from_checkpoint(Path("cells/r-seed0"), images.info)
    expected = survey([own], images, PLAN, Path("run"), console=quiet())
    whole, rng, page = Path("run", name).read_bytes(), random.Random(name), Path("run/report.html").read_bytes()
    seen = 0
    for _ in range(6 if "environment" in name else 16):
        Path("run", name).write_bytes(flipped(whole, rng.randrange(len(whole)), rng.randrange(8)))
        try:
            assert survey([own], images, PLAN, Path("run"), console=quiet()) == expected
            assert Path("run/report.html").read_bytes() == page
            seen += 1
        except InputError as error:
            seen += Path(name).name in str(error)
    assert seen == (6 if "environment" in name else 16), "it was refused and the file not named"
