"""What a prompt shows, told in words: without weights, LoRA tags, quality words and trigger words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Words that speak of the file or the model, not of what can be seen. Whole phrases between commas.
_QUALITY = re.compile(
    r"""(?:
    (?:absurdly|extremely|very|ultra|super|highly|hyper|insanely|intricate(?:ly)?|best|high|top|amazing|incredible|perfect|
       good|great|rich|fine|sharp|crisp|soft|shallow|deep|professional|award[- ]winning|stunning|absurd)?[\s-]*
    (?:masterpiece|master[- ]?piece|quality|resolution|res|detail(?:s|ed)?|hd|uhd|hdr|4k|8k|16k|2k|absurdres|highres|
       photo[- ]?realis(?:m|tic)|hyper[- ]?realis(?:m|tic)|realistic|realism|raw|raw\ photo|photograph|photography|
       sharp(?:ness)?|focus|depth\ of\ field|dof|bokeh|film\ grain|grain|cinematic|cinematic\ (?:light(?:ing)?|shot|look)|
       octane(?:\ render)?|unreal\ engine(?:\ \d)?|ray[- ]?tracing|render(?:ed|ing)?|3d|cgi|artstation|deviantart|pixiv|
       trending(?:\ on\ \w+)?|wallpaper|illustration|concept\ art|digital\ (?:art|painting)|dslr|slr|canon(?:\ eos)?\ ?\w*|
       nikon\ ?\w*|sony\ a\w*|leica\ ?\w*|kodak\ ?\w*|fujifilm\ ?\w*|\d{2,3}\s?mm(?:\ lens)?|f\s?/?\s?\d(?:\.\d)?|iso\s?\d+|
       lens|proportions|anatomy|hands|face|eyes|skin(?:\ texture)?|texture[sd]?|composition|symmetr(?:y|ical)|aesthetic|
       vivid\ colou?rs|lighting|light|shot|style|look|award[- ]winning|beautiful|gorgeous|stunning|score_\d+(?:_up)?|
       rating[:_ ]\w+|source[:_ ]\w+|solo|solo\ focus|[1-6](?:girl|boy|woman|man|other)s?|no\ humans|looking\ at\ viewer|
       (?:upper|full|half|lower)[- ]body|close[- ]?up|portrait|medium\ shot|wide\ shot|cowboy\ shot|from\ (?:above|below|behind|side)|
       simple\ background|detailed\ background|blurr?(?:y|ed)\ background|white\ background|instagram|selfie\ style)
    (?:\ (?:photo|image|picture|quality|lighting|light|background|shot|render|colou?rs|focus|details?|lens|style|art))?
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# "a beautiful portrait of …", "photo of …": what comes after is the scene.
_FRAME = re.compile(
    r"^(?:(?:an?|the|one|some|eine?|das)\s+)?(?:(?:beautiful|schönes?|stunning|gorgeous|detailed|realistic|cinematic|candid|close[- ]?up|raw|full[- ]body|"
    r"half[- ]body|upper[- ]body|medium|wide|high quality|professional|dreamy|artistic|moody|black and white|analog|studio)\s+)*"
    r"(?:portrait|photo(?:graph)?|picture|image|shot|selfie|painting|illustration|drawing|rendering|render|close[- ]?up|snapshot|"
    r"porträt|foto|bild|aufnahme|zeichnung|gemälde)(?:\s+(?:photo|shot))?\s+(?:of|von|einer|eines|showing|with)\s+",
    re.IGNORECASE,
)
# The person the picture is of; the caption says "I" instead.
_SUBJECT = re.compile(
    r"^(?:(?:an?|the|one|eine?|die|der)\s+)?(?:(?:beautiful|pretty|young|attractive|cute|gorgeous|handsome|lovely|elegant|confident|"
    r"mysterious|mystical|smiling|blonde?|brunette|redhead|adult|(?:\d{2}|twenty|thirty)[- ]year[- ]old|schöne|junge)\s+)*"
    r"(?:woman|girl|lady|man|boy|guy|person|female|male|model|influencer|character|witch|elf|princess|queen|goddess|frau|mädchen|mann|"
    r"she|he|they)\b\s*",
    re.IGNORECASE,
)
_LORA = re.compile(r"<[^<>]{1,200}>")
_EMBEDDING = re.compile(r"\bembedding:\S+", re.IGNORECASE)
_WEIGHTED = re.compile(r"[(\[]([^()\[\]]{0,400}?)(?::\s*[-+]?\d*\.?\d+)?[)\]][+-]*")
_LEFT_WEIGHT = re.compile(r":\s*[-+]?\d*\.\d+\b|(?<=\w)\+{1,4}(?=\s|,|$)|[()\[\]{}|\\]")
_BREAK = re.compile(r"\b(?:BREAK|AND|ADDCOMM|ADDBASE)\b")
_WILDCARD = re.compile(r"__[\w-]+__")
_CREDIT = re.compile(
    r"^(?:art\s+|painted\s+)?by\s+(?!(?:the|an?|her|his|my|some)\b)\w+(?:\s+\w+){1,4}$|\bin the style of\b.*$|^style of\b.*$"
    r"|^(?:shot|taken|captured|photographed|filmed)\s+(?:on|with|by|using|at)\s.*$",
    re.IGNORECASE,
)
_PREPOSITIONS = (
    "in the middle of", "in front of", "on top of", "next to", "close to", "in", "at", "on", "under", "beneath", "by", "near",
    "beside", "among", "amid", "amidst", "between", "inside", "outside", "within", "along", "above", "below", "behind",
    "through", "across", "around", "against", "beyond", "im", "am", "in der", "in dem", "in einem", "in einer", "auf", "unter",
    "neben", "vor", "hinter", "bei", "beim", "zwischen", "an", "aus", "über",
)  # fmt: skip
_PLACE = re.compile(
    r"\b(?:" + "|".join(sorted((re.escape(p) for p in _PREPOSITIONS), key=len, reverse=True)) + r")\s+\w.*",
    re.IGNORECASE,
)
_NOT_PLACES = re.compile(
    r"^(?:in|with|an?|im|in (?:an?|the|her|his|einem|einer)?)\s*(?:\w+\s+){0,3}(?:dress|suit|shirt|jeans|jacket|coat|skirt|hat|gown|outfit|"
    r"sweater|hoodie|kleid|anzug|hemd|jacke|mantel|rock|pullover|bikini|style|mood|colou?rs?|light|focus|motion|love|thought|detail|"
    r"black and white|profile|boots|heels|stil)s?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scene:
    """A prompt taken apart. `text` is all of it in plain words; the lists are its phrases by kind.

    places: "in a magical forest". actions: "wearing a red dress", "drinking coffee". things: "silver moonlight".
    """

    text: str = ""
    places: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    things: list[str] = field(default_factory=list)

    @property
    def phrases(self) -> list[str]:
        return [part.strip() for part in self.text.split(", ") if part.strip()]


def read_scene(prompt: str, *, trigger: str = "", name: str = "", drop: Iterable[str] = ()) -> Scene:
    """Take a prompt apart; an empty one, or one of quality words only, gives an empty scene.

    drop: phrases that say nothing about the picture: the character's style and mood.
    """
    unwanted = {part.strip().casefold() for text in drop for part in (text, *text.split(","))}
    text = _plain(prompt[:5000])
    phrases: list[str] = []
    for raw in re.split(r"[,;\n]|\.(?=\s|$)|\s[—–]\s", text):
        phrase = _phrase(raw, trigger, name)
        if phrase and phrase.casefold() not in unwanted | {p.casefold() for p in phrases}:
            phrases.append(phrase)
    scene = Scene(text=", ".join(phrases))
    for phrase in phrases[:24]:
        _sort(phrase, scene)
    return scene


def alt_text(scene: Scene, name: str = "", *, german: bool = False) -> str:
    """Describe the picture for people who cannot see it, from the prompt alone."""
    what = ", ".join(scene.phrases)
    who = name.strip()
    if not what:
        if german:
            return f"Bild von {who}." if who else "Ein Bild."
        return f"A picture of {who}." if who else "A picture."
    first = what.split(" ", 1)[0].casefold()
    if who and (first.endswith("ing") or first in _FIRST_WORDS):
        what = f"{who} {what}"
    elif who:
        what = f"{who}: {what}"
    what = what[0].upper() + what[1:]
    return what if what.endswith((".", "!", "?", "…")) else what + "."


def _plain(prompt: str) -> str:
    text = _WILDCARD.sub(" ", _EMBEDDING.sub(" ", _LORA.sub(" ", prompt)))
    text = text.replace("\\(", "(").replace("\\)", ")")
    for _ in range(6):  # weights nest: ((x:1.2))
        text, count = _WEIGHTED.subn(r"\1", text)
        if not count:
            break
    text = _LEFT_WEIGHT.sub(" ", _BREAK.sub(",", text))
    text = re.sub(r"https?://\S+|[#@]\w+", " ", text)
    return re.sub(r"[ \t]+", " ", text.replace("_", " ") if "_" in text and " " not in text.strip() else text)


def _phrase(raw: str, trigger: str, name: str) -> str:
    """Return one phrase in plain words, '' when nothing of it can be seen in the picture."""
    text = " ".join(raw.split()).strip(" -:\"'“”")
    first = name.split()[0] if name.split() else ""
    for word in (trigger.strip(), name.strip(), first if len(first) > 2 and first.lower() != "the" else ""):
        if word:
            text = re.sub(rf"(?<!\w){re.escape(word)}(?:'s)?(?!\w)", " ", text, flags=re.IGNORECASE)
    text = " ".join(text.split())
    text = _FRAME.sub("", text).strip()
    if re.fullmatch(
        r"(?:an?\s+|the\s+)?(?:\w+\s+)?(?:portrait|photo|picture|image|selfie|shot|close-?up)(?:\s+of)?", text, re.I
    ):
        return ""
    text = _FRAME.sub("", text + " ").strip()
    text = _SUBJECT.sub("", text).strip()
    text = re.sub(r"^(?:with|who is|is|of|and|mit|und)\s+(?=\w+ing\b)", "", text, flags=re.IGNORECASE)
    text = re.sub(r"^(?:of|and|und|von|the|a|an)$", "", text, flags=re.IGNORECASE)
    text = re.sub(r"^(?:of|and|und)\s+", "", text, flags=re.IGNORECASE)
    text = _CREDIT.sub("", text).strip(" ,.-")
    if not text or _QUALITY.fullmatch(text) or _QUALITY.fullmatch(re.sub(r"^(?:an?|the)\s+", "", text)):
        return ""
    text = re.sub(r"(?<![\w-])(?:masterpiece|best quality|8k|4k|uhd|highly detailed|ultra[- ]detailed|photorealistic|artstation)(?![\w-])",
                  "", text, flags=re.IGNORECASE)  # fmt: skip
    text = " ".join(text.split()).strip(" ,.-")
    if not re.search(r"[^\W\d_]{2,}", text) or re.fullmatch(r"[a-z]+_[a-z_0-9]+", text):
        return ""
    return text[:160]


def _sort(phrase: str, scene: Scene) -> None:
    lower = phrase.casefold()
    first = lower.split(" ", 1)[0]
    if first.endswith("ing") and len(first) > 4 and first not in ("evening", "morning", "spring", "ceiling", "clothing", "building", "wedding", "lightning", "string", "ring", "king", "wing"):  # fmt: skip
        scene.actions.append(phrase)
        inside = _PLACE.search(phrase)
        if inside is not None and not _NOT_PLACES.match(inside[0]) and 2 < len(inside[0].split()) < 9:
            scene.places.append(inside[0])
        return
    if first == "mit" or first == "with":
        rest = phrase.split(" ", 1)[1] if " " in phrase else ""
        if rest:
            scene.things.append(rest)
        return
    found = _PLACE.search(phrase)
    if found is not None and not _NOT_PLACES.match(found[0]) and len(found[0]) <= 90:
        scene.places.append(found[0])
        before = phrase[: found.start()].strip(" ,")
        if before and len(before.split()) <= 6:
            (scene.actions if before.split()[0].casefold().endswith("ing") else scene.things).append(before)
        return
    if found is not None and found.start() == 0:
        scene.things.append(phrase.split(" ", 1)[1])  # "in a red dress"
        return
    if len(phrase.split()) <= 8:
        scene.things.append(phrase)


_FIRST_WORDS = {p.split()[0] for p in _PREPOSITIONS} | {"with", "wearing"}
