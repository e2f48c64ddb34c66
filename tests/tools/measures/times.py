"""Seconds of whole processes, alternating between the candidates: medians and quartiles."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.environments import WORKLOADS, Environment
from support.process import run

from .subjects import usual


@dataclass(frozen=True)
class Cost:
    """Seconds of one process."""

    wall: float
    cpu: float


def starting(w3: Environment, bundle: Path, nodes: Path, pairs: int) -> None:
    """Whole-process time of imports: plain, first start, and attached to a present image."""
    env = usual(PYBUNDLE_NODE_DIR=str(nodes))
    kept = {**env, "PYBUNDLE_GC": "keep"}
    ours = [w3.python, "-m", "pybundle", "run", "--bundle", bundle]
    print(f"\nstart, one process, {pairs} pairs        wall s (quartiles)      ratio   CPU ratio")
    for name, code in WORKLOADS.items():
        plain, fresh = [w3.python, "-c", code], [*ours, "-c", code]
        # Plain Python that spares itself what ours does: the collector's part of the difference.
        spared = f"import gc; gc.disable()\n{code}\ngc.freeze(); gc.enable()"
        costs: dict[str, list[Cost]] = {
            f"{name}, plain Python": [],
            f"{name}, plain, gc spared": [],
            f"{name}, first start": [],
            f"{name}, attached, gc kept": [],
            f"{name}, attached": [],
        }
        base, sparing, first, keeping, attached = costs.values()
        timed(plain, env)
        for _ in range(pairs):
            base.append(timed(plain, env))
            first.append(timed(fresh, env))
        run([*ours, "--keep", "-c", code], env=env, timeout=120).check()
        for _ in range(pairs):
            base.append(timed(plain, env))
            sparing.append(timed([w3.python, "-c", spared], env))
            keeping.append(timed(fresh, kept))
            attached.append(timed(fresh, env))
        run([w3.pybundle, "clean"], env=env).check()
        table(costs, 1)
    print("  budgets: attached, gc kept, at most 0.88 (W4 0.80); attached 0.75, 0.65, 0.55;")
    print("  first start at most 1.0, W1 plain and 0.15 s")


# Imports, then asks the finder again for every module that they brought, and for as many that there
# are not: what the look-ups alone take of the imports.
LOOK_UPS = """
import gc, sys, time
from importlib.machinery import PathFinder
gc.disable()
before = set(sys.modules)
began = time.perf_counter()
exec(sys.argv[1])
imported = time.perf_counter() - began
mine = [finder for finder in sys.meta_path if type(finder).__module__ == "pybundle._native"]
finder = (mine or [PathFinder])[0]
names = []
for name in set(sys.modules) - before:
    parent, _, last = name.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", None)
    if getattr(sys.modules[name], "__file__", None) and (path or not parent):
        names.append((name, path, f"{parent}.{last}_absent".lstrip(".")))
def seconds(column):
    best = 1e9
    for _ in range(5):
        began = time.perf_counter()
        for row in names:
            finder.find_spec(row[column], row[1])
        best = min(best, time.perf_counter() - began)
    return best
print(len(names), imported, seconds(0), seconds(2))
"""


def looking_up(w3: Environment, bundle: Path, nodes: Path) -> None:
    """Row 14: the finder alone, beside a search through ``sys.path``."""
    env = usual(PYBUNDLE_NODE_DIR=str(nodes))
    ours = [w3.python, "-m", "pybundle", "run", "--bundle", bundle]
    print("\nlook-ups of one process, ms       modules  imports  found  absent  of the imports")
    for name, code in WORKLOADS.items():
        run([*ours, "--keep", "-c", code], env=env, timeout=120).check()
        for way, words in (("plain", [w3.python]), ("ours", ours)):
            result = run([*words, "-c", LOOK_UPS, code], env=env, timeout=120).check()
            modules, imports, found, absent = map(float, result.stdout.split())
            columns = f"{modules:7.0f} {imports * 1e3:8.0f} {found * 1e3:6.2f} {absent * 1e3:7.2f}"
            share = (found + absent) / imports
            print(f"  {f'{name}, {way}':30}{columns} {share:14.1%}")
    run([w3.pybundle, "clean"], env=env).check()
    print("  budget: under 1 % of the imports, as many absent names as modules included")


def interpreting(w2: Environment, bundle: Path, nodes: Path, pairs: int) -> None:
    """Whole-process time of an empty program: the environment's Python, and the bundle's."""
    env = usual(PYBUNDLE_NODE_DIR=str(nodes))
    ways = {
        "plain Python": [w2.python],
        "python -m pybundle run": [w2.python, "-m", "pybundle", "run", "--bundle", bundle],
        "pybundle-python": [w2.folder / "bin" / "pybundle-python", "--bundle", bundle],
    }
    print(
        f"\nstart of W0, image present, {pairs} pairs   wall ms (quartiles)     ratio   CPU ratio"
    )
    run([*ways["pybundle-python"], "--keep", "-c", "pass"], env=env, timeout=120).check()
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, words in ways.items():
            costs[name].append(timed([*words, "-c", "pass"], env))
    run([w2.pybundle, "clean"], env=env).check()
    table(costs, 1000)


def table(costs: dict[str, list[Cost]], scale: float) -> None:
    """A line for each candidate, the first one being the base of the ratios."""
    base = next(iter(costs.values()))
    base_wall = statistics.median(cost.wall for cost in base)
    base_cpu = statistics.median(cost.cpu for cost in base)
    for name, found in costs.items():
        low, middle, high = statistics.quantiles((cost.wall for cost in found), n=4)
        cpu = statistics.median(cost.cpu for cost in found)
        quartiles = f"{middle * scale:6.2f} ({low * scale:.2f}-{high * scale:.2f})"
        print(f"  {name:26} {quartiles:>24} {middle / base_wall:9.2f} {cpu / base_cpu:9.2f}")


def timed(words: Sequence[object], env: dict[str, str]) -> Cost:
    """Run a program once, quietly; it must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    # Without a time limit: waiting under one is polling, which would blur what is measured.
    subprocess.run(list(map(str, words)), env=env, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
