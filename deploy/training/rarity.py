"""How rare each token is: the inverse document frequency that BM25 weighs words by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from deploy.training.first_stage import Floats

_CHUNK = 1000


def token_rarity(tokenizer: Tokenizer, texts: Sequence[str], vocabulary: int) -> Floats:
    """ln(1 + (n - df + .5) / (df + .5)) per token id over `texts`, FP32 [vocabulary].

    The tokenizer's special tokens get 0: they stand in every text.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    frequency = np.zeros(vocabulary, np.float64)
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        for encoding in tokenizer.encode_batch(chunk, add_special_tokens=False):
            frequency[np.unique(encoding.ids)] += 1
    rarity = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
    special = [id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    rarity[special] = 0.0
    return rarity
