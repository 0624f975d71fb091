"""How long a text is for a platform, and what else is wrong with it; trimming that cuts nothing in two.

X counts by weight (its twitter-text rules, version 3): Latin letters and most punctuation 1, everything else 2, an
emoji sequence 2, an address 23, bare `example.com` included. Others count characters (Unicode code points).

Own code instead of the twitter-text library, whose patterns take seconds on texts such as `http://a.a.a.a…`: here every
step is linear. static/js/text-limits.js is the same in the browser; tests compare the two, and both with the library.
Not done: X's check of international domain names (an impossible one counts as an address here).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from dalla.records.platform import Issue, TextRules

LINK_WEIGHT = 23
ELLIPSIS = "…"
_WEIGHT_ONE = ((0x0000, 0x10FF), (0x2000, 0x200D), (0x2010, 0x201F), (0x2032, 0x2037))
_FORBIDDEN = re.compile("[\ufffe\ufeff\uffff]")

# Emoji: a base with its variation or skin tone, joined ones, flags, keycaps, the flags of England, Scotland and Wales.
_BASE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa"
    "\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2604\u260e\u2611\u2614\u2615\u2618\u261d\u2620\u2622\u2623\u2626"
    "\u262a\u262e\u262f\u2638-\u263a\u2640\u2642\u2648-\u2653\u265f\u2660\u2663\u2665\u2666\u2668\u267b\u267e\u267f"
    "\u2692-\u2697\u2699\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab\u26b0\u26b1\u26bd\u26be\u26c4\u26c5\u26c8\u26ce\u26cf"
    "\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa\u26fd\u2702\u2705\u2708-\u270d\u270f\u2712\u2714\u2716"
    "\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c\u274e\u2753-\u2755\u2757\u2763\u2764\u2795-\u2797\u27a1\u27b0\u27bf"
    "\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299"
    "\U0001f004\U0001f0cf\U0001f170\U0001f171\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a\U0001f201\U0001f202"
    "\U0001f21a\U0001f22f\U0001f232-\U0001f23a\U0001f250\U0001f251\U0001f300-\U0001f64f\U0001f680-\U0001f6ff"
    "\U0001f7e0-\U0001f7eb\U0001f7f0\U0001f90c-\U0001f9ff\U0001fa70-\U0001faff]"
)
_ONE = f"{_BASE}(?:[\U0001f3fb-\U0001f3ff]|\ufe0f)?"
_EMOJI = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"
    "|[0-9#*]\ufe0f?\u20e3"
    "|\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
    f"|{_ONE}(?:\u200d{_ONE})*"
)

# Addresses, character by character as twitter-text has them.
_MARKS = "\u202a-\u202e\u061c\u200e\u200f\u2066-\u2069"
_SPACES = "\u0009-\u000d\u0020\u0085\u00a0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_DOMAIN = rf"!'#%&()*+,\\\-./:;<=>?@\[\]^_{{|}}~${_SPACES}\ufffe\ufeff\uffff{_MARKS}"
_LATIN = "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0253\u0254\u0256\u0257\u0259\u025b\u0263\u0268\u026f\u0272\u0289\u028b\u02bb\u0300-\u036f\u1e00-\u1eff"
_RUN = re.compile(rf"(?:[^{_NOT_DOMAIN}]|[.\-_])+")
_PROTOCOL = re.compile(r"https?://", re.IGNORECASE)
_REFUSED_BEFORE = re.compile("[A-Za-z0-9@＠$#＃\ufffe\ufeff\uffff]")
_PATH_CHARS = rf"a-zA-Z\u0400-\u04ff0-9!*';:=+,.$/%#\[\]\-\u2013_~@|&{_LATIN}"
_PARENTHESES = re.compile(rf"\((?:[{_PATH_CHARS}]+|[{_PATH_CHARS}]*\([{_PATH_CHARS}]+\)[{_PATH_CHARS}]*)\)")
_PATH_RUN = re.compile(rf"[{_PATH_CHARS}]+")
_PATH_END = re.compile(rf"[+\-a-zA-Z\u0400-\u04ff0-9=_#/{_LATIN}]")
_QUERY = re.compile(r"\?[a-zA-Z0-9!?*'@();:&=+$/%#\[\]\-_.,~|]*")
_QUERY_END = re.compile(r"[a-zA-Z0-9\-_&=#/]")
_PORT = re.compile(r":[0-9]+")
_TCO = re.compile(r"https?://t\.co/([a-z0-9]+)", re.IGNORECASE)
_MENTION = re.compile(r"(?<![A-Za-z0-9_!#$%&*@＠.])[@＠][A-Za-z0-9_](?:[A-Za-z0-9_.]*[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Measure:
    """What a text amounts to: `used` of `maximum` in the platform's own count, and how many of what."""

    used: int
    maximum: int
    hashtags: int
    mentions: int
    links: int


