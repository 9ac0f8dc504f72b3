"""Changes to split documents: read from the feed, folded, tokenised."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.tokens import Tokenizer, Tokens
from indexer.batch import Prepared
from indexer.catalogue import CollectionRecord
from indexer.changes import Change
from indexer.encoders import TextEncoder
from indexer.passages import Passaging, head_of, split

NO_TOKENS = "the encoder's tokenizer finds nothing in it"


def passaging_of(record: CollectionRecord, encoder: TextEncoder, title_tokens: int) -> Passaging:
    """How this collection's documents are split for its encoder."""
    room = encoder.info.max_length - encoder.tokenizer.single.count
    return Passaging(
        room=room,
        window=record.max_tokens,
        overlap=record.overlap_tokens,
        head=min(title_tokens, room // 2),
    )


def prepare(
    changes: Sequence[Change],
    encoder: TextEncoder,
    passaging: Passaging,
    *,
    set_aside: Collection[int],
) -> list[Prepared]:
    """Splits each document; those whose sequence is in `set_aside` are not even tokenised."""
    prompt = encoder.info.document_prompt
    wanted = [change for change in changes if change.sequence not in set_aside]
    heads = [head_of(prompt, change.title, change.text) for change in wanted]
    texts = [head + change.text for head, change in zip(heads, wanted, strict=True)]
    prepared = {
        change.sequence: _prepared(change, head, tokens, passaging)
        for change, head, tokens in zip(
            wanted, heads, _tokenise(encoder.tokenizer, texts), strict=True
        )
    }
    skipped = "it was set aside before"
    return [
        prepared.get(change.sequence) or Prepared(change, failure=skipped) for change in changes
    ]


def _prepared(change: Change, head: str, tokens: Tokens | str, passaging: Passaging) -> Prepared:
    if isinstance(tokens, str):
        return Prepared(change, failure=tokens)
    passages = split(tokens, len(head.encode()), passaging)
    return Prepared(change, passages, failure="" if passages else NO_TOKENS)


def _tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens | str]:
    """Each text's tokens, or why it has none."""
    try:
        return [*tokenizer.encode_batch(texts)]
    except Exception as error:  # tokenizers raises plain Exception
        if len(texts) == 1:
            return [f"it cannot be tokenised: {error}"]
    return [tokens for text in texts for tokens in _tokenise(tokenizer, [text])]
