"""Image engines by name; each is imported when first used."""

from dalla.registry import Registry

ENGINES = Registry(
    "image engine",
    {
        "comfyui": "dalla.engines.images.comfyui:ComfyUIEngine",
        "builtin": "dalla.engines.images.builtin:BuiltinEngine",
    },
)
