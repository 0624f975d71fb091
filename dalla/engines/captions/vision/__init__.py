"""Engines that look at a picture and describe it, by name; each is imported when first used."""

from dalla.registry import Registry

VISION_ENGINES = Registry(
    "captioner",
    {
        "gemini": "dalla.engines.captions.vision.gemini:GeminiVision",
        "local": "dalla.engines.captions.vision.local:LocalVision",
        "florence2": "dalla.engines.captions.vision.weights:Florence2",
        "blip": "dalla.engines.captions.vision.weights:Blip",
        "wd_tagger": "dalla.engines.captions.vision.weights:WdTagger",
        "basic": "dalla.engines.captions.vision.basic:BasicVision",
    },
)
