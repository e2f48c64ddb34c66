"""Programs that show what Python shows them, and the forms in which they are run."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from .process import Result

SHOW = """\
import sys
print(__name__, {name: value for name, value in globals().items() if name.startswith("__")})
print(sys.argv, sys.path[0])
print(sys.modules["__main__"].__dict__ is globals())
"""

PROGRAMS = {
    "show.py": SHOW,
    "error.py": "def inner():\n    raise ValueError('x')\n\n\ninner()\n",
    "chained.py": "try:\n    1 / 0\nexcept Exception as error:\n    raise KeyError(1) from error\n",
    "syntax.py": "def inner(:\n",
    "latin.py": "# -*- coding: latin-1 -*-\nprint(ascii('\u00e9'))\n",
    "warns.py": "print(1 is 1)\n",
    "status.py": "import ast, atexit, sys\natexit.register(print, 'at exit')\nprint('buffered')\n"
    "sys.exit(ast.literal_eval(sys.argv[1]))\n",
    "hook.py": "import sys\n\n\ndef hook(*args):\n    print(args[0])\n    sys.exit(5)\n\n\n"
    "sys.excepthook = hook\n1 / 0\n",
    "interrupt.py": "raise KeyboardInterrupt\n",
    "thread.py": "import threading, time\n\n\ndef late():\n    time.sleep(0.2)\n"
    "    print('late')\n\n\n"
    "threading.Thread(target=late).start()\n1 / 0\n",
    "leave.py": "import os\nos._exit(9)\n",
    "become.py": "import os\nos.execvp('sh', ['sh', '-c', 'echo $1; exit 4', 'sh', 'became'])\n",
    "beside.py": "NAME = __name__\n",
    "imports.py": "import beside\nprint(beside.NAME, beside.__file__)\n",
    "folder/__main__.py": SHOW,
    "package/__init__.py": "print('package')\n",
    "package/__main__.py": SHOW,
    "empty/nothing.txt": "",
}

FORMS: dict[str, list[str]] = {
    "script": ["show.py", "a", "--strict", "-c"],
    "dotted path": ["./show.py"],
    "link": ["links/show.py"],
    "folder": ["folder", "a"],
    "zip": ["app.zip", "a"],
    "module": ["-m", "show", "a"],
    "package": ["-m", "package", "a"],
    "attached module": ["-mshow"],
    "command": ["-c", SHOW, "a", "-m"],
    "indented command": ["-c", "  if 1:\n\n    print(1)\n  print(2)"],
    "command with blank lines": ["-c", "print(repr('''a\n  \n'''))"],
    "beside": ["imports.py"],
    "module beside": ["-m", "imports"],
    "absent script": ["absent.py"],
    "absent module": ["-m", "absent"],
    "folder without main": ["empty"],
    "exception": ["error.py"],
    "chained exceptions": ["chained.py"],
    "exception in a module": ["-m", "error"],
    "exception in a command": ["-c", "def inner():\n    1 / 0\ninner()"],
    "syntax error": ["syntax.py"],
    "syntax error in a command": ["-c", "def inner(:"],
    "encoding": ["latin.py"],
    "syntax warning": ["warns.py"],
    "command that names an encoding": ["-c", "# coding: latin-1\nprint(ascii('\u00e9'))"],
    "hook": ["hook.py"],
    "interrupt": ["interrupt.py"],
    "interrupt in a module": ["-m", "interrupt"],
    "thread": ["thread.py"],
    "leaves": ["leave.py"],
    "becomes": ["become.py"],
    **{f"status {code}": ["status.py", code] for code in ("0", "1", "256", "-1", "None", "'text'")},
}


def write(folder: Path) -> Path:
    """Put the programs into a folder."""
    for name, text in PROGRAMS.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        # All but one are ASCII, which says that it is Latin-1.
        path.write_text(text, encoding="latin-1")
    (folder / "links").mkdir()
    (folder / "links/show.py").symlink_to("../show.py")
    with zipfile.ZipFile(folder / "app.zip", "w") as archive:
        archive.writestr("__main__.py", SHOW)
    return folder


def shown(result: Result) -> tuple[int, str, str]:
    """A result without addresses, which differ from run to run."""
    texts = (re.sub(r"0x[0-9a-f]+", "0x", text) for text in (result.stdout, result.stderr))
    return result.status, *texts
