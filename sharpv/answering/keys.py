"""What an answer depends on, as hashes: a stored answer is used again only where nothing of this has changed."""

import dataclasses
import hashlib
import json
from typing import Any

from sharpv.answering import environment
from sharpv.benchmarks.samples import Sample
from sharpv.configuration.code import code_hash
from sharpv.configuration.rows import Row

NOT_ANSWERING = ("path", "paper_name", "display", "size_gb", "calibration")
"""Fields of a model's configuration that change no answer by themselves: what is behind `path` is hashed, and a row's
settings hold the calibrated numbers that it uses."""
LIBRARIES = ("torch", "transformers", "numpy", "pillow", "av")
RUNNER = "sharpv.answering.runner"


def digest(content: Any) -> str:
    """sha256 of a JSON-like value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def run_key(model: Any, benchmark: str) -> str:
    """Of all that one cell's answers have in common: model, weights, generation settings, backend, libraries, and the
    code that answers for every row; that of a row's own stages is in the hash of its settings."""
    settings = {name: value for name, value in dataclasses.asdict(model).items() if name not in NOT_ANSWERING}
    found = environment.versions()
    return digest(
        {
            "benchmark": benchmark,
            "weights": model.weights_hash(),
            "settings": settings,
            "backend": [model.torch_device().type, model.backend()],
            "libraries": {name: found[name] for name in LIBRARIES},
            "code": code_hash([RUNNER, type(model).__module__]),
        }
    )


def answer_key(run: str, sample: Sample, row: Row, video: str) -> str:
    """Of everything that can change one answer; `run` is the run key, `video` the fingerprint of the file."""
    asked = [sample.task, sample.doc_id, sample.doc_hash, sample.text, sample.max_new_tokens, video]
    return digest([run, row.name, row.hash, *asked])
