# Says what this interpreter is, as JSON after a marker: `.pth` files that ran before may
# have printed something.
import importlib.machinery
import importlib.util
import json
import os
import site
import sys
import sysconfig

paths = sysconfig.get_paths()
variable = sysconfig.get_config_var


def folder(path):
    return os.path.abspath(path) if path else None


print(
    "\npybundle-probe:"
    + json.dumps(
        {
            "implementation": sys.implementation.name,
            "version": sys.version_info[:3],
            "full_version": sys.version,
            "hexversion": sys.hexversion,
            "cache_tag": sys.implementation.cache_tag,
            "magic": importlib.util.MAGIC_NUMBER.hex(),
            "soabi": variable("SOABI"),
            "ext_suffix": variable("EXT_SUFFIX"),
            "extension_suffixes": importlib.machinery.EXTENSION_SUFFIXES,
            "platform": sysconfig.get_platform(),
            "abiflags": getattr(sys, "abiflags", ""),
            "pointer_bits": sys.maxsize.bit_length() + 1,
            "byteorder": sys.byteorder,
            "free_threaded": bool(variable("Py_GIL_DISABLED")),
            "optimize": sys.flags.optimize,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "exec_prefix": sys.exec_prefix,
            "base_exec_prefix": sys.base_exec_prefix,
            "executable": sys.executable,
            "real_executable": os.path.realpath(sys.executable),
            "base_executable": getattr(sys, "_base_executable", None),
            "sys_path": [folder(path) for path in sys.path if path],
            "site_packages": [folder(path) for path in site.getsitepackages()],
            "stdlib": folder(paths["stdlib"]),
            "platstdlib": folder(paths["platstdlib"]),
            "purelib": folder(paths["purelib"]),
            "platlib": folder(paths["platlib"]),
            "library_folder": folder(variable("LIBDIR")),
            "soname": variable("INSTSONAME"),
            "multiarch": variable("MULTIARCH") or None,
            "library": variable("LDLIBRARY"),
            "shared": bool(variable("Py_ENABLE_SHARED")),
        }
    ),
    flush=True,
)
