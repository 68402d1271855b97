"""What keeps pages safe: who may ask, by which name, with which method, and what a browser may run.

Pages write nothing, so every method but GET and HEAD is refused, and there is no form that another site could send. The host
name is checked, so that a site in the same browser cannot reach a page on loopback under a name of its own (DNS
rebinding). Beyond loopback a token is asked for, and kept in a cookie that no other site's request carries.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from base64 import b64encode
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from typing import ClassVar
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "rolegen_pages"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def digest_source(text: str) -> str:
    """The source expression by which a policy allows one inline script or style."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class Guard:
    """ASGI middleware with all of it.

    Args:
        hosts: names under which the pages may be asked for; None where the surrounding app takes care of that.
        token: what a visitor must know; None asks for nothing.
    """

    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD")
    refused: ClassVar[str] = "These pages are for reading only."

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, token: str | None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, _guarded(send))
            return
        await self._app(scope, receive, _guarded(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _host_of(headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("This host name is not served here; use the address that was printed.", 421)
        if scope["method"] not in self.methods:
            return PlainTextResponse(self.refused, 405, {"allow": ", ".join(self.methods)})
        return None if self._token is None else self._ask(scope, headers, self._token)

    def _ask(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        given = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        offered = dict(given).get("token")
        if offered is not None and _same(offered, token):
            # Out of the address, which would be seen in histories and logs.
            rest = urlencode([(name, value) for name, value in given if name != "token"])
            answer = RedirectResponse(scope.get("path", "/") + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(COOKIE, _kept(token), httponly=True, samesite="strict", secure=scope["scheme"] == "https")
            return answer
        if bears(headers, token):
            return None
        if _same(_cookie(headers.get("cookie", "")), _kept(token)):
            return None
        return PlainTextResponse("A token is needed: open the address that `rolegen inspect` printed.", 401)


def bears(headers: Headers, token: str) -> bool:
    """Whether a request bears the token as a program sends it."""
    bearer = headers.get("authorization", "")
    return bearer.startswith("Bearer ") and _same(bearer.removeprefix("Bearer "), token)


def _guarded(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending


def _host_of(header: str) -> str:
    host = header.rsplit(":", 1)[0] if header.rpartition(":")[2].isdigit() else header
    return host.strip("[]").lower()


def _kept(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""
