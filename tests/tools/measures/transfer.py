"""How fast a bundle gets to the nodes, beside MPI's own broadcast and what bounds a load."""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support import hosts, mpis, slow
from support.environments import Environment, environment
from support.mpis import Mpi
from support.process import run
from support.pythons import main_python

from .subjects import MB, heavy

# Repetitions of each pair; medians are shown.
TRIES = 5

# Bits a second of each host's link: 40 MB/s, far below what two cores can send and receive.
LINK = 320_000_000

SIZE = 80 * MB

# What a job that does nothing but broadcast takes for the same bytes in the same chunks.
BROADCAST = """
import sys
from mpi4py import MPI
world, size, chunk = MPI.COMM_WORLD, int(sys.argv[1]), int(sys.argv[2])
buffer = memoryview(bytearray(b"x" * chunk))
world.Barrier()
start = MPI.Wtime()
for at in range(0, size, chunk):
    world.Bcast([buffer[: min(chunk, size - at)], MPI.BYTE])
world.Barrier()
if world.rank == 0:
    print(MPI.Wtime() - start)
"""

# Bytes of a chunk, as in src/load/src/broadcast.rs.
CHUNK = 8 << 20


def crossing(w2: Environment) -> None:
    """Row 13's first half: one leader on each host, the links between them throttled.

    The bundle lies in root's page cache, and nothing of it is decoded.
    """
    heading = f"{SIZE // MB} MB over links of {LINK // 8_000_000} MB/s"
    print(f"\n{heading:34}MPI_Bcast s   transfer s   rate   whole load s  of transport")
    python = environment("runner", main_python()).python
    with heavy(SIZE, 20 * MB) as bundle:
        size = bundle.stat().st_size
        for count in (2, 4):
            try:
                with hosts.hosts(count) as made:
                    made.throttle(LINK)
                    for name in mpis.WHEELS:
                        mpi = mpis.find(name)
                        words = [w2.python, "-c", BROADCAST, size, CHUNK]
                        alone = made.mpiexec(mpi, 1, words)
                        pairs = [
                            (_seconds(alone, mpi), _load(made, mpi, python, bundle))
                            for _ in range(TRIES)
                        ]
                        line = f"  {f'{name}: {count} hosts':32}"
                        print(line + _row(pairs), flush=True)
            except hosts.Unavailable as missing:
                print(f"  (not measured: {missing})")
                return
    print("  budgets: at least 0.9 of the broadcast's rate; whole load at most 1.2 of transport")


def _seconds(words: Sequence[object], mpi: Mpi) -> float:
    return float(run(words, env=mpi.environment(), timeout=120).check().stdout)


def _load(made: hosts.Hosts, mpi: Mpi, python: Path, bundle: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        receipt = Path(folder) / "receipt.json"
        words = [python, "-m", "pybundle", "run", "--bundle", bundle, "--receipt", receipt]
        launch = made.mpiexec(mpi, 1, [*words, "-c", "import tiny"])
        run(launch, env=mpi.environment(), timeout=120).check()
        return transfer_and_load(receipt)


def transfer_and_load(receipt: Path) -> tuple[float, float]:
    """Seconds of a run's slowest transfer, and from root's opening the bundle to the last rank's
    being ready to import; MPI's own start is not in it.
    """
    phases = [rank["phases"] for rank in json.loads(receipt.read_text())["load"]]
    transfer = max(ended - began for began, ended in (each["transfer"] for each in phases))
    began = min(each["plan"][0] for each in phases)
    return transfer, max(each["agree"][1] for each in phases) - began


def _row(pairs: Sequence[tuple[float, tuple[float, float]]]) -> str:
    alone = statistics.median(seconds for seconds, _ in pairs)
    transfer = statistics.median(ours[0] for _, ours in pairs)
    load = statistics.median(ours[1] for _, ours in pairs)
    return f"{alone:11.2f}{transfer:13.2f}{alone / transfer:7.2f}{load:15.2f}{load / alone:14.2f}"


def loading(w2: Environment, bundle: Path, folder: Path, nodes: Path) -> None:
    """Row 13's second half on one host: reading throttled, then nothing throttled, where decoding
    is what a load waits for.
    """
    mpi = mpis.find("mpich")
    env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes))
    receipt = folder / "load.json"
    ours = [w2.python, "-m", "pybundle", "run", "--receipt", receipt, "--bundle"]
    two = [mpi.mpiexec, "-n", 2]
    print("\nwhole load of 2 ranks, one host, s       bound by        load   ratio")
    try:
        slow.check()
    except slow.Unavailable as missing:
        print(f"  (reading not measured: {missing})")
    else:
        rate = 40
        with heavy(SIZE, 20 * MB) as large:
            pairs = []
            for _ in range(TRIES):
                copy = ["dd", f"if={large}", "of=/dev/null", "bs=8M"]
                options = {"service": 0, "rate": rate}
                alone = slow.start(copy, [large.parent], **options).result
                job = [*two, *ours, large, "-c", "import tiny"]
                slow.start(job, [large.parent], env=env, **options).result.check()
                pairs.append((_copied(alone.check().stderr), transfer_and_load(receipt)[1]))
        _bound(f"reading {SIZE // MB} MB at {rate} MiB/s", pairs)
    pairs = []
    for _ in range(TRIES):
        job = [*two, *ours, bundle]
        with_load = _cpu([*job, "--keep", "-c", "pass"], env)
        load = transfer_and_load(receipt)[1]
        attached = _cpu([*job, "-c", "pass"], env)
        pairs.append(((with_load - attached) / 2, load))
        run([w2.pybundle, "clean"], env=env).check()
    _bound("W2: all CPU time of the load / 2 cores", pairs)
    print("  budget: at most 1.2")


def _copied(said: str) -> float:
    """The seconds in dd's last line."""
    return float(said.rsplit(" s,", 1)[0].rsplit(None, 1)[1])


def _cpu(words: Sequence[object], env: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(words, env=env, timeout=120).check()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _bound(what: str, pairs: Sequence[tuple[float, float]]) -> None:
    bound, load = (statistics.median(each) for each in zip(*pairs))
    print(f"  {what:38}{bound:9.2f}{load:12.2f}{load / bound:8.2f}", flush=True)
