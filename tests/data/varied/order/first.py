from order import EVENTS

EVENTS.append("begin of first")

from . import second

EVENTS.append("end of first")
