"""Untrusted texts: safe printing, and detection of confusable names."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Characters that are invisible or change the direction of text: Default_Ignorable_Code_Point of
Unicode's DerivedCoreProperties.txt, and the empty braille cell."""

# Characters that readers overlook, and the ASCII rows of Unicode's confusables.txt (UTS #39), in
# lower case.
_UNREAD = re.compile(r"[\s\-_.,:;'\"`]")
_ALIKE = {"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn"}


def is_visible(text: str) -> bool:
    """Whether every character of a line is visible."""
    return text.isprintable() and not INVISIBLE.search(text)


def shown(text: str, most: int | None = 100) -> str:
    """Untrusted text in printable form: one line, cut to `most` characters unless that is None.

    Invisible characters, such as the escape character of terminals, become Python escapes.
    """
    text = "".join(c if is_visible(c) else ascii(c)[1:-1] for c in text)
    return text if most is None or len(text) <= most else f"{text[: most - 3]}..."


def normalised(text: str) -> str:
    """The normal form of texts that look the same: NFKC, with single spaces."""
    return re.sub(" +", " ", unicodedata.normalize("NFKC", text)).strip(" ")


def skeleton(name: str) -> str:
    """The skeleton of an ASCII name. Names with equal skeletons are confusable."""
    letters = _UNREAD.sub("", name.lower())
    return "".join(_ALIKE.get(letter, letter) for letter in letters)
