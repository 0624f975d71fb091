"""Which samplers go with which noise schedules in the built-in engine, as plain facts.

The page offers from this table, the engine's check reads it, and `dalla/diffusion/sampling.py`
builds exactly these. `lms` and the `beta` schedule are missing: they would need SciPy.
"""

from __future__ import annotations

_SPACINGS = ("normal", "sgm_uniform", "simple", "ddim_uniform")
_SIGMAS = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform")
_FLOW = ("normal", "sgm_uniform", "simple")

#: Models that predict noise or velocity on a beta schedule (Stable Diffusion 1.5, XL).
DISCRETE: dict[str, tuple[str, ...]] = {
    "euler": _SIGMAS,
    "euler_ancestral": _SPACINGS,
    "heun": _SIGMAS,
    "dpmpp_2m": _SIGMAS,
    "dpmpp_2m_sde": _SIGMAS,
    "dpmpp_sde": ("normal", "karras", "exponential"),
    "ddim": _SPACINGS,
    "uni_pc": _SIGMAS,
    "dpm_2": _SIGMAS,
    "dpm_2_ancestral": _SIGMAS,
}

#: Flow-matching models (Stable Diffusion 3, FLUX). Their three plain schedules are one and the same.
FLOW: dict[str, tuple[str, ...]] = {
    "euler": (*_FLOW, "karras", "exponential"),
    "heun": _FLOW,
    "dpmpp_2m": _FLOW,
    "uni_pc": _FLOW,
}

#: By family. FLUX hands its own noise levels to the sampler, which Heun's does not take.
BUILTIN: dict[str, dict[str, tuple[str, ...]]] = {
    "sd15": DISCRETE,
    "sdxl": DISCRETE,
    "sd3": FLOW,
    "flux": {name: schedules for name, schedules in FLOW.items() if name != "heun"},
}
