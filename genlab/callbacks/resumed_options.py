import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.runs.errors import UsageError
from genlab.runs.short_names import short_class

ADVICE = "leave the option out to continue the run, or start a new run from its weights with --init_from"
"""What to do about an option that cannot change."""
MODEL_PARTS = ("state_dict", "hparams_name", "hparams_type", "hyper_parameters", "pytorch-lightning_version")
"""Parts of a checkpoint that are no state of the training. A model may change them after the callbacks were asked."""


class ResumedOptions(Callback):
    """Saves the options of a run in its checkpoints, and applies those of the command when the run is resumed.

    Lightning restores optimizers and schedulers as they are in the checkpoint, with their learning rates. A checkpoint
    therefore holds how they were first configured: what is configured differently now was changed by the command, and
    is changed in the restored ones too. A value that a schedule has moved since then changes in proportion.

    Args:
        config: The options of the command, with dotted keys.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self._configured: dict[str, Any] = {}
        self._earlier: dict[str, Any] | None = None
        self._checkpoint: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"config": self.config, "configured": self._configured}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["callbacks"][self.state_key]["structure"] = structure(checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._checkpoint = checkpoint

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # There is nothing where a callback of the user's saves and restores first.
        self._earlier = state_dict["configured"] or None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the optimizers and schedulers with those of the checkpoint, which are restored after this.

        Raises:
            UsageError: they cannot be restored, or an option has changed that cannot change.
        """
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._configured = {
            "optimizers": [{"class": _name(made), "groups": _groups(made.param_groups)} for made in trainer.optimizers],
            "schedulers": [{"class": _name(made), "state": _plain(made.state_dict())} for made in schedulers],
        }
        if self._earlier is not None:
            _check_classes(self._earlier, self._configured)
            _check_groups(self._checkpoint["optimizer_states"], trainer.optimizers)
            _check_options(self._earlier, self._configured)
        self._checkpoint = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Applies to the restored optimizers and schedulers what the command has changed."""
        if self._earlier is None:
            return
        for optimizer, old, new in _beside(trainer.optimizers, self._earlier, self._configured, "optimizers"):
            for group, before, now in zip(optimizer.param_groups, old["groups"], new["groups"], strict=True):
                group.update(changed(_plain({name: group[name] for name in before}), before, now, in_proportion=True))
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        for scheduler, old, new in _beside(schedulers, self._earlier, self._configured, "schedulers"):
            state = scheduler.state_dict()
            scheduler.load_state_dict(state | changed(_plain(state), old["state"], new["state"]))
        self._earlier = None


def changed(current: Any, old: Any, new: Any, in_proportion: bool = False) -> Any:
    """A restored value after the change from `old` to `new` of the value that was first configured.

    With `in_proportion`, a number that has moved since then is multiplied by new / old.

    >>> changed((0.9, 0.999), (0.9, 0.999), (0.5, 0.999)), changed(0.025, 0.1, 0.2, in_proportion=True)
    ((0.5, 0.999), 0.05)
    """
    if isinstance(current, dict):
        names = current.keys() & old.keys() & new.keys()
        return current | {name: changed(current[name], old[name], new[name], in_proportion) for name in names}
    if isinstance(current, list | tuple) and len(current) == len(old) == len(new):
        return type(current)(changed(*values, in_proportion) for values in zip(current, old, new, strict=True))
    if old == new:
        return current
    moved = current != old and _is_number(current) and _is_number(old) and _is_number(new) and old != 0
    return current * (new / old) if in_proportion and moved else new


def structure(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each part of a training's state: names, texts and whole numbers, and the types of others."""
    parts = {name: part for name, part in checkpoint.items() if name not in MODEL_PARTS}
    if isinstance(parts.get("callbacks"), Mapping):
        own = parts["callbacks"].get(ResumedOptions.__qualname__) or {}
        without_digests = {name: value for name, value in own.items() if name != "structure"}
        parts["callbacks"] = {**parts["callbacks"], ResumedOptions.__qualname__: without_digests}
    return {name: hashlib.sha256(json.dumps(_digested(part)).encode()).hexdigest()[:16] for name, part in parts.items()}


def _digested(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _digested(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_digested(item) for item in value]
    if isinstance(value, str | int):  # numbers such as seconds differ between runs that are equal
        return value
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def refusal(option: str, old: object, new: object) -> str:
    """Says that an option cannot change when a run is resumed."""
    held, given = as_typed(old), as_typed(new)
    return f"{option} cannot change in a resumed run: the checkpoint has {held}, the command {given}; {ADVICE}"


def as_typed(value: Any) -> str:
    """A value as it is typed, a class by its name alone."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return short_class(value)


def _check_classes(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for kind, option in (("optimizers", "--model.optimizer"), ("schedulers", "--model.lr_schedule")):
        names = [[made["class"].rpartition(".")[2] for made in side[kind]] for side in (old, new)]
        if names[0] != names[1]:
            raise UsageError(refusal(option, *(" and ".join(side) or "none" for side in names)))


def _check_groups(states: list[Any], optimizers: list[torch.optim.Optimizer]) -> None:
    for state, optimizer in zip(states, optimizers, strict=True):
        sizes = [[len(group["params"]) for group in made] for made in (state["param_groups"], optimizer.param_groups)]
        if sizes[0] != sizes[1]:
            have = [" + ".join(map(str, side)) for side in sizes]
            raise UsageError(
                f"the optimizer of the checkpoint has {have[0]} parameters, that of the command {have[1]}; {ADVICE}"
            )


def _check_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for before, now in zip(old["optimizers"], new["optimizers"], strict=True):
        for group, group_now in zip(before["groups"], now["groups"], strict=True):
            for name in group.keys() & group_now.keys():
                if not _can_change(name, group[name], group_now[name]):
                    raise UsageError(refusal(f"--model.optimizer.{name}", group[name], group_now[name]))


def _can_change(name: str, old: Any, new: Any) -> bool:
    """Whether the optimizer's states fit both values: numbers may change, but without momentum there is no velocity."""
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        return all(_can_change(name, *values) for values in zip(old, new, strict=True))
    return old == new or (_is_number(old) and _is_number(new) and not (name == "momentum" and old == 0))


def _beside(restored: list[Any], old: Mapping[str, Any], new: Mapping[str, Any], kind: str) -> Any:
    return zip(restored, old[kind], new[kind], strict=True)


def _groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_plain({name: value for name, value in group.items() if name != "params"}) for group in groups]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are plain values, which can be compared and load without pickled code."""
    return {str(name): value for name, value in values.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(made: object) -> str:
    return f"{type(made).__module__}.{type(made).__qualname__}"
