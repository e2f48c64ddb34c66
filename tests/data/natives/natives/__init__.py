"""Extension modules that share libraries, and plug-ins that lie beside them."""

import ctypes
import glob
import os

HERE = os.path.dirname(__file__)


def plugins():
    """The names of the plug-ins, from their folder."""
    return sorted(os.path.basename(path) for path in glob.glob(os.path.join(HERE, "plugins/*.so")))


def answer():
    """What a plug-in answers, or that the dynamic linker refuses it."""
    try:
        return ctypes.CDLL(os.path.join(HERE, "plugins", plugins()[0])).plugin_answer()
    except OSError as error:
        return str(error).replace(HERE, "HERE")


def base():
    """The library that the modules need, opened by its path: the same one, not another copy."""
    return ctypes.CDLL(os.path.join(HERE, "lib", "libbase.so.2"))._Z10base_countv()
