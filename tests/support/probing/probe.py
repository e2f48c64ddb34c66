"""Runs every function of a file in a child of its own, and prints what each returned or raised.

Started the same way from files and from a bundle; what names the environment is masked, so that
the two outputs can be compared.
"""

import json
import os
import re
import signal
import sys
import tempfile
import traceback

ADDRESS = re.compile(r"0x[0-9a-f]+")
# Where the base prefix lies in a tree.
PACKED_BASE = re.compile(r"<env>/META-INF/pybundle/roots/\d+(?=/lib/python)")


def masked(value, folder):
    """A value as JSON can hold it, without addresses and the names of folders."""
    if isinstance(value, str):
        for name, mark in ((sys.prefix, "<env>"), (sys.base_prefix, "<base>"), (folder, "<tmp>")):
            value = value.replace(name, mark)
        return ADDRESS.sub("0x", PACKED_BASE.sub("<base>", value))
    if isinstance(value, dict):
        return {masked(str(key), folder): masked(one, folder) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(one, folder) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(masked(list(value), folder))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return masked(f"{type(value).__name__} {value}", folder)


def answer(function):
    """What the function does, in a child and in an empty working folder."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        return json.loads(text) if text else {"ended": status}
    # What hangs must not take the other answers with it.
    signal.alarm(30)
    try:
        with tempfile.TemporaryDirectory() as folder:
            folder = os.path.realpath(folder)
            os.chdir(folder)
            try:
                result = {"returned": masked(function(), folder)}
            except BaseException:
                result = {"raised": masked(traceback.format_exc(), folder)}
        with os.fdopen(write, "w") as pipe:
            json.dump(result, pipe)
    finally:
        os._exit(0)


def main():
    namespace = {"__name__": "probes"}
    with open(sys.argv[1]) as file:
        text = file.read()
    exec(compile(text, sys.argv[1], "exec"), namespace)
    probes = [name for name in namespace if name.startswith("test_")]
    print(json.dumps({name: answer(namespace[name]) for name in probes}))


main()
