import inspect
from typing import Any, ClassVar

from jsonargparse import Namespace


class Part:
    """A piece that is injected into a model: networks, a law of the code, a corruption.

    Each argument of its constructor is kept under its own name, so that a checkpoint can tell how to make it again.
    """

    first_weights: ClassVar[tuple[str, ...]] = ()
    """Arguments that say where its first weights come from: None where a checkpoint brings the weights."""

    def as_config(self) -> dict[str, Any]:
        """Its class and arguments, as a config names them, to be made again with the weights of a checkpoint."""
        arguments = inspect.signature(type(self)).parameters
        given = {name: None if name in self.first_weights else getattr(self, name) for name in arguments}
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": given}


def drop_first_weights(config: Namespace) -> None:
    """Sets the first weights of every part in a nested config to None, in place."""
    inner = vars(config)
    for part in _known_parts():
        if str(inner.get("class_path")).rsplit(".", 1)[-1] == part.__name__:  # whichever module exports it
            vars(inner["init_args"]).update(dict.fromkeys(part.first_weights))
    for value in inner.values():
        if isinstance(value, Namespace):
            drop_first_weights(value)


def _known_parts(of: type[Part] = Part) -> list[type[Part]]:
    return [of, *(known for direct in of.__subclasses__() for known in _known_parts(direct))]
