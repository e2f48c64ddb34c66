"""What `make bench` prints beside plain Python: packing, start, instructions, operations, requests,
memory, and what ranks do while they wait.

Times alternate between the candidates, so that what else the machine does hits all of them; medians
and quartiles are of whole processes (interpreter start included), on a warm disk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import bundles, counter, installing, memory, mpis, shared, slow
from support.environments import W2, WORKLOADS, Environment, environment
from support.memory import Watch
from support.paths import TEST
from support.process import clean_environment, run
from support.pythons import main_python

PARTS = (
    *("pack", "start", "instructions", "interpreter", "count", "requests"),
    *("memory", "waiting", "large"),
)

# Ends a program in step with all ranks: pages that ranks share must not become one's own because
# another has ended. Says in a file what it holds; before, who measures looks at the image.
MEET = """
def meet(folder, ranks):
    import os, time
    def until(ending, count):
        while sum(name.endswith(ending) for name in os.listdir(folder)) < count:
            time.sleep(0.01)
    def say(ending, text=""):
        with open(f"{folder}/{os.getpid()}.new", "w") as file:
            file.write(text)
        os.rename(file.name, f"{folder}/{os.getpid()}.{ending}")
    say("imported")
    until("looked", 1)
    with open("/proc/self/smaps_rollup") as file:
        text = file.read()
    say("held", text)
    until("held", ranks)
"""

# The first line of a program: what this process has taken of the processors until here.
FIRST_LINE = """
import os, time
rank = next((os.environ[name] for name in ("PMI_RANK", "PMIX_RANK") if name in os.environ), "0")
os.write(1, f"rank {rank} took {time.process_time()}\\n".encode())
"""

MB = 1_000_000
# Repetitions of a whole job; medians are shown.
TRIES = 3


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
        if "memory" in parts:
            holding(*packed("w2", folder), folder, nodes)
        if "waiting" in parts:
            joining(*packed("w2", folder), nodes)
            sleeping(folder)
        if "large" in parts:
            flying(nodes)
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


def holding(w2: Environment, bundle: Path, folder: Path, nodes: Path) -> None:
    """Memory of a node after W2's last import, and of each rank at its end."""
    ranks, mpi = 4, mpis.find("mpich")
    env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes))
    job = [mpi.mpiexec, "-n", ranks, w2.python]
    ours = ["-m", "pybundle", "run", "--bundle", bundle]
    both = f"from mpi4py import MPI\n{W2}"
    size = sum(path.lstat().st_size for path in w2.folder.rglob("*") if not path.is_dir())

    plain = meeting(job, both, ranks, folder, nodes, env)
    job_ours = meeting([*job, *ours], both, ranks, folder, nodes, env)
    alone = meeting([w2.python], W2, 1, folder, nodes, env)
    run([w2.python, *ours, "--keep", "-c", "pass"], env=env, timeout=120).check()
    attached = meeting([w2.python, *ours], W2, 1, folder, nodes, env)
    run([w2.pybundle, "clean"], env=env).check()

    image = job_ours.image
    decoded = image.code + image.tree
    print(f"\nmemory of a node, W2 on {ranks} ranks, MB       after the last import")
    print(
        f"  the image's folder               {image.all / MB:8.1f}   peak {job_ours.peak / MB:.1f}"
    )
    print(f"    code, decoded                  {image.code / MB:8.1f}")
    print(f"    tree, decoded                  {image.tree / MB:8.1f}")
    print(f"      of it sources                {image.sources / MB:8.1f}")
    print(f"    packed, compressed             {image.packed / MB:8.1f}")
    print(f"    the rest                       {image.rest / MB:8.1f}")
    print(f"  decoded, without sources         {(decoded - image.sources) / MB:8.1f}   budget 180")
    print(f"  decoded, with sources            {decoded / MB:8.1f}")
    print(f"  compressed                       {image.packed / MB:8.1f}", end="")
    print(f"   budget {bundle.stat().st_size / MB:.1f}, the bundle")
    print(f"  the environment untarred         {size / MB:8.1f}")
    print("  while loading, root has a ring of chunks too: it is in what `large` shows")
    print("\nprivate memory at the end, MB          median (of it no file's)  ratio")
    for what, base, mine in (
        (f"W2 and mpi4py, {ranks} ranks", plain, job_ours),
        ("W2, one process, no MPI", alone, attached),
    ):
        for way, met in (("plain", base), ("ours", mine)):
            own, anonymous = (statistics.median(held) / MB for held in zip(*met.held))
            ratio = statistics.median(own for own, _ in met.held) / statistics.median(
                own for own, _ in base.held
            )
            print(f"  {f'{what}, {way}':36} {own:8.1f} ({anonymous:.1f}) {ratio:12.2f}")
    print("  budget: at most 1.00; the single process is attached to a kept image")


