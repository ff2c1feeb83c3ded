"""Sends messages by HTTP: signed as Standard Webhooks, or in the format of Slack."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from perennial.errors import DeliveryError, GoneTargetError, RefusedMessageError, describe_error
from perennial.production.message import Message
from perennial.production.variables import read_variable
from schemas.project import SlackSettings, WebhookSettings

_PATIENCE = 10.0  # seconds that a receiver may be silent
_PREFIX = "whsec_"
_LATER = (408, 425, 429)  # beside 5xx: the receiver asks for another attempt
_LONGEST_SLACK = 30_000  # Slack cuts a text at 40,000 characters
_MOVED = range(300, 400)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect as it is: what was signed for one address is for no other."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follows none."""
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def post_webhook(target: WebhookSettings, message: Message) -> None:
    """Sends a message as Standard Webhooks say.

    Raises:
        DeliveryError: It did not arrive.

    Source: https://www.standardwebhooks.com, "Webhook metadata" and "Verifying webhook
    authenticity".
    """
    secret = read_variable(target.name, target.secret_variable)
    now = int(time.time())
    headers = {
        "webhook-id": message.id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(target, secret, message.id, now, message.body),
    }
    _post(target, message.body, headers)


def post_slack(target: SlackSettings, message: Message) -> None:
    """Sends a message in the format of Slack's incoming webhooks.

    Raises:
        DeliveryError: It did not arrive.

    Source: https://api.slack.com/messaging/webhooks; which characters are replaced:
    https://api.slack.com/reference/surfaces/formatting, "Escaping text".
    """
    text = f"{message.title}\n{message.text}".strip()[:_LONGEST_SLACK]
    for character, replacement in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, replacement)
    _post(target, json.dumps({"text": text}).encode(), {})


def sign(target: WebhookSettings, secret: str, message: str, timestamp: int, body: bytes) -> str:
    """Gives the signature of a message: version 1, HMAC-SHA256 in base64.

    Raises:
        RefusedMessageError: The secret is none.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise RefusedMessageError(
            f"{target.name}: the secret in {target.secret_variable}",
            f"must be {_PREFIX} and base64",
            "something else",
            'Make one: python -c "import base64, secrets; '
            "print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\"",
        )
    signed = f"{message}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def _post(target: WebhookSettings | SlackSettings, body: bytes, headers: Mapping[str, str]) -> None:
    url = read_variable(target.name, target.url_variable)
    where = f"{target.name}: the address in {target.url_variable}"
    headers = {"content-type": "application/json", "user-agent": "perennial", **headers}
    try:
        request = urllib.request.Request(url, body, headers)
        if request.type not in ("http", "https"):
            raise ValueError(request.type)
        _OPENER.open(request, timeout=_PATIENCE).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(where, error.code) from None
    except (OSError, http.client.HTTPException) as error:  # never with the URL, which is secret
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        received = describe_error(cause) if isinstance(cause, BaseException) else str(cause)
        if isinstance(error, http.client.InvalidURL):
            received = "something else"
        raise DeliveryError(where, "must answer", received, "It is tried again.") from None
    except ValueError:
        raise RefusedMessageError(
            where, "must begin with https://", "something else", "Correct the variable."
        ) from None


def _refused(where: str, status: int) -> DeliveryError:
    expected, received = "must accept the message", f"HTTP {status}"
    if status == http.HTTPStatus.GONE:
        return GoneTargetError(where, expected, received, "Remove it from the settings.")
    if status >= 500 or status in _LATER:
        return DeliveryError(where, expected, received, "It is tried again.")
    remedy = "Correct the variable and what receives there; until then it is tried again."
    if status in _MOVED:
        remedy = "Set the address that it has moved to: redirects are not followed."
    return RefusedMessageError(where, expected, received, remedy)
