"""One number from a Prometheus server, by its HTTP interface.

An error is not enough evidence: it neither stops the model nor lets it pass.
"""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

from meshfold.compat.gate.settings import PrometheusQuery
from meshfold.compat.gate.verdict import Decision, Reason

_PATH = "/api/v1/query"
_MOST_BYTES = 1 << 20
_PART_BYTES = 1 << 16


def asked(query: PrometheusQuery) -> Reason:
    """The reason that a query gives. Its number is taken as exact, without bounds."""
    bound = query.at_most if math.isfinite(query.at_most) else query.at_least
    try:
        value = _number(_answer(query))
    except _Unanswered as error:
        sentence = f"the query has no number: {error}; mend it, or leave it out"
        return Reason(query.name, Decision.NOT_ENOUGH, sentence, bound=bound)
    wanted = f"{query.at_least:g} to {query.at_most:g}".replace("-inf to ", "at most ").replace(
        " to inf", " at least"
    )
    if wanted.endswith(" at least"):
        wanted = f"at least {query.at_least:g}"
    if query.at_least <= value <= query.at_most:
        return Reason(query.name, Decision.YES, f"{value:g}, as wanted ({wanted})", value, bound=bound)
    return Reason(query.name, Decision.NO, f"{value:g}, where {wanted} is wanted", value, bound=bound)


class _Unanswered(Exception):
    """Why there is no number."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: only the named server may answer."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(query: PrometheusQuery) -> Any:
    address = f"{query.url.rstrip('/')}{_PATH}?{urlencode({'query': query.query})}"
    opener = urllib.request.build_opener(_NoRedirect)
    start_s = time.monotonic()
    try:
        with opener.open(address, timeout=query.timeout_s) as answer:
            body = b""
            # A server that sends a byte now and then would hold the gate for hours.
            while (part := answer.read1(_PART_BYTES)) and len(body) <= _MOST_BYTES:
                body += part
                if time.monotonic() - start_s > query.timeout_s:
                    raise _Unanswered(f"{query.url} takes longer than {query.timeout_s:g} s")
    except urllib.error.HTTPError as error:
        with error:
            raise _Unanswered(f"{query.url} answers with status {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise _Unanswered(f"{query.url} cannot be asked ({type(error).__name__}: {reason!s:.100})") from None
    if len(body) > _MOST_BYTES:
        raise _Unanswered(f"{query.url} answers with more than {_MOST_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _Unanswered(f"{query.url} answers with no JSON: is it a Prometheus server?") from None


def _number(answer: Any) -> float:
    """The number of a scalar, or of a vector with one element."""
    try:
        if answer["status"] != "success":
            raise _Unanswered(f"the server refuses the query: {answer.get('error', '')!s:.200}")
        data = answer["data"]
        if data["resultType"] == "vector" and len(data["result"]) != 1:
            raise _Unanswered(f"it gives {len(data['result'])} series; aggregate them to one, as with sum()")
        _, text = data["result"] if data["resultType"] == "scalar" else data["result"][0]["value"]
        value = float(text)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise _Unanswered("the answer is no instant vector or scalar") from None
    if not math.isfinite(value):
        raise _Unanswered(f"it gives {text}")
    return value
