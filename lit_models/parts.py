import inspect
from typing import Any, Self


class Part:
    """A piece that is injected into a model: networks, a law of the code, a corruption.

    Each argument of its constructor is kept under its own name, so that a checkpoint can tell how to make it again.
    """

    def for_checkpoint(self) -> Self:
        """What the piece is rebuilt from when its weights come from a checkpoint."""
        return self

    def as_config(self) -> dict[str, Any]:
        """Its class and arguments, as a config names them."""
        arguments = [name for name in inspect.signature(type(self)).parameters]
        given = {name: getattr(self, name) for name in arguments}
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": given}
