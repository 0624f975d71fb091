"""Upscalers by name; each is imported when first used."""

from dalla.registry import Registry

UPSCALERS = Registry("upscaler", {"esrgan": "dalla.engines.upscale.esrgan:Esrgan"})