@dataclass(frozen=True)
class Span:
    """A part of a text, in code points."""

    start: int
    end: int
    text: str


def normalized(text: str) -> str:
    """Return the text as X counts it: composed characters (NFC), lines ended by \\n."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def weighted_length(text: str) -> int:
    """Return the length of a text as X counts it; 280 is the most a post may have."""
    text = normalized(text)
    return sum(weight for _, _, weight in _atoms(text))


def length(text: str, rules: TextRules) -> int:
    """Return the length in the platform's own count."""
    return weighted_length(text) if rules.count == "weighted" else len(text.replace("\r\n", "\n"))


def measure(text: str, rules: TextRules) -> Measure:
    """Measure a text for a platform."""
    clean = normalized(text)
    links = find_links(clean)
    bare = _without(clean, links)
    return Measure(
        length(text, rules), rules.max_length, len(find_hashtags(bare)), len(_MENTION.findall(bare)), len(links)
    )


def issues(platform_label: str, text: str, rules: TextRules) -> list[Issue]:
    """Return what is wrong with a caption. The sentences are the same as in static/js/text-limits.js."""
    found: list[Issue] = []

    def add(level: str, code: str, message: str, remedy: str | None = None) -> None:
        found.append(Issue("error" if level == "error" else "warning", code, message, "caption", remedy))

    m = measure(text, rules)
    unit = "weighted characters" if rules.count == "weighted" else "characters"
    if m.used > m.maximum:
        over = f"{m.used - m.maximum:,}"
        add(
            "error",
            "caption_too_long",
            f"{platform_label} takes {m.maximum:,} {unit}; this text has {m.used:,}.",
            f"Shorten it by {over}.",
        )
    if not text.strip() and not rules.caption_optional:
        add("error", "caption_empty", f"{platform_label} needs a text.", "Write a caption.")
    if rules.max_hashtags is not None and m.hashtags > rules.max_hashtags:
        add(
            "error",
            "too_many_hashtags",
            f"{platform_label} takes at most {rules.max_hashtags} hashtags; this text has {m.hashtags}.",
            f"Remove {m.hashtags - rules.max_hashtags}.",
        )
    elif rules.warn_hashtags is not None and m.hashtags > rules.warn_hashtags:
        add(
            "warning",
            "many_hashtags",
            f"{platform_label} counts only {rules.warn_hashtags} hashtags; this text has {m.hashtags}.",
            f"Keep the best {rules.warn_hashtags}.",
        )
    if rules.max_mentions is not None and m.mentions > rules.max_mentions:
        add(
            "error",
            "too_many_mentions",
            f"{platform_label} takes at most {rules.max_mentions} mentions; this text has {m.mentions}.",
            f"Remove {m.mentions - rules.max_mentions}.",
        )
    if rules.warn_links and m.links:
        add("warning", "links", rules.warn_links)
    if rules.count == "weighted" and _FORBIDDEN.search(text):
        add(
            "error",
            "forbidden_characters",
            f"The text has an invisible character that {platform_label} refuses.",
            "Type the text anew instead of pasting it.",
        )
    return found


def trim(text: str, rules: TextRules) -> str:
    """Return the text shortened to what the platform takes, ending in "…"; unchanged when it fits.

    Cuts between words where it can, and never inside an address, hashtag, mention or emoji.
    """
    if length(text, rules) <= rules.max_length:
        return text
    text = normalized(text)
    room = rules.max_length - (2 if rules.count == "weighted" else 1)
    while True:
        short = _cut(text, room, rules.count == "weighted").rstrip().rstrip(",;:-–—(").rstrip() + ELLIPSIS
        over = length(short, rules) - rules.max_length
        if over <= 0 or room <= 0:
            return short
        room -= over  # what was left over reads as an address now ("example.co" of "example.cozy")


