"""The review's store, shared by all sessions of the server."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from fairvlm_core.review import ReviewStore
from fairvlm_core.review.database import URL_VARIABLE


def review_store(workspace: Path) -> ReviewStore:
    """The workspace's store, one for this process; `InputError` where it cannot be opened."""
    return _store(str(workspace.resolve()), os.environ.get(URL_VARIABLE, ""))


@st.cache_resource(max_entries=4, show_spinner=False)
def _store(workspace: str, url: str) -> ReviewStore:
    return ReviewStore.open(workspace, url=url)
