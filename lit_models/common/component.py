"""Components: objects, such as networks and distributions, that are injected into a model and have options."""

import inspect
import sys
from typing import Any, ClassVar

from jsonargparse import Namespace


class Component:
    """Base class of what is injected into a model: networks, latent distributions, corruptions, samplers.

    Each argument of the constructor is stored in an attribute of the same name, so that a checkpoint can record how to
    construct the component again.
    """

    initial_weights: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that only set initial weights. They are None when a checkpoint brings the weights."""

    def as_config(self) -> dict[str, Any]:
        """Class and arguments as in a config file, with the arguments that set initial weights replaced by None."""
        arguments = inspect.signature(type(self)).parameters
        values = {name: None if name in self.initial_weights else getattr(self, name) for name in arguments}
        init_args = {name: v.as_config() if isinstance(v, Component) else v for name, v in values.items()}
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": init_args}


def drop_initial_weights(config: Namespace) -> None:
    """Sets the arguments that set initial weights to None, in place, in a nested config of a model."""
    values = vars(config)
    for name in getattr(imported_class(values.get("class_path"), object), "initial_weights", ()):
        setattr(values["init_args"], name, None)
    for value in values.values():
        if isinstance(value, Namespace):
            drop_initial_weights(value)


def imported_class(path: object, base: type[Any]) -> type[Any] | None:
    """Returns the class with that import path if its module is already imported and it is a subclass of `base`."""
    module, _, name = str(path).rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, base) else None
