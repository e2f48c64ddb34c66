"""What does not depend on the machine: instructions, file operations, requests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support import counter, mpis, shared, slow
from support.environments import W2, WORKLOADS, Environment
from support.paths import ROOT
from support.process import run

from .subjects import usual


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


def reading(bundle: Path) -> None:
    """Criterion's figures of what reads a bundle: index, hashes, decoding."""
    print("\nreading a bundle, as criterion finds it", flush=True)
    words = ["cargo", "bench", "--quiet", "-p", "readbench"]
    subprocess.run(words, cwd=ROOT, env={**os.environ, "BUNDLE": str(bundle)}, check=True)


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
