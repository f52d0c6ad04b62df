import inspect
import sys
from typing import Any, ClassVar

from jsonargparse import Namespace


class Component:
    """A piece that is injected into a model: networks, a law of the code, a corruption.

    Each argument of its constructor is kept under its own name, so that a checkpoint can tell how to make it again.
    """

    initial_weights: ClassVar[tuple[str, ...]] = ()
    """Arguments that say where its first weights come from: None where a checkpoint brings the weights."""

    def as_config(self) -> dict[str, Any]:
        """Its class and arguments, as a config names them, to be made again with the weights of a checkpoint."""
        arguments = inspect.signature(type(self)).parameters
        given = {name: None if name in self.initial_weights else getattr(self, name) for name in arguments}
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": given}


def drop_initial_weights(config: Namespace) -> None:
    """Sets the first weights of the model and every part in a nested config to None, in place."""
    inner = vars(config)
    for name in getattr(imported(inner.get("class_path"), object), "initial_weights", ()):
        setattr(inner["init_args"], name, None)
    for value in inner.values():
        if isinstance(value, Namespace):
            drop_initial_weights(value)


def imported(path: object, of: type[Any]) -> type[Any] | None:
    """The class of that path, if it is a kind of `of` in a module that is imported already."""
    module, _, name = str(path).rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, of) else None
