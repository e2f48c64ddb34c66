"""What `make demo` runs: pack a real environment, run app.py from the bundle, show what it cost.

Everything is made below .demo/ in the clone; a second run reuses the environment.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEMO = ROOT / ".demo"
sys.path.insert(0, str(ROOT / "tests"))

from support.installing import pip_settings

ENV = DEMO / "env"
MPI = DEMO / "mpi"
BUNDLE = DEMO / "env.pybundle"
RANKS = 4

# The imports of app.py behind a mark that the counter knows: what happens before it is the start
# of Python (and of pybundle), what happens after it is the imports alone.
IMPORTS = """
import os
try:
    os.stat("/pybundle-mark/imports")
except OSError:
    pass
import h5py, matplotlib.pyplot, numpy, pandas, scipy.stats, sklearn.linear_model
from mpi4py import MPI
"""


def main() -> int:
    """Run the demonstration; returns the exit status."""
    title("An environment, and an MPI beside it (MPICH, from its wheel)")
    uv = Path(sys.executable).with_name("uv")
    os.environ.update({**pip_settings(), **os.environ})
    cache = {"UV_CACHE_DIR": str(DEMO / "uv-cache")}
    for folder, packages in ((ENV, ["-r", HERE / "requirements.txt"]), (MPI, ["mpich"])):
        if not (folder / "bin/python").exists():
            run([uv, "-q", "venv", "--python", sys.executable, folder], cache)
        install = [uv, "-q", "pip", "install", "--compile-bytecode", "--python"]
        run([*install, folder / "bin/python", *packages], cache)
    # What `module load` does on a cluster.
    os.environ["LD_LIBRARY_PATH"] = str(MPI / "lib")
    os.environ["XDG_CACHE_HOME"] = str(DEMO / "cache")

    title("pybundle, with a plug-in for that MPI (Rust builds for some minutes the first time)")
    mpicc = {"PYBUNDLE_MPICC": str(MPI / "bin/mpicc"), **cache}
    run([*install, ENV / "bin/python", "--reinstall-package", "pybundle", ROOT], mpicc)

    title("Pack it")
    run([ENV / "bin/pybundle", "pack", ENV, "-o", BUNDLE])

    title(f"Run the application on {RANKS} ranks, from the bundle")
    receipt = DEMO / "receipt.json"
    mpiexec = [MPI / "bin/mpiexec", "-n", RANKS, ENV / "bin/python"]
    ours = ["-m", "pybundle", "run", "--bundle", BUNDLE]
    run([*mpiexec, *ours, "--receipt", receipt, HERE / "app.py"])
    run([ENV / "bin/pybundle", "receipt", receipt])

    title("What the imports ask of the file system below the environment, for each rank")
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--quiet", "-p", "fscount"]
    run(cargo)
    plain_counts = count([*mpiexec, "-c", IMPORTS])
    our_counts = count([*mpiexec, *ours, "-c", IMPORTS])
    print(f"\n{'':28}{'start of Python':>18}{'imports':>12}")
    for name, counts in (("plain Python", plain_counts), ("from the bundle", our_counts)):
        for number, (start, imports) in enumerate(counts):
            print(f"  {name:16} rank {number:<4} {start:>18,}{imports:>12,}")
    return 0 if all(imports == 0 for _, imports in our_counts[1:]) else 1


def count(words: list[object]) -> list[tuple[int, int]]:
    """The file operations of each rank below the environment: before its imports, and in them."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    output = DEMO / "counts.json"
    run([target / "release/fscount", "-o", output, "--below", ENV, "--", *words])
    ranks = []
    for process in json.loads(output.read_text())["processes"]:
        below = {phase["name"]: phase["below"][0]["total"] for phase in process["phases"]}
        # What a rank forks begins in the rank's phase, and has no start of its own.
        if "" in below and "imports" in below:
            ranks.append((below[""], below["imports"]))
    return ranks


def title(text: str) -> None:
    """A heading between the steps."""
    print(f"\n== {text}", flush=True)


def run(words: list[object], extra: dict[str, str] | None = None) -> None:
    """Print a command as a user would type it, and run it; a failure ends the demonstration."""
    texts = [str(word) for word in words]
    shown = [shlex.quote(shorter(text)) for text in texts]
    settings = [f"{name}={shorter(value)}" for name, value in (extra or {}).items()]
    shown[:0] = [text for text in settings if not text.startswith("UV_")]
    print("$ " + " ".join(shown), flush=True)
    status = subprocess.run(texts, cwd=ROOT, env={**os.environ, **(extra or {})}).returncode
    if status != 0:
        raise SystemExit(f"error: the command above failed with status {status}")


def shorter(text: str) -> str:
    """A word of a command, as it is typed in the clone."""
    if "\n" in text:
        return "…"
    return "." if text == str(ROOT) else text.replace(f"{ROOT}/", "")


if __name__ == "__main__":
    raise SystemExit(main())
