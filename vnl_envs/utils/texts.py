"""Texts of strangers: how they are printed, and when two names are taken for each other."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""What shows nothing, or turns the direction of others: Default_Ignorable_Code_Point of Unicode's
DerivedCoreProperties.txt, and the empty braille cell."""

# What a reader does not go by, and the ASCII rows of Unicode's confusables.txt (UTS #39), in
# small letters.
_UNREAD = re.compile(r"[\s\-_.,:;'\"`]")
_ALIKE = {"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn"}


def is_visible(text: str) -> bool:
    """Whether every character of a line can be seen."""
    return text.isprintable() and not INVISIBLE.search(text)


def shown(text: str, most: int | None = 100) -> str:
    """Foreign text as it may be printed: one line, cut to `most` characters if that is given.

    What cannot be seen, such as the escape that terminals obey, is written as Python would.
    """
    text = "".join(c if is_visible(c) else ascii(c)[1:-1] for c in text)
    return text if most is None or len(text) <= most else f"{text[: most - 3]}..."


def normalised(text: str) -> str:
    """One text of all that look the same: compatibility forms composed (NFKC), single spaces."""
    return re.sub(" +", " ", unicodedata.normalize("NFKC", text)).strip(" ")


def skeleton(name: str) -> str:
    """What is left of an ASCII name for a reader in a hurry: equal ones are confusable."""
    letters = _UNREAD.sub("", name.lower())
    return "".join(_ALIKE.get(letter, letter) for letter in letters)
