"""Simulate how often the interval of a difference misses the truth, and how often a difference that is there is seen.

    cd experiments
    python inference.py results/inference/DATE_HARDWARE

An answer is wrong where a sum of normal numbers exceeds a bound: difficulty of the image, how it suits the method, luck
of the seed and of the single answer, the parts of `MIXTURES`. So the truth is known without simulation. results.json
has the share of runs, in %, whose 95 % interval misses the truth, by seeds, images, error and mixture (mean over the
settings, and the largest of them), and for the digits the share that calls a difference. "one model" is
`resolute.stats.compare_paired`; the others are the tests that it replaced: a t test over seeds, McNemar's clustered
test over images, Clark's min F' and the largest of the three; and two other models: the quasi F with Satterthwaite's
degrees of freedom, and a bootstrap over seeds and images. It takes 3 minutes of one core.
"""

from __future__ import annotations

import sys
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri, stdtrit

from resolute.run_folder import environment, write_json
from resolute.stats import compare_paired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Bits = NDArray[np.bool_]
    Found = dict[str, tuple[float, float]]
    Line = dict[str, Any]

MIXTURES = {
    "images": (1.5, 0.7, 0.0, 0.0, 0.0, 0.5),
    "seeds": (1.5, 0.0, 0.1, 0.15, 0.3, 0.5),
    "both": (1.5, 0.4, 0.1, 0.08, 0.3, 0.5),
    "answers": (1.0, 0.0, 0.0, 0.0, 0.3, 1.0),
    "digits": (1.5, 0.3, 0.05, 0.03, 0.2, 0.4),
}
"""Deviations of: image, image of a method, seed, seed of a method, answer, answer of a method. The last has the
variances that LeNet has on the digits, base and R at eps 0.8, 12 seeds: of a difference, 5.7 points between images and
12 between answers."""
DIGITS = (898, 0.0249, -0.0059)
Z = float(ndtri(0.975))


def draw(rng: np.random.Generator, k: int, n: int, error: float, effect: float, mixture: str) -> tuple[Bits, Bits]:
    image, suits, seed, luck, answer, own = (np.float32(part) for part in MIXTURES[mixture])
    spread = float(np.sqrt(np.sum(np.square(MIXTURES[mixture]))))

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    shared = image * normal(1, n) + seed * normal(k, 1)
    if answer:
        shared = shared + answer * normal(k, n)
    drawn = (shared + suits * normal(1, n) + luck * normal(k, 1) + own * normal(k, n) for _ in range(2))
    first, second = (x > -spread * ndtri(e) for x, e in zip(drawn, (error + effect, error), strict=True))
    return first, second


def rivals(a: Bits, b: Bits, rng: np.random.Generator | None) -> Found:
    """Centre and half of the 95 % interval that each test corresponds to."""
    d = a.astype(np.float64) - b
    k, n = d.shape
    if k == 1:
        return {"McNemar over images": (float(d.mean()), Z * float(np.sqrt((d**2).sum())) / n)}
    mean, over_seeds, over_images = float(d.mean()), d.mean(1), d.mean(0)
    rest = float(((d - over_seeds[:, None] - over_images + mean) ** 2).sum()) / ((k - 1) * (n - 1)) / (k * n)
    seeds, images = float(over_seeds.var(ddof=1)) / k, float(over_images.var(ddof=1)) / n

    def joint(variance: float, *parts: tuple[float, int]) -> float:
        inverse = sum(part**2 / df for part, df in parts)
        return float(stdtrit(variance**2 / inverse if inverse else 1e9, 0.975)) * np.sqrt(variance)

    halves = {
        "t over seeds": float(stdtrit(k - 1, 0.975)) * np.sqrt(seeds),
        "McNemar over images": Z * float(np.sqrt((over_images**2).sum())) / n,
        "min F'": joint(seeds + images, (seeds, k - 1), (images, n - 1)),
    }
    halves["largest of three"] = max(halves.values())
    quasi = max(seeds, images, seeds + images - rest)
    halves["quasi F"] = joint(quasi, (seeds, k - 1), (images, n - 1), (rest, (k - 1) * (n - 1)))
    found = {name: (mean, half) for name, half in halves.items()}
    if rng is not None:
        drawn = (rng.multinomial(k, [1 / k] * k, 400) / k, rng.multinomial(n, [1 / n] * n, 400) / n)
        low, high = np.quantile(((drawn[0] @ d) * drawn[1]).sum(1), (0.025, 0.975))
        found["bootstrap"] = ((low + high) / 2, (high - low) / 2)
    return found


