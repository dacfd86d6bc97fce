"""Who reviews: a typed name, or a login through OIDC where Streamlit's secrets configure one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from fairvlm_core.errors import InputError
from fairvlm_core.review import check_reviewer, read_roles, role_of

from .review_guidelines import NO_AUTHENTICATION
from .words import literal

# The name survives a reload in a cookie of this browser session, which ends with the browser or *Switch reader*.
_COOKIE = "fairvlm_reader"
# A field sends its text some time after losing the focus. Sent after a change of page, it brings the old page back, blank.
# So a press takes the focus at once, and a link that was pressed then waits.
_COOKIE_SCRIPT = """
const WAIT = 400
let listens = false, left = -WAIT
function pressed(event) {
  const field = document.activeElement
  if (!field?.matches("input, textarea") || field.contains(event.target)) return
  field.blur()
  left = event.timeStamp
}
function clicked(event) {
  const link = event.target.closest?.("a")
  if (!link || event.timeStamp - left > WAIT) return
  event.preventDefault()
  event.stopPropagation()
  left = -WAIT
  setTimeout(() => link.click(), WAIT)
}
export default function ({data}) {
  if (!listens) {
    document.addEventListener("pointerdown", pressed, true)
    document.addEventListener("click", clicked, true)
  }
  listens = true
  const ends = data.value ? "" : "; max-age=0"
  document.cookie = `${data.name}=${data.value}; path=/; samesite=strict${ends}`
}
"""


def reviewer(workspace: Path) -> tuple[str, str] | None:
    """Name and role of the reader; None while they are unknown, with a form or a login button."""
    name = _logged_in() if login_is_configured() else _typed()
    if name is None:
        return None
    role = role_of(name, read_roles(workspace))
    if role == "none":
        st.error(f"{literal(name)} is not on this workspace's list of reviewers (review.toml).", icon=":material/lock:")
        return None
    return name, role


def login_is_configured() -> bool:
    """Whether Streamlit's secrets have an ``[auth]`` section."""
    try:
        return "auth" in st.secrets
    except StreamlitSecretNotFoundError:
        return False


def _logged_in() -> str | None:
    if find_spec("authlib") is None:
        st.error("The configured login needs another package: `pip install 'fairvlm[oidc]'`", icon=":material/lock:")
        return None
    if not st.user.get("is_logged_in", False):
        st.markdown("Verdicts are signed. Log in first.")
        st.button("Log in", type="primary", icon=":material/login:", on_click=st.login, key="review.login")
        return None
    return claimed_name(st.user)


def claimed_name(claims: Mapping[str, Any]) -> str:
    """The name from a login: the address that the provider has verified, else the provider's own id.

    Display names and unverified addresses are not used: people choose them, and roles depend on this name.

    >>> claimed_name({"email": "ada@example.org", "email_verified": True, "name": "Grace"})
    'ada@example.org'
    >>> claimed_name({"email": "ada@example.org", "sub": "u-17"})
    'u-17'
    """
    verified = claims.get("email") and claims.get("email_verified") in (True, "true")
    return check_reviewer(str(claims["email"] if verified else claims.get("sub") or ""))


def _typed() -> str | None:
    state = st.session_state
    if "review.name" not in state and "review.left" not in state:
        with suppress(InputError):  # as the cookie of a reload says
            state["review.name"] = check_reviewer(unquote(st.context.cookies.get(_COOKIE, "")))
    if "review.name" in state:
        name = str(state["review.name"])
        _cookie()(data={"name": _COOKIE, "value": quote(name)}, key="review.cookie", height=1)
        return name
    if "review.left" in state:
        _cookie()(data={"name": _COOKIE, "value": ""}, key="review.cookie", height=1)
    with st.form("review.who", width=560):
        typed = st.text_input("Your name", key="review.typed", max_chars=64, placeholder="As your team knows you")
        st.caption(NO_AUTHENTICATION)
        if st.form_submit_button("Start reviewing", type="primary"):
            try:
                state["review.name"] = check_reviewer(typed)
            except InputError as error:
                st.error(literal(error), icon=":material/error:")
            else:
                st.rerun()
    return None


@cache
def _cookie() -> Callable[..., Any]:
    return st.components.v2.component("fairvlm_reader_cookie", js=_COOKIE_SCRIPT)


def leave() -> None:
    """Forget the reader, so that another person can start."""
    if login_is_configured():
        st.logout()
    kept = ("review.selection", "review.handed")
    for key in [key for key in st.session_state if str(key).startswith("review.") and key not in kept]:
        del st.session_state[key]
    st.session_state["review.left"] = True
