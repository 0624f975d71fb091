"""Build a diffusers scheduler from our sampler and schedule names.

Only the numbers that belong to the model (betas, prediction type, flow shift) are kept from its own
scheduler; everything that belongs to the sampler comes from the request.
"""

from __future__ import annotations

from typing import Any

from dalla.errors import InvalidInput
from dalla.records.sampling import BUILTIN

_OF_THE_MODEL = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr", "steps_offset", "clip_sample", "clip_sample_range", "set_alpha_to_one",
)  # fmt: skip
_OF_THE_FLOW = (
    "num_train_timesteps", "shift", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len",
    "max_image_seq_len", "time_shift_type", "invert_sigmas", "shift_terminal",
)  # fmt: skip
_SPACING = {"normal": "linspace", "sgm_uniform": "trailing", "simple": "trailing", "ddim_uniform": "leading"}
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "dpmpp_sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {}),
    "uni_pc": ("UniPCMultistepScheduler", {}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
}


def build_scheduler(own: Any, sampler: str, schedule: str, *, family: str, flow: bool) -> Any:
    """Return a scheduler for the model of this family whose shipped scheduler has the config `own`.

    Raises InvalidInput when the two names do not go together for this kind of model.
    """
    table = BUILTIN[family]
    if sampler not in table:
        raise InvalidInput.field("sampler", f"This model has no sampler '{sampler}' here. Choose {', '.join(table)}.")
    if schedule not in table[sampler]:
        raise InvalidInput.field(
            "scheduler", f"'{sampler}' has no schedule '{schedule}' here. Choose {', '.join(table[sampler])}."
        )
    return _flow(own, sampler, schedule) if flow else _discrete(own, sampler, schedule)


def _discrete(own: Any, sampler: str, schedule: str) -> Any:
    import diffusers

    name, options = _CLASSES[sampler]
    config = {key: own[key] for key in _OF_THE_MODEL if key in own} | options
    if schedule in ("karras", "exponential"):
        config[f"use_{schedule}_sigmas"] = True
    elif sampler != "dpmpp_sde":  # the single-step solver knows no spacing
        config["timestep_spacing"] = _SPACING[schedule]
        if schedule == "ddim_uniform":
            config.setdefault("steps_offset", 1)
    return _of_class(getattr(diffusers, name), config)


def _flow(own: Any, sampler: str, schedule: str) -> Any:
    import diffusers

    config = {key: own[key] for key in _OF_THE_FLOW if key in own}
    if sampler == "euler":
        if schedule in ("karras", "exponential"):
            config[f"use_{schedule}_sigmas"] = True
        return _of_class(diffusers.FlowMatchEulerDiscreteScheduler, config)
    if sampler == "heun":
        return _of_class(diffusers.FlowMatchHeunDiscreteScheduler, config)
    config |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": config.get("shift", 1.0)}
    name = "UniPCMultistepScheduler" if sampler == "uni_pc" else "DPMSolverMultistepScheduler"
    return _of_class(getattr(diffusers, name), config)


def _of_class(cls: Any, config: dict[str, Any]) -> Any:
    import inspect

    known = inspect.signature(cls.__init__).parameters
    return cls(**{key: value for key, value in config.items() if key in known})
