"""Pairs as a list or a grid with their map, drawn in the browser: a click opens a pair, arrows move on, a loop chooses.

Opening a pair sends its id only; the map is not drawn by the server again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class BoardItem:
    """A pair of the list: `head` and `note` are shown as text, `src` is the ``data:`` address of its thumbnail or ""."""

    id: str
    head: str
    note: str
    src: str


@dataclass(frozen=True, eq=False)
class BoardMap:
    """The N points of the map.

    Attributes
    ----------
    ids, notes, colours : list of str, length N
        `notes` are shown on hovering.
    x, y : float array of shape (N,)
        0 to 1.
    passes : bool array of shape (N,)
        Points that pass the filters; the others are grey.
    front : bool array of shape (N,)
        Drawn as squares over the others.
    legend : list of (name, colour)
    alt : str
    """

    ids: Sequence[str]
    notes: Sequence[str]
    colours: Sequence[str]
    x: np.ndarray
    y: np.ndarray
    passes: np.ndarray
    front: np.ndarray
    legend: Sequence[tuple[str, str]]
    alt: str

    def plain(self) -> dict[str, Any]:
        numbers = {name: np.round(getattr(self, name), 4).tolist() for name in ("x", "y")}
        flags = {name: getattr(self, name).astype(int).tolist() for name in ("passes", "front")}
        words = {name: list(getattr(self, name)) for name in ("ids", "notes", "colours")}
        legend = [{"name": name, "colour": colour} for name, colour in self.legend]
        return {**numbers, **flags, **words, "legend": legend, "alt": self.alt}


@cache
def _component() -> Callable[..., Any]:
    return st.components.v2.component(
        "fairvlm_pair_board",
        html=(_HERE / "pair_board.html").read_text(encoding="utf-8"),
        css=(_HERE / "pair_board.css").read_text(encoding="utf-8"),
        js=(_HERE / "pair_board.js").read_text(encoding="utf-8"),
    )


def pair_board(
    items: Sequence[BoardItem], picture: BoardMap | None, selected: str | None, *, said: str, empty: str, key: str,
    opened: Callable[[str], None], chosen: Callable[[tuple[str, ...]], None] | None = None, list_height: int = 280,
    map_height: int = 230, tiles: bool = False,
) -> None:  # fmt: skip
    """Show pairs; `opened` is called with the id of a pair that was clicked, `chosen` with the ids inside a loop.

    `tiles`: it starts as a grid.
    """
    data = {
        "items": [asdict(item) for item in items],
        "map": None if picture is None else picture.plain(),
        "selected": selected,
        "said": said,
        "empty": empty,
        "list_height": list_height,
        "map_height": map_height,
        "tiles": tiles,
    }

    def on_opened() -> None:
        if value := st.session_state[key].get("opened"):
            opened(str(value))

    def on_chosen() -> None:
        if chosen is not None and (value := st.session_state[key].get("chosen")) is not None:
            chosen(tuple(map(str, value)))

    _component()(
        data=data, key=key, on_opened_change=on_opened, on_chosen_change=on_chosen, width="stretch", height="content"
    )
