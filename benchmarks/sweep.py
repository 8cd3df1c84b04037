"""Count the architectures of timm and torchvision whose activations get noise, and say why for those that do not.

Every name is built on the meta device, which takes no memory. One name for each set of module classes also runs an
example, so that activations called as functions are seen, not only read.
`python benchmarks/sweep.py --out benchmarks/results/sweep.json`.

With `--train` the smallest member of each family of timm is built in memory, robustified, and runs one training pass
at its own input size: `python benchmarks/sweep.py --train --out benchmarks/results/sweep-train.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import clock
import timm
import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from resolute import run_folder
from resolute.errors import InputError
from resolute.noise.robustify import robustify
from resolute.noise.sites import Found, find, functional, sites
from resolute.noise.unreached import unreached

if TYPE_CHECKING:
    from collections.abc import Callable

Shape = tuple[int, ...]


class EmptyOnMeta(TorchFunctionMode):
    """Make the parameters without memory and other tensors with it: torchvision's RegNet computes widths in tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})})


def timm_model(name: str) -> tuple[nn.Module, Shape]:
    with torch.device("meta"):
        model = timm.create_model(name)
    return model, tuple(model.default_cfg["input_size"])


def torchvision_model(name: str) -> tuple[nn.Module, Shape]:
    with EmptyOnMeta():
        model = torchvision.models.get_model(name)
    size = 299 if name == "inception_v3" else 224
    return model.to("meta"), (3, size, size)


LIBRARIES: dict[str, tuple[list[str], Callable[[str], tuple[nn.Module, Shape]]]] = {
    "timm": (timm.list_models(), timm_model),
    "torchvision": (torchvision.models.list_models(module=torchvision.models), torchvision_model),
}


