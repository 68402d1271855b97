"""One time limit for a whole answer. An HTTP client's own limit is for each piece of it, so that an endpoint which sends a
blank now and then to keep the connection open (several do when they are busy) would never be given up."""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterator
from functools import cache

import httpx2
import openai

_BEGAN = "rolegen_began"


@cache
def http_client(timeout_s: float) -> httpx2.Client:
    """OpenAI's HTTP client (proxies of the environment and all) that gives an answer ``timeout_s`` seconds in all. One for
    all models with that limit, so that connections are shared and live as long as the process."""

    def begin(request: httpx2.Request) -> None:
        request.extensions[_BEGAN] = time.monotonic()

    def bound(response: httpx2.Response) -> None:
        end = float(response.request.extensions[_BEGAN]) + timeout_s
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Bounded(response.stream, end, response.request)

    client = openai.DefaultHttpxClient(event_hooks={"request": [begin], "response": [bound]})
    atexit.register(client.close)
    return client


class _Bounded(httpx2.SyncByteStream):
    """A body that stops with a timeout at ``end`` (monotonic clock)."""

    def __init__(self, stream: httpx2.SyncByteStream, end: float, request: httpx2.Request) -> None:
        self._stream, self._end, self._request = stream, end, request

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            if time.monotonic() > self._end:
                raise httpx2.ReadTimeout("the answer is not complete in time", request=self._request)
            yield piece

    def close(self) -> None:
        self._stream.close()
