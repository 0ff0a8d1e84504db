"""How does a message leave? By mail over TLS (RFC 5321, 3207, 8314) or as a signed POST over TLS; there is no way without TLS."""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import http.client
import json
import smtplib
import ssl
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from leadglass.site.model import Mail, Site, Webhook
from leadglass.site.secret import read_secret
from leadglass.terms import UpstreamFault
from leadglass.watch.notices.compose import Notice, facts_of, subject_of, text_of

SEND_SECONDS_MAX = 20.0


class Channel(Protocol):
    """One way out. `send` raises UpstreamFault where it was not taken; sent twice under the same `message_id` it is the same message."""

    name: str

    def send(self, notices: tuple[Notice, ...], message_id: str) -> None: ...


def channels(site: Site) -> list[Channel]:
    """Those that the site file names."""
    found: list[Channel] = []
    if site.notices.mail is not None:
        found.append(MailChannel(site, site.notices.mail))
    if site.notices.webhook is not None:
        found.append(WebhookChannel(site, site.notices.webhook))
    return found


def _context(site: Site, authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(_path(site, authority)) if authority else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _path(site: Site, path: str) -> Path:
    return site.path / path


class MailChannel:
    """One message to everybody named."""

    name = "mail"

    def __init__(self, site: Site, mail: Mail) -> None:
        self._site, self._mail = site, mail

    def send(self, notices: tuple[Notice, ...], message_id: str) -> None:
        mail, message = self._mail, EmailMessage()
        message["From"], message["To"] = mail.sender, ", ".join(mail.to)
        message["Subject"] = subject_of(self._site.name, notices)
        message["Date"] = email.utils.formatdate(time.time())
        message["Message-ID"] = f"<{message_id}@{self._site.name}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text_of(self._site.name, notices))
        try:
            with self._connected() as server:
                if mail.user:
                    server.login(mail.user, read_secret("the mail account's password", mail.password, self._site.path))
                server.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise UpstreamFault(
                f"the mail server {mail.host}:{mail.port} did not take a notice: {error}", hint="check [notices.mail]"
            ) from error

    def _connected(self) -> smtplib.SMTP:
        mail = self._mail
        context = _context(self._site, mail.authority)
        if mail.tls_at_once:
            return smtplib.SMTP_SSL(mail.host, mail.port, timeout=SEND_SECONDS_MAX, context=context)
        server = smtplib.SMTP(mail.host, mail.port, timeout=SEND_SECONDS_MAX)
        try:
            server.starttls(context=context)  # raises where it is not offered: a stripped STARTTLS sends nothing
        except BaseException:
            server.close()
            raise
        return server


class WebhookChannel:
    """`Leadglass-Signature: t=SECONDS,v1=HEX`: HMAC-SHA-256 over `SECONDS.BODY`. Only 2xx is an answer; redirects are not followed."""

    name = "webhook"

    def __init__(self, site: Site, webhook: Webhook) -> None:
        self._site, self._webhook = site, webhook

    def send(self, notices: tuple[Notice, ...], message_id: str) -> None:
        webhook = self._webhook
        body = json.dumps({"id": message_id, **facts_of(self._site.name, notices)}).encode()
        headers = {"Content-Type": "application/json"}
        try:
            if webhook.secret:
                key, at = (
                    read_secret("the webhook's key", webhook.secret, self._site.path).encode(),
                    str(int(time.time())),
                )
                signature = hmac.new(key, at.encode() + b"." + body, hashlib.sha256).hexdigest()
                headers["Leadglass-Signature"] = f"t={at},v1={signature}"
            status = self._posted(body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise UpstreamFault(
                f"the webhook did not take a notice: {error}", hint="check [notices.webhook]"
            ) from error
        if not 200 <= status < 300:
            raise UpstreamFault(f"the webhook answered {status} to a notice", hint="check [notices.webhook]")

    def _posted(self, body: bytes, headers: dict[str, str]) -> int:
        url = urlsplit(self._webhook.url)
        context = _context(self._site, self._webhook.authority)
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port or 443, timeout=SEND_SECONDS_MAX, context=context
        )
        try:
            connection.request("POST", (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
            return connection.getresponse().status
        finally:
            connection.close()
