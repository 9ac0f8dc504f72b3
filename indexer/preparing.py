"""Changes to split documents: read from the feed, folded, tokenised."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from core.tokens import Tokenizer, Tokens
from indexer.batch import Prepared
from indexer.catalogue import CollectionRecord
from indexer.changes import Change
from indexer.encoder_set import EncoderSet
from indexer.encoders import TermEncoder, TextEncoder
from indexer.passages import Passaging, Split, head_of, split, whole

NO_TOKENS = "the encoder's tokenizer finds nothing in it"


def passaging_of(
    record: CollectionRecord, encoder: TextEncoder | TermEncoder, title_tokens: int
) -> Passaging:
    """How this collection's documents are split for one of its encoders."""
    room = encoder.info.max_length - encoder.tokenizer.single.count
    prompt = len(encoder.tokenizer.encode(encoder.info.document_prompt))
    return Passaging(
        room=room,
        window=record.max_tokens,
        overlap=record.overlap_tokens,
        head=max(prompt, min(prompt + title_tokens, room // 2)),
    )


class Preparer:
    """Splits documents into passages and tokenises these for each encoder; blocks, no I/O."""

    def __init__(self, record: CollectionRecord, encoders: EncoderSet, title_tokens: int) -> None:
        self._encoder = encoders.dense
        self._passaging = passaging_of(record, encoders.dense, title_tokens)
        self._sparse = encoders.sparse
        self._sparse_passaging = passaging_of(
            record, encoders.sparse or encoders.dense, title_tokens
        )

    def prepare(self, changes: Sequence[Change], *, set_aside: Collection[int]) -> list[Prepared]:
        """Splits each document; those whose sequence is in `set_aside` are not even tokenised."""
        wanted = [change for change in changes if change.sequence not in set_aside]
        prompt = self._encoder.info.document_prompt
        heads = [head_of(prompt, change.title, change.text) for change in wanted]
        texts = [head + change.text for head, change in zip(heads, wanted, strict=True)]
        tokenised = _tokenise(self._encoder.tokenizer, texts)
        prepared = {
            change.sequence: self._split(change, head, tokens)
            for change, head, tokens in zip(wanted, heads, tokenised, strict=True)
        }
        skipped = "it was set aside before"
        return [
            prepared.get(change.sequence) or Prepared(change, failure=skipped) for change in changes
        ]

    def _split(self, change: Change, head: str, tokens: Tokens | str) -> Prepared:
        if isinstance(tokens, str):
            return Prepared(change, failure=tokens)
        prompt_bytes = len(self._encoder.info.document_prompt.encode())
        # A prompt alone says nothing about the document.
        if not len(tokens) or tokens.ends[-1] <= prompt_bytes:
            return Prepared(change, failure=NO_TOKENS)
        passages = split(tokens, len(head.encode()), self._passaging)
        if self._sparse is None:
            return Prepared(change, passages)
        return self._with_sparse_ids(change, passages, self._sparse)

    def _with_sparse_ids(
        self, change: Change, passages: Sequence[Split], sparse: TermEncoder
    ) -> Prepared:
        head = head_of(sparse.info.document_prompt, change.title, change.text)
        content = change.text.encode()
        texts = [
            head + content[passage.start_byte : passage.end_byte].decode(errors="ignore")
            for passage in passages
        ]
        head_bytes = len(head.encode())
        found = []
        for passage, tokens in zip(passages, _tokenise(sparse.tokenizer, texts), strict=True):
            if isinstance(tokens, str):
                return Prepared(change, failure=tokens)
            ids = whole(tokens, head_bytes, self._sparse_passaging)
            found.append(replace(passage, sparse_ids=ids))
        return Prepared(change, found)


def _tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens | str]:
    """Each text's tokens, or why it has none."""
    try:
        return [*tokenizer.encode_batch(texts)]
    except Exception as error:  # tokenizers raises plain Exception
        if len(texts) == 1:
            return [f"it cannot be tokenised: {error}"]
    return [tokens for text in texts for tokens in _tokenise(tokenizer, [text])]
