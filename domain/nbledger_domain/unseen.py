"""Characters that nobody sees where they stand: in names they make two look like one."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

JOINERS: Final = "\u200c\u200d"
"""Persian, scripts of India and emoji need them, between two characters that are seen."""

# Unassigned characters (Cn) are among them: NFC does not settle how they are written.
_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
# Invisible, although their category is that of letters, marks and symbols.
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SELECTORS: Final = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")

# Characters with the Unicode property Emoji, without the digits, # and *.
_EMOJI: Final = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf"
    "\u23e9-\u23f3\u23f8-\u23fa\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2604\u260e"
    "\u2611\u2614\u2615\u2618\u261d\u2620\u2622\u2623\u2626\u262a\u262e\u262f\u2638-\u263a\u2640"
    "\u2642\u2648-\u2653\u265f\u2660\u2663\u2665\u2666\u2668\u267b\u267e\u267f\u2692-\u2697\u2699"
    "\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab\u26b0\u26b1\u26bd\u26be\u26c4\u26c5\u26c8\u26ce"
    "\u26cf\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa\u26fd\u2702\u2705\u2708-\u270d"
    "\u270f\u2712\u2714\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c\u274e\u2753-\u2755"
    "\u2757\u2763\u2764\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50"
    "\u2b55\u3030\u303d\u3297\u3299\U0001f004\U0001f0cf\U0001f170-\U0001f251\U0001f300-\U0001faff"
)
_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_SHOWN: Final = re.compile(
    # The style of an emoji; a keycap; a variant of a Chinese character.
    f"(?<=[{_EMOJI}])[\ufe0e\ufe0f]|(?<=[#*0-9])\ufe0f(?=\u20e3)"
    f"|(?<=[{_HAN}])[\ufe00-\ufe0d\U000e0100-\U000e01ef]"
    # Variants of letters: Mongolian, Phags-pa, Myanmar.
    "|(?<=[\u1820-\u18aa])[\u180b-\u180d\u180f]|(?<=[\ua840-\ua877\u1000-\u109f\uaa60-\uaa7f])\ufe00"
    # Signs around numbers, of category Cf; and the abbreviation mark of Syriac.
    "|[\u0600-\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd](?=\\d)|\u070f(?=[\u0710-\u074f])"
)
# Alphabets, syllabaries and Chinese characters, which need no joiners.
_NOT_JOINED: Final = re.compile(
    "[\\x00-\u05ff\u0e00-\u0eff\u10a0-\u11ff\u2c00-\u2dff\u3040-\u3096\u309d-\u30ff\u3131-\u318e"
    f"\ua960-\ua97f\uac00-\ud7ff{_HAN}]"
)
_NO_NAMES: Final = {
    "Cc": "a control character",
    "Cn": "no character that Unicode knows",
    "Co": "a character for private use",
    "Cs": "half of a surrogate pair",
}


def unseen_places(text: str) -> Iterator[int]:
    """Where the characters are that cannot be seen where they stand."""
    for place, character in enumerate(text):
        if character in JOINERS:
            before, after = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
            if not (_may_be_joined(before) and _may_be_joined(after)):
                yield place
        elif _may_be_unseen(character) and _SHOWN.match(text, place) is None:
            yield place


def all_seen(text: str, instead: str) -> str:
    """``text`` with ``instead`` in the place of each character that cannot be seen there."""
    if text.isascii() and text.isprintable():
        return text
    unseen = set(unseen_places(text))
    return "".join(instead if place in unseen else each for place, each in enumerate(text))


def unseen_or_blank(text: str) -> str | None:
    """The first character of ``text`` that is blank or cannot be seen there, :func:`named`."""
    if text.isascii() and text.isprintable() and " " not in text:
        return None
    unseen = next(unseen_places(text), len(text))
    blanks = (place for place, each in enumerate(text) if unicodedata.category(each) == "Zs")
    place = min(unseen, next(blanks, len(text)))
    return named(text[place]) if place < len(text) else None


def odd_blank(segment: str) -> str | None:
    """A blank at either end of the name ``segment`` that looks like U+0020 and is another one."""
    inner = segment.strip(" ")
    ends = (each for each in (inner[:1], inner[-1:]) if each and unicodedata.category(each) == "Zs")
    return next(ends, None)


def named(character: str) -> str:
    """``character`` for a message, by its code point and what it is."""
    name = unicodedata.name(character, "") or _NO_NAMES.get(unicodedata.category(character), "")
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


def _may_be_unseen(character: str) -> bool:
    return (
        character in _BLANK
        or unicodedata.category(character) in _CATEGORIES
        or _SELECTORS.match(character) is not None
    )


def _may_be_joined(character: str) -> bool:
    """Letters, marks of letters, and symbols, among which emoji are."""
    return (
        _NOT_JOINED.match(character or " ") is None
        and unicodedata.category(character)[0] in "LMS"
        and (not _may_be_unseen(character) or character in "\ufe0e\ufe0f")
    )
