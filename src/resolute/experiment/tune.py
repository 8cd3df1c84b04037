"""Choose strength, p, site and form of the noise on validation images: Optuna proposes, paired networks decide."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import Timeout

from resolute.config import FORMS, Settings
from resolute.errors import InputError
from resolute.experiment.cell import check_recipe, load_splits, run_identity
from resolute.experiment.grid import fill, settle
from resolute.methods import canonical
from resolute.progress import clock, say
from resolute.report.page import write_report
from resolute.report.tuning import strength_of, sum_up, write_tuning
from resolute.run_folder import DIVERGED, RunFolder, cell_name, digest, locked, read_bits, read_sealed
from resolute.stats import mean_t

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from rich.console import Console

    from resolute.experiment.cell import Splits
    from resolute.experiment.recipe import Recipe, TuneConfig
    from resolute.report.tuning import Tuned


MARGIN = 0.5
"""Percentage points, chosen here: what a search is worth at least."""
SCREEN = 3
"""Seeds that each setting is tried with: the fewest whose t interval (factor 4.3) still says something."""


def variant(method: str, settings: Settings) -> str:
    """Name a setting as `resolute.methods.find_method` reads it."""
    own = ({"p": settings.p} if settings.p != 0.5 else {}) | settings.unusual
    more = [f"@{key}={value}" for key, value in own.items()]
    strength = f"eps={settings.eps}" if settings.ratio is None else f"ratio={settings.ratio}"
    return canonical("".join([f"{method}@{strength}@where={settings.where}", *more]))


def search_folder(plan: TuneConfig, splits: Splits) -> Path:
    """Name the folder of a search: the same one is continued there, another gets another folder."""
    identity = [plan.identity, run_identity(plan.held_out, splits)]
    return Path("runs") / f"tune-{plan.recipe.name}-{digest(identity)[:8]}"


RANGES = {"ratio": (0.05, 3.0), "eps": (0.02, 0.9)}
"""Where Optuna looks, at least."""
WARM_UP = 4
"""Settings that get every seed before any is dropped against their median."""
NOTHING = "stopped early: at no setting that got every seed does the 95 % interval reach a gain of {:.2g} points"
SPENT = "stopped after {} settings"
LATE = "stopped after {:.0f} s, as asked"


def tune(
    plan: TuneConfig, out: str | Path | None = None, *, command: str = "", console: Console | None = None
) -> Tuned:
    """Choose strength, p and site on the validation images; the test images are not even loaded.

    Each setting is trained with the first 3 seeds, each with the baseline's initial weights and data order. Once there
    are 4 finalists, a setting whose mean difference to the baseline is above the finalists' median (with these seeds)
    is dropped; any other is trained with every seed and becomes a finalist. First come all sites and forms at each
    ratio (or eps), then what Optuna's TPE proposes. A ratio means the same in every network; eps follows from
    it in each.

    It stops when ``trials`` settings were tried, when time is up, or once all sites were tried at each ratio and the
    lower ends of all finalists' paired 95 % intervals lie above minus ``margin`` points: then none gains as much.

    Args:
        plan: What to try.
        out: The folder (by default ``runs/tune-NAME-HASH``): one cell a network, ``curve.svg``, ``curve.png``,
            ``tuned.md`` and a report of the finalists. The same call continues a search that was killed, tries the
            same settings in the same order, and trains no network twice.
        command: The command line to quote in the report.
        console: Where progress is shown; standard error by default.

    Returns:
        Every setting with its interval, and the one to take.

    Raises:
        InputError: If Optuna is missing, the folder holds something else or another process is at it, or the
            baseline's training diverges.
    """
    return run_tuning(plan, out, command=command, console=console)[1]


def run_tuning(
    plan: TuneConfig, out: str | Path | None = None, *, command: str = "", console: Console | None = None
) -> tuple[Path, Tuned]:
    """Do what `tune` does, and tell the folder too."""
    from rich.console import Console

    optuna, start = load_optuna(), time.monotonic()
    console = console or Console(stderr=True)
    splits = load_splits(plan.held_out)
    info = splits.test.info
    recipe = plan.held_out.resolved(info.augment, info.radius)
    for own in plan.grid[: len(plan.grid) // len(plan.strengths)]:  # those of the first strength
        check_recipe(replace(recipe, methods=(recipe.baseline, variant(plan.method, own))), splits)
    out = Path(out) if out is not None else search_folder(plan, splits)
    _claim(out, plan, splits)
    lab = _Lab(plan, recipe, splits, out)
    with _alone(out):
        study = _study(optuna, plan)
        while not (stopped := _reason(study, plan, lab, time.monotonic() - start)):
            study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
            told = _try(study, plan, lab, console)
            spent, done = time.monotonic() - start, _done(study)
            left = clock(spent * (plan.trials - done) / done)
            say(f"{told}; {clock(spent)}, at most {left} left", console)
        return out, _conclude(lab, dict(_settings(study, plan)), stopped, command)


def load_optuna() -> Any:
    """Import Optuna, or say how to get it."""
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise InputError(
            "resolute tune searches by Optuna, which is not installed: pip install 'resolute[tune]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True, slots=True, eq=False)
class _Lab:
    """Trains what the search wants and remembers where it erred."""

    plan: TuneConfig
    recipe: Recipe
    splits: Splits
    out: Path
    known: dict[tuple[str, int], NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.recipe.seeds

    @property
    def screen(self) -> tuple[int, ...]:
        return self.seeds[:SCREEN]

    def train(self, names: list[str], seeds: tuple[int, ...], console: Console) -> None:
        recipe = replace(self.recipe, methods=(self.recipe.baseline, *dict.fromkeys(names)), seeds=seeds)
        fill(recipe, self.splits, self.out, jobs=self.plan.jobs, console=console)

    def wrong(self, name: str) -> NDArray[np.bool_]:
        """Where a variant erred, bool [seeds, shifts, n], for the first finished seeds: everywhere if one diverged."""
        rows = []
        for seed in self.seeds:
            if (name, seed) not in self.known:
                path = self.out / "cells" / cell_name(name, seed)
                if (path / DIVERGED).exists():
                    self.known[name, seed] = np.ones_like(self.wrong(self.recipe.baseline)[0])
                elif (path / "records.jsonl").exists():
                    self.known[name, seed] = np.array([~right for right in read_bits(path / "bits.npz").values()])
                else:
                    break
            rows.append(self.known[name, seed])
        return np.array(rows)

    def eps(self, name: str) -> tuple[float, ...]:
        """The eps of a variant's networks, as far as they are trained: given, or found for the ratio."""
        files = [self.out / "cells" / cell_name(name, seed) / "cost.json" for seed in self.seeds]
        found = [read_sealed(file).get("eps") for file in files if file.exists()]
        return tuple(float(eps) for eps in found if eps is not None)

    def is_finalist(self, name: str) -> bool:
        """Whether a variant was trained with every seed, and none of them diverged."""
        cells = [self.out / "cells" / cell_name(name, seed) for seed in self.seeds]
        return len(self.wrong(name)) == len(self.seeds) and not any((cell / DIVERGED).exists() for cell in cells)

    def differences(self, name: str) -> NDArray[np.float64]:
        """A variant's error minus the baseline's, for each finished seed."""
        own, base = self.wrong(name), self.wrong(self.recipe.baseline)
        each: NDArray[np.float64] = own.mean(axis=(1, 2)) - base[: len(own)].mean(axis=(1, 2))
        return each


