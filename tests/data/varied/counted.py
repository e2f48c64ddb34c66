"""Counts how often it runs; slow enough to be met half imported."""

import builtins
import time

builtins.COUNT = getattr(builtins, "COUNT", 0) + 1
time.sleep(0.05)
DONE = True
