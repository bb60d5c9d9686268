"""The program of sequitur-g2p 1.0.1668.30, as `g2p.py` in this folder calls it.

    python benchmarks/peers/sequitur_g2p.py --train LEXICON --write-model MODEL ...

Takes the arguments of the package's own `g2p.py`, which fails in the course of a training with
"'SwigPyObject' object has no attribute 'thisown'": SWIG's table of types loses a reference for each
object that Python comes to own after its creation, and is destroyed when none is left. Here it has
enough references.
"""

import ctypes
import runpy
import sys
import sysconfig
from pathlib import Path

import sequitur_  # noqa: F401  (creates the table)

table = sys.modules["swig_runtime_data4"].type_pointer_capsule  # type: ignore[attr-defined]
# The count of references is the first field of an object.
ctypes.c_ssize_t.from_address(id(table)).value += 2**40

runpy.run_path(str(Path(sysconfig.get_path("scripts"), "g2p.py")), run_name="__main__")