def strip_links(text: str) -> str:
    """Return the text without addresses (bare `example.com` included), with the gaps closed."""
    text = normalized(text)
    links = find_links(text)
    if not links:
        return text
    for link in reversed(links):
        text = text[: link.start] + text[link.end :]
    text = re.sub(r"[(\[<]\s*[)\]>]", "", text)
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r" +([.,;:!?])(?=\s|$)", r"\1", text)
    return re.sub(r"[ \t]+\n", "\n", text).strip()


def _cut(text: str, room: int, weighted: bool) -> str:
    """Return the longest beginning of at most `room` that ends between two parts, at a gap where one is near."""
    end = used = 0
    for start, stop, weight in _atoms(text, words=True):
        used += weight if weighted else stop - start
        if used > room:
            break
        end = stop
    if end < len(text) and not text[end].isspace():
        gap = max((i for i in range(end) if text[i].isspace()), default=-1)
        if gap >= end * 3 // 4:  # else it is a text without spaces, and a quarter of it would be thrown away
            end = gap
    return text[:end]


# ---------------------------------------------------------------- the parts of a text


def find_links(text: str) -> list[Span]:
    """Return what X makes a link of; `text` is `normalized`."""
    found: list[Span] = []
    if "." not in text:
        return found
    position = 0  # everything before belongs to a link
    for run in _RUN.finditer(text):
        if "." not in run[0] or run.end() <= position:
            continue
        scheme = _scheme_before(text, run.start())
        if scheme is not None and scheme >= position and _may_start(text, scheme, position):
            stop, _ = _domain_end(text, run.start(), run.end())
            if stop:
                position = url_end = _rest(text, stop)
                short = _TCO.match(text, scheme, url_end)
                if short:  # nothing but the code belongs to X's own short addresses; what follows is skipped
                    url_end = _query(text, short.end()) or short.end()
                if not short or len(short[1]) <= 40:
                    found.append(Span(scheme, url_end, text[scheme:url_end]))
        position = _bare(text, max(run.start(), position), run.end(), position, found)
    return found


def find_hashtags(text: str) -> list[Span]:
    """Return the hashtags (`#` or `＃` and letters, marks, digits, `_`; not digits alone)."""
    found: list[Span] = []
    i = 0
    while i < len(text):
        if text[i] in "#＃":
            end = i + 1
            while end < len(text) and _is_word(text[end]):
                end += 1
            joined = bool(found) and found[-1].end == i
            free = i == 0 or joined or not (_is_word(text[i - 1]) or text[i - 1] in "&/")
            if free and any(_is_letter(c) for c in text[i + 1 : end]):
                found.append(Span(i, end, text[i:end]))
            i = max(end, i + 1)
        else:
            i += 1
    return found


def _is_letter(char: str) -> bool:
    return unicodedata.category(char)[0] in "LM"


def _is_word(char: str) -> bool:
    return char == "_" or char in "\u200c\u200d" or unicodedata.category(char)[0] in "LMN"


def _without(text: str, spans: list[Span]) -> str:
    """Blank the spans out; positions stay."""
    for span in spans:
        text = text[: span.start] + " " * (span.end - span.start) + text[span.end :]
    return text


