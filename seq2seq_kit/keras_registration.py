"""Has Keras know the classes of this package as soon as both are imported, in either order.

`keras.models.load_model` finds a class only where it was registered, which the module that defines
it does. Importing those modules costs seconds of TensorFlow, so it is left until Keras is imported.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# With what they import, all that registers a class.
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
        return  # One of them imports Keras, and a circle of imports would fail.
    if sys.modules["keras"].config.backend() == "tensorflow":
        for name in _MODULES:
            importlib.import_module(f"{package}.{name}")


class _KerasFinder(MetaPathFinder):
    """Finds nothing but Keras, once, with a loader that registers after it."""

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
    """Loads Keras as its own loader does, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register()
