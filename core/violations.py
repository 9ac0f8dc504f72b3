"""Which parts of a constraint one document does not meet: told from its text, for explanations."""

from __future__ import annotations

from core.analysis import Analyzer, Phrase
from core.documents import Document
from core.query_syntax import Constraint


def violated_by(document: Document, constraint: Constraint, analyzer: Analyzer) -> Constraint:
    """The required parts that the document lacks and the excluded ones that it holds."""

    def holds(phrase: Phrase) -> bool:
        return any(analyzer.holds(text, phrase) for text in (document.title, document.text))

    phrases = {part: analyzer.phrase(part) for part in (*constraint.required, *constraint.excluded)}
    return Constraint(
        tuple(p for p in constraint.required if phrases[p] and not holds(phrases[p])),
        tuple(p for p in constraint.excluded if phrases[p] and holds(phrases[p])),
    )
