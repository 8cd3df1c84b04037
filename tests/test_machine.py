"""The stamp of the machine."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from resolute import run_folder
from resolute.run_folder import environment


def test_environment_is_json_and_names_versions_but_not_the_machine_or_its_user() -> None:
    stamp = environment()
    text = json.dumps(stamp, allow_nan=False)
    for name in ("resolute", "python", "torch", "numpy", "torchvision", "timm", "lightning-fabric"):
        assert stamp[name][0].isdigit(), name
    assert stamp["threads"] >= 1
    assert stamp["cores"] == os.cpu_count()
    for private in (platform.node(), str(Path.home()), str(Path.cwd())):
        assert private not in text
    assert stamp["platform"].split()[0] == platform.system()


def test_a_package_that_is_not_installed_is_said_to_be_so() -> None:
    assert run_folder._version("no-such-package") == "not installed"
