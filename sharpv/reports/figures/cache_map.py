"""Visual KV that each method holds in each layer, as a heat map of methods by layers."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpv.reports.figures.style import GREY, PAGE, new_figure

ANNOTATED_LAYERS = 16


def cache_figure(samples: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Mean visual KV entries after prefill per layer, in percent of the dense model's visual tokens.

    Rows as in the table of this model. Beside each: what is held over all layers, and what a decode step reads, which
    is less for methods that keep entries but skip them (DyCoke). White is nothing, dark is all.
    """
    done = samples[samples["status"] == "ok"]
    rows = [row for row in table["row"] if (done["row"] == row).any()]
    held = [held_per_layer(done[done["row"] == row]) for row in rows]
    if len({len(layers) for layers in held}) != 1:
        raise ValueError(f"rows {rows} have {[len(layers) for layers in held]} layers: draw one model at a time")
    if not len(held[0]):
        raise ValueError(f"the answers of {rows} say of no layer what it holds")
    percent = 100 * np.array(held)
    read = [100 * float(done.loc[done["row"] == row, "token_budget"].astype(float).mean()) for row in rows]
    figure = new_figure(PAGE, 0.75 + 0.19 * len(rows))
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    names = table.set_index("row").loc[rows, "method"]
    axes.set_yticks(range(len(rows)), list(names))
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    layers = percent.shape[1]
    axes.set_xticks(range(0, layers, 1 if layers <= ANNOTATED_LAYERS else 4))
    axes.set_xlabel("layer")
    if layers <= ANNOTATED_LAYERS:
        _write_cells(axes, percent)
    else:
        figure.colorbar(image, ax=axes, label="% of dense", pad=0.14, shrink=0.8)
    for place, share in enumerate(percent.mean(1)):
        axes.text(layers - 0.35, place, f"{share:.0f}", va="center", fontsize=6.5, ha="left")
        axes.text(
            layers + layers * 0.07 - 0.35, place, f"{read[place]:.0f}", va="center", fontsize=6.5, ha="left", color=GREY
        )
    axes.text(layers - 0.35, -0.75, "held", fontsize=6.5, ha="left", va="bottom")
    axes.text(layers + layers * 0.07 - 0.35, -0.75, "read", fontsize=6.5, ha="left", va="bottom", color=GREY)
    axes.set_title(f"{table['model'].iloc[0]}: visual KV held per layer after prefill, % of dense", pad=14)
    return figure


def held_per_layer(part: pd.DataFrame) -> np.ndarray:
    """Mean share (0-1) of the dense model's visual tokens that is in the cache of each layer, over these answers."""
    return np.mean(
        [np.array(kv) / dense for kv, dense in zip(part["layers.visual_kv"], part["visual_dense"], strict=True)], axis=0
    )


def _write_cells(axes: Axes, percent: np.ndarray) -> None:
    for (row, layer), value in np.ndenumerate(percent):
        axes.text(
            layer, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color="white" if value > 55 else "black"
        )
