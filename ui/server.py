"""Protection of every request of the app: foreign host names are refused, and pages may load nothing from elsewhere.

Streamlit checks the `Host` header of websockets only. A foreign name that points to 127.0.0.1 (DNS rebinding) could
still read images and downloads over HTTP, so the header is checked for both.
"""

from __future__ import annotations

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import Runtime, exists, get_instance

LOCAL = ("localhost", "127.0.0.1")

# Streamlit's pages need inline styles, eval (plotly, vega) and workers from blobs, but no other host.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_serving() -> bool:
    """Whether a server runs the page; False in a test without one."""
    return exists() and type(get_instance()) is Runtime  # that of AppTest only says that it is one


class LocalHeaders:
    """Response headers: the browser loads from this host only, and no other site may embed the app."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def guards() -> list[Middleware]:
    """Middleware for `st.App`, outermost first. Allowed hosts: `server.allowedHosts`, else only this machine."""
    hosts = st.get_option("server.allowedHosts") or list(LOCAL)
    return [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(LocalHeaders),
    ]
