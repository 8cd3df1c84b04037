"""One training on two hosts: two network namespaces joined by a virtual cable, beside two processes on one host.

Run as root: ``python benchmarks/two_hosts.py``; it prints the losses and the time of a step of both as JSON. Both have
two processes and thus the same batches and noise: the losses must be equal to the last digit.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HOSTS = ("resolute-a", "resolute-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
COMMAND = ["-m", "resolute", "train", "--data", "digits", "--model", "wrn-10-1", "--method", "r", "--device", "cpu"]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def cable() -> None:
    """Make the two hosts and join them."""
    ip("link", "add", "cable-a", "type", "veth", "peer", "name", "cable-b")
    for host, end, address in zip(HOSTS, ("cable-a", "cable-b"), ADDRESSES, strict=True):
        ip("netns", "add", host)
        ip("link", "set", end, "netns", host)
        ip("-n", host, "addr", "add", f"{address}/24", "dev", end)
        for device in (end, "lo"):
            ip("-n", host, "link", "set", device, "up")


def launch(node: int, nodes: int, per_node: int, out: Path, epochs: int) -> subprocess.Popen[bytes]:
    """Start torchrun, on a host of its own where there are two."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", f"--nproc-per-node={per_node}"]
    launcher += [f"--node-rank={node}", f"--master-addr={ADDRESSES[0] if nodes > 1 else '127.0.0.1'}"]
    inside = ["ip", "netns", "exec", HOSTS[node]] if nodes > 1 else []
    asked = [f"--devices={per_node}", f"--nodes={nodes}", f"--epochs={epochs}", f"--out={out}"]
    name = {"GLOO_SOCKET_IFNAME": f"cable-{'ab'[node]}"} if nodes > 1 else {}
    return subprocess.Popen(
        [*inside, *launcher, "--master-port=29517", *COMMAND, *asked], env=os.environ | name, stdout=subprocess.DEVNULL
    )


def losses(out: Path) -> dict[str, list[float]]:
    with (out / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in ("loss", "validation_error", "step_ms")}


def main(epochs: int = 3) -> None:
    """Train both ways and print what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "one"), Path(folder, "two")
        assert launch(0, 1, 2, one, epochs).wait() == 0
        try:
            cable()
            hosts = [launch(node, 2, 1, two, epochs) for node in (0, 1)]
            assert [host.wait() for host in hosts] == [0, 0]
        finally:
            for host in HOSTS:
                subprocess.run(["ip", "netns", "delete", host], check=False)
        found = {"one host": losses(one), "two hosts": losses(two)}
        found["same weights"] = (one / "weights.safetensors").read_bytes() == (two / "weights.safetensors").read_bytes()
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
