"""One press, one verdict: the second click of a double click and the repeats of a held key never reach the page.

When they arrive, the next pair may be on the screen, and they would count as a verdict on it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import streamlit as st

_SCRIPT = """
export default function ({data}) {
  const inside = target => target instanceof Element && target.closest(`[class*="st-key-${data.container}"]`)
  const swallow = event => { event.preventDefault(); event.stopImmediatePropagation() }
  const click = event => { if (event.detail > 1 && inside(event.target)) swallow(event) }
  const typing = target => target instanceof Element && target.matches("input, textarea, [contenteditable]")
  const key = event => { if (event.repeat && !typing(event.composedPath()[0])) swallow(event) }
  window.addEventListener("click", click, true)
  window.addEventListener("keydown", key, true)
  return () => {
    window.removeEventListener("click", click, true)
    window.removeEventListener("keydown", key, true)
  }
}
"""


@cache
def _guard() -> Callable[..., Any]:
    return st.components.v2.component("fairvlm_review_guard", js=_SCRIPT)


def guard(container: str) -> None:
    """Guard the buttons of the containers whose keys begin so."""
    _guard()(data={"container": container}, key="review.guard", height=1)
