"""How a trained model draws its images, where that is not fixed by its weights."""

from typing import Any

from genlab.runs.errors import UsageError
from lit_models.common.samplers import DDIM, Ancestral, AnnealedLangevin, Sampler

SAMPLERS: dict[str, type[Sampler]] = {kind.__name__: kind for kind in (DDIM, Ancestral, AnnealedLangevin)}


def override_sampling(
    model: Any, sampler: str | None, sampler_steps: int | None, guidance: float | None, temperature: float | None
) -> None:
    """Sets what is given.

    Args:
        model: a trained one.
        sampler: a name of SAMPLERS; by default the model's own kind.
        sampler_steps: levels that it goes through; by default all, or with the model's own kind as many as it has.
        guidance: towards the class asked for.
        temperature: of the codes.

    Raises:
        UsageError: the model has no such thing, or not with this value.
    """
    kind, own = type(model).__name__, getattr(model, "sampler", None)
    if sampler is not None or sampler_steps is not None:
        if not isinstance(own, Sampler):
            raise UsageError(f"{kind} has no sampler; leave --sampler and --sampler-steps out")
        chosen = SAMPLERS[sampler] if sampler is not None else type(own)
        options = own.as_config()["init_args"] if chosen is type(own) else {"steps": None}
        try:
            model.sampler = chosen(**{**options, "steps": sampler_steps or options["steps"]})
            model.sampler.check(model.diffusion)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if guidance is not None:
        if getattr(model, "num_classes", None) is None or not isinstance(own, Sampler):
            raise UsageError(f"{kind} was not trained to be guided towards a class; leave --guidance out")
        model.guidance = guidance
    if temperature is not None:
        if not hasattr(model, "temperature"):
            raise UsageError(f"{kind} has no temperature; leave --temperature out")
        model.temperature = temperature
