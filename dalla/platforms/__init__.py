"""Social platforms by name. A new one is a file here and one line."""

from dalla.registry import Registry

PLATFORMS = Registry(
    "platform",
    {
        "instagram": "dalla.platforms.instagram:Instagram",
        "twitter": "dalla.platforms.x:X",
    },
)
