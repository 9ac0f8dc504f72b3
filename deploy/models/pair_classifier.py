"""Cross-encoders of sentence-transformers: a transformer with a classification head over pairs."""

from __future__ import annotations

from torch import Tensor, nn

from deploy.models.pair_model import PairModel
from deploy.models.pretrained import load_transformer


class PairClassifier(nn.Module):
    """Token ids of pairs to logits."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """All inputs INT64 [batch, tokens]. Returns FP32 [batch, labels]."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: Tensor = self.trunk(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        return logits.float()


def load_pair_classifier(model: PairModel) -> PairClassifier:
    """The eager module in evaluation mode, FP32, from local files only."""
    return PairClassifier(load_transformer(model.trunk, "sequence-classification")).eval()
