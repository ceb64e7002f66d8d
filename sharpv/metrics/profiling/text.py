"""What is printed above the numbers of a profile."""

DEFINITIONS = """\
**What the numbers are**

- *TTFT* = vision + prune + prefill + first token; median (first to third quartile) over the repeats, after one pass
  that warms up and measures memory. *vision*: tower, projector and pooling on the frames that this pruner alone would
  encode, with the tower's inside tapped where the pruner reads it. *prune*: the visual stage's selection. *prefill*:
  assembling the prompt and running the decoder, with all that a memory stage does there. *first*: the LM head on one
  row and its argmax. No video is decoded or preprocessed here: the pixels are random.
- Times are CUDA events on a GPU, read after the answer, and the host's clock on a CPU: `wall`, or on a shared machine
  `process`, this process's own seconds on the CPU (with one thread: a wall clock's on an idle core). Vision is timed
  apart from the rest, once for all pruners that need the same of it. Repeats go round all pruners of a block in turn.
- *overhead* = prune + what the runtime and the memory stage do around the decoder's layers in prefill (timed in
  answers of their own) - the same of dense, as a share of dense TTFT.
- *TPOT* = (last token - first token) / (tokens - 1), by the lean greedy loop that the suite uses; it never stops
  early. Dense runs through the same loop and the same cache. *samples/s* = 1 / (TTFT + (tokens - 1) x TPOT).
- *bound* = dense TTFT / (the pruner's vision + dense prefill and first token scaled by exact prefill FLOPs): the
  speed-up that pruning at no cost and perfect scaling would give. *over bound* = how much longer than that its TTFT
  is. *ceiling* = dense TTFT / the pruner's vision: the speed-up if the language model cost nothing.
- *TFLOPs*: `eq5` = sum over layers of 4nd² + 2n²d + 2ndm with each layer's own n (FastV's Eq. 5; prefill); `exact` =
  two per multiply-add, grouped query heads, three feed-forward matrices, causal attention, LM head on one row.
- *Memory*, MiB: peaks above the weights and above the pixels, features and prompt embeddings of the dense video,
  which the profiler holds for all pruners; a stage's peak includes what earlier stages left. On a CPU these are the
  bytes of live tensors (a kernel's inner scratch is not seen), on a GPU the allocator's count. *KV* = storage of the
  cache after prefill; *predicted* = rows kept x row size.
- *VR* = visual tokens fed / dense visual tokens. *MR* = visual KV entries read at decode / fed, mean over layers and
  steps.
"""
FORCED = """\
**Forced counts.** Random features do not move as real ones do. Each visual stage therefore runs its own selection in
full (it is in *prune*) and {ratio:.0%} of the tokens, evenly spaced, are fed in place of its choice; Memory SharpV's
cosines are computed in every layer and the visual KV of the deepest layers is dropped in place of its decision, so
that {memory:.0%} of the layers keep theirs, to the nearest whole layer. Not forced: `fewer_frames` and `downsample`
(steps of frames and grids); `fastv` and `framefusion` (their own kept share set to {ratio:.0%}); `vtw`, and what
`prunevid` and `dycoke` do inside the decoder (their defaults; where steps look alike, as on random features, DyCoke
reads everything). VR and MR are what was achieved. Accuracy is not measured here.
"""