@dataclass(frozen=True)
class Image:
    """Allocated bytes of an image's parts."""

    all: int
    code: int
    tree: int
    sources: int
    packed: int

    @property
    def rest(self) -> int:
        """Index, manifest, state, counts, what other Pythons need."""
        return self.all - self.code - self.tree - self.packed

    @staticmethod
    def of(nodes: Path) -> Image:
        """The one below a node's folder; zeros if there is none."""
        found = [state.parent for state in nodes.glob("pybundle-*/*/state")]
        parts = [
            sum(memory.allocated(image / name) for image in found)
            for name in ("", "code", "tree", "packed")
        ]
        sources = (path for image in found for path in (image / "tree").rglob("*.py"))
        return Image(*parts[:3], sum(memory.allocated(path) for path in sources), parts[3])


@dataclass(frozen=True)
class Met:
    """What a job held when all its ranks had come to their end."""

    image: Image
    peak: int
    """Most that the image's folder ever took."""
    held: list[tuple[int, int]]
    """Of each rank: private bytes, and those that no file is behind."""


def meeting(
    words: Sequence[object],
    code: str,
    ranks: int,
    folder: Path,
    nodes: Path,
    env: dict[str, str],
) -> Met:
    """Run a program whose ranks wait for one another at its end."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        program = f"{MEET}\n{code}\nmeet({name!r}, {ranks})\n"
        images: list[Image] = []

        def look() -> None:
            end = time.monotonic() + 120
            while len(list(place.glob("*.imported"))) < ranks and time.monotonic() < end:
                time.sleep(0.05)
            images.append(Image.of(nodes))
            (place / "all.looked").touch()

        looking = threading.Thread(target=look)
        with Watch(nodes, ranks=False) as watch:
            looking.start()
            run([*words, "-c", program], env=env, timeout=150).check()
            looking.join()
        held = [memory.private(path.read_text()) for path in place.glob("*.held")]
    assert len(held) == ranks, f"{len(held)} of {ranks} ranks said what they held"
    return Met(images[0], watch.image(), held)


def joining(w2: Environment, bundle: Path, nodes: Path) -> None:
    """CPU time of all ranks until the program runs, beside what MPI itself takes for that."""
    counts = (1, 2, 8, 32)
    print("\nCPU s of all ranks until mpi4py is imported  " + "".join(f"{n:>8}" for n in counts))
    ours = [w2.python, "-m", "pybundle", "run", "--bundle", bundle]
    ways = {"plain": [w2.python], "first start": ours, "image present": ours}
    code = f"from mpi4py import MPI\n{FIRST_LINE}"
    for name in mpis.WHEELS:
        mpi = mpis.find(name)
        env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes))
        found: dict[str, list[float]] = {}
        for way, words in ways.items():
            if way == "image present":
                run([*ours, "--keep", "-c", "pass"], env=env, timeout=120).check()
            launches = [[mpi.mpiexec, "-n", n, *words, "-c", code] for n in counts]
            jobs = [
                [taken(launch, n, env) for _ in range(TRIES)] for launch, n in zip(launches, counts)
            ]
            found[way] = [statistics.median(sum(job.cpu.values()) for job in same) for same in jobs]
            walls = [statistics.median(job.wall for job in same) for same in jobs]
            print(f"  {f'{name}: {way}':43}" + "".join(f"{cpu:8.2f}" for cpu in found[way]))
            print(f"  {'  wall s of the job':43}" + "".join(f"{s:8.2f}" for s in walls), flush=True)
        run([w2.pybundle, "clean"], env=env).check()
        for way in ("first start", "image present"):
            more = [(a - b) / n for a, b, n in zip(found[way], found["plain"], counts)]
            print(
                f"  {f'{name}: {way}, beyond plain, a rank':43}"
                + "".join(f"{s:8.3f}" for s in more)
            )
    print("  budget: decoding once, and beyond plain no more for a rank of 32 than for one of 2")


@dataclass(frozen=True)
class Taken:
    """A job, and the CPU seconds of each rank until its first line."""

    wall: float
    cpu: dict[int, float]

    @property
    def others(self) -> float:
        """The mean of all ranks but root."""
        return statistics.mean(seconds for rank, seconds in self.cpu.items() if rank)


def taken(words: Sequence[object], ranks: int, env: dict[str, str], **over: int) -> Taken:
    """Run a job that ends with :data:`FIRST_LINE`.

    ``over`` (``rate``, in MiB a second) shows the folder of its bundle slowly.
    """
    if over:
        bundle = Path(words[words.index("--bundle") + 1])
        result = slow.start(words, [bundle.parent], env=env, service=0, timeout=150, **over).result
    else:
        result = run(words, env=env, timeout=150)
    said = re.findall(r"rank (\d+) took ([\d.]+)", result.check().stdout)
    cpu = {int(rank): float(seconds) for rank, seconds in said}
    assert len(cpu) == ranks, f"{len(cpu)} of {ranks} ranks said what they took"
    return Taken(result.seconds, cpu)


def sleeping(folder: Path) -> None:
    """CPU time of ranks that wait while root reads slowly: what the same job takes more than with
    a fast file system. Little is decoded: the bundle holds incompressible data that nobody imports.

    Ranks of one node wait until root, their leader, has all. Where each has a folder of its own (a
    private mount) it is its node's leader and takes the broadcast: eight nodes on two cores.
    """
    heading = "ranks but root while root reads slowly"
    print(f"\n{heading}   waited s   CPU ms: fast    slow   more, a s   all, a s")
    try:
        slow.check()
    except slow.Unavailable as missing:
        print(f"  (not measured: {missing})")
        return
    python = environment("runner", main_python()).python
    size, fast, seconds = 100 * MB, 4096, 5
    with heavy(size, 20 * MB) as bundle:
        nodes = folder / "apart"
        nodes.mkdir()
        ours = [python, "-m", "pybundle", "run", "--bundle", bundle, "-c", FIRST_LINE]
        own = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', nodes]
        for name in mpis.WHEELS:
            mpi = mpis.find(name)
            env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes))
            for what, ranks, before in (
                ("2 ranks", 2, []),
                ("8 ranks", 8, []),
                ("32 ranks", 32, []),
                ("2 ranks, each a leader", 2, own),
                ("8 ranks, each a leader", 8, own),
            ):
                words = [mpi.mpiexec, "-n", ranks, *before, *ours]
                tries = [
                    [taken(words, ranks, env, rate=rate) for rate in (fast, size // seconds >> 20)]
                    for _ in range(TRIES)
                ]
                waited = statistics.median(late.wall - quick.wall for quick, late in tries)
                quick, late = (
                    statistics.median(job.others for job in jobs) * 1000 for jobs in zip(*tries)
                )
                more = (late - quick) / waited
                line = f"  {f'{name}: {what}':38} {waited:9.1f} {quick:13.0f} {late:7.0f}"
                print(f"{line} {more:11.1f} {more * (ranks - 1):10.0f}", flush=True)
    print(
        "  CPU of a rank until its first line, mean; more: for each second waited; all: of all such"
    )
    print("  ranks. budget: near zero (a rank that polls without a pause takes up to 1000)")


def flying(nodes: Path) -> None:
    """Peak memory in flight of a load on 2 ranks, for 100 MB and 3 GB of incompressible files.

    In flight is what is given back: at one moment, looked at from outside every 20 ms, the
    anonymous pages of both ranks and their share of MPI's shared memory, and the blocks of the
    image's folder beyond those that stay when the job has ended with `--keep`. The memory that
    interpreter and MPI take is in it, the same for all sizes; pages of the page cache are not.

    For `import tiny` none of the files is decoded: their compressed bytes stay in the image.
    `import placed` puts two of them into place, by as many ranks.
    """
    python = environment("runner", main_python()).python
    heading = "peak in flight on 2 ranks, MB"
    print(f"\n{heading:53}ranks + image     sum  image stays  wall s")
    for size, longest in ((100 * MB, 20 * MB), (3000 * MB, 20 * MB), (3000 * MB, 200 * MB)):
        with heavy(size, longest) as bundle:
            for name in mpis.WHEELS:
                mpi = mpis.find(name)
                ours = [python, "-m", "pybundle", "run", "--bundle", bundle, "--keep"]
                for code in ("import tiny", "import placed"):
                    with Watch(nodes) as watch:
                        env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes), **watch.variables)
                        words = [mpi.mpiexec, "-n", 2, *ours, "-c", code]
                        result = run(words, env=env, timeout=240).check()
                    stays = memory.allocated(nodes)
                    shutil.rmtree(nodes)
                    nodes.mkdir()
                    peak = watch.in_flight(stays)
                    what = f"{name}: {size // MB} MB, files of {longest // MB}, {code}"
                    found = (peak.ranks, peak.image, peak.ranks + peak.image)
                    columns = "".join(f"{each / MB:8.1f}" for each in found)
                    line = f"  {what:48}{columns}{stays / MB:13.1f}"
                    print(f"{line}{result.seconds:8.1f}", flush=True)
    print("  budget: for 3 GB as for 100 MB")


@contextlib.contextmanager
def heavy(size: int, longest: int) -> Iterator[Path]:
    """A bundle of the module ``tiny`` and of random files of so many bytes together: two below the
    package ``placed``, the others below ``large``. On disk: memory is for what is measured.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TEST) as name:
        made, bundle = Path(name) / "env", Path(name) / "bundle" / "env.pybundle"
        installing.create(made, main_python())
        (packages,) = made.glob("lib/python3*/site-packages")
        (packages / "tiny.py").write_text("")
        for package in ("large", "placed"):
            (packages / package).mkdir()
            (packages / package / "__init__.py").write_text("")
        for number, at in enumerate(range(0, size, longest)):
            package = "placed" if number < 2 else "large"
            with open(packages / package / f"{number}.bin", "wb") as file:
                for _ in range(0, min(longest, size - at), MB):
                    file.write(os.urandom(MB))
        bundle.parent.mkdir()
        packer = environment("runner", main_python()).pybundle
        words = [packer, "pack", made, "--level", "1", "--no-stdlib", "-o", bundle]
        run(words, timeout=300).check()
        # No way back to it.
        shutil.rmtree(made)
        bundles.settle(bundle)
        yield bundle


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
