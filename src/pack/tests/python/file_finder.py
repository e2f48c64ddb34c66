"""Compares a dumped module table with what CPython's own FileFinder finds.

usage: file_finder.py DUMP, a JSON file that the Rust side writes: "top" (folder of the
environment), "sys_path" (paths below it), "modules" (one row each) and "roots" (pairs of a
path in the bundle and the folder that it stands for).
"""

import importlib.machinery
import json
import marshal
import os
import sys

LOADERS = [
    (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    (importlib.machinery.SourceFileLoader, importlib.machinery.SOURCE_SUFFIXES),
    (importlib.machinery.SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
]
KINDS = {
    importlib.machinery.SourceFileLoader: 1,
    importlib.machinery.SourcelessFileLoader: 2,
    importlib.machinery.ExtensionFileLoader: 3,
}


def main(dump):
    with open(dump, encoding="utf-8") as file:
        dump = json.load(file)
    roots = sorted(dump["roots"], key=lambda root: len(root[0]), reverse=True)

    def real(path):
        for inside, folder in roots:
            if not inside:
                return os.path.join(folder, path) if path else folder
            if path == inside or path.startswith(inside + "/"):
                return folder + path[len(inside) :]
        raise AssertionError(path)

    ours = {(real(row["folder"]), row["name"]): row for row in dump["modules"]}
    assert len(ours) == len(dump["modules"])
    checked = set()
    for path in dump["sys_path"]:
        for folder, _, _ in os.walk(real(path), followlinks=True):
            if folder not in checked and os.path.basename(folder) != "__pycache__":
                checked.add(folder)
                check_folder(folder, ours, real)
    left = {folder for folder, _ in ours} - checked
    assert not left, left
    codes = sum(check_code(row, real) for row in dump["modules"] if row["code"])
    print(len(checked), len(ours), codes)


def check_folder(folder, ours, real):
    finder = importlib.machinery.FileFinder(folder, *LOADERS)
    names = {name.split(".")[0] for name in os.listdir(folder)}
    names |= {name.rpartition(".")[0] for name in os.listdir(folder)}
    names |= {"no_such_module", "__init__", "__main__"}
    for name in names:
        if not name or "." in name:
            continue
        spec = finder.find_spec(name)
        row = ours.get((folder, name))
        where = (folder, name, spec, row)
        if spec is None or spec.loader is None:
            assert row is None, where
            continue
        assert row is not None, where
        assert spec.origin == real(row["file"]), where
        assert KINDS[type(spec.loader)] == row["kind"], where
        assert (spec.submodule_search_locations is not None) == row["package"], where


def check_code(row, real):
    with open(row["code"], "rb") as file:
        code = marshal.load(file)
        assert not file.read().strip(b"\0"), row
    path = real(row["file"])
    if row["kind"] == 2:
        with open(path, "rb") as file:
            expected = marshal.loads(file.read()[16:])
        assert code.co_filename == expected.co_filename
    else:
        with open(path, "rb") as file:
            expected = compile(file.read(), path, "exec", dont_inherit=True, optimize=0)
        assert code.co_filename == "/prefix/" + row["file"], (code.co_filename, row)
    assert code == expected, row
    return 1


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
