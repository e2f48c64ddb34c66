"""A package whose modules say when they run, and what they see."""

import sys

EVENTS = ["begin of order"]

from . import first
from .second import EVENTS as same

EVENTS.append("end of order: " + " ".join(n for n in sys.modules if n.startswith("order")))
