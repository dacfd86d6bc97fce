"""Review behind a login: a small OpenID provider, a real browser, roles by the address that the provider vouches for."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from review_data import add_queue, add_reviewable_run
from serving import chromium, free_port, in_a_browser, serve

from fairvlm_core.pairs import PairTable
from fairvlm_core.review import ReviewStore

jose = pytest.importorskip("joserfc", reason="Authlib is not installed: pip install -e '.[oidc]'")
pytestmark = in_a_browser
CLIENT = "fairvlm-test"


class Provider(BaseHTTPRequestHandler):
    """Logs everyone in as `claims`: discovery, authorisation by a code, a token signed with RS256."""

    claims: dict
    key: object
    nonces: dict[str, str]

    def do_GET(self) -> None:
        place, asked = urlparse(self.path), parse_qs(urlparse(self.path).query)
        issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        if place.path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks"}
            algorithms = {"id_token_signing_alg_values_supported": ["RS256"]}
            self._json({"issuer": issuer} | {name: issuer + end for name, end in ends.items()} | algorithms)
        elif place.path == "/jwks":
            self._json({"keys": [self.key.as_dict(private=False)]})
        else:
            self.nonces["code"] = asked.get("nonce", [""])[0]
            self.send_response(302)
            back = {"code": "code", "state": asked["state"][0]}
            self.send_header("Location", f"{asked['redirect_uri'][0]}?{urlencode(back)}")
            self.end_headers()

    def do_POST(self) -> None:
        from joserfc import jwt

        issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        now = int(time.time())
        claims = {"iss": issuer, "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": self.nonces["code"]}
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims | self.claims, self.key)
        self._json({"access_token": "a", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def _json(self, value: dict) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[type[Provider]]:
    from joserfc.jwk import RSAKey

    Provider.key, Provider.nonces = RSAKey.generate_key(2048, auto_kid=True), {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    Provider.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Provider
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def serve_with_login(workspace: Path, provider: type[Provider], secrets: Path) -> Iterator[str]:
    port = free_port()
    secrets.write_text(
        f'[auth]\nredirect_uri = "http://localhost:{port}/oauth2callback"\ncookie_secret = "{"s" * 32}"\n'
        f'client_id = "{CLIENT}"\nclient_secret = "x"\n'
        f'server_metadata_url = "{provider.address}/.well-known/openid-configuration"\n'
    )
    with serve(workspace, "--secrets.files", str(secrets), port=port, AUTHLIB_INSECURE_TRANSPORT="1") as address:
        yield address


def test_a_login_signs_verdicts_and_decides_the_role(table: PairTable, tmp_path: Path, provider) -> None:
    workspace = tmp_path / "workspace"
    add_queue(workspace, add_reviewable_run(workspace, table))
    (workspace / "review.toml").write_text('default = "none"\n[roles]\n"ada@example.org" = "reviewer"\n')
    with serve_with_login(workspace, provider, tmp_path / "secrets.toml") as address, chromium() as browser:
        for claims, words in (
            ({"sub": "u1", "email": "ada@example.org", "email_verified": True}, "ada@example.org · reviewer"),
            ({"sub": "u2", "email": "ada@example.org", "email_verified": False}, "u2 is not on this workspace"),
            ({"sub": "u3", "name": "ada@example.org"}, "u3 is not on this workspace"),
        ):
            provider.claims = claims
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{address}/Review")
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{address}/")  # Streamlit goes to its first page after a login
            page.goto(f"{address}/Review")
            page.get_by_text(words).wait_for()
            if "reviewer" in words:
                page.get_by_role("button", name="Pair fits").click()
                page.get_by_text(re.compile(r"^1 of \d+ pairs read by you")).wait_for()
            page.context.clear_cookies()
            page.close()
    with ReviewStore.open(workspace, url="") as store:
        assert [(e.reviewer, e.body["verdict"]) for e in store.events() if e.kind == "verdict"] == [
            ("ada@example.org", "fits")
        ]
