"""Bytes that a job takes of its node: the image, and what its ranks hold."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support import memory, mpis
from support.environments import W2, Environment, environment
from support.memory import Watch
from support.process import run
from support.pythons import main_python

from .subjects import MB, heavy

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
