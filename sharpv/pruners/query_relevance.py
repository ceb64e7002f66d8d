"""Query relevance: a control that keeps the tokens that resemble the question.

Shape suffixes: N = T * P tokens, Q rows of text behind the video, D width, K kept rows.
"""

from dataclasses import dataclass

from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens, keep_all


@dataclass
class QueryRelevance(VisualPruner):
    """Ranks all tokens of the video by their mean cosine to the embeddings of the text behind it, the question and
    what the template adds, and keeps the best. Reads the question: its choice is another for each question.

    Paper: none, a control. Official: none.

    keep_ratio: round(keep_ratio N) tokens stay, over the whole video at once.
    Promises: sorted, unique, declared count. Complexity: O((N + Q) D) time and memory. No read-back.
    Deviations: none to name; the earlier of equal scores wins.
    """

    keep_ratio: float = 0.25

    reads_question = True

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} is the share of tokens kept; choose it in (0, 1]")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        features_ND = video.require_finite().flatten(0, 1)
        if video.question_QD is None or not len(video.question_QD):
            raise ValueError(
                "QueryRelevance reads the question, but no text came with the video (question_QD); put it behind"
            )
        count = round(self.keep_ratio * video.total)
        if not count:
            raise ValueError(f"keep_ratio={self.keep_ratio} keeps none of {video.total} tokens; take a larger one")
        if count == video.total:
            return keep_all(video)
        asked_D = functional.normalize(video.question_QD.float(), dim=-1).mean(0)
        score_N = functional.normalize(features_ND, dim=-1) @ asked_D
        return Selection(score_N.argsort(descending=True, stable=True)[:count].sort().values)
