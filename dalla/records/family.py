"""The model families as plain facts: sizes, defaults, what each can use. No torch here.

Both engines and the web read this table; `dalla/diffusion/families/` holds the code that loads
and runs a family. A ModelInfo may override sizes and defaults (the starter model draws at 128 px).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """What is true of every model of the family unless the model says otherwise."""

    name: str
    label: str
    native_size: int  # px of the square the model was trained at
    size_multiple: int  # width and height must be multiples of it
    steps: int
    cfg_scale: float | None  # None: the family takes no classifier-free guidance
    guidance: float | None  # None: the family takes no distilled guidance
    sampler: str
    scheduler: str
    negative_prompt: bool
    why_no_negative: str = ""


FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family("sd15", "Stable Diffusion 1.5", 512, 8, 25, 7.0, None, "dpmpp_2m", "karras", True),
        Family("sdxl", "Stable Diffusion XL", 1024, 8, 28, 6.0, None, "dpmpp_2m", "karras", True),
        Family("sd3", "Stable Diffusion 3", 1024, 16, 28, 4.5, None, "euler", "sgm_uniform", True),
        Family(
            "flux",
            "FLUX.1",
            1024,
            16,
            20,
            None,
            3.5,
            "euler",
            "simple",
            False,
            "FLUX is guidance-distilled: it runs without classifier-free guidance, so a negative prompt has no effect.",
        ),
    )
}

#: Names every engine understands (ComfyUI's spelling); the built-in engine maps them to diffusers.
SAMPLERS = (
    "euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "ddim", "uni_pc", "lms", "dpm_2",
    "dpm_2_ancestral",
)  # fmt: skip
SCHEDULERS = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta")
