"""Several hosts on one machine: a network namespace, a host name and a /dev/shm each.

They are joined by a bridge; what crosses it is counted by the kernel, per host.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .mpis import Mpi

BRIDGE = "pbtest0"
NETWORK = "10.77.0."

# Stands in for ssh: REMOTE [-options] HOST COMMAND…
REMOTE = """\
#!/bin/sh
while case "$1" in -*) true;; *) false;; esac; do shift; done
host=$1; shift
exec nsenter -t "$(cat {folder}/$host.pid)" -n -u -m -i -- /bin/sh -c "cd '$PWD'; $*"
"""


class Unavailable(Exception):
    """This machine can't make hosts; the text says what is missing."""


@dataclass(frozen=True)
class Hosts:
    """Hosts that exist until the ``with`` block ends."""

    names: tuple[str, ...]
    folder: Path

    @property
    def remote(self) -> Path:
        """A program that is called like ssh."""
        return self.folder / "remote"

    def mpiexec(self, mpi: Mpi, ranks_each: int, args: Sequence[object]) -> list[object]:
        """The words that start a program on all hosts, by ``mpiexec`` on the first."""
        where = ",".join(f"{name}:{ranks_each}" for name in self.names)
        words: list[object] = [mpi.mpiexec]
        if mpi.flavour == "mpich":
            words += ["-launcher", "ssh", "-launcher-exec", self.remote, "-hosts", where]
        else:
            agent = "prtemca plm_ssh_agent" if mpi.name == "openmpi" else "mca plm_rsh_agent"
            words += [*f"--{agent}".split(), self.remote, "--host", where]
            words += ["--map-by", f"ppr:{ranks_each}:node:oversubscribe"]
        words += ["-n", ranks_each * len(self.names), *args]
        return self.on(self.names[0], words)

    def on(self, name: str, words: Sequence[object]) -> list[object]:
        """The words that run a command on a host."""
        return [self.remote, name, shlex.join(str(word) for word in words)]

    def throttle(self, rate: int) -> None:
        """Let every host send and receive no more than ``rate`` bits a second."""
        shape = ["root", "tbf", "rate", f"{rate}bit", "burst", "256kb", "latency", "100ms"]
        for name in self.names:
            _do("tc", "qdisc", "replace", "dev", f"v-{name}", *shape)
            _do("tc", "-n", name, "qdisc", "replace", "dev", "eth0", *shape)

    def received(self, name: str) -> int:
        """Bytes that a host has received from the network."""
        # What leaves the bridge's end of the pair arrives at the host's.
        return int(Path(f"/sys/class/net/v-{name}/statistics/tx_bytes").read_text())


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """Make hosts; raises :class:`Unavailable` where that isn't allowed."""
    missing = [tool for tool in ("ip", "nsenter", "unshare") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        raise Unavailable("making hosts needs root")
    if missing:
        raise Unavailable(f"making hosts needs {', '.join(missing)}")
    names = tuple(f"pb{number}" for number in range(count))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pbhosts-")))
        addresses = {name: f"{NETWORK}{10 + number}" for number, name in enumerate(names)}
        known = "".join(f"{address} {name}\n" for name, address in addresses.items())
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + known)
        (folder / "remote").write_text(REMOTE.format(folder=folder))
        (folder / "remote").chmod(0o755)
        _undo("ip", "link", "del", BRIDGE)
        _do("ip", "link", "add", BRIDGE, "type", "bridge")
        stack.callback(_undo, "ip", "link", "del", BRIDGE)
        _do("ip", "link", "set", BRIDGE, "up")
        for name, address in addresses.items():
            stack.callback(_undo, "ip", "netns", "del", name)
            holder = _make(name, address, folder)
            stack.callback(holder.wait)
            stack.callback(holder.kill)
        yield Hosts(names, folder)


def _make(name: str, address: str, folder: Path) -> subprocess.Popen[bytes]:
    # A namespace's devices may outlive its name for a moment.
    _undo("ip", "netns", "del", name)
    _undo("ip", "link", "del", f"v-{name}")
    _do("ip", "netns", "add", name)
    _do("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    _do("ip", "link", "set", f"v-{name}", "master", BRIDGE, "up")
    for words in (
        ["addr", "add", f"{address}/24", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["link", "set", "lo", "up"],
    ):
        _do("ip", "-n", name, *words)
    setup = (
        f"hostname {name} && mount -t tmpfs -o size=4g,mode=1777 shm /dev/shm"
        f" && mount -t tmpfs -o mode=1777 tmp /var/tmp"
        f" && mount --bind {folder}/hosts /etc/hosts && echo ready && exec sleep infinity"
    )
    holder = subprocess.Popen(
        [
            "nsenter",
            f"--net=/run/netns/{name}",
            "unshare",
            "-u",
            "-m",
            "-i",
            "--propagation",
            "private",
            "sh",
            "-c",
            setup,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    if holder.stdout.readline().strip() != b"ready":
        raise Unavailable(f"host {name} could not be set up")
    holder.stdout.close()
    (folder / f"{name}.pid").write_text(str(holder.pid))
    return holder


def _do(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        raise Unavailable(f"`{' '.join(words)}`: {reason.strip()}") from error


def _undo(*words: str) -> None:
    subprocess.run(words, capture_output=True, timeout=20, check=False)
