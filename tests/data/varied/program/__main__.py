import pickle
import sys

from . import tool


class Thing:
    """Pickled by its name in __main__."""


print(__name__, __package__, __spec__.name, __file__.rpartition("site-packages")[2])
print(sys.argv[1:], tool.NAME, type(pickle.loads(pickle.dumps(Thing()))).__module__)
print(__spec__.loader.get_filename("program.__main__").rpartition("site-packages")[2])
