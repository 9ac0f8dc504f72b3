"""The languages of the lexical leg, and what one collection says about its words.

Stemming and stop words come from Snowball, as Tantivy carries it. Letters are folded to ASCII
(é to e) where writers leave accents out, and not where å or ı is a letter of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from core import config
from core.errors import InvalidInput

DEFAULT_LANGUAGE = "en"
NONE = "none"
CJK = "cjk"
MAX_TITLE_BOOST = 10


@dataclass(frozen=True, slots=True)
class Language:
    """How words of one language are brought to their terms.

    `stemmer` is Snowball's name, empty for none. `has_marks`: words hold combining marks, which
    must not split them. `cases` are letters whose lower case is not that of other languages.
    """

    stemmer: str = ""
    is_folded: bool = True
    has_stop_words: bool = True
    has_marks: bool = False
    cases: Mapping[int, int] | None = None


LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {
        "ar": Language("arabic", has_stop_words=False, has_marks=True),
        "da": Language("danish", is_folded=False),
        "de": Language("german"),
        "el": Language("greek", has_stop_words=False),
        "en": Language("english"),
        "es": Language("spanish"),
        "fi": Language("finnish", is_folded=False),
        "fr": Language("french"),
        "hu": Language("hungarian"),
        "it": Language("italian"),
        "nl": Language("dutch"),
        "no": Language("norwegian", is_folded=False),
        "pt": Language("portuguese"),
        "ro": Language("romanian", has_stop_words=False),
        "ru": Language("russian"),
        "sv": Language("swedish", is_folded=False),
        "ta": Language("tamil", has_stop_words=False, has_marks=True),
        "tr": Language(
            "turkish", is_folded=False, has_stop_words=False, cases=str.maketrans("Iİ", "ıi")
        ),
        NONE: Language(has_stop_words=False, has_marks=True),
        CJK: Language(has_stop_words=False, has_marks=True),
    }
)
# Codes that people write for the same.
_OTHER_NAMES = {"nb": "no", "nn": "no", "zh": CJK, "ja": CJK, "ko": CJK, "yue": CJK}


@dataclass(frozen=True, slots=True)
class LexicalSettings:
    """What counts as a word in a collection; fixed when it is created.

    `language` is one of LANGUAGES. Words of the title count `title_boost` times more, 0 to
    MAX_TITLE_BOOST, as if it were repeated.
    """

    language: str = DEFAULT_LANGUAGE
    title_boost: int = 0

    def to_json(self) -> str:
        """The settings as JSON; empty if all are the defaults."""
        if self == ENGLISH:
            return ""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> LexicalSettings:
        """Reads what `to_json` wrote."""
        return config.build(cls, json.loads(text), "lexical") if text else ENGLISH


ENGLISH = LexicalSettings()
"""The default, and what collections of earlier formats have."""


def language_of(code: str, field: str) -> str:
    """The language that a code such as `de`, `pt-BR` or `zh-Hant` names; raises InvalidInput."""
    wanted = code.strip().lower().replace("_", "-").split("-")[0]
    found = _OTHER_NAMES.get(wanted, wanted) or DEFAULT_LANGUAGE
    if found not in LANGUAGES:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"{code[:40]!r} is not a language whose words are known",
            field=field,
            remedy=f"use one of {', '.join(LANGUAGES)}; `{NONE}` takes words as they are written",
        )
    return found
