"""What `make bench` prints beside plain Python: packing, start, instructions, operations, requests.

Times alternate between the candidates, so that what else the machine does hits all of them; medians
and quartiles are of whole processes (interpreter start included), on a warm disk.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import bundles, counter, mpis, shared, slow
from support.environments import W2, WORKLOADS, Environment, environment
from support.process import clean_environment, run
from support.pythons import main_python

PARTS = ("pack", "start", "instructions", "interpreter", "count", "requests")


@dataclass(frozen=True)
class Cost:
    """Seconds of one process."""

    wall: float
    cpu: float


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11, help="repetitions of each time")
    parser.add_argument("--ranks", type=int, default=4, help="ranks of the counted run")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part, or these")
    options = parser.parse_args()
    parts = options.only or PARTS
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_memory()) as name:
        folder = Path(name)
        nodes = folder / "nodes"
        nodes.mkdir()
        if "pack" in parts:
            packing(environment("w2", main_python()), folder / "w2.pybundle")
        if "start" in parts:
            starting(*packed("w3", folder), nodes, options.pairs)
        if "instructions" in parts:
            executing(*packed("w3", folder), nodes)
        if "interpreter" in parts:
            interpreting(*packed("w2", folder), nodes, options.pairs)
        if "count" in parts:
            counting(*packed("w2", folder), nodes, options.ranks)
        if "requests" in parts:
            requesting(environment("w2", main_python()), folder)
    return 0


def usual(**extra: str) -> dict[str, str]:
    """The environment of who has set nothing: Python keeps the bytecode that it makes."""
    return clean_environment(PYTHONDONTWRITEBYTECODE=None, **extra)


def packed(name: str, folder: Path) -> tuple[Environment, Path]:
    """An environment and its bundle, packed once."""
    found, bundle = environment(name, main_python()), folder / f"{name}.pybundle"
    if not bundle.exists():
        run([found.pybundle, "pack", found.folder, "-o", bundle], timeout=300).check()
    bundles.settle(bundle)
    return found, bundle


def packing(w2: Environment, bundle: Path) -> None:
    """Time and size, beside tar with zstd."""
    size = sum(path.lstat().st_size for path in w2.folder.rglob("*") if not path.is_dir())
    cost = timed([w2.pybundle, "pack", w2.folder, "-o", bundle], usual())
    print(f"\npacking W2, {size / 1e6:.0f} MB          wall s    MB")
    print(f"  pybundle pack              {cost.wall:8.1f} {bundle.stat().st_size / 1e6:5.0f}")
    if shutil.which("zstd") is None:
        print("  tar --zstd                 (no zstd on this machine)")
        return
    archive = bundle.with_suffix(".tar.zst")
    words = ["tar", "--use-compress-program", "zstd -T0", "-C", w2.folder.parent, "-cf", archive]
    cost = timed([*words, w2.folder.name], usual())
    print(f"  tar | zstd -T0             {cost.wall:8.1f} {archive.stat().st_size / 1e6:5.0f}")
    archive.unlink()


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


def executing(w3: Environment, bundle: Path, nodes: Path) -> None:
    """Instructions of whole processes, as callgrind counts them: the same on any machine."""
    print("\nmillions of instructions, one process     plain  gc kept   ratio attached   ratio")
    if shutil.which("valgrind") is None:
        print("  (no valgrind on this machine)")
        return
    # Threads that wait by looking again and again would count what the machine makes of them.
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    env = usual(PYBUNDLE_NODE_DIR=str(nodes), **single)
    ours = [w3.python, "-m", "pybundle", "run", "--bundle", bundle]
    for name, code in {"W0": "pass", **WORKLOADS}.items():
        run([*ours, "--keep", "-c", code], env=env, timeout=120).check()
        plain = instructions([w3.python, "-c", code], env)
        kept = instructions([*ours, "-c", code], {**env, "PYBUNDLE_GC": "keep"})
        attached = instructions([*ours, "-c", code], env)
        ratios = f"{kept:9,.0f} {kept / plain:7.2f} {attached:8,.0f} {attached / plain:7.2f}"
        print(f"  {name:38} {plain:6,.0f}{ratios}", flush=True)
    run([w3.pybundle, "clean"], env=env).check()


def instructions(words: Sequence[object], env: dict[str, str]) -> float:
    """Millions of instructions of a program."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    result = run([*tool, *words], env=env, timeout=1800).check()
    (count,) = re.findall(r"Collected : (\d+)", result.stderr)
    return int(count) / 1e6


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


def counting(w2: Environment, bundle: Path, nodes: Path, ranks: int) -> None:
    """File operations below the environment, and all system calls, of the imports alone."""
    code = counter.MARK + f"mark('imports')\n{W2}\nmark('end')\n"
    mpi = mpis.find("mpich")
    env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes))
    launch = [mpi.mpiexec, "-n", ranks, w2.python]
    ours = ["-m", "pybundle", "run", "--bundle", bundle]
    print(f"\nimports of W2 on {ranks} ranks    operations below env    system calls   (all ranks)")
    for name, words in (("plain Python", []), ("from the bundle", ours)):
        counts = counter.count([*launch, *words, "-c", code], below=[w2.folder], env=env)
        counts.result.check()
        phases = [process.phase("imports") for process in counts.with_phase("imports")]
        below = sorted(phase.below[0] for phase in phases)
        calls = sorted(sum(phase.calls.values()) for phase in phases)
        print(f"  {name:22} {below[0]:9,}-{below[-1]:<9,} {calls[0]:9,}-{calls[-1]:<9,}")
    print("  budgets: 0 operations; a seventh of the system calls")


def requesting(w2: Environment, folder: Path) -> None:
    """Requests of whole jobs at a metadata server, all files but MPI's on its file system."""
    ranks = (1, 2, 4, 8, 16)
    print("\nrequests of W2's job at a metadata server   " + "".join(f"{n:>8}" for n in ranks))
    try:
        slow.check()
    except slow.Unavailable as missing:
        print(f"  (not measured: {missing})")
        return
    for name in mpis.WHEELS:
        (folder / name).mkdir()
        site = shared.site(w2, folder / name, mpis.find(name))
        for way, what in shared.WAYS.items():
            if way == "staged packed":
                site.stage()
            asked = [site.start(way, count, timeout=600) for count in ranks]
            for each in asked:
                each.result.check()
            for kind, folders in (("", site.shared), (", ours", [site.own])):
                found = [each.requests(*folders) for each in asked]
                if not kind or any(found):
                    print(f"  {f'{name}: {what}{kind}':42}" + "".join(f"{n:8,}" for n in found))
    print("  budgets: pybundle-python and staged at most 20, ours at most 8 a node; a process")
    print("  stands for a node whose client caches everything")


def timed(words: Sequence[object], env: dict[str, str]) -> Cost:
    """Run a program once, quietly; it must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    # Without a time limit: waiting under one is polling, which would blur what is measured.
    subprocess.run(list(map(str, words)), env=env, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _memory() -> str | None:
    """A folder in memory, where there is one: the disk isn't what is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    raise SystemExit(main())
