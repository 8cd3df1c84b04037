"""The CPU kernel against the reference, and its build: made once, kept, and made anew where its file is damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from noise.kernels.checks import GROUPS, PS, SEED, SHAPES, SIZES, SLOPES, built, check_groups, check_kernel, has_build
from resolute.noise import kernels, signs
from resolute.noise.kernels import cpu
from resolute.noise.perturb import perturb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolute.noise.signs import Groups


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let the kernel be built anew, in an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for cached in (cpu.compiled, kernels._fastest):
        cached.cache_clear()
    yield tmp_path
    for cached in (cpu.compiled, kernels._fastest):
        cached.cache_clear()


RUN = """
import torch
from resolute.noise.kernels import cpu, reference
kernel, seed, x = cpu.compiled(), torch.tensor(5), torch.randn(3000)
out = torch.empty_like(x)
kernel.run(x, x, out, seed, 0.3, 2**15, 1.0, 0)
assert torch.equal(out, reference.product(x, x, seed, 0.3, 2**15))
"""


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_it_works_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    x = torch.randn(100, requires_grad=True)
    with pytest.warns(RuntimeWarning, match=r"No kernel could be built .* Install g\+\+, or name a C\+\+ compiler"):
        g = perturb(x, 0.25)
    again = perturb(x, 0.25)
    for out in (g, again):
        torch.testing.assert_close((out - x).abs(), 0.25 * x.abs())
        (grad,) = torch.autograd.grad(out.sum(), x)
        torch.testing.assert_close(grad * x, out)


@has_build
def test_a_build_is_made_once_and_kept(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu.compiled() is not None
    (build,) = (fresh / "resolute").iterdir()
    made = build.stat().st_mtime_ns
    monkeypatch.setenv("PATH", "/nowhere")
    cpu.compiled.cache_clear()
    assert cpu.compiled() is not None
    assert build.stat().st_mtime_ns == made


@has_build
@pytest.mark.skipif(sys.platform != "linux", reason="reads the maps of the process")
def test_there_is_one_pool_of_threads() -> None:
    script = (
        "import torch, pathlib; from resolute.noise.kernels import cpu; cpu.compiled();"
        "lines = pathlib.Path('/proc/self/maps').read_text().splitlines();"
        "print(len({l.split()[-1] for l in lines if 'omp' in l.rpartition('/')[2] and '.so' in l}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1


@has_build
def test_a_damaged_build_is_not_loaded_but_made_anew(fresh: Path) -> None:
    """In a process of its own, which would die of what it should not have loaded."""
    script = (
        RUN
        + """
import pathlib, sys
(path,) = (pathlib.Path(sys.argv[1]) / "resolute").iterdir()
good = path.read_bytes()
path.unlink()  # what is loaded keeps its file
for at in range(0, len(good), len(good) // 50):
    path.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
    assert not cpu._is_intact(path, path.name.split("-")[1]), at
flipped = good[:2000] + bytes([good[2000] ^ 1]) + good[2001:]
damaged = {"truncated": good[:5000], "zeroed": bytes(len(good)), "flipped": flipped}
for name, content in damaged.items():
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    cpu.compiled.cache_clear()
    kernel = cpu.compiled()
    kernel.run(x, x, out.zero_(), seed, 0.3, 2**15, 1.0, 0)
    assert torch.equal(out, reference.product(x, x, seed, 0.3, 2**15)), name
    assert any(each.read_bytes() == good for each in path.parent.iterdir()), name
"""
    )
    done = subprocess.run([sys.executable, "-c", script, str(fresh)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@has_build
def test_processes_that_build_at_once_do_no_harm(fresh: Path) -> None:
    runs = [subprocess.Popen([sys.executable, "-c", RUN], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(run.communicate()[1], run.returncode) for run in runs] == [("", 0)] * 2
    for path in (fresh / "resolute").iterdir():
        assert cpu._is_intact(path, path.name.split("-")[1])


@has_build
def test_without_a_home_the_build_serves_this_process_alone(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nobody)
    assert cpu.compiled() is not None
    assert not list(fresh.iterdir())


@has_build
def test_a_cache_that_cannot_be_written_does_no_harm(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "file"))
    assert cpu.compiled() is not None
    assert [path.name for path in fresh.iterdir()] == ["file"]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ('g++ "', "CXX is 'g\\+\\+ \"', which is no command: No closing quotation"),
        ("/nowhere/g++", "/nowhere/g"),
        ("false", "false"),
    ],
)
def test_a_compiler_that_is_none_is_told_in_a_sentence(
    compiler: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.warns(RuntimeWarning, match=f"No kernel could be built .* The reason: .*{reason}"):
        assert cpu.compiled() is None


@has_build
@pytest.mark.parametrize("dtype", cpu._SYMBOLS)
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("p", PS)
def test_cpu_kernel_is_the_truth_bit_for_bit(dtype: torch.dtype, p: float, slope: float) -> None:
    for n in SIZES:
        check_kernel(built(), n, dtype, p, slope)


@has_build
@pytest.mark.parametrize("start", [2**31 - 1024, 2**31, 2**36 + 1024])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_positions_beyond_32_bits_count(start: int, p: float) -> None:
    check_kernel(built(), 2048, torch.float32, p, 1.0, start)
    level = signs.level(p)
    here, wrapped = signs.draw(SEED, 2048, level, start), signs.draw(SEED, 2048, level, start % 2**31 + 2**20)
    assert not torch.equal(here, wrapped)


@has_build
@pytest.mark.parametrize("dtype", cpu._SYMBOLS)
@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_groups_of_the_cpu_kernel_are_the_truth_bit_for_bit(shape: str, groups: Groups, dtype: torch.dtype) -> None:
    for p, start in ((0.5, 0), (0.3, 7), (0.0, 0), (1.0, 1)):
        check_groups(built(), shape, dtype, groups, p, start)
