"""The canonical form: what it undoes, what it leaves alone, and the laws that hold for any text."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.text.canonical import canonical, canonicalise


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        pytest.param("ｈｏｗ 𝓽𝓸 ⓑⓐⓚⓔ", "how to bake", id="styled letters"),
        pytest.param("ʙᴀᴋᴇ 🅑🅐🅚🅔 🅱🅰🅺🅴", "bake BAKE BAKE", id="styled letters that NFKC does not know"),
        pytest.param("🇧 🇦 🇰 🇪", "BAKE", id="regional indicators with spaces"),
        pytest.param("🇧\u200b🇦\u200b🇰\u200b🇪", "BAKE", id="regional indicators with zero-width spaces"),
        pytest.param("b\u200ba\u00adk\u2060e\ufeff \u202ebread\u202c", "bake bread", id="invisible characters"),
        pytest.param("ba\u200dke b\x00read", "bake bread", id="joiners between Latin letters, NUL"),
        pytest.param("b\u0336a\u0336k\u0336e\u0336", "bake", id="struck through"),
        pytest.param("b\u0300\u0316\u0301\u0317a\u0310\u0311ke", "bake", id="stacked marks"),
        pytest.param("1\ufe0f\u20e3 2\ufe0f\u20e3", "1 2", id="keycaps"),
        pytest.param("cafe\u0301", "café", id="decomposed accents"),
        pytest.param("h e l l o", "hello", id="spaces"),
        pytest.param("h e l l o   w o r l d", "hello   world", id="wider spaces between words"),
        pytest.param("h.e.l.l.o h_e_l_l_o", "hello hello", id="dots and underscores"),
        pytest.param("h-o-w t-o b-a-k-e", "how to bake", id="hyphens, and spaces between words"),
        pytest.param("b.a-k_e", "bake", id="mixed punctuation"),
        pytest.param("b 4 k e", "bake", id="spaced leetspeak"),
        pytest.param("面 包 怎 么 做", "面包怎么做", id="spaced Chinese"),
        pytest.param("breeeeead!!!!!!!", "breead!!!", id="repeats"),
        pytest.param("brеаd, ВREAD, сооkіе", "bread, BREAD, cookie", id="Cyrillic look-alikes"),
        pytest.param("brεad, bακe", "bread, bake", id="Greek look-alikes"),
        pytest.param("a сору of it", "a copy of it", id="whole word of look-alikes"),
        pytest.param("ВRЕАD ᎪND ᏴREᎪD", "BREAD AND BREAD", id="Cherokee look-alikes"),
        pytest.param("h0w t0 b4k3 5p1t c00k1es", "how to bake spit cookies", id="digits for letters"),
        pytest.param("BR34D", "BREAD", id="capitals"),
        pytest.param("gra$$ p@stry ba$$", "grass pastry bass", id="signs for letters"),
        pytest.param("w!ne, sh!p", "wine, ship", id="exclamation marks for letters"),
        pytest.param("he11o, chi1d", "hello, child", id="one for l"),
        pytest.param("m1lk f0r the 3rd d0g5", "milk for the 3rd dogs", id="doubtful words in company"),
    ],
)
def test_undoes(disguised: str, plain: str) -> None:
    assert canonical(disguised) == plain


@pytest.mark.parametrize(
    "text",
    [
        "Bake the bread at 180 degrees for 25 minutes, then (if it's brown) let it cool: it's ready!",
        "In 1984 the 3D film ran 4th; covid19, b2b, mp3, 4K, utf8, utf16le, sha256, k8s, i18n.",
        "H1N1, W3C, x86, 100k, 10am, 24/7, A/B, 50:50.",
        "for i in range(10): x1 = a[i] * b2 + 0x1F; foo$ = hdf5_file; path = '/usr/lib/python3.11'",
        "#include <stdint.h>\nuint32_t f(int a, int b) { return a + b - 1e5f; }\n\t// ---",
        "SELECT id, name FROM users WHERE name = 'x' AND id IN (1, 2, 3);",
        "https://example.org/a/b2?q=1&r=abc4 and someone@example.org, b0b@example.org",
        "d41d8cd98f00b204e9800998ecf8427e 10000000 99999 1,000,000.00 $5 US$ 5€",
        "$name = strtolower($_POST['name']); echo \"$name\";",
        "Die Straße über dem großen Fluß ist 5 km lang; z. B. fährt der Zug um 8 Uhr.",
        "L'été dernier, j'ai mangé du pâté à Besançon. ¿Qué tal, señor? Ação! Tiếng Việt, Yorùbá: ọ́.",
        "Привет, как дела? Сегодня хорошая погода, кот спит. Нет, не сор. Ну и т. д. и т. п.",
        "Καλημέρα σας, τι κάνετε;",
        "你好，今天天气怎么样？我们去吃面包吧！哈哈哈哈哈",
        "今日はいい天気ですね。パンを焼きましょう。",
        "오늘 날씨가 좋아요 ㅋㅋㅋㅋㅋ 나 는 너 를",
        "مرحبا، كيف حالك؟ الْحَمْدُ لِلّٰهِ ﷺ",
        "می‌خواهم نان بپزم",
        "हिन्दी में क्षत्रिय और रोटी",
        "วันนี้อากาศดี น้ำ ทำขนมปัง",
        "שָׁלוֹם עֲלֵיכֶם",
        "don´t stop… it’s “fine” – really — 😀🇩🇪🇫🇷",
        "U.S. and U.K., e.g. at 8 a.m., p. 5",
        "The resistance is 5 kΩ at 3 μm, angle π, ΔT = 3 °C",
    ],
)
def test_leaves_the_letters_of_ordinary_text_alone(text: str) -> None:
    def letters(of: str) -> str:
        return "".join(c if c.isalpha() else " " for c in of).strip()

    assert letters(canonical(text)).split() == letters(text).split()


# What the steps look for, so that they meet each other's work.
_TRICKS = [
    *"abkIl013457@$€!.-_ \n/=<",
    *"\u0300\u0316\u0336\u0338\u0345\u200b\u200c\u200d\ufe0f\x00\u0640",
    *"асдαολ🇦🇧ａﬁﷺᴋⒶ🅰ÅÅ´ำ나ᅡᄀかﾞمक्ཀུ哈𝟎½™İ",
]
_TEXTS = st.text(max_size=60) | st.text(st.sampled_from(_TRICKS), max_size=40)


@pytest.mark.parametrize("text", ["ᴋ4ᴋ5\u0301I\u0301$", "brа\u20dd\u0301d"])
def test_is_idempotent_where_one_step_makes_work_for_an_earlier_one(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
def test_is_idempotent(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
def test_origins_are_in_range_and_never_fall(text: str) -> None:
    traced = canonicalise(text)
    origins = list(traced.origins)
    assert len(origins) == len(traced.text) + 1
    assert origins == sorted(origins)
    assert origins[-1] == len(text)
    assert all(0 <= origin < len(text) for origin in origins[:-1])


@given(st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Zs"]), max_size=60).map(str.title))
def test_origins_of_kept_letters_are_exact(text: str) -> None:
    traced = canonicalise(text)
    assert [text[origin] for origin in traced.origins[:-1]] == list(traced.text)


@pytest.mark.parametrize(
    "unit",
    ["h0w ", "a b ", "h e l l o  ", "a\u0301\u0316", "\u0301\u0316", "пpивeт ", "aaaaab", "ﬃ ", "a" + " " * 99, "a$$$",
     "a@", "a.", "b!", "k1", "🇦", "م\u200d", "\u3316", "_", "a...b---", "क्षत्रिय "],
)  # fmt: skip
def test_takes_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        gc.disable()  # it would walk all that other tests loaded, torch included
        start = time.process_time()
        canonicalise(text)
        spent = time.process_time() - start
        gc.enable()
        return spent

    small = max(seconds(20_000), seconds(20_000), 0.005)
    assert seconds(160_000) < 8 * small * 3  # quadratic time would be 64 times as long


def test_a_megabyte_of_prose_is_quick() -> None:
    text = ("The baker's 3 loaves cost 4 euros, and h0w they smell! " * 20_000)[:1_000_000]
    start = time.process_time()
    canonicalise(text)
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("h0w 70 b4k3 4 6r41n l04f 47 h0m3", "how to bake a grain loaf at home"),
        ("In 2024 the mp3, utf16le and x264 of 4 files: 10 kB, 70 lines", None),
        ("A100, H100 and V100 cards, 4 of each, at 70 degrees", None),
    ],
)
def test_a_text_steeped_in_digits_for_letters_is_folded_throughout(text: str, form: str | None) -> None:
    assert canonical(text) == (form or text)
