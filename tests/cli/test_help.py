"""Help comes at once."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cli.test_flags import FLAGS

COMMANDS = {
    "script": [str(Path(sys.executable).with_name("resolute"))],
    "module": [sys.executable, "-m", "resolute"],
}
HEAVY = {"torch", "numpy", "matplotlib", "torchvision", "timm", "scipy", "sklearn", "lightning_fabric", "pyarrow"}


@pytest.mark.parametrize(("how", "command"), [("script", ""), *(("module", name) for name in ["", *FLAGS])])
def test_help_comes_at_once(how: str, command: str) -> None:
    """Within a second of processor time, so that a busy machine does not matter; once in three times is enough."""

    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        asked = [*COMMANDS[how], *command.split(), "--help"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "Usage: resolute" in done.stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(cost() < 1 for _ in range(3))


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in FLAGS), ["--nonsense"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        f"import sys; sys.argv = ['resolute', *{arguments!r}]\n"
        "from resolute.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split("LOADED")[1].split())
