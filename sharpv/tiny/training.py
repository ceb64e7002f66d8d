"""Losses and batches for training the tiny VideoLLM: first its tower on dense labels, then its language model.

Shape suffixes: B batch, F frames, N patches or pooled cells of a frame, S dialogue tokens, V video tokens,
L = prefix + S, D width, C colour channels, H height, W width, X colours of a token's pixels.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import LlavaOnevisionForConditionalGeneration

from sharpv.tiny.corpus import IGNORED, Packed, Packer
from sharpv.tiny.scenes import BEATS, COLOURS, DOT, GRID, SHAPES, SIDE, Scene, coverage

COLOUR_NAMES = [*COLOURS, "white"]
SHAPE_NAMES = [*SHAPES, DOT]


def patch_labels(scene: Scene, patch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Main thing of each patch: colour and shape (int64, 0 = nothing there) and how much it covers, each (F, N)."""
    side = SIDE // patch
    best_FN = np.zeros((BEATS, side * side), np.float32)
    colour_FN, shape_FN = np.zeros_like(best_FN, np.int64), np.zeros_like(best_FN, np.int64)
    for thing in scene.things:
        for beat in thing.beats:
            cover_N = coverage(thing, beat).reshape(side, patch, side, patch).mean((1, 3)).reshape(-1)
            more = cover_N > best_FN[beat]
            best_FN[beat, more] = cover_N[more]
            colour_FN[beat, more] = 1 + COLOUR_NAMES.index(thing.colour[beat])
            shape_FN[beat, more] = 1 + SHAPE_NAMES.index(thing.shape)
    return colour_FN, shape_FN, best_FN


