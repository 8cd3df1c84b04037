"""Count the architectures of timm and torchvision whose activations get noise, and say why for those that do not.

Every name is built on the meta device, which takes no memory. One name for each set of module classes also runs an
example, so that activations called as functions are seen, not only read.
`python benchmarks/sweep.py --out benchmarks/results/sweep.json`.

With `--train` the smallest member of each family of timm and every classifier of torchvision is built in memory and
takes a training step with the noise, at its own input size, in float32 (beside a plain one), under bfloat16 autocast
and in channels_last: `python benchmarks/sweep.py --train --out benchmarks/results/sweep-train.json`.
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
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resolute import run_folder
from resolute.errors import InputError
from resolute.noise.robustify import robustify, set_eps, unrobustify
from resolute.noise.sites import Found, find_sites, functional, sites
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
        assert len(sites(model)) == len(find_sites(model, "hidden"))
        return find_sites(model, "hidden")
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
    return {name: family for family, (_, name) in sorted(counts.items())}


MODES: dict[str, tuple[bool, torch.memory_format]] = {
    "float32": (False, torch.contiguous_format),
    "bfloat16 autocast": (True, torch.contiguous_format),
    "channels_last": (False, torch.channels_last),
}
"""Whether autocast is on, and how weights and images lie in memory."""


def real_model(library: str, name: str) -> tuple[nn.Module, Shape]:
    """Build an architecture in memory, with nothing that hides the noise in a single step."""
    torch.manual_seed(0)
    _, shape = LIBRARIES[library][1](name)
    model = timm.create_model(name) if library == "timm" else torchvision.models.get_model(name)
    for weight in model.parameters():
        if weight.abs().max() < 1e-3:  # a last layer of zeros, a layer scale of 1e-5: they hide what lies before them
            nn.init.normal_(weight, std=0.1)
    return model.train(), shape


def step(model: nn.Module, x: Tensor, *, autocast: bool) -> tuple[float, set[str]]:
    """Take a training step; give the loss and the parameters that got a finite gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    optimizer.zero_grad()
    loss = loss_of(model, x, autocast=autocast)
    loss.backward()
    optimizer.step()
    finite = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.isfinite().all())}
    return loss.item(), finite


def loss_of(model: nn.Module, x: Tensor, *, autocast: bool) -> Tensor:
    """Compute the loss in training mode, with the same draws each time."""
    torch.manual_seed(1)
    with torch.autocast("cpu", enabled=autocast):
        out = model(x)
    logits = out[0] if isinstance(out, tuple) else out
    return nn.functional.cross_entropy(logits.float(), torch.arange(len(x)))


def attempt(model: nn.Module, x: Tensor, *, autocast: bool) -> tuple[float, set[str]] | str:
    """Take a training step, or say why it cannot be taken."""
    try:
        return step(model, x, autocast=autocast)
    except (RuntimeError, NotImplementedError, AssertionError, TypeError, AttributeError, ValueError) as error:
        return str(error).splitlines()[0]


def places(model: nn.Module, x: Tensor) -> Any:
    """Take the activations that are modules; where there are none, what `unreached` names for those called."""
    return "hidden" if matched(model) else [call.where for call in unreached(model, x) if call.where is not None]


def train(library: str, name: str) -> dict[str, str]:
    """Take a step with noise in each mode, in the first one beside a plain one: "trained", or what went wrong."""
    verdicts: dict[str, str] = {}
    for mode, (autocast, memory_format) in MODES.items():
        model, shape = real_model(library, name)
        model = model.to(memory_format=memory_format)
        x = torch.rand(2, *shape).contiguous(memory_format=memory_format)
        plain = attempt(model, x, autocast=autocast) if not verdicts else None
        try:
            robustify(model, 0.05, where=places(model, x))
        except InputError as error:
            return dict.fromkeys(MODES, f"no place: {str(error).splitlines()[0]}")
        weaker = None
        if isinstance(plain, tuple):
            with torch.no_grad():  # the same draws of dropout and of signs, at another strength
                weaker = loss_of(model, x, autocast=autocast).item()
        noisy = attempt(set_eps(model, 0.1), x, autocast=autocast)
        if isinstance(noisy, str):
            plainly = attempt(unrobustify(model), x, autocast=autocast)
            verdicts[mode] = f"{noisy} (plainly: {'trained' if isinstance(plainly, tuple) else plainly})"
        elif not math.isfinite(noisy[0]) or (isinstance(plain, tuple) and noisy[1] != plain[1]):
            verdicts[mode] = f"loss {noisy[0]}, {len(noisy[1])} gradients finite"
        else:
            verdicts[mode] = "trained" if noisy[0] != weaker else "the noise does not change the loss"
    return verdicts


def train_all(only: str, libraries: list[str], out: Path | None) -> None:
    rows: list[dict[str, Any]] = []
    families = smallest_members(only) if "timm" in libraries else {}
    names = [("timm", name) for name in families]
    if "torchvision" in libraries:
        names += [("torchvision", name) for name in LIBRARIES["torchvision"][0] if fnmatchcase(name, only)]
    for library, name in names:
        verdicts = train(library, name)
        rows.append({"library": library, "family": families.get(name, ""), "name": name, **verdicts})
        print(json.dumps(rows[-1]), flush=True)
        clock.write(out, rows)
    for mode in MODES:
        trained = sum(row[mode] == "trained" for row in rows)
        print(f"{mode}: {trained} of {len(rows)} trained")


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
    parser.add_argument("--train", action="store_true", help="take a training step instead")
    args = parser.parse_args()
    if args.train:
        return train_all(args.only, args.libraries.split(","), args.out)
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
