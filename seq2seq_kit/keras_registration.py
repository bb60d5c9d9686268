"""Registers the classes of this package with Keras once both are imported, in either order.

`keras.models.load_model` finds only registered classes, and the module that defines a class
registers it. Importing these modules imports TensorFlow, which takes seconds, so it waits until
Keras is imported.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# These modules and those that they import register all classes.
_MODULES = ("model.networks", "training.losses", "training.optimizer")


def register_with_keras() -> None:
    """Registers the classes now if Keras is imported, else when it is."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _KerasFinder())


def _register() -> None:
    package = __name__.rpartition(".")[0]
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{package}.")]
    if any(getattr(module.__spec__, "_initializing", False) for module in modules):
        return  # One of them is importing Keras, and an import cycle would fail.
    if sys.modules["keras"].config.backend() == "tensorflow":
        for name in _MODULES:
            importlib.import_module(f"{package}.{name}")


class _KerasFinder(MetaPathFinder):
    """Finds only Keras, once, with a loader that registers the classes afterwards."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _KerasLoader(spec.loader)
        return spec


class _KerasLoader(Loader):
    """Loads Keras with its own loader, then registers the classes."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register()