def simulate(k: int, n: int, error: float, effect: float, mixture: str, repeats: int, *, boot: bool) -> Line:
    rng = np.random.default_rng(
        [k, n, round(1e4 * error), round(1e4 * abs(effect)), list(MIXTURES).index(mixture), repeats]
    )
    over: Any = "seeds and images" if k > 1 else "images"
    missed, called = dict[str, int](), dict[str, int]()
    for _ in range(repeats):
        a, b = draw(rng, k, n, error, effect, mixture)
        own = compare_paired(a, b).interval(over=over)
        found = rivals(a, b, rng if boot else None)
        found["one model"] = ((own.low + own.high) / 2, (own.high - own.low) / 2)
        for name, (centre, half) in found.items():
            missed[name] = missed.get(name, 0) + (abs(effect - centre) > half + 1e-12)
            called[name] = called.get(name, 0) + (abs(centre) > half)
    setting = {"mixture": mixture, "error": error, "effect": effect, "seeds": k, "images": n, "repeats": repeats}
    shares = (("missed", missed), ("called", called))
    return setting | {name: {key: 100 * int(own) / repeats for key, own in counts.items()} for name, counts in shares}


def settings() -> Iterator[tuple[int, int, float, float, str, int, bool]]:
    for k, n, error, mixture in product((2, 3, 5, 10, 20), (50, 200, 1000), (0.003, 0.02, 0.1, 0.5), MIXTURES):
        if mixture != "digits":
            for effect in (0.0, 0.01):
                yield k, n, error, effect, mixture, 500, False
    for k, error, mixture in product((2, 5, 20), (0.003, 0.1), ("images", "seeds", "both")):
        yield k, 10_000, error, 0.0, mixture, 300, False
    for n, error, mixture in product((50, 200, 1000, 10_000), (0.003, 0.02, 0.1, 0.5), ("images", "answers")):
        for effect in (0.0, 0.01):
            yield 1, n, error, effect, mixture, 500, False
    n, error, effect = DIGITS
    for k, own in product((3, 5, 12, 20), (0.0, effect)):
        yield k, n, error, own, "digits", 2500, False
    for k, mixture in product((2, 5, 12), ("images", "seeds", "both")):
        yield k, 1000, 0.1, 0.0, mixture, 150, True


def summed(lines: list[Line], by: str) -> list[Line]:
    """One row for each value: of every test the mean and the largest share that misses, over the settings."""
    rows = []
    for value in dict.fromkeys(line[by] for line in lines):
        own = [line["missed"] for line in lines if line[by] == value]
        shares = {name: [each[name] for each in own] for name in own[0]}
        told = {name: f"{np.mean(each):.1f} (to {max(each):.1f})" for name, each in shares.items()}
        rows.append({by: value, "settings": len(own)} | told)
    return rows


def main(out: str) -> None:
    start = time.process_time()
    lines = [simulate(*setting[:-1], boot=setting[-1]) for setting in settings()]
    boot = [line for line in lines if "bootstrap" in line["missed"]]
    digits = [line for line in lines if line["mixture"] == "digits"]
    several = [line for line in lines if line["seeds"] > 1 and line not in boot and line not in digits]
    tables = {f"missed, %, by {by}": summed(several, by) for by in ("seeds", "images", "error", "mixture")}
    tables["missed, %, one seed, new images"] = summed([line for line in lines if line["seeds"] == 1], "images")
    tables["missed, %, with the bootstrap"] = summed(boot, "seeds")
    tables["called, %, digits"] = [
        {"seeds": line["seeds"], "effect": line["effect"]}
        | {name: f"{own:.1f}" for name, own in line["called"].items()}
        for line in digits
    ]
    worst = sorted((line for line in several if line["images"] <= 1000), key=lambda line: -line["missed"]["one model"])
    keys = ("seeds", "images", "error", "effect", "mixture")
    again = [simulate(*(line[key] for key in keys), 3000, boot=False) for line in worst[:8]]
    tables["missed most, again"] = [{key: line[key] for key in keys} | line["missed"] for line in again]
    spent = {"core seconds": round(time.process_time() - start), "runs": sum(line["repeats"] for line in lines)}
    write_json(Path(out) / "results.json", {"settings": spent} | tables)
    write_json(Path(out) / "environment.json", environment())


if __name__ == "__main__":
    main(*sys.argv[1:])
