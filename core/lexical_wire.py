"""Between the message about words and the settings that it says."""

from __future__ import annotations

from core.languages import MAX_TITLE_BOOST, LexicalSettings, language_of
from core.ranges import within
from trireme.v1 import lexical_pb2


def settings_from_proto(message: lexical_pb2.LexicalSettings, path: str) -> LexicalSettings:
    """What a message says, defaults filled in; raises InvalidInput naming the field."""
    return LexicalSettings(
        language=language_of(message.language, f"{path}language"),
        title_boost=within(message.title_boost, 0, MAX_TITLE_BOOST, f"{path}title_boost"),
    )


def settings_to_proto(settings: LexicalSettings) -> lexical_pb2.LexicalSettings:
    """The message that says the same."""
    return lexical_pb2.LexicalSettings(language=settings.language, title_boost=settings.title_boost)
