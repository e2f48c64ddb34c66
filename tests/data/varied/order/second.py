import sys

EVENTS = sys.modules["order"].EVENTS
EVENTS.append("second")