class PatchProbe(nn.Module):
    """Linear read-outs from a projected token: what is there, where it is on the grid, how it looks."""

    LOOK = 4

    def __init__(self, width: int):
        super().__init__()
        self.colour = nn.Linear(width, 1 + len(COLOUR_NAMES))
        self.shape = nn.Linear(width, 1 + len(SHAPE_NAMES))
        self.row = nn.Linear(width, GRID)
        self.column = nn.Linear(width, GRID)
        self.look = nn.Linear(width, 3 * self.LOOK**2)

    def loss(self, features_FND, colour_FN, shape_FN, cover_FN, pixels_FCHW) -> tuple[torch.Tensor, torch.Tensor]:
        """The summed loss, and the share of plainly covered tokens whose colour and shape are both named right."""
        side = round(features_FND.shape[1] ** 0.5)
        there, absent = cover_FN > 0.1, cover_FN < 0.01
        kept = there | absent
        weight = torch.where(there, 6.0, 1.0)[kept]
        loss = features_FND.new_zeros(())
        right = there.clone()
        for head, label_FN in ((self.colour, colour_FN), (self.shape, shape_FN)):
            logits = head(features_FND)
            target = torch.where(there, label_FN, 0)
            each = functional.cross_entropy(logits[kept], target[kept], reduction="none")
            loss = loss + (each * weight).sum() / weight.sum()
            right &= logits.argmax(-1) == label_FN
        token = torch.arange(side * side).expand(features_FND.shape[:2])
        shrink = side // GRID
        loss = loss + 0.3 * functional.cross_entropy(self.row(features_FND).transpose(1, 2), token // side // shrink)
        loss = loss + 0.3 * functional.cross_entropy(self.column(features_FND).transpose(1, 2), token % side // shrink)
        small = functional.avg_pool2d(pixels_FCHW, SIDE // side // self.LOOK)
        look_FNX = functional.unfold(small, self.LOOK, stride=self.LOOK).transpose(1, 2)
        return loss + 4 * functional.mse_loss(self.look(features_FND), look_FNX), right[there].float().mean()


def projected_patches(model: LlavaOnevisionForConditionalGeneration, pixels_FCHW: torch.Tensor) -> torch.Tensor:
    """Projected tokens of every patch before pooling (F, N, D)."""
    states = model.model.vision_tower(pixels_FCHW, output_hidden_states=True).hidden_states
    return model.model.multi_modal_projector(states[model.config.vision_feature_layer])


def pooled_features(model: LlavaOnevisionForConditionalGeneration, pixels_FCHW: torch.Tensor) -> torch.Tensor:
    """Projected and pooled tokens per frame (F, P, D), through the stock model's own path."""
    rows = model.get_video_features(pixels_FCHW[None], return_dict=True).pooler_output
    frames = len(pixels_FCHW)
    return rows.reshape(-1, rows.shape[-1])[: frames * GRID * GRID].reshape(frames, GRID * GRID, -1)


def to_pixels(frames_FHWC: np.ndarray) -> torch.Tensor:
    """uint8 frames to the tower's input in -1..1, float32 (F, C, H, W)."""
    return torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2).float().div(127.5).sub(1)


class LanguageBatch:
    """Packed dialogues of a batch of videos as tensors, with the mask that keeps dialogues apart."""

    def __init__(self, packed: list[Packed], features_BVD: torch.Tensor, packer: Packer, pad: int):
        self.features_BVD = features_BVD.float()
        head = packer.tokenizer(packer.head).input_ids
        self.head = torch.tensor(head)
        longest = max(len(one.ids) for one in packed)

        def column(name, fill):
            return torch.tensor([getattr(one, name) + [fill] * (longest - len(one.ids)) for one in packed])

        self.ids_BS, self.labels_BS, self.hints_BS = (
            column("ids", pad),
            column("labels", IGNORED),
            column("hints", IGNORED),
        )
        self.weights_BS = column("weights", 0.0)
        dialogue_BS, sees_BS = column("dialogue", -1), column("sees_video", False)
        prefix = len(head) + features_BVD.shape[1] + 1
        self.prefix = prefix
        batch, total = len(packed), prefix + longest
        mask_BLL = torch.zeros(batch, total, total, dtype=torch.bool)
        mask_BLL[:, :prefix, :prefix] = torch.ones(prefix, prefix, dtype=torch.bool).tril()
        mask_BLL[:, prefix:, :prefix] = sees_BS[:, :, None]
        same_BSS = dialogue_BS[:, :, None] == dialogue_BS[:, None, :]
        mask_BLL[:, prefix:, prefix:] = same_BSS & torch.ones(longest, longest, dtype=torch.bool).tril()
        self.mask_B1LL = mask_BLL[:, None]
        starts_BS = torch.zeros_like(dialogue_BS)
        for row, one in enumerate(dialogue_BS):
            first = torch.ones_like(one, dtype=torch.bool)
            first[1:] = one[1:] != one[:-1]
            starts_BS[row] = torch.where(first, torch.arange(longest), 0).cummax(0).values
        positions_BS = prefix + torch.arange(longest) - starts_BS
        self.positions_BL = torch.cat([torch.arange(prefix).expand(batch, -1), positions_BS], 1)


def language_loss(model, batch: LanguageBatch, hint_layer: int) -> tuple[torch.Tensor, dict]:
    """Cross entropy of the answers plus that of the hints read from an inner layer; per-kind accuracies beside it."""
    language = model.model.language_model
    embed = language.get_input_embeddings()
    size = len(batch.ids_BS)
    newline_B1D = model.model.image_newline.expand(size, 1, -1)
    inputs_BLD = torch.cat(
        [embed(batch.head).expand(size, -1, -1), batch.features_BVD, newline_B1D, embed(batch.ids_BS)], 1
    )
    captured = []
    handle = language.layers[hint_layer].register_forward_pre_hook(lambda module, args: captured.append(args[0]))
    output = language(
        inputs_embeds=inputs_BLD, attention_mask=batch.mask_B1LL, position_ids=batch.positions_BL, use_cache=False
    )
    handle.remove()
    states_BSD, inner_BSD = output.last_hidden_state[:, batch.prefix :], language.norm(captured[0])[:, batch.prefix :]

    loss, seen = _answer_losses(model, states_BSD, inner_BSD, batch.labels_BS, batch.weights_BS, batch.hints_BS)
    return loss, seen


def _answer_losses(model, states_BSD, inner_BSD, labels_BS, weights_BS, hints_BS) -> tuple[torch.Tensor, dict]:
    """Weighted cross entropy of labels and hints; `seen` holds what was right among full-weight labels and hints."""
    answered, hinted = labels_BS != IGNORED, hints_BS != IGNORED
    logits, labels, weights = model.lm_head(states_BSD[answered]).float(), labels_BS[answered], weights_BS[answered]
    hint_logits, hints = model.lm_head(inner_BSD[hinted]).float(), hints_BS[hinted]
    loss = (functional.cross_entropy(logits, labels, reduction="none") * weights).sum() / weights.sum()
    loss = loss + 0.5 * functional.cross_entropy(hint_logits, hints)
    replies = weights == 1.0
    right = (logits.argmax(-1) == labels)[replies].float().detach()
    hint_right = (hint_logits.argmax(-1) == hints).float()
    options = answered[hinted]
    seen = {"right": right, "labels": labels[replies], "hint": hint_right[~options].mean().item()}
    return loss, seen | {"option": hint_right[options].mean().item()}


def lookup_loss(model, packed: list[Packed], pad: int, hint_layer: int) -> tuple[torch.Tensor, dict]:
    """The same loss on text-only look-ups."""
    longest = max(len(one.ids) for one in packed)

    def column(name, fill):
        return torch.tensor([getattr(one, name) + [fill] * (longest - len(one.ids)) for one in packed])

    language, captured = model.model.language_model, []
    handle = language.layers[hint_layer].register_forward_pre_hook(lambda module, args: captured.append(args[0]))
    states_BSD = language(input_ids=column("ids", pad), use_cache=False).last_hidden_state
    handle.remove()
    inner_BSD = language.norm(captured[0])
    return _answer_losses(
        model, states_BSD, inner_BSD, column("labels", IGNORED), column("weights", 0.0), column("hints", IGNORED)
    )
