"""What people might write for an avatar: sentences or tags, synonyms, things left out, made-up names."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tools.starter_model.avatar import Avatar
from tools.starter_model.palette import COLOURS

Words = Mapping[str, Sequence[str]]

HAIR_WORDS: Words = {
    "blonde": ("blonde", "blond", "yellow", "golden"), "white": ("white", "silver", "gray", "grey"),
    "orange": ("orange", "ginger"), "black": ("black", "dark"), "red": ("red", "crimson"), "pink": ("pink",),
    "purple": ("purple", "violet"), "blue": ("blue",), "green": ("green",), "brown": ("brown", "brunette"),
}  # fmt: skip
COLOUR_WORDS: Words = {
    "gray": ("gray", "grey"), "teal": ("teal", "turquoise", "cyan"), "purple": ("purple", "violet"), "red": ("red",),
    "black": ("black",),
}  # fmt: skip
SCENE_WORDS: Words = {
    "beach": ("on a beach", "at the beach", "beach background", "tropical beach, sea"),
    "forest": ("in a forest", "forest background", "in the woods", "among trees"),
    "space": ("in space", "starry night sky background", "night sky with stars", "at night, stars, moon"),
    "city": ("in a city", "city background", "in front of skyscrapers", "city street, buildings"),
    "mountains": ("in the mountains", "mountains background", "mountain landscape"),
    "sunset": ("at sunset", "sunset background", "sunset over the sea"),
    "snow": ("in the snow", "snowy background", "winter, snowing"),
    "library": ("in a library", "bookshelf background", "in front of books"),
}
MOOD_WORDS: Words = {
    "smiling": ("smiling", "happy", "with a smile", "friendly"), "laughing": ("laughing", "big laugh", "joyful"),
    "neutral": ("neutral expression", "serious", "calm", ""), "sad": ("sad", "frowning", "unhappy"),
    "surprised": ("surprised", "shocked", "amazed"), "angry": ("angry", "furious", "gritting teeth"),
    "winking": ("winking", "playful wink"),
}  # fmt: skip
CLOTHES_WORDS: Words = {
    "t-shirt": ("t-shirt", "tshirt", "shirt", "top"), "hoodie": ("hoodie",),
    "suit": ("suit", "suit and tie", "jacket and tie"), "striped shirt": ("striped shirt", "striped t-shirt"),
    "dress": ("dress",), "sweater": ("sweater", "turtleneck", "turtleneck sweater"),
}  # fmt: skip
EYEWEAR_WORDS: Words = {
    "glasses": ("glasses", "round glasses", "eyeglasses"), "square glasses": ("square glasses", "rectangular glasses"),
    "sunglasses": ("sunglasses", "dark sunglasses", "shades"), "eyepatch": ("eyepatch", "an eyepatch", "pirate eyepatch"),
}  # fmt: skip
HAIRSTYLE_WORDS: Words = {
    "short": ("short {} hair", "short {} haircut"), "long": ("long {} hair",),
    "bob": ("{} bob haircut", "{} bob hair", "{} bob with bangs"), "curly": ("curly {} hair", "{} afro", "{} curls"),
    "spiky": ("spiky {} hair",), "bun": ("{} hair in a bun", "{} bun"),
    "ponytail": ("{} ponytail", "{} hair in a ponytail"), "pigtails": ("{} pigtails", "{} twin tails", "{} twintails"),
    "mohawk": ("{} mohawk",), "bald": ("bald",),
}  # fmt: skip
SKIN_WORDS: Words = {
    "pale": ("pale skin", "very fair skin"), "light": ("light skin", "fair skin"), "tan": ("tan skin", "tanned skin"),
    "brown": ("brown skin",), "dark": ("dark skin", "black skin"),
}  # fmt: skip
PERSON_WORDS: Words = {
    "woman": ("woman", "woman", "woman", "girl", "lady", "female"), "man": ("man", "man", "man", "boy", "guy", "male"),
}  # fmt: skip
MEDIA = (
    "portrait of", "a portrait of", "photo of", "a photo of", "picture of", "an image of", "avatar of",
    "cartoon avatar of", "a cartoon of", "illustration of", "drawing of", "a drawing of", "character portrait,",
    "selfie of", "profile picture of", "",
)  # fmt: skip
QUALITY = (
    "masterpiece", "best quality", "high quality", "highly detailed", "4k", "8k", "sharp focus", "professional",
    "soft lighting", "studio lighting", "cinematic", "beautiful", "digital art", "flat style", "vector art", "detailed",
    "anime style", "concept art", "cute", "portrait", "realistic", "natural light",
)  # fmt: skip
SYLLABLES = (
    "lu", "na", "mi", "ra", "ko", "zor", "vex", "el", "ta", "shi", "ber", "an", "do", "kai", "jo", "sa", "ri", "mo",
    "quin", "th", "o", "wx", "sk", "s", "tok", "char", "el", "ia", "em", "ma", "ol", "iv", "er", "leo", "max", "zoe",
    "my", "sub", "ject", "x", "z", "77", "1", "2", "_", "v1", "al", "ex", "bob", "fox", "nova", "ivy", "ru", "by",
)  # fmt: skip
_MOOD_ADJECTIVES = {
    "smiling", "happy", "laughing", "joyful", "serious", "calm", "sad", "frowning", "unhappy", "surprised", "shocked",
    "amazed", "angry", "furious", "winking", "friendly",
}  # fmt: skip


def made_up_name(rng: random.Random) -> str:
    """Return a name nobody has; with such names in the captions an unknown trigger word is neutral to the model."""
    name = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 4)))
    chance = rng.random()
    for limit, ending in ((0.15, "_character"), (0.2, "_person"), (0.24, " person"), (0.3, " character")):
        if chance < limit:
            return name + ending
    return name


def plain(words: Words, key: str) -> str:
    """Return the first, most usual word for a key; the key itself where there is none."""
    return words.get(key, (key,))[0]


def where(ground: str) -> str:
    """Return the usual words for a background."""
    return plain(SCENE_WORDS, ground) if ground in SCENE_WORDS else f"{ground} background"


def caption(avatar: Avatar, rng: random.Random) -> str:
    """Return one caption at random: 60 % sentences, otherwise shuffled tags; lower case for the most part."""
    parts = _Parts(avatar, rng)
    text = parts.sentence() if rng.random() < 0.6 else parts.tags()
    if rng.random() < 0.18:
        quality = ", ".join(rng.sample(QUALITY, rng.randint(1, 4)))
        text = f"{quality}, {text}" if rng.random() < 0.4 else f"{text}, {quality}"
    if rng.random() < 0.1:
        text = text.capitalize()
    return " ".join(text.split()).strip(" ,")


def _any(words: Words, key: str, rng: random.Random) -> str:
    return rng.choice(words.get(key, (key,)))


class _Parts:
    """The pieces of one caption; None where a piece is left out."""

    def __init__(self, avatar: Avatar, rng: random.Random) -> None:
        self.rng = rng
        self.person = self._person(avatar)
        self.hair = self._hair(avatar)
        seen = avatar.kind in ("human", "elf")
        self.eyes = None
        if self._mention(0.4) and seen and avatar.eyewear != "sunglasses":
            self.eyes = f"{_any(COLOUR_WORDS, avatar.eyes, rng)} eyes"
        self.skin = _any(SKIN_WORDS, avatar.skin, rng) if self._mention(0.5) and seen else None
        self.mood = _any(MOOD_WORDS, avatar.mood, rng) if self._mention(0.8) else None
        self.eyewear = None
        if avatar.eyewear and self._mention(0.96):
            self.eyewear = rng.choice(EYEWEAR_WORDS[avatar.eyewear])
        self.hat = self._hat(avatar)
        self.beard = avatar.beard if avatar.beard and self._mention(0.95) else None
        if self.beard and rng.random() < 0.3:
            self.beard = "bearded" if self.beard == "beard" else "moustache"
        self.wear = self._wear(avatar)
        self.ground = self._ground(avatar)
        self.frame = self._frame(avatar)
        self.grey = rng.choice(["black and white", "grayscale", "monochrome"]) if avatar.grey else None
        self.name = made_up_name(rng) if rng.random() < 0.15 else None

    def _mention(self, share: float) -> bool:
        return self.rng.random() < share

    def _person(self, avatar: Avatar) -> str:
        person = self.rng.choice(PERSON_WORDS[avatar.who])
        if avatar.kind != "human":
            kinds = {"elf": ("elf", f"elf {person}"), "alien": ("alien",), "robot": ("robot", "android")}
            return self.rng.choice(kinds[avatar.kind])
        if self.rng.random() < 0.1:
            return self.rng.choice(["person", "character"])
        return person

    def _hair(self, avatar: Avatar) -> str | None:
        if avatar.kind in ("alien", "robot"):
            return None
        if avatar.hair == "bald":
            return "bald"
        with_colour, with_style = self._mention(0.9), self._mention(0.85)
        colour = _any(HAIR_WORDS, avatar.hair_colour, self.rng) if with_colour else ""
        if with_style:
            return " ".join(self.rng.choice(HAIRSTYLE_WORDS[avatar.hair]).format(colour).split())
        return f"{colour} hair" if with_colour else None

    def _hat(self, avatar: Avatar) -> str | None:
        rng, kind = self.rng, avatar.hat
        if not kind or not self._mention(0.96):
            return None
        text = kind
        if kind not in ("crown", "cat ears") and self._mention(0.85):
            text = f"{_any(COLOUR_WORDS, avatar.hat_colour, rng)} {kind}"
        if kind == "flower":
            text += " in hair" if rng.random() < 0.7 else ""
        if kind == "cap" and rng.random() < 0.25:
            text = text.replace("cap", "baseball cap")
        if kind in ("cap", "beanie") and rng.random() < 0.12:
            text = text.replace(kind, "hat")
        if kind == "witch hat" and rng.random() < 0.3:
            text = text.replace("witch", "wizard")
        return text

    def _wear(self, avatar: Avatar) -> str | None:
        if not self._mention(0.85):
            return None
        usual = self._mention(0.92)
        text = self.rng.choice(CLOTHES_WORDS[avatar.wear]) if usual else self.rng.choice(["shirt", "clothes", "outfit"])
        return f"{_any(COLOUR_WORDS, avatar.wear_colour, self.rng)} {text}" if self._mention(0.92) else text

    def _ground(self, avatar: Avatar) -> str | None:
        if avatar.ground not in COLOURS:
            return self.rng.choice(SCENE_WORDS[avatar.ground]) if self._mention(0.93) else None
        if not self._mention(0.85):
            return None
        colour = _any(COLOUR_WORDS, avatar.ground, self.rng)
        frames = ("{} background", "plain {} background", "on a {} background", "{} backdrop", "simple {} background")
        return self.rng.choice(frames).format(colour)

    def _frame(self, avatar: Avatar) -> str:
        rng = self.rng
        words = {"mid": rng.choice(["", "", "", "", "medium shot", "upper body"])}
        words["close"] = rng.choice(["close-up", "closeup", "close-up portrait"]) if self._mention(0.85) else ""
        words["far"] = rng.choice(["from afar", "wide shot", "small figure"]) if self._mention(0.85) else ""
        return words[avatar.frame]

    def sentence(self) -> str:
        """Return "portrait of a smiling woman with … wearing …, on a beach"."""
        rng, name = self.rng, self.name
        media = rng.choice(MEDIA)
        adjective = self._adjective()
        text = f"{media} " if media else ""
        if name and rng.random() < 0.5:
            text += f"{name}, "
            name = None
        article = "an" if (adjective or self.person)[0] in "aeiou" else "a"
        text += (f"{article} " if rng.random() < 0.85 else "") + (f"{adjective} " if adjective else "") + self.person
        features = [
            self.hair if self.hair != "bald" else None, self.eyes, self.skin, self.eyewear,
            self.beard if self.beard != "bearded" else None,
        ]  # fmt: skip
        having = [part for part in features if part]
        if rng.random() < 0.5:
            rng.shuffle(having)
        if having:
            commas = len(having) < 2 or rng.random() < 0.5
            text += " with " + (", ".join(having) if commas else ", ".join(having[:-1]) + " and " + having[-1])
        rest = [word for word, there in (("bald", self.hair), ("bearded", self.beard)) if there == word]
        if clothes := [part for part in (self.wear, self.hat) if part]:
            verb = "wearing " if rng.random() < 0.8 else "in "
            rest.append(verb + " and ".join(self._with_article(part) for part in clothes))
        rest += [part for part in (self.mood if not adjective else None, self.ground, self.frame, self.grey) if part]
        if name:
            rest.insert(0 if rng.random() < 0.5 else len(rest), name)
        return text + (", " if rest and rng.random() < 0.7 else " ") + ", ".join(rest)

    def _adjective(self) -> str | None:
        mood = self.mood
        if not mood or mood.startswith("with") or "expression" in mood or mood.split(" ")[0] not in _MOOD_ADJECTIVES:
            return None
        return mood if self.rng.random() < 0.6 else None

    def _with_article(self, noun: str) -> str:
        return ("a " if self.rng.random() < 0.8 and not noun.endswith(("s", "ears")) else "") + noun

    def tags(self) -> str:
        """Return the pieces in any order, the person often first."""
        pieces = [
            self.person, self.hair, self.eyes, self.skin, self.eyewear, self.beard, self.wear, self.hat, self.mood,
            self.ground, self.frame, self.grey, self.name,
        ]  # fmt: skip
        tags = [piece for piece in pieces if piece]
        self.rng.shuffle(tags)
        if self.rng.random() < 0.6:
            tags.remove(self.person)
            tags.insert(0, self.person)
        return ", ".join(tags)
