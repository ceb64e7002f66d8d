"""Several prompts under a memory stage: a session of its own for each, around one call of each layer for all.

Rows of the samples lie at the right end of a batch, as many as the sample has alive; what stands in front is padding,
which no row but padding sees.

Shape suffixes: B samples, L rows of the longest sample, N rows of one sample, K keys, D width.
"""

from typing import Any

import torch
from torch.nn import functional

from sharpv.runtime.cache import PrunableLayer
from sharpv.runtime.prompt import FedPrompt
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session


class BatchSession:
    """Stands in for the `sessions` of a batch's prompts; `cache`: the layers that the model writes into, whose parts
    are the sessions' own."""

    def __init__(self, sessions: list[Session], cache: list[PrunableLayer], report: Report):
        self.sessions, self.cache, self.report = sessions, cache, report
        self.given_B = self.rows_B = [session.layout.length for session in sessions]
        for index, layer in enumerate(cache):
            layer.parts = [session.cache[index] for session in sessions]
        report.restart(None, None)
        report.videos = [session.report for session in sessions]

    def take(self, fed: list[FedPrompt]) -> None:
        """The next forward begins a turn with these prompts."""
        self.given_B = self.rows_B = [one.length for one in fed]
        if self.sessions[0].step:
            self.report.go_on()

    def enter(self, index: int, hidden_BLD: torch.Tensor, call: dict[str, Any]) -> torch.Tensor:
        """A layer is about to run: each sample's session drops rows and cuts its cache, then all are padded again."""
        calls = [self._call_of(sample, call) for sample in range(len(self.sessions))]
        parts = [
            session.enter(index, hidden_1ND, its)
            for session, hidden_1ND, its in zip(self.sessions, self._parts(hidden_BLD), calls, strict=True)
        ]
        self.rows_B = [part.shape[1] for part in parts]
        self.cache[index].rows_B = self.rows_B
        call["position_embeddings"] = tuple(
            _padded(list(part)) for part in zip(*(its["position_embeddings"] for its in calls), strict=True)
        )
        call["attention_mask"] = self._mask(index, calls)
        return _padded(parts)

    def attended(self, index: int, residual_BLD: torch.Tensor) -> None:
        """Between attention and MLP of each sample; merged rows are written in place."""
        for session, residual_1ND in zip(self.sessions, self._parts(residual_BLD), strict=True):
            session.attended(index, residual_1ND)

    def leave(self, index: int, hidden_BLD: torch.Tensor) -> torch.Tensor:
        """The layer has run: what each sample goes on with."""
        parts = [
            session.leave(index, hidden_1ND)
            for session, hidden_1ND in zip(self.sessions, self._parts(hidden_BLD), strict=True)
        ]
        self.rows_B = [part.shape[1] for part in parts]
        return _padded(parts)

    def finish_forward(self) -> None:
        """The whole stack has run once. ValueError where the layers wrote into another cache than the sessions'."""
        for session in self.sessions:
            session.finish_forward()
        self.report.kv_bytes = sum(one.kv_bytes for one in self.report.videos)
        self.given_B = self.rows_B = [1] * len(self.sessions)

    def _parts(self, hidden_BLD: torch.Tensor) -> list[torch.Tensor]:
        """Each sample's own rows (1, N, D), as views."""
        longest = hidden_BLD.shape[1]
        return [hidden_BLD[sample : sample + 1, longest - rows :] for sample, rows in enumerate(self.rows_B)]

    def _call_of(self, sample: int, call: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the layer would get for this sample alone."""
        given = self.given_B[sample]
        embeddings = (part[sample : sample + 1, part.shape[1] - given :] for part in call["position_embeddings"])
        return {"position_embeddings": tuple(embeddings)}

    def _mask(self, index: int, calls: list[dict[str, Any]]) -> torch.Tensor:
        """bool (B, 1, L, K): each row sees what its session lets it see; padding sees everything, so that it stays
        finite."""
        keys_B = [part.rows_returned(rows) for part, rows in zip(self.cache[index].parts, self.rows_B, strict=True)]
        longest, most, device = max(self.rows_B), max(keys_B), calls[0]["position_embeddings"][0].device
        mask_BLK = torch.zeros(len(calls), longest, most, dtype=torch.bool, device=device)
        for mask_LK, rows, keys, its in zip(mask_BLK, self.rows_B, keys_B, calls, strict=True):
            own = its.get("attention_mask")
            if own is None:
                own = torch.ones(rows, keys, dtype=torch.bool, device=device).tril(keys - rows)
            mask_LK[: longest - rows] = True
            mask_LK[longest - rows :, most - keys :] = own
        return mask_BLK[:, None]


def _padded(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows (1, N, D) of all samples as one batch, padded in front."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([functional.pad(part, (0, 0, longest - part.shape[1], 0)) for part in parts])
