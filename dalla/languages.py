"""Which language a caption is written in, told from its script and its commonest words. A guess, made for counting.

Captions are short and often mere tags, so there is an answer for "cannot be told": `unclear`.
"""

from __future__ import annotations

import re

#: Code -> name. `unclear`: Latin letters without a word that gives it away, or no letters at all.
LANGUAGES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "pl": "Polish", "tr": "Turkish", "sv": "Swedish", "ru": "Russian", "uk": "Ukrainian",
    "el": "Greek", "ja": "Japanese", "zh": "Chinese", "ko": "Korean", "ar": "Arabic", "fa": "Persian",
    "he": "Hebrew", "hi": "Hindi", "th": "Thai", "other": "Another script", "unclear": "Cannot be told",
}  # fmt: skip
#: Words of grammar and of pictures, folded. A word of several languages counts for each.
_WORDS = {
    "en": "a an the of and with in on her his she he is are at wearing looking standing sitting holding woman man girl "
    "boy hair eyes dress shirt smile smiling background photo portrait long short black white red blue green brown blond "
    "blonde face view from behind young solo outdoors indoors street light dark by to cat dog house beach forest",
    "de": "der die das ein eine einer einem einen und mit im am auf vor ist sind ihr ihre sein von zu frau mann mädchen "
    "junge haar haare haaren augen kleid hemd lächelt lächeln hintergrund foto bild porträt lang lange kurz schwarz "
    "schwarze weiß rot rote roter blau blaue grün steht sitzt trägt blick blonde haus strand wald hund katze",
    "fr": "le la les un une des et avec dans sur est sont elle il sa son ses du de au aux en femme homme fille garçon "
    "cheveux yeux robe chemise sourire souriante fond photo noir noire blanc blanche rouge bleu bleue vert assise debout "
    "porte regarde longs courts devant",
    "es": "el la los las un una y con en del de al su sus es está mujer hombre chica chico niña niño pelo cabello ojos "
    "vestido camisa sonrisa sonriendo fondo foto retrato negro negra blanco blanca rojo roja azul verde sentada lleva "
    "mirando largo corto",
    "it": "il lo la gli le un una e con in del della di al alla su è sono donna uomo ragazza ragazzo capelli occhi vestito "
    "camicia sorriso sfondo foto ritratto nero nera bianco bianca rosso rossa blu seduta indossa guarda lunghi corti",
    "pt": "o a os as um uma e com em no na do da de ao é são mulher homem menina menino cabelo olhos vestido camisa "
    "sorriso sorrindo fundo foto retrato preto preta branco branca vermelho azul verde sentada usando olhando não",
    "nl": "de het een en met in op voor van is zijn haar vrouw man meisje jongen ogen jurk hemd glimlach glimlacht "
    "achtergrond foto portret zwart zwarte wit witte rood rode blauw blauwe groen zit staat draagt kijkt lang kort",
    "pl": "i w z na do jest są się kobieta mężczyzna dziewczyna chłopak włosy włosami oczy sukienka sukience koszula "
    "uśmiech tło zdjęcie portret czarny czarne biały białe czerwony niebieski zielony siedzi stoi nosi patrzy długie",
    "tr": "bir ve ile için kadın adam erkek kız çocuk saç saçlı göz gözlü elbise gömlek gülümseyen arka plan fotoğraf "
    "siyah beyaz kırmızı mavi yeşil oturan ayakta giyen bakan uzun kısa",
    "sv": "en ett och med i på är hon han hennes hans av till kvinna man flicka pojke hår ögon klänning skjorta leende "
    "ler bakgrund foto porträtt svart vit röd blå grön sitter står bär tittar långt kort",
}
_OF_WORD: dict[str, list[str]] = {}
for _code, _text in _WORDS.items():
    for _word in _text.split():
        if len(_word) > 1:  # a single letter is a tag as easily as a word
            _OF_WORD.setdefault(_word, []).append(_code)
#: Letters that one of these languages has and its neighbours have not.
_LETTERS = {
    **dict.fromkeys("ß", "de"), **dict.fromkeys("ñ¿¡", "es"), **dict.fromkeys("ãõ", "pt"), **dict.fromkeys("łżźśćęą", "pl"),
    **dict.fromkeys("ğşı", "tr"), **dict.fromkeys("å", "sv"), **dict.fromkeys("œ", "fr"),
}  # fmt: skip
_SCRIPTS = [
    ("kana", 0x3040, 0x30FF), ("han", 0x3400, 0x9FFF), ("ko", 0xAC00, 0xD7AF), ("ko", 0x1100, 0x11FF),
    ("cyrillic", 0x0400, 0x052F), ("el", 0x0370, 0x03FF), ("arabic", 0x0600, 0x06FF), ("he", 0x0590, 0x05FF),
    ("hi", 0x0900, 0x097F), ("th", 0x0E00, 0x0E7F), ("latin", 0x0041, 0x024F), ("latin", 0x1E00, 0x1EFF),
]  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str:
    """Return a code of LANGUAGES, "" for a text without a word.

    >>> language_of("Übung im Café, eine Frau mit roter Mütze"), language_of("月の光の下の女の子"), language_of("1girl, solo")
    ('de', 'ja', 'en')
    """
    words = _WORD.findall(text)
    if not words:
        return "unclear" if text.strip() else ""
    if text.isascii():
        return _latin(words)
    scripts: dict[str, int] = {}
    for letter in "".join(words):
        name = _script(ord(letter))
        scripts[name] = scripts.get(name, 0) + 1
    foreign = {name: n for name, n in scripts.items() if name != "latin"}
    if sum(foreign.values()) * 3 < scripts.get("latin", 0):  # a name in another script does not make the language
        return _latin(words)
    most = max(foreign, key=lambda name: foreign[name]) if foreign else "latin"
    if most in ("han", "kana"):
        return "ja" if foreign.get("kana") else "zh"
    if most == "cyrillic":
        return "uk" if any(letter in "іїєґІЇЄҐ" for letter in text) else "ru"
    if most == "arabic":
        return "fa" if any(letter in "پچژگ" for letter in text) else "ar"
    return _latin(words) if most == "latin" else most


def _latin(words: list[str]) -> str:
    scores: dict[str, int] = {}
    for word in words:
        folded = word.casefold()
        for code in _OF_WORD.get(folded, ()):
            scores[code] = scores.get(code, 0) + 2
        if not word.isascii():
            for letter in folded:
                if letter in _LETTERS:
                    scores[_LETTERS[letter]] = scores.get(_LETTERS[letter], 0) + 1
    if not scores:
        return "unclear"
    best = max(scores.values())
    first = [code for code in _WORDS if scores.get(code) == best]
    return first[0] if len(first) == 1 or first[0] == "en" else "unclear"


def _script(code: int) -> str:
    return next((name for name, low, high in _SCRIPTS if low <= code <= high), "other")
