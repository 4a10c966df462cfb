"""The length of a post as its network counts it: what the field `length` of a post means, and its limits."""

from __future__ import annotations

import re
import unicodedata

LIMITS = {"x": 280, "linkedin": 3000}

# X: https://docs.x.com/fundamentals/counting-characters (configuration 3 of its twitter-text library).
SINGLE = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))  # code points that count as one character
WIDE = 2  # every other code point, and every emoji however many code points it has
LINK = 23  # every link, which X replaces by a shortened one
# Links with a scheme, and bare domains under the usual names. (X knows every top-level domain; posts contain no link.)
DOMAIN = r"(?<![\w@.-])(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|info|io|ai|dev|app)(?![\w-])(?:/[^\s)]*[^\s).,;:!?])?"
LINKS = rf"https?://[^\s)]*[^\s).,;:!?]|{DOMAIN}"
PICTURE = "[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff]\ufe0f?[\U0001f3fb-\U0001f3ff]?"
EMOJI = "|".join(
    (
        "[\U0001f1e6-\U0001f1ff]{2}",  # a flag: two letters
        "\U0001f3f4[\U000e0020-\U000e007f]+",  # a flag of a region: its letters as tags
        "[0-9#*]\ufe0f?\u20e3",  # a keycap
        f"{PICTURE}(?:\u200d{PICTURE})*",  # pictures joined to one
    )
)
UNIT = re.compile(f"(?P<link>(?i:{LINKS}))|(?P<emoji>{EMOJI})|.", re.DOTALL)


def of_x(text: str) -> int:
    """Weighted characters of a post on X."""
    return sum(_weight(unit) for unit in UNIT.finditer(unicodedata.normalize("NFC", text.replace("\r\n", "\n"))))


def _weight(unit: re.Match[str]) -> int:
    if unit["link"]:
        return LINK
    single = not unit["emoji"] and any(low <= ord(unit[0]) <= high for low, high in SINGLE)
    return 1 if single else WIDE


def of_linkedin(text: str) -> int:
    """UTF-16 code units, the strictest way to count the characters of a post on LinkedIn."""
    return len(text.encode("utf-16-le")) // 2


OF = {"x": of_x, "linkedin": of_linkedin}