def _alone(out: Path) -> AbstractContextManager[object]:
    """Keep other processes out: two searches in one folder would mix their networks."""
    try:
        return locked(out / ".locks", "tune")
    except Timeout:
        raise InputError(f"another `resolute tune` is at work in {out}. Let it end, or choose another --out.") from None


def _claim(out: Path, plan: TuneConfig, splits: Splits) -> None:
    """Make the folder that of a search: of its recipe, images, settings and versions."""
    run = {key: value for key, value in run_identity(plan.held_out, splits).items() if key != "settings"}
    identity = run | {"method": plan.method, **plan.tried, "places": list(plan.where), **plan.forms}
    RunFolder(out, "tuning.json", "search").claim(identity, plan.identity)


def _study(optuna: Any, plan: TuneConfig) -> Any:
    """Begin the search anew, in memory."""
    # It needs no file: every decision follows from the networks, which are on the disk. So a search that was killed
    # goes through the same settings in the same order as one that was not, and trains only what is missing.
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP))
    for own in plan.grid:
        keys = ("where", *(("p",) if plan.method == "r" else ()), *plan.forms)
        given = {key: getattr(own, key) for key in keys} | {plan.varied: strength_of(own)}
        study.enqueue_trial(given, skip_if_exists=True)
    return study


def _given(trial: Any) -> dict[str, Any]:
    """What a trial was queued with, and what was drawn for it so far."""
    given: dict[str, Any] = trial.system_attrs.get("fixed_params", {}) | trial.params
    return given


