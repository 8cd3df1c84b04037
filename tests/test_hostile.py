"""Files that mean harm are refused in words, and in little memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 400
SECONDS = 20


@pytest.mark.slow
def test_every_hostile_file_is_refused_in_bounded_memory_and_time(tmp_path: Path) -> None:
    script = Path(__file__).with_name("hostile.py")
    ran = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert len(found) >= 40
    for name, told in found.items():
        assert told["said"].startswith(("ValueError: ", "InputError: ")), f"{name}: {told}"
        assert len(told["said"]) > 25, name
        assert "Error" not in told["said"][12:25], name
        assert told["MB"] < MEGABYTES, f"{name}: {told}"
        assert told["seconds"] < SECONDS, f"{name}: {told}"
