"""Sends messages by e-mail."""

from __future__ import annotations

import smtplib
import ssl
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from perennial.errors import DeliveryError, RefusedMessageError, describe_error
from perennial.production.message import Message
from perennial.production.variables import read_variable
from schemas.project import MailSettings

_PATIENCE = 10.0  # seconds that the server may be silent


def send_mail(target: MailSettings, message: Message) -> None:
    """Sends a message as an e-mail.

    The certificate of an encrypted connection is checked; where the system does not know who signed
    it, SSL_CERT_FILE names a file that does.

    Raises:
        DeliveryError: It did not arrive.
    """
    where = f"{target.name}: the mail server {target.host}:{target.port}"
    try:
        with _connect(target) as server:
            if target.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if target.user_variable is not None and target.password_variable is not None:
                user = read_variable(target.name, target.user_variable)
                server.login(user, read_variable(target.name, target.password_variable))
            server.send_message(make_mail(target, message))
    except smtplib.SMTPAuthenticationError as error:
        remedy = "Correct the variables of the account; until then it is tried again."
        raise RefusedMessageError(
            where, "must accept the account", error.smtp_code, remedy
        ) from None
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(
            where, "must accept the message", _describe(error), "It is tried again."
        ) from None


def make_mail(target: MailSettings, message: Message) -> EmailMessage:
    """Makes the e-mail; its Message-ID is that of the message, which no two have."""
    mail = EmailMessage()
    mail["From"] = target.sender
    mail["To"] = ", ".join(target.to)
    mail["Subject"] = message.title
    mail["Date"] = format_datetime(datetime.fromisoformat(message.at))
    mail["Message-ID"] = f"<{message.id}@{target.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # so that no absence notice answers; RFC 3834
    mail.set_content(f"{message.title}\n\n{message.text}\n")
    return mail


def _connect(target: MailSettings) -> smtplib.SMTP:
    if target.security == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(target.host, target.port, timeout=_PATIENCE, context=context)
    return smtplib.SMTP(target.host, target.port, timeout=_PATIENCE)


def _describe(error: Exception) -> str:
    if not isinstance(error, smtplib.SMTPResponseException):
        return describe_error(error)
    text = error.smtp_error
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{error.smtp_code} {words}"
