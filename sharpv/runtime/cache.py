"""A KV cache whose layers may hold different rows.

Shape suffixes: B batch, H key-value heads, N rows, E head width, K kept rows.
"""

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import Cache, DynamicLayer

CACHE_NAMES = ("cache", "past_key_values")
"""What the argument with the KV cache is called, from transformers 5.24 on and before."""


def cache_argument(module: nn.Module) -> str:
    """The name under which this module's forward takes its KV cache."""
    taken = inspect.signature(module.forward).parameters
    return next(name for name in CACHE_NAMES if name in taken)


def given_cache(kwargs: dict[str, Any]) -> Any:
    """The KV cache among a call's arguments, None where there is none."""
    return next((kwargs[name] for name in CACHE_NAMES if kwargs.get(name) is not None), None)


def rotate_keys(keys_BHNE: torch.Tensor, cos_NE: torch.Tensor, sin_NE: torch.Tensor) -> torch.Tensor:
    """Rotate keys that already carry rotary positions further, by the angles given."""
    half = keys_BHNE.shape[-1] // 2
    turned_BHNE = torch.cat((-keys_BHNE[..., half:], keys_BHNE[..., :half]), dim=-1)
    return keys_BHNE * cos_NE + turned_BHNE * sin_NE


SPARE_ROWS = 128
"""Rows that a layer takes room for at once when it grows, so that a decode step writes one row and copies none."""


class PrunableLayer(DynamicLayer):
    """A dynamic cache layer that may store fewer rows than it was given, or return fewer than it stores.

    `get_seq_length` is the number of rows of the dense prompt and of all behind it, so that `model.generate` finds the
    new ones of a later turn; `left_out` of them were pruned before they came here. After prefill the layer holds
    exactly its rows; in decode `keys` and `values` are views of a room with up to SPARE_ROWS rows more. A `closed`
    layer takes no more rows. A layer with `parts`, one a sample, each with as many new rows as `rows_B` says at the end
    of the batch, stores all there.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.logical_length = self.left_out = 0
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None
        self.store_K: torch.Tensor | None = None
        self.hide_unstored = False
        self.read_K: torch.Tensor | None = None
        self.closed = False
        self.parts: list[PrunableLayer] = []
        self.rows_B: list[int] = []

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if self.closed:
            raise ValueError(
                "this KV cache was pruned by a generation that has ended, and only that knew which of its rows are "
                "gone: generate inside the context, from the whole prompt"
            )
        if self.parts:
            self.logical_length += key_states.shape[-2]
            return self._update_parts(key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            keys, values = key_states, value_states
        else:
            keys, values = self._append(key_states, value_states)
        self.logical_length += key_states.shape[-2]
        self.keys, self.values = keys, values
        if self.store_K is not None:
            self.cut(self.store_K)
            self.store_K = None
            return (self.keys, self.values) if self.hide_unstored else (keys, values)
        if self.read_K is not None:
            return keys[:, :, self.read_K], values[:, :, self.read_K]
        return keys, values

    def _update_parts(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each sample's own rows into its part; what the parts return, padded in front."""
        longest = key_states.shape[-2]
        returned = [
            part.update(*(states[sample : sample + 1, :, longest - rows :] for states in (key_states, value_states)))
            for sample, (part, rows) in enumerate(zip(self.parts, self.rows_B, strict=True))
        ]
        most = max(keys.shape[-2] for keys, _ in returned)
        padded = [[functional.pad(one, (0, 0, most - one.shape[-2], 0)) for one in pair] for pair in returned]
        keys, values = (torch.cat(one) for one in zip(*padded, strict=True))
        return keys, values

    def rows_returned(self, new: int) -> int:
        """How many rows attention will see when it brings so many new ones."""
        if self.store_K is not None and self.hide_unstored:
            return len(self.store_K)
        return self.stored_rows + new if self.read_K is None else len(self.read_K)

    def _append(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The stored rows and the new ones, as views of a room into which only the new ones are written."""
        stored, total = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if self._room is None or total > self._room[0].shape[-2]:
            self._room = _with_room(self.keys, total + SPARE_ROWS), _with_room(self.values, total + SPARE_ROWS)
        for room_BHNE, states_BHNE in zip(self._room, (key_states, value_states), strict=True):
            room_BHNE[:, :, stored:total] = states_BHNE
        return self._room[0][:, :, :total], self._room[1][:, :, :total]

    def cut(self, index_K: torch.Tensor) -> None:
        """Keep only the stored rows of this index, and free the others."""
        self.keys, self.values = self.keys[:, :, index_K], self.values[:, :, index_K]
        self._room = None

    @torch.no_grad()
    def close_gaps(self, shift_N: torch.Tensor, rotary: Any) -> None:
        """Rotate each stored key forward by `shift_N` positions (int64, one a stored row).

        All components of a position move together, so one angle a row does for M-RoPE as well.
        """
        half_NE = shift_N[:, None].float() * rotary.inv_freq.to(shift_N.device, torch.float32)
        angle_NE = torch.cat([half_NE, half_NE], dim=-1)
        self.keys = rotate_keys(self.keys, angle_NE.cos().to(self.keys.dtype), angle_NE.sin().to(self.keys.dtype))
        self._room = None

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        if self.parts:
            raise ValueError(
                "beams change the places of samples, whose memory stage then follows another one: search with a "
                "visual stage alone, or sample with num_return_sequences"
            )
        super().reorder_cache(beam_idx)
        self._room = None

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._room = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None

    def reset(self) -> None:
        super().reset()
        self.logical_length, self.left_out, self._room = 0, 0, None

    def get_seq_length(self) -> int:
        return self.logical_length + self.left_out

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.logical_length + query_length, self.left_out

    def crop(self, *args, **kwargs) -> None:
        raise ValueError(
            "a pruned KV cache cannot be cropped, as assisted decoding and prompt lookup do: pass no assistant model "
            "and no prompt_lookup_num_tokens"
        )

    @property
    def stored_rows(self) -> int:
        return self.keys.shape[-2] if self.is_initialized else 0

    @property
    def stored_bytes(self) -> int:
        """Bytes of the memory held, spare room included."""
        if not self.is_initialized:
            return 0
        return sum(part.untyped_storage().nbytes() for part in (self.keys, self.values))


def _with_room(rows_BHNE: torch.Tensor, capacity: int) -> torch.Tensor:
    batch, heads, stored, width = rows_BHNE.shape
    room_BHNE = rows_BHNE.new_empty(batch, heads, capacity, width)
    room_BHNE[:, :, :stored] = rows_BHNE
    return room_BHNE


def require_rows(cache: list[PrunableLayer], given: int) -> None:
    """ValueError where these layers were not given so many rows in all: the model then filled another cache."""
    if sum(layer.logical_length for layer in cache) != given:
        raise ValueError(
            "the model wrote its keys and values into another cache than the one that pruning cuts: this version "
            "of transformers hands caches on in a way that sharpv does not know; install one that its "
            "pyproject.toml allows"
        )


def make_prunable(cache: Cache, depth: int) -> list[PrunableLayer]:
    """Give an empty dynamic cache layers that can be cut; ValueError for any other cache."""
    if any(type(layer) is not DynamicLayer for layer in cache.layers) or cache.get_seq_length() > 0:
        raise ValueError(
            f"pruned runs need an empty DynamicCache of plain layers, got {type(cache).__name__} with "
            f"{cache.get_seq_length()} rows; pass no cache of your own and no cache_implementation"
        )
    layers = [PrunableLayer() for _ in range(depth)]
    cache.layers[:] = layers
    return layers
