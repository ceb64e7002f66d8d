"""What every loader demands of a checkpoint: safetensors only, every tensor accounted for, weights that can be ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

FLOATING = ("F64", "F32", "F16", "BF16")
NAMED = 8
"""How many tensors a message names."""


def safetensors_files(folder: Path) -> list[Path]:
    """The weights of a checkpoint. ValueError where there are none, an index names other files, a file cannot be read,
    or a tensor is no floating-point one."""
    for index in folder.glob("*.index.json"):
        named = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if index.name.endswith(".safetensors.index.json") and (
            odd := sorted(name for name in named if Path(name).name != name or not name.endswith(".safetensors"))
        ):
            raise ValueError(f"{index} names {', '.join(odd)}; only safetensors files of its own folder are read")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no safetensors file; other weight formats are never read")
    odd = [name for file in files for name, dtype in _dtypes(file).items() if dtype not in FLOATING]
    if odd:
        raise ValueError(f"{folder} holds tensors that are no floating-point numbers: {_listed(odd)}")
    return files


def checkpoint_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a folder's safetensors files; ValueError as `safetensors_files`."""
    for file in safetensors_files(folder):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a dict)
                yield name, opened.get_tensor(name)


def load_stock(
    kind: type,
    folder: Path,
    dtype: torch.dtype,
    attn_implementation: str,
    released: tuple[Any, dict[str, torch.Tensor]] | None = None,
) -> Any:
    """A stock model from a folder; ValueError as `safetensors_files` and `require_all`.

    released: for a folder in another layout than the library's, its configuration and tensors in that of the library.
    """
    if released is None:
        safetensors_files(folder)
        source: dict[str, Any] = {"pretrained_model_name_or_path": folder, "use_safetensors": True}
    else:
        source = {"pretrained_model_name_or_path": None, "config": released[0], "state_dict": released[1]}
    model, report = kind.from_pretrained(  # type: ignore[attr-defined]
        **source,
        dtype=dtype,
        attn_implementation=attn_implementation,
        trust_remote_code=False,
        output_loading_info=True,
    )
    require_all(folder, model, report)
    return model


def require_all(folder: Path, model: nn.Module, report: dict[str, Any]) -> None:
    """ValueError naming what transformers' loading report says is missing, unexpected or mismatched, and the matrices
    that hold zeros only: the library itself fills gaps with random numbers and goes on."""
    problems = {
        "missing": sorted(report["missing_keys"]),
        "unexpected": sorted(report["unexpected_keys"]),
        "of another shape": sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]),
        "all zeros": [name for name, weight in model.named_parameters() if weight.ndim > 1 and not weight.any()],
    }
    told = [f"{kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if told:
        raise ValueError(f"{folder} is no complete checkpoint of its configuration: {'; '.join(told)}")


def require_token(tokenizer: Any, token: str, number: int, folder: Path) -> None:
    """ValueError where the configuration's id of a token is another one's in the tokenizer."""
    found = tokenizer.convert_ids_to_tokens(number)
    if found != token:
        raise ValueError(f"{folder}: its configuration gives {token} the id {number}, its tokenizer has {found!r}")


def _dtypes(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, "pt") as opened:
            return {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}): download it again") from error


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