def _atoms(text: str, *, words: bool = False) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and weight of what may not be cut. With `words`, hashtags, mentions and accents stay whole too."""
    links = find_links(text)
    bare = _without(text, links)
    starts = {link.start: (link.end, LINK_WEIGHT) for link in links}
    for emoji in _EMOJI.finditer(bare):
        starts[emoji.start()] = (emoji.end(), 2)
    whole: dict[int, int] = {}
    if words:
        whole = {tag.start: tag.end for tag in find_hashtags(bare)}
        whole |= {m.start(): m.end() for m in _MENTION.finditer(bare)}
    i = 0
    while i < len(text):
        end, weight = starts.get(i) or (i + 1, _weight(text[i]))
        if i in whole:
            while end < whole[i]:
                step, more = starts.get(end) or (end + 1, _weight(text[end]))
                end, weight = step, weight + more
        while words and end < len(text) and unicodedata.category(text[end]) in ("Mn", "Me", "Mc"):
            weight += _weight(text[end])
            end += 1
        yield i, end, weight
        i = end


def _weight(char: str) -> int:
    code = ord(char)
    return 1 if any(low <= code <= high for low, high in _WEIGHT_ONE) else 2


# ---------------------------------------------------------------- addresses


@cache
def _top_level() -> re.Pattern[str]:
    from dalla.tlds import LATIN, OTHER

    names = "|".join(sorted(map(re.escape, [*OTHER, *LATIN]), key=lambda name: (-len(name), name)))
    return re.compile(rf"(?:{names})(?=[^0-9a-zA-Z@+-]|$)|xn--[-0-9a-z]+", re.IGNORECASE)


@cache
def _plain_domain() -> re.Pattern[str]:
    return re.compile(rf"(?:[-a-z0-9{_LATIN}]+\.)+(?:{_top_level().pattern})", re.IGNORECASE)


def _may_start(text: str, start: int, floor: int) -> bool:
    """Whether an address may begin here: at the very start, or after a character that is not part of a link."""
    return start == 0 or (start > floor and not _REFUSED_BEFORE.match(text[start - 1]))


def _scheme_before(text: str, start: int) -> int | None:
    """Return where `http://` or `https://` begins that ends at `start`."""
    for size in (8, 7):
        if start >= size and _PROTOCOL.fullmatch(text, start - size, start):
            return start - size
    return None


def _domain_end(text: str, start: int, limit: int) -> tuple[int | None, int]:
    """Read labels, dots and a top level domain from `start` on.

    Returns the end of the longest domain (None: there is none) and, without one, where the next may begin.
    """
    end, label, previous = None, start, start
    while label < limit:
        if label > start:
            top = _top_level().match(text, label)
            if top and "_" not in text[previous:label]:
                end = top.end()
        dot = text.find(".", label, limit)
        if dot < 0:
            return end, limit
        if dot == label or text[dot - 1] in "-_":
            return end, dot + 1
        if text[label] in "-_":
            return end, max(label, start + 1)
        previous, label = label, dot + 1
    return end, limit


def _bare(text: str, start: int, limit: int, floor: int, found: list[Span]) -> int:
    """Find addresses without a scheme between `start` and `limit`; return the new floor."""
    i = start
    while i < limit:
        if text[i] in "-_." or not _may_start(text, i, floor):
            i += 1
            continue
        stop, following = _domain_end(text, i, limit)
        if stop is None:
            i = max(i + 1, following)
            continue
        end = _rest(text, stop)
        if not (i and text[i - 1] in "-_./"):
            plain = list(_plain_domain().finditer(text, i, stop))
            for number, match in enumerate(plain):
                with_path = number == len(plain) - 1 and text.startswith("/", _port(text, stop))
                span_end = end if with_path else match.end()
                found.append(Span(match.start(), span_end, text[match.start() : span_end]))
        floor = i = end
    return floor


def _rest(text: str, start: int) -> int:
    """Return the end of port, path and query that follow a domain."""
    end = _port(text, start)
    if end < len(text) and text[end] == "/":
        end = _path(text, end)
    return _query(text, end) or end


def _port(text: str, start: int) -> int:
    port = _PORT.match(text, start)
    return port.end() if port else start


def _path(text: str, slash: int) -> int:
    i = good = slash + 1
    while i < len(text):
        group = _PARENTHESES.match(text, i) if text[i] == "(" else None
        if group:
            i = good = group.end()
            continue
        run = _PATH_RUN.match(text, i)
        if not run:
            break
        for j in range(run.end() - 1, i - 1, -1):
            if _PATH_END.match(text, j):
                good = j + 1
                break
        i = run.end()
    return good


def _query(text: str, start: int) -> int | None:
    match = _QUERY.match(text, start)
    if not match:
        return None
    for j in range(match.end() - 1, start, -1):
        if _QUERY_END.match(text, j):
            return j + 1
    return None
