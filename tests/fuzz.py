"""Fuzz the readers of foreign formats with atheris: ``python tests/fuzz.py SECONDS [READER...]``.

Each reader runs in a process of its own, from its good file on, guided by coverage. An input at which anything but
`ValueError` comes through, or that takes over 2 GB or 20 seconds, is a finding: it is kept in the folder fuzz/READER.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one reader in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["resolute"], enable_loader_override=False):
        from readers import READERS, attempt

    warnings.simplefilter("ignore")
    reader, corpus, scratch = READERS[name], Path("fuzz", name), Path(tempfile.mkdtemp())
    corpus.mkdir(parents=True, exist_ok=True)
    good = reader.good()
    (corpus / "good").write_bytes(good)

    def one(content: bytes) -> None:
        attempt(reader, content, scratch)

    options = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=20", f"-max_len={2 * len(good) + 1024}"]
    atheris.Setup(
        [sys.argv[0], str(corpus), *options, f"-artifact_prefix={corpus}/finding-", "-print_final_stats=1"], one
    )
    atheris.Fuzz()


def main(seconds: int, chosen: list[str]) -> int:
    """Fuzz reader after reader and tell how many inputs each was given."""
    from readers import READERS

    findings = 0
    for name in chosen or READERS:
        command = [sys.executable, __file__, "--one", name, str(seconds)]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        inputs = re.findall(r"number_of_executed_units: *(\d+)", ran.stderr)
        found = ran.returncode != 0
        findings += found
        print(f"{name}: {inputs[-1] if inputs else '?'} inputs{', A FINDING' if found else ''}", flush=True)
        if found:
            print("\n".join(ran.stderr.splitlines()[-25:]), flush=True)
    return findings


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        fuzz(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
