"""Two hosts, each with its own memory and network: the bundle crosses once and is opened once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import counter, hosts
from support.environments import Environment
from support.mpis import Mpi
from support.process import run

PROGRAM = """
import fast, shapes, socket
print(socket.gethostname(), fast.__file__)
"""


@pytest.fixture(scope="module")
def two() -> Iterator[hosts.Hosts]:
    try:
        with hosts.hosts(2) as made:
            yield made
    except hosts.Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def incompressible(small: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of about 40 MB, so that its transfer stands out from everything else."""
    import random

    folder = tmp_path_factory.mktemp("two-hosts")
    environment = small.copy(folder / "env")
    data = random.Random(1).randbytes(40 << 20)
    (environment.packages / "shapes" / "noise.bin").write_bytes(data)
    return folder / "env"


@pytest.mark.parametrize("way", ["run", "packed"])
def test_one_transfer_and_one_open(
    way: str,
    two: hosts.Hosts,
    wheel_mpi: Mpi,
    incompressible: Path,
    runner: Environment,
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "env.pybundle"
    run([runner.pybundle, "pack", incompressible, "-o", bundle], timeout=120).check()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    before = {name: two.received(name) for name in two.names}
    receipt = tmp_path / "receipt.json"
    words: list[object] = ["--bundle", bundle, "--receipt", receipt, program]
    if way == "run":
        words = [runner.python, "-m", "pybundle", "run", *words]
    else:
        words = [runner.python.with_name("pybundle-python"), *words]
    launch = two.mpiexec(wheel_mpi, 2, words)
    report = tmp_path / "counts.json"
    counted = [*counter.command(report, [bundle]), *launch]
    result = run(counted, env=wheel_mpi.environment(), timeout=120).check()

    lines = [line.split() for line in result.stdout.splitlines()]
    assert sorted(line[0] for line in lines) == ["pb0", "pb0", "pb1", "pb1"], result
    assert all("/pybundle-" in line[1] for line in lines), result
    opened = [
        process
        for process in counter.parse(json.loads(report.read_text()))
        if any(phase.opened[str(bundle)] for phase in process.phases)
    ]
    assert len(opened) == 1, [process.command for process in opened]
    received = {name: two.received(name) - before[name] for name in two.names}
    size = bundle.stat().st_size
    # The first host reads the file; the other one gets it over the network, once for its two ranks.
    assert received["pb0"] < size / 4, (received, size)
    assert size <= received["pb1"] < 1.25 * size, (received, size)
    nodes = json.loads(receipt.read_text())["nodes"]
    assert len(nodes) == 2, nodes
