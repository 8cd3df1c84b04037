"""The strength of the noise over a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from resolute.errors import InputError, unknown
from resolute.noise import sites
from resolute.noise.robustify import set_eps_at

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["constant", "early", "late", "ramp", "off"]
SHARES: dict[str, float] = {"constant": 1.0, "early": 0.5, "late": 0.5, "ramp": 1.0, "off": 0.1}
"""The share of the training that each kind speaks of, unless another is given."""


def factor(kind: str, done: float, share: float) -> float:
    """Tell what a schedule multiplies eps by at a moment, ``done`` and ``share`` being shares of the training."""
    if kind == "early":
        return max(0.0, 1 - done / share)
    if kind == "late":
        return float(done >= share)
    if kind == "ramp":
        return min(1.0, done / share)
    return float(kind == "constant" or done < 1 - share)


def eps_at(model: nn.Module) -> dict[tuple[str, sites.Side], float]:
    """Tell the strength at each place that carries noise."""
    there = sites.places(model)
    found = sites.sites(model) if there else []
    return {(site.name, site.side): site.eps for site in found if site.eps is not None}


class EpsSchedule:
    """A schedule of eps over training, stepped like a learning-rate scheduler of torch.

    It multiplies the eps that each place has when the schedule is made, and changes it without recompiling.

    Args:
        model: A module after `robustify`.
        kind: ``"constant"``; ``"early"``: falls linearly to 0 by ``share`` of the training; ``"late"``: 0 before
            ``share`` of it; ``"ramp"``: rises linearly from 0 until ``share`` of it; ``"off"``: 0 for the last
            ``share``.
        steps: Calls of `step` in the whole training, at least 1: epochs, or batches.
        share: Above 0 and at most 1; by default 0.5 for early and late, 1 for ramp, 0.1 for off.

    Raises:
        InputError: If an argument is of no use, or the model carries no noise.

    Example:
        >>> from torch import nn
        >>> from resolute import robustify, sites
        >>> model = robustify(nn.ReLU(), eps=0.4)
        >>> schedule = EpsSchedule(model, "early", steps=4)
        >>> for epoch in range(4):
        ...     print(sites(model)[0].eps)
        ...     schedule.step()
        0.4
        0.2
        0.0
        0.0
    """

    def __init__(self, model: nn.Module, kind: Kind, steps: int, *, share: float | None = None) -> None:
        if kind not in get_args(Kind):
            raise InputError(unknown("schedule of eps", kind, get_args(Kind)))
        share = SHARES[kind] if share is None else share
        if steps < 1 or not 0 < share <= 1:
            raise InputError(f"steps is {steps} and share {share}; wanted are at least 1, and above 0 and at most 1.")
        self._eps = eps_at(model)
        if not self._eps:
            raise InputError(
                f"EpsSchedule got a {type(model).__name__} that carries no noise. Call robustify(model) first."
            )
        self._model, self.kind, self.steps, self.share, self.last_step = model, kind, steps, share, 0
        self._now = self._eps
        self.move_to(0.0)

    def step(self) -> None:
        """Go on by one step; after the last one, eps stays."""
        self.last_step += 1
        self.move_to(self.last_step / self.steps)

    def move_to(self, done: float) -> None:
        """Set eps for a moment of the training.

        Args:
            done: The share of the training that is done, from 0 to 1.
        """
        times = factor(self.kind, min(done, 1.0), self.share)
        now = {place: times * eps for place, eps in self._eps.items()}
        if now != self._now:
            set_eps_at(self._model, now)
            self._now = now

    def get_last_eps(self) -> list[float]:
        """Tell the strength that each place has now.

        Returns:
            One number for each place, in the order of `sites`.
        """
        return list(self._now.values())

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint needs.

        Returns:
            Plain numbers and text.
        """
        own = {name: getattr(self, name) for name in ("kind", "steps", "share", "last_step")}
        return own | {"eps": [[*place, eps] for place, eps in self._eps.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; eps becomes what it was.

        Args:
            state: What `state_dict` gave, of the same places.

        Raises:
            InputError: If it is of other places.
        """
        eps = {(name, side): value for name, side, value in state["eps"]}
        if eps.keys() != self._eps.keys():
            raise InputError("the stored schedule of eps is of a network with noise at other places.")
        self.kind, self.steps, self.share = state["kind"], state["steps"], state["share"]
        self.last_step, self._eps = state["last_step"], eps
        self.move_to(self.last_step / self.steps)