def look(name: str, build: Callable[[str], tuple[nn.Module, Shape]], done: dict[Any, str]) -> dict[str, Any]:
    """Describe one architecture; run it unless one of the same classes has run, whose name is told instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, shape = build(name)
        found = matched(model)
        functions = functional(model, found)
        row = {"family": type(model).__module__, "hidden": len(found), "functions": functions}
        classes = type(model), frozenset(map(type, model.modules()))
        if classes in done and not functions:
            return {**row, "run": done[classes]}
        done[classes] = name
        try:
            with torch.device("meta"):
                calls = unreached(model, torch.rand(2, *shape))
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            return {**row, "run": f"failed: {str(error).splitlines()[0]}"}
    return {**row, "run": name, "unreached": [described(call) for call in calls]}


def matched(model: nn.Module) -> Found:
    try:
        assert len(sites(model)) == len(find(model, "hidden"))
        return find(model, "hidden")
    except InputError:
        return {}


def described(call: Any) -> dict[str, Any]:
    where = call.where if call.where is None or isinstance(call.where, str) else call.where.__name__
    return {"name": call.name, "in": call.module_type.__name__, "calls": call.function, "where": where} | (
        {"reason": call.reason} if where is None else {}
    )


def fill_in(rows: dict[str, dict[str, Any]]) -> None:
    """Say of each row how its activations are reached."""
    for row in rows.values():
        calls = row.get("unreached") or rows.get(row["run"], {}).get("unreached", [])
        named = any(call["where"] is not None for call in calls)
        row["reached"] = "hidden" if row["hidden"] else "unreached" if named else "no"
        row["entirely"] = not calls
        row["reachable"] = all(call["where"] is not None for call in calls)


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    def names(chosen: Callable[[dict[str, Any]], bool]) -> list[str]:
        return [name for name, row in rows.items() if chosen(row)]

    return {
        "names": len(rows),
        "families": len({row["family"] for row in rows.values()}),
        "reached": len(names(lambda row: row["reached"] != "no")),
        "reached by hidden": len(names(lambda row: row["reached"] == "hidden")),
        "entirely by hidden": len(names(lambda row: row["entirely"])),
        "entirely with what unreached names": len(names(lambda row: row["reachable"])),
        "reached by what unreached names only": names(lambda row: row["reached"] == "unreached"),
        "not reached": names(lambda row: row["reached"] == "no"),
        "some activation has no place": names(lambda row: not row["reachable"]),
        "warned of though entirely reached": names(lambda row: bool(row["functions"]) and row["entirely"]),
        "not warned of though not entirely reached": names(lambda row: not row["functions"] and not row["entirely"]),
        "run": len(names(lambda row: "unreached" in row)),
        "run failed": {name: row["run"] for name, row in rows.items() if row["run"].startswith("failed")},
    }


def smallest_members(only: str) -> dict[str, str]:
    """Name the architecture with the fewest parameters of each family of timm."""
    counts: dict[str, tuple[int, str]] = {}
    for name in LIBRARIES["timm"][0]:
        if fnmatchcase(name, only):
            model, _ = timm_model(name)
            entry = sum(p.numel() for p in model.parameters()), name
            family = type(model).__module__.rpartition(".")[2]
            counts[family] = min(entry, counts.get(family, entry))
    return {family: name for family, (_, name) in sorted(counts.items())}


def train(name: str) -> dict[str, Any]:
    """Run one training pass of two images with noise, and one with the same seed but without it."""
    torch.manual_seed(0)
    model = timm.create_model(name).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    for weight in model.parameters():
        if not weight.any():  # a last layer of zeros hides everything before it
            nn.init.normal_(weight, std=0.1)
    x = torch.rand(2, *model.default_cfg["input_size"])
    losses: list[float] = []
    for eps in (0.0, 0.1):
        if eps:
            robustify(model, eps)
        model.zero_grad()
        torch.manual_seed(1)
        out = model(x)
        loss = (out[0] if isinstance(out, tuple) else out).float().square().mean()
        loss.backward()
        losses.append(float(loss))
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return {
        "name": name,
        "places": len(sites(model)),
        "finite": all(bool(g.isfinite().all()) for g in gradients) and all(map(math.isfinite, losses)),
        "noise changes the loss": losses[0] != losses[1],
        "parameters with gradient": len(gradients),
        "parameters": sum(1 for _ in model.parameters()),
    }


def train_families(only: str, out: Path | None) -> None:
    rows: list[dict[str, Any]] = []
    for family, name in smallest_members(only).items():
        try:
            rows.append({"family": family, **train(name)})
        except (RuntimeError, NotImplementedError, AssertionError, TypeError, AttributeError, ValueError) as error:
            rows.append({"family": family, "name": name, "failed": str(error).splitlines()[0]})
        print(json.dumps(rows[-1]), flush=True)
        clock.write(out, rows)


def written(report: dict[str, Any]) -> str:
    """Write the rows one a line."""
    tables = {library: result.pop("rows") for library, result in report["results"].items()}
    lines = [
        f" {json.dumps(f'{table}/{name}')}: {json.dumps(row)}"
        for table in tables
        for name, row in tables[table].items()
    ]
    return f'{json.dumps(report, indent=1)[:-2]},\n "rows": {{\n' + ",\n".join(lines) + "\n}}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--only", default="*", help="a pattern of names")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--train", action="store_true", help="train the smallest member of each family of timm")
    args = parser.parse_args()
    if args.train:
        return train_families(args.only, args.out)
    results: dict[str, Any] = {}
    for library in args.libraries.split(","):
        rows: dict[str, dict[str, Any]] = {}
        done: dict[Any, str] = {}
        names, build = LIBRARIES[library]
        for name in names:
            if fnmatchcase(name, args.only):
                rows[name] = look(name, build, done)
        fill_in(rows)
        results[library] = {"summary": summary(rows), "rows": rows}
        print(library, json.dumps(results[library]["summary"], indent=1), flush=True)
    if args.out:
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(written({"environment": run_folder.environment(), "results": results}))
    return None


if __name__ == "__main__":
    main()
