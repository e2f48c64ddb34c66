"""The interpreter's side of the test of canonical marshal data.

For each module of the standard library, compiled afresh and as its pycache has it,
sends the marshalled code (a length and the bytes, an absent pycache has length 0),
receives the canonical forms of both, and of the first one with a prefix put
into its file name. Compares everything that code objects have.
"""

import importlib.util
import marshal
import os
import struct
import sys
import sysconfig
import types
import warnings

FILENAME = "lib/some/module.py"
PREFIX = "/dev/shm/image/"

warnings.simplefilter("ignore")
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer


def send(data):
    stdout.write(struct.pack("<I", len(data)) + data)


def receive():
    (length,) = struct.unpack("<I", stdin.read(4))
    return stdin.read(length)


def key(value):
    """Something that is equal for equal constants only: types, signs, bits."""
    if isinstance(value, types.CodeType):
        return code_key(value)
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, [key(item) for item in value])
    if isinstance(value, (frozenset, set)):
        return (type(value).__name__, sorted(repr(key(item)) for item in value))
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, complex):
        return ("complex", struct.pack("<dd", value.real, value.imag))
    if isinstance(value, slice):
        return ("slice", key(value.start), key(value.stop), key(value.step))
    return (type(value).__name__, value)


def code_key(code):
    found = {"==": code.replace(co_filename="")}
    for name in dir(code):
        if not name.startswith("co_") or name == "co_filename":
            continue
        value = getattr(code, name)
        if callable(value):
            value = list(value())
        if name == "co_consts":
            # A first constant that is a docstring is one; the rest by type and bits.
            value = [key(item) for item in value]
            found["=="] = found["=="].replace(co_consts=())
        found[name] = (type(value).__name__, value)
    return found


def filenames(code):
    yield code.co_filename
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from filenames(value)


def names(code):
    yield from code.co_names
    yield from code.co_varnames
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from names(value)


def difference(expected, got, path="module"):
    if isinstance(expected, dict):
        for name in expected:
            found = difference(expected[name], got.get(name), path + "." + name)
            if found:
                return found
        return None
    if isinstance(expected, (tuple, list)) and isinstance(got, (tuple, list)):
        for index, pair in enumerate(zip(expected, got)):
            found = difference(*pair, "%s[%d]" % (path, index))
            if found:
                return found
        return None if len(expected) == len(got) else path + ": length"
    return None if expected == got else "%s: %r, got %r" % (path, expected, got)


def modules(which):
    """Paths of the standard library, of all its tests too, or of a folder."""
    everything = which is not None
    root = sysconfig.get_path("stdlib") if which in (None, "everything") else which
    for folder, folders, files in os.walk(root):
        folders.sort()
        for skipped in ("site-packages", "__pycache__") + (
            () if everything else ("test", "tests", "idlelib", "lib2to3", "turtledemo")
        ):
            if skipped in folders:
                folders.remove(skipped)
        for file in sorted(files):
            if file.endswith(".py"):
                yield os.path.join(folder, file)


def main():
    failures = compared = cached = same = 0
    for path in modules(sys.argv[1] if sys.argv[1:] else None):
        with open(path, "rb") as file:
            source = file.read()
        try:
            fresh = compile(source, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        pycache = b""
        try:
            with open(importlib.util.cache_from_source(path, optimization=""), "rb") as file:
                pycache = file.read()
            if pycache[:4] != importlib.util.MAGIC_NUMBER:
                pycache = b""
        except OSError:
            pass
        send(marshal.dumps(fresh))
        send(pycache[16:])
        stdout.flush()
        canonical, prefixed, from_pycache = receive(), receive(), receive()
        compared += 1
        expected = code_key(fresh)
        problems = []
        for name, data in (FILENAME, canonical), (PREFIX + FILENAME, prefixed):
            code = marshal.loads(data)
            if name == FILENAME:
                problems.append(difference(expected, code_key(code)))
            if set(filenames(code)) != {name}:
                problems.append("file names: %r" % set(filenames(code)))
            if any(sys.intern(item) is not item for item in names(code)):
                problems.append("names that aren't interned")
        if pycache:
            cached += 1
            same += pycache[16:] == marshal.dumps(fresh)
            if from_pycache != canonical:
                found = difference(expected, code_key(marshal.loads(from_pycache)))
                problems.append("pycache differs: %s" % (found or "in form"))
        for problem in filter(None, problems):
            failures += 1
            print("%s: %s" % (path, problem), file=sys.stderr)
    send(b"")
    stdout.flush()
    print(
        "%d modules, %d with pycache (%d equal before), %d failures"
        % (compared, cached, same, failures),
        file=sys.stderr,
    )
    sys.exit(failures > 0 or compared < 10)


main()
