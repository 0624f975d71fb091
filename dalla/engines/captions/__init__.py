"""Caption engines by name, in the order `auto` tries them; each is imported when first used."""

from dalla.registry import Registry

CAPTION_ENGINES = Registry(
    "caption engine",
    {
        "gemini": "dalla.engines.captions.gemini:GeminiEngine",
        "local": "dalla.engines.captions.local:LocalEngine",
        "composer": "dalla.engines.captions.composer:ComposerEngine",
    },
)
