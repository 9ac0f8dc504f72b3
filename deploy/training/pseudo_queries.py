"""Queries made of text itself: a sentence asks for the passage that it was taken from."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import numpy as np

from deploy.training.first_stage import Bm25
from deploy.training.groups import NEGATIVES_KEPT, Group, head_scores
from deploy.training.retrieval_data import Collection

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MIN_WORDS = 3
_MAX_WORDS = 25
_MIN_SENTENCE_WORDS = 6
_MAX_SENTENCE_WORDS = 40


def sentence_groups(texts: Sequence[str], count: int, seed: int) -> list[Group]:
    """Inverse cloze (arXiv:1906.00300): one sentence, taken out, asks for the rest of its text.

    Negatives come from BM25 over `texts`; a text needs three sentences or more.
    """
    rng = np.random.default_rng(seed)
    lexical = Bm25(texts)
    groups: list[Group] = []
    for row in rng.permutation(len(texts)).tolist():
        sentences = _SENTENCE_END.split(texts[row])
        usable = [place for place, text in enumerate(sentences) if _is_long_enough(text)]
        if len(sentences) < 3 or not usable:
            continue
        taken = usable[int(rng.integers(len(usable)))]
        rest = " ".join(sentences[:taken] + sentences[taken + 1 :])
        groups.append(_asked_by(sentences[taken], rest, row, texts, lexical))
        if len(groups) == count:
            break
    return groups


def code_groups(cosqa: Collection, count: int, seed: int) -> list[Group]:
    """The first docstring sentence asks for the rest of a function.

    Docstrings are taken out of negatives too, so that their absence gives nothing away.
    """
    split = [split_docstring(source) for source in cosqa.documents]
    usable = [row for row, parts in enumerate(split) if parts and _is_sentence(parts[0])]
    bodies = [
        parts[1] if parts else source for parts, source in zip(split, cosqa.documents, strict=True)
    ]
    lexical = Bm25(bodies)
    drawn = np.random.default_rng(seed).permutation(len(usable))[:count]
    groups = []
    for row in (usable[index] for index in drawn):
        parts = split[row]
        assert parts is not None
        groups.append(_asked_by(parts[0], bodies[row], row, bodies, lexical))
    return groups


def split_docstring(source: str) -> tuple[str, str] | None:
    """(first docstring line, source without the docstring) of one function, if it has one."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef):
        return None
    function = tree.body[0]
    docstring = ast.get_docstring(function)
    if not docstring or len(function.body) < 2:
        return None
    expression = function.body[0]
    lines = source.splitlines()
    kept = lines[: expression.lineno - 1] + lines[expression.end_lineno :]
    return docstring.strip().splitlines()[0].strip(" .\"'"), "\n".join(kept)


def _asked_by(query: str, answer: str, row: int, texts: Sequence[str], lexical: Bm25) -> Group:
    ranked = [hit for hit in lexical.top(query, NEGATIVES_KEPT + 1) if hit[0] != row]
    kept = [hit for hit in ranked if texts[hit[0]] != texts[row]]
    return Group(
        query=query,
        positives=[answer],
        negatives=[texts[other] for other, _ in kept],
        # BM25 found the text with the very sentence in it: its opinion of the rest is not known.
        fused=[0.5, *head_scores(kept, [other for other, _ in kept])],
        taught=None,
    )


def _is_sentence(text: str) -> bool:
    return _MIN_WORDS <= len(text.split()) <= _MAX_WORDS


def _is_long_enough(text: str) -> bool:
    return _MIN_SENTENCE_WORDS <= len(text.split()) <= _MAX_SENTENCE_WORDS
