"""Which language a caption is in."""

from __future__ import annotations

import pytest

from dalla.languages import LANGUAGES, language_of


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("luna woman, blue dress, smile, blond hair", "en"),
        ("a photo of ohwx", "en"),
        ("Übung im Café, eine Frau mit roter Mütze", "de"),
        ("une femme en robe rouge dans la rue", "fr"),
        ("una mujer con vestido rojo", "es"),
        ("donna con vestito rosso", "it"),
        ("uma menina com cabelo preto", "pt"),
        ("een vrouw met een rode jurk", "nl"),
        ("kobieta w czerwonej sukience", "pl"),
        ("uzun saçlı bir kadın", "tr"),
        ("en kvinna med blå klänning", "sv"),
        ("девушка с длинными волосами", "ru"),
        ("дівчина з довгим волоссям і усмішкою", "uk"),
        ("月の光の下の女の子, 青い髪", "ja"),
        ("一个穿红裙子的女孩", "zh"),
        ("빨간 드레스를 입은 여자", "ko"),
        ("امرأة ترتدي فستانا", "ar"),
        ("γυναίκα με κόκκινο φόρεμα", "el"),
        ("ohwx 月, a woman standing in the street with a dog", "en"),  # one foreign letter is a name
        ("xyzzy, lnatok", "unclear"),
        ("12, 34", "unclear"),
        ("", ""),
    ],
)
def test_the_language_of_a_caption(text: str, code: str) -> None:
    assert language_of(text) == code
    assert code in LANGUAGES or not code
