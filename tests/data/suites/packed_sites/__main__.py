"""Runs unittest modules and writes what came of each test: ``-m packed_sites [--write] OUT MODULE…``.

The result is a JSON object from test (and subtest) to ``passed``, ``skipped``, ``failed``.
"""

from __future__ import annotations

# The suites use submodules of importlib that pytest, their usual runner, happens to have imported.
import importlib.abc
import importlib.machinery
import json
import pathlib
import sys
import unittest

from . import Samples, use_for_metadata, use_for_resources

USE = {"tests": use_for_metadata, "importlib_resources": use_for_resources}


class Outcomes(unittest.TextTestResult):
    """What came of each test."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.outcomes = {}

    def startTest(self, test):
        super().startTest(test)
        self.outcomes[test.id()] = "passed"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"

    def addError(self, test, error):
        super().addError(test, error)
        self.outcomes[test.id()] = "failed"

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.outcomes[test.id()] = "failed"

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        self.outcomes[subtest.id()] = "failed" if error else "passed"


def main():
    write = sys.argv[1] == "--write"
    output, *names = sys.argv[2:] if write else sys.argv[1:]
    samples = Samples(write)
    for package in {name.split(".")[0] for name in names}:
        USE[package](samples)
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2, resultclass=Outcomes).run(suite)
    pathlib.Path(output).write_text(json.dumps(result.outcomes))


if __name__ == "__main__":
    main()
