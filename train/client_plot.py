"""The picture of a partition: who got how many pictures of what."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fbkit.errors import printable
from fbkit.plotting import COLOURS, label, save, style
from fbkit.train.client_table import ClientTable

MOST_CLIENTS = 200  # more would be narrower than a dot
_ROLES = ("training", "held out")
# From a tint that is seen on white, over the role's colour, to a darker tone.
_RAMPS = tuple(
    LinearSegmentedColormap.from_list(role, colours)
    for role, colours in zip(
        _ROLES, (("#d3e5f2", COLOURS[0], "#004066"), ("#fbdcc8", COLOURS[1], "#803800")), strict=True
    )
)


def save_clients(table: ClientTable, folder: Path) -> None:
    """Draw ``plot_clients`` into clients.png and clients.svg in ``folder``."""
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; it need not be said once a letter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        save(plot_clients(table), folder / "clients")


def plot_clients(table: ClientTable) -> Figure:
    """Clients across: above their numbers of training pictures, below the same by class; held-out clients in orange."""
    clients = min(len(table.names), MOST_CLIENTS)
    classes = len(table.classes)
    counts, held_out = table.train[:clients], table.held_out[:clients]
    with style():
        names = [_short(name) if table.named else str(client) for client, name in enumerate(table.names[:20])]
        upright = 0.08 * max(map(len, names)) if table.named and clients <= 20 else 0  # inches of names below
        height = min(max(0.24 * classes, 1.6), 10)
        width = min(max(0.09 * clients, 0.34 * min(clients, 20), 4.5), 11)
        figure = Figure(figsize=(width + 2.6, height + 2.4 + upright), layout="constrained")
        sizes, cells = figure.subplots(2, 1, sharex=True, height_ratios=(1.1, height))

        colours = np.where(held_out, COLOURS[1], COLOURS[0])
        sizes.bar(np.arange(clients), counts.sum(axis=1), width=0.85, color=colours.tolist())
        sizes.grid(axis="x", visible=False)
        sizes.tick_params(bottom=False)
        sizes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        label(sizes, "", "training\npictures")
        numbers = (len(table.names) - int(table.held_out.sum()), int(table.held_out.sum()))
        roles = [
            Patch(color=COLOURS[place], label=f"{role} ({number} of {len(table.names)} clients)")
            for place, (role, number) in enumerate(zip(_ROLES, numbers, strict=True))
            if number
        ]
        part = f"first {clients} of {len(table.names)} clients" if clients < len(table.names) else None
        figure.legend(handles=roles, loc="outside upper left", ncols=2, title=part, alignment="left")

        scale = Normalize(0, max(int(counts.max()), 1))
        for place, wanted in enumerate((~held_out, held_out)):
            shown = np.ma.masked_where((counts == 0) | ~wanted[:, None], counts).T
            drawn = cells.imshow(
                shown, cmap=_RAMPS[place], norm=scale, aspect="auto", interpolation="none", origin="upper"
            )
            if not place:
                figure.colorbar(
                    drawn, ax=cells, label="training pictures", aspect=30, ticks=MaxNLocator(5, integer=True)
                )
        if clients <= 20 and classes <= 20:
            for client, of_class in np.argwhere(counts > 0).tolist():
                number = int(counts[client, of_class])
                ink = "white" if scale(number) > 0.35 else "black"
                cells.text(client, of_class, str(number), ha="center", va="center", fontsize=8, color=ink)
        cells.grid(visible=False)
        every = -(-classes * 13 // int(height * 72))  # a line of 9 points, and air, for each name
        class_names = [_short(name) for name in table.classes[::every]]
        cells.set_yticks(range(0, classes, every), class_names, fontsize=9)
        if clients <= 20:
            cells.set_xticks(range(clients), names, rotation=90 if table.named else 0)
        else:
            cells.xaxis.set_major_locator(MaxNLocator(integer=True))
        label(cells, "client", "class")
    return figure


def _short(name: str) -> str:
    """A name as it fits beside a plot, with nothing in it that matplotlib takes for a formula."""
    name = printable(name)
    return (name if len(name) <= 24 else name[:23] + "…").replace("$", r"\$")
