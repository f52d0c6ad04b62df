"""Options of sampling that are not fixed by the weights of a model."""

import inspect
from typing import Any

from genlab.runs.errors import UsageError
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.ode_samplers import AdaptiveODE, Euler, Heun, Midpoint
from lit_models.common.samplers import DDIM, Ancestral, AnnealedLangevin, Sampler

SAMPLERS: dict[str, type[Sampler]] = {
    sampler.__name__: sampler
    for sampler in (
        *(DDIM, Ancestral, AnnealedLangevin, EDMSampler, DPMSolver),
        *(Euler, Midpoint, Heun, AdaptiveODE),
    )
}


def override_sampling(
    model: Any,
    sampler: str | None = None,
    sampler_steps: int | None = None,
    guidance_scale: float | None = None,
    temperature: float | None = None,
) -> None:
    """Changes how a trained model samples; None leaves an option as it is.

    Args:
        model: A trained model.
        sampler: Name of the sampler of a diffusion model, a key of `SAMPLERS`.
        sampler_steps: Number of steps or noise levels that the sampler goes through. By default, the model's own goes
            through as many as before, and another sampler through its usual number.
        guidance_scale: Weight of classifier-free guidance towards the class.
        temperature: Standard deviation of a flow's latent codes.

    Raises:
        UsageError: The model has no such option, or the value is out of its range.
    """
    name, own = type(model).__name__, getattr(model, "sampler", None)
    if sampler is not None or sampler_steps is not None:
        if not isinstance(own, Sampler):
            raise UsageError(f"{name} has no sampler; leave --sampler and --sampler-steps out")
        chosen = SAMPLERS[sampler] if sampler is not None else type(own)
        options = own.as_config()["init_args"] if chosen is type(own) else {}
        if sampler_steps is not None:
            if "steps" not in inspect.signature(chosen).parameters:
                raise UsageError(f"{chosen.__name__} chooses its steps itself; leave --sampler-steps out")
            options["steps"] = sampler_steps
        try:
            model.sampler = chosen(**options)
            model.sampler.check(model.process)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if guidance_scale is not None:
        if getattr(model, "num_classes", None) is None or not isinstance(own, Sampler):
            raise UsageError(f"{name} was not trained with classifier-free guidance; leave --guidance-scale out")
        model.guidance_scale = guidance_scale
    if temperature is not None:
        if not hasattr(model, "temperature"):
            raise UsageError(f"{name} has no temperature; leave --temperature out")
        model.temperature = temperature