def _as_settings(plan: TuneConfig, given: dict[str, Any]) -> Settings:
    """Round what was drawn, so that names stay short; what the plan names is taken as it is."""
    strength = given[plan.varied]
    if strength not in plan.strengths:
        strength = round(strength, 2)
    form = {key: given[key] for key in FORMS if key in given}
    return replace(plan.settings(strength, given["where"], round(given.get("p", 0.5), 1)), **form)


def _settings(study: Any, plan: TuneConfig, *, queued: bool = False) -> list[tuple[str, Settings]]:
    """What was tried, or waits to be, each once."""
    found = {}
    for trial in study.trials:
        if trial.state.name in (("WAITING",) if queued else ("COMPLETE", "PRUNED")):
            own = _as_settings(plan, _given(trial))
            found[variant(plan.method, own)] = own
    return list(found.items())


def _reason(study: Any, plan: TuneConfig, lab: _Lab, spent: float) -> str:
    """Why to stop now, or nothing."""
    done = _done(study)
    if done and not _settings(study, plan, queued=True):
        finalists = [name for name, _ in _settings(study, plan) if lab.is_finalist(name)]
        least = [mean_t(lab.differences(name)).low for name in finalists]
        margin = plan.margin or min(MARGIN, 100 * float(lab.wrong(lab.recipe.baseline).mean()) / 2)
        if least and 100 * min(least) > -margin:  # never with one seed, whose bounds are NaN
            return NOTHING.format(margin)
    if done >= plan.trials:
        return SPENT.format(done)
    return LATE.format(spent) if done and plan.timeout and spent > plan.timeout else ""


def _done(study: Any) -> int:
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)


def _try(study: Any, plan: TuneConfig, lab: _Lab, console: Console) -> str:
    """Train a setting and say what it gave."""
    queued = [name for name, _ in _settings(study, plan, queued=True)]
    if plan.jobs > 1 and queued:  # networks of several settings, so that no process waits for the last of three seeds
        lab.train(queued[: min(plan.jobs, plan.trials - _done(study))], lab.screen, console)
    trial = study.ask()
    trial.suggest_categorical("where", list(plan.where))
    low, high = RANGES[plan.varied]
    trial.suggest_float(plan.varied, min(low, *plan.strengths), max(high, *plan.strengths))
    if plan.method == "r":
        trial.suggest_float("p", 0.2, 0.8)
    for form, values in plan.forms.items():
        trial.suggest_categorical(form, values)
    name = variant(plan.method, _as_settings(plan, trial.params))
    lab.train([name], lab.screen, console)
    screened = float(lab.differences(name)[: len(lab.screen)].mean())
    trial.report(screened, step=len(lab.screen))
    dropped = trial.should_prune()
    if not dropped:
        lab.train([name], lab.seeds, console)
    mean = screened if dropped else float(lab.differences(name).mean())
    study.tell(trial, *(() if dropped else (mean,)), **({"state": _pruned()} if dropped else {}))
    seeds = len(lab.screen if dropped else lab.seeds)
    end = ", dropped" if dropped else ""
    return f"{trial.number + 1}: {name}: {100 * mean:+.2f} points to {lab.recipe.baseline}, {seeds} seeds{end}"


def _pruned() -> Any:
    return importlib.import_module("optuna").trial.TrialState.PRUNED


def _conclude(lab: _Lab, settings: dict[str, Settings], stopped: str, command: str) -> Tuned:
    """Write the curve, the page, and the finalists' report, whose p values are those of a comparison."""
    from rich.console import Console

    baseline, out = lab.recipe.baseline, lab.out
    wrong = {name: lab.wrong(name) for name in (baseline, *settings)}
    eps = {name: lab.eps(name) for name in settings}
    tuned = sum_up(lab.plan.method, wrong, settings, eps, baseline=baseline, stopped=stopped)
    write_tuning(out, tuned)
    chosen = (tuned.best or tuned.nearest).name  # comes first, as the report's sentence speaks of the first
    finalists = sorted((each.name for each in tuned.tried if each.finalist), key=lambda name: name != chosen)
    lab.train(finalists, lab.seeds, Console(quiet=True))  # nothing is left to train: it gathers their records
    settle(replace(lab.recipe, methods=(baseline, *finalists)), out, lab.splits, command)
    write_report(out)
    return tuned
