"""slowfs shows what is there, and counts what a client that remembers everything would ask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import built, slow
from support.process import run
from support.pythons import Python


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    try:
        slow.check()
    except slow.Unavailable as missing:
        pytest.skip(str(missing))
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "data.bin").write_bytes(os.urandom(300_000))
    (made / "link").symlink_to("inner/data.bin")
    for number in range(300):
        (made / f"file{number}").write_text("")
    return made


def test_what_is_asked_is_counted_once_a_process(
    folder: Path, python: Python, tmp_path: Path
) -> None:
    script = tmp_path / "ask.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "folder, again = sys.argv[1], len(sys.argv) == 2\n"
        "for _ in range(3):\n"
        "    os.stat(f'{folder}/inner/data.bin'), os.path.exists(f'{folder}/absent')\n"
        "if again:\n"
        "    subprocess.run([sys.executable, __file__, folder, 'no'], check=True)\n"
        "    open(f'{folder}/link', 'rb').read()\n"
        "    assert len(os.listdir(folder)) == 302\n"
    )
    (asked,) = slow.start([python.executable, script, folder], [folder]).asked
    # Of two processes, the first one alone is asked for the folder on the way.
    assert asked.names["inner"] == {"lookup": 1}
    assert asked.names["inner/data.bin"] == {"lookup": 2}
    assert asked.names["absent"] == {"absent": 2}
    assert asked.names["link"] == {"lookup": 1, "link": 1}
    assert asked.names[""]["list"] >= 2
    assert asked.requests == sum(sum(kinds.values()) for kinds in asked.names.values())
    assert asked.bytes == 300_000


def test_files_are_what_they_are_and_cannot_be_changed(folder: Path) -> None:
    data = (folder / "inner" / "data.bin").read_bytes()
    shown = slow.start(["sha256sum", folder / "link", folder / "inner/data.bin"], [folder])
    plain = run(["sha256sum", folder / "link", folder / "inner/data.bin"])
    assert shown.result.check().stdout == plain.stdout
    refused = slow.start(["sh", "-c", 'echo x > "$0/file1"', folder], [folder]).result
    assert refused.status != 0 and "Read-only" in refused.stderr
    assert (folder / "inner" / "data.bin").read_bytes() == data
    # It was shown to that program alone.
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_requests_of_all_processes_queue(folder: Path) -> None:
    # Three processes at once, each with ten names to ask for.
    ask = "for n in 0 1 2 3 4 5 6 7 8 9; do test -e $0/file$n; done"
    line = f"for p in 1 2 3; do sh -c '{ask}' \"$0\" & done; wait"
    shown = slow.start(["sh", "-c", line, folder], [folder], service=100_000)
    shown.result.check()
    assert shown.requests(folder) == 30
    # Three queues would let them go after a third of it.
    assert shown.result.seconds >= 30 * 0.1


def test_it_leaves_as_its_program_does(folder: Path) -> None:
    assert slow.start(["sh", "-c", "exit 7"], [folder]).result.status == 7
    inside = slow.start(["true"], [folder, folder / "inner"]).result
    assert inside.status == 1 and "lies in another folder" in inside.stderr
    absent = run([built.slowfs(), "--over", folder, "--", "no-such-program"])
    assert absent.status == 1 and "no such program" in absent.stderr
