"""Ideas for pictures without any service: places, doings, light and what the character is about, combined by rule."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from dalla.engines.captions.base import IdeasRequest
from dalla.engines.captions.scene import read_scene

#: Themes: words that call for them -> (doings, places).
_THEMES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "mystic": (
        ("mystic", "magic", "witch", "forest", "dream", "spirit", "moon", "fairy", "fantasy", "crystal", "elf", "wald", "magi"),
        ("holding a glowing lantern", "touching the bark of an old tree", "reading a worn leather book", "walking barefoot through moss",
         "gathering herbs into a basket", "looking up at the stars", "following a trail of fireflies", "catching falling petals"),
        ("in a misty forest", "among ancient standing stones", "beside a moonlit lake", "in a hidden clearing", "at the mouth of a cave",
         "on a path lined with mushrooms", "in a ruined stone chapel", "under a willow tree"),
    ),
    "city": (
        ("city", "fashion", "urban", "street", "influencer", "model", "glam", "party", "neon", "cyber", "stadt", "style"),
        ("crossing a busy street", "leaning against a brick wall", "hailing a taxi", "checking a phone and laughing",
         "adjusting sunglasses", "carrying shopping bags", "waiting for the tram", "dancing under street lights"),
        ("on a rainy neon street", "on a rooftop above the skyline", "in front of a small bakery", "in a subway station",
         "on a wide staircase", "at a street food market", "in a glass elevator", "outside an art gallery"),
    ),
    "home": (
        ("home", "cosy", "cozy", "cook", "bake", "book", "cat", "dog", "tea", "coffee", "family", "warm", "zuhause", "gemütlich"),
        ("reading by the window", "pouring tea", "kneading dough with floury hands", "wrapped in a knitted blanket",
         "watering house plants", "writing in a journal", "lighting candles", "laughing over breakfast"),
        ("in a sunlit kitchen", "on a window seat", "on a worn velvet sofa", "in a small reading corner", "on a balcony full of plants",
         "at a wooden table", "in front of a fireplace", "in a quiet bedroom"),
    ),
    "outdoor": (
        ("nature", "travel", "advent", "hike", "outdoor", "sea", "surf", "beach", "mountain", "explor", "wander", "natur", "reise"),
        ("lacing up hiking boots", "looking over the valley", "running through shallow water", "setting up a tent",
         "drinking from a tin cup", "balancing on driftwood", "unfolding a paper map", "resting on a sun-warmed rock"),
        ("on a mountain ridge", "on a windy beach", "beside a waterfall", "on a wooden pier", "in a field of wildflowers",
         "at a desert viewpoint", "on a coastal path", "at a campfire by the lake"),
    ),
    "sport": (
        ("fitness", "sport", "gym", "yoga", "run", "athlet", "train", "dance", "danc", "boxing", "climb"),
        ("stretching before a run", "tying running shoes", "holding a yoga pose", "chalking hands before a climb",
         "catching breath after a sprint", "wrapping hands for boxing", "drinking water after training", "jumping mid-air"),
        ("on a running track", "in a bright gym", "in an empty dance studio", "on a beach at low tide", "at a climbing wall",
         "in a city park", "on a rooftop yoga deck", "on a forest trail"),
    ),
    "art": (
        ("art", "paint", "music", "sing", "guitar", "photograph", "creative", "poet", "writer", "design", "kunst", "musik"),
        ("painting a large canvas", "tuning an old guitar", "sketching in a notebook", "looking through a film camera",
         "playing the piano", "arranging dried flowers", "mixing colours on a palette", "humming over handwritten notes"),
        ("in a bright studio", "on a small stage", "in a record shop", "in a museum hall", "on a paint-splashed floor",
         "backstage between curtains", "in an attic with a skylight", "at a market of old books"),
    ),
    "tech": (
        ("tech", "cod", "robot", "science", "space", "hack", "game", "gaming", "future", "engineer", "ai "),
        ("soldering a small circuit", "typing between two screens", "adjusting a telescope", "wearing headphones, deep in thought",
         "holding a tiny robot", "drawing a plan on glass", "playing a retro arcade game", "looking at a hologram"),
        ("in a workshop full of tools", "in a server room with blue light", "in an observatory", "in a retro arcade",
         "at a standing desk at night", "in a glass laboratory", "in a garage studio", "under a dome of stars"),
    ),
}  # fmt: skip
_GENERAL: tuple[tuple[str, ...], tuple[str, ...]] = (
    ("laughing at something off camera", "looking back over the shoulder", "holding a cup of coffee", "walking towards the camera",
     "reading a letter", "with eyes closed, face to the sun", "carrying a bunch of flowers", "waiting with a small suitcase"),
    ("in a quiet side street", "in a garden after the rain", "at a corner café", "on a train by the window", "on a bridge over the river",
     "in a greenhouse", "at an open window", "on the steps of an old house"),
)  # fmt: skip
_LIGHT = ("soft morning light", "golden hour", "blue hour", "overcast daylight", "light rain", "warm lamplight", "backlit by a low sun",
          "the first light of dawn", "candlelight", "bright noon sun", "drifting fog", "the glow of a shop window")  # fmt: skip
_VIEW = ("close-up", "half-length shot", "full-length shot", "wide shot with much sky", "seen from behind", "candid moment",
         "low angle", "shot through a window", "detail in the foreground")  # fmt: skip
_SEASON = {"autumn": "fallen leaves", "fall": "fallen leaves", "winter": "fresh snow", "spring": "blossoming trees", "summer": "heat haze",
           "christmas": "fairy lights and fir branches", "halloween": "carved pumpkins"}  # fmt: skip


def compose_ideas(request: IdeasRequest) -> list[str]:
    """Return up to `request.count` prompts, none of them in `avoid`; the same request gives the same ones."""
    rng = random.Random(f"{request.name}|{request.theme}|{request.seed}|{request.backstory}")
    known = {_bare(text) for text in (*request.avoid, *request.recent)}
    about = _about(request)
    banks = _banks(f"{request.theme} {request.personality} {request.backstory} {request.style} {' '.join(about)}")
    own_places = [
        place for text in about for place in read_scene(text, name=request.name).places if len(place.split()) <= 8
    ]
    theme = " ".join(request.theme.split())[:120].strip(" ,.")
    season = next((scene for word, scene in _SEASON.items() if word in theme.casefold()), "")
    ideas: list[str] = []
    seen: set[tuple[str, str]] = set()
    for doing, place in _pairs(banks, rng):
        if len(ideas) == request.count:
            break
        if own_places and rng.random() < 0.25:
            place = rng.choice(own_places)
        if (doing, place) in seen:
            continue
        seen.add((doing, place))
        extras = [rng.choice(_LIGHT)]
        if season and rng.random() < 0.7:
            extras.append(season)
        elif theme and not season:
            extras.append(theme)
        if (quest := _quest(about)) and rng.random() < 0.35:
            extras.insert(0, quest)
        if rng.random() < 0.6:
            extras.append(rng.choice(_VIEW))
        text = ", ".join([f"{doing} {place}", *extras])
        if _bare(text) not in known:
            known.add(_bare(text))
            ideas.append(text)
    return ideas


def _about(request: IdeasRequest) -> list[str]:
    return [text for pair in request.narratives for text in pair if text] + [request.backstory]


def _quest(about: list[str]) -> str:
    """Return what the story of today is about as a doing: "searching for a legendary crystal"."""
    for text in about:
        found = re.search(r"\b(?:is|are|was)\s+(\w+ing\s+(?:\w+[\s-]?){1,6})", text)
        if found:
            return found[1].strip()
    return ""


def _banks(text: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return (doings, places) of the themes the text calls for, best first, the general ones last."""
    scores = {
        name: sum(1 for hint in hints if re.search(rf"\b{re.escape(hint)}", text, re.IGNORECASE))
        for name, (hints, _, _) in _THEMES.items()
    }
    chosen = sorted((name for name, score in scores.items() if score), key=lambda name: -scores[name])[:2]
    return [*(_THEMES[name][1:] for name in chosen), _GENERAL]


def _pairs(banks: list[tuple[tuple[str, ...], tuple[str, ...]]], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Every doing with every place of its bank, spread so that neither comes twice in a row."""
    for doings, places in banks:
        ordered, around = list(doings), list(places)
        rng.shuffle(ordered)
        rng.shuffle(around)
        for shift in range(len(around)):
            for number, doing in enumerate(ordered):
                yield doing, around[(number + shift) % len(around)]


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
