"""Messages reach real receivers that fail at times: each notice once, whoever sends it and when."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.ledger.events import Ledger, NewEvent
from perennial.processes import find_free_ports
from perennial.production import messages as messages_module
from perennial.production import webhook
from perennial.production.message import Message, message_id
from perennial.production.messages import dead_letters, send_due_messages, send_or_tell
from perennial.production.notices import NOTICED, find_notices
from schemas.project import MessagesSettings
from schemas.records import ABEnded, MessageState, Notice
from tests.certificates import make_certificate
from tests.perennial.folders import make_project
from tests.perennial.records import (
    deployment,
    judged,
    run_ended,
    run_started,
    selection,
    span,
)
from tests.receiver import run_receiver

SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
ONE = {"webhooks": [{"name": "ops", "url_variable": "OPS_URL", "secret_variable": "OPS_SECRET"}]}
SLACK = {"slack": [{"name": "chat", "url_variable": "SLACK_URL"}]}


@pytest.fixture
def receiver(monkeypatch):
    with run_receiver() as server:
        monkeypatch.setenv("OPS_URL", server.url)
        monkeypatch.setenv("SLACK_URL", server.url)
        monkeypatch.setenv("OPS_SECRET", SECRET)
        yield server


def make(tmp_path, **messages):
    return make_project(tmp_path / "digits", messages={"digest_minutes": 0, **messages})


def append(project, *events):
    with closing(Ledger(project.ledger_url)) as ledger:
        ledger.append(*events)


def statuses(project):
    with closing(Ledger(project.ledger_url)) as ledger:
        return [event.body.status for event in ledger.events("message")]


def told(server):
    """The summaries of each message that was accepted."""
    return [
        [n["summary"] for n in json.loads(body)["data"]["notices"]] for _, body in server.accepted
    ]


@pytest.mark.parametrize("fault", [500, 503, 429, 404, 302, "hang", "reset"])
def test_a_receiver_that_fails_gets_the_same_message_later(tmp_path, receiver, monkeypatch, fault):
    monkeypatch.setattr(webhook, "_PATIENCE", 0.3)
    project = make(tmp_path, **ONE)
    append(project, run_ended("r1", "failed"))
    receiver.plan = [fault]
    (first,) = send_due_messages(project, waits=())
    assert (first.outcome, first.target) == ("waits", "ops") and receiver.url not in first.why
    (second,) = send_due_messages(project, waits=())
    assert second.outcome == "delivered"
    assert send_due_messages(project, waits=()) == []
    ids = {headers["webhook-id"] for _, headers, _ in receiver.attempts}
    assert len(ids) == 1 and len(receiver.attempts) == 2
    assert told(receiver) == [["run r1 failed"]]
    assert statuses(project) == ["begun", "planned", "delivered"]


def test_one_process_tries_again_where_that_may_help(tmp_path, receiver):
    project = make(tmp_path, **ONE)
    append(project, run_ended("r1", "failed"))
    receiver.plan = [500, "reset"]
    (delivery,) = send_due_messages(project, waits=(0.01, 0.01))
    assert delivery.outcome == "delivered" and len(receiver.attempts) == 3


def test_the_signature_is_that_of_standard_webhooks(tmp_path, receiver):
    project = make(tmp_path, **ONE)
    append(project, run_ended("r1", "data_rejected"))
    send_due_messages(project)
    ((headers, body),) = receiver.accepted
    payload = Webhook(SECRET).verify(body, headers)
    assert payload["type"] == "perennial.notices" and payload["data"]["project"] == "digits"
    assert payload["data"]["notices"][0]["kind"] == "data_rejected"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


def test_what_a_process_planned_and_did_not_send_is_sent_by_the_next(
    tmp_path, receiver, monkeypatch
):
    project = make(tmp_path, **ONE)
    append(project, run_ended("r1", "failed"))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(messages_module, "_deliver", killed)
        with pytest.raises(KeyboardInterrupt):
            send_due_messages(project)
    append(project, run_ended("r2", "failed"))  # another message, as the first one is planned
    assert [d.outcome for d in send_due_messages(project)] == ["delivered", "delivered"]
    assert told(receiver) == [["run r1 failed"], ["run r2 failed"]]


def test_what_another_machine_has_just_planned_is_left_to_it(tmp_path, receiver):
    project = make(tmp_path, **ONE)
    notice = Notice(id="failed-1", kind="failed", at=datetime.now(UTC).isoformat(), summary="x")
    other = MessageState(
        target="ops", status="planned", message="m1", notices=[notice], host="another machine"
    )
    append(project, NewEvent("message", other, key="message-planned:ops:1"))
    assert send_due_messages(project) == [] and receiver.attempts == []


def test_several_processes_send_each_notice_once(tmp_path, receiver):
    project = make(tmp_path, **ONE)
    append(project, *(run_ended(f"r{number}", "failed") for number in range(5)))
    threads = [threading.Thread(target=send_due_messages, args=(project,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told(receiver) == [[f"run r{number} failed" for number in range(5)]]


def test_a_storm_becomes_a_digest(tmp_path, receiver):
    project = make(tmp_path, **ONE, **SLACK)
    stormy = make_project(tmp_path / "digits", messages={"digest_minutes": 10, **ONE})
    append(project, run_ended("r0", "failed"))
    send_due_messages(stormy)
    for number in range(1, 20):
        append(project, run_ended(f"r{number}", "failed"))
        assert send_due_messages(stormy) == []
    over = make_project(tmp_path / "digits", messages={"digest_minutes": 0, **ONE})
    send_due_messages(over)
    assert told(receiver) == [["run r0 failed"], [f"run r{n} failed" for n in range(1, 20)]]


def test_a_message_that_is_never_taken_becomes_a_dead_letter(tmp_path, receiver):
    project = make(tmp_path, **ONE, give_up_hours=1 / 3600)
    append(project, run_ended("r1", "failed"))
    receiver.plan = [500, 500, 500]
    assert send_due_messages(project, waits=())[0].outcome == "waits"
    time.sleep(1.01)
    assert send_due_messages(project, waits=())[0].outcome == "given_up"
    assert send_due_messages(project, waits=()) == []
    (letter,) = map(json.loads, dead_letters(project).read_text().splitlines())
    assert letter["notices"][0]["summary"] == "run r1 failed" and "HTTP 500" in letter["why"]


def test_a_receiver_that_is_gone_is_given_up_at_once(tmp_path, receiver):
    project = make(tmp_path, **ONE)
    append(project, run_ended("r1", "failed"))
    receiver.plan = [410]
    assert send_due_messages(project)[0].outcome == "given_up"


def test_a_new_target_is_not_told_of_what_happened_long_ago(tmp_path, receiver, monkeypatch):
    from perennial.ledger import events

    project = make(tmp_path, **ONE)
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="milliseconds")
    with monkeypatch.context() as patched:
        patched.setattr(events, "_now", lambda: old)
        append(project, run_ended("old", "failed"))
    append(project, run_ended("new", "failed"))
    send_due_messages(project)
    assert told(receiver) == [["run new failed"]]


def test_a_command_says_what_waits_and_goes_on(tmp_path, receiver, monkeypatch):
    project = make(tmp_path, **ONE)
    append(project, run_ended("r1", "failed"))
    monkeypatch.delenv("OPS_SECRET")
    (line,) = send_or_tell(project)
    assert "the environment variable OPS_SECRET must be set" in line
    monkeypatch.setenv("OPS_SECRET", "no base64!")
    assert "must be whsec_ and base64" in send_or_tell(project)[0]
    monkeypatch.setenv("OPS_SECRET", SECRET)
    monkeypatch.setenv("OPS_URL", "ftp://nowhere/secret-path")
    (line,) = send_or_tell(project)
    assert "must begin with https://" in line and "secret-path" not in line


def test_slack_gets_its_own_format(tmp_path, receiver):
    project = make(tmp_path, **SLACK)
    event = run_ended("r1", "failed")
    body = event.body.model_copy(update={"reasons": ["a < b & c > d"]})
    append(project, NewEvent("run_ended", body, "r1", "run-ended:r1"))
    send_due_messages(project)
    ((_, sent),) = receiver.accepted
    text = json.loads(sent)["text"]
    assert text.startswith("perennial digits: a run failed\n")
    assert "run r1 failed" in text and "a &lt; b &amp; c &gt; d" in text


class _Mailbox:
    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


@contextmanager
def mail_server(tmp_path, monkeypatch):
    """A mail server that takes mail over TLS and from one account only."""
    certificate = make_certificate(tmp_path / "certificate.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    box = _Mailbox()

    def check(server, session, envelope, mechanism, data):
        right = (data.login, data.password) == (b"bot", b"right")
        return AuthResult(success=right, handled=False)

    class Server(Controller):
        def factory(self):
            return SMTP(
                self.handler,
                tls_context=context,
                require_starttls=True,
                auth_required=True,
                authenticator=check,
            )

    (box.port,) = find_free_ports(1)
    controller = Server(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def mail_settings(port):
    return {
        "mail": [
            {
                "name": "team",
                "host": "127.0.0.1",
                "port": port,
                "sender": "perennial@example.org",
                "to": ["a@example.org", "b@example.org"],
                "user_variable": "MAIL_USER",
                "password_variable": "MAIL_PASSWORD",
            }
        ]
    }


def test_mail_goes_over_tls_with_the_account(tmp_path, monkeypatch):
    monkeypatch.setenv("MAIL_USER", "bot")
    monkeypatch.setenv("MAIL_PASSWORD", "wrong")
    with mail_server(tmp_path, monkeypatch) as box:
        project = make(tmp_path, **mail_settings(box.port))
        append(project, run_ended("r1", "failed"))
        (delivery,) = send_due_messages(project, waits=())
        assert delivery.outcome == "waits" and "must accept the account" in delivery.why
        monkeypatch.setenv("MAIL_PASSWORD", "right")
        assert [d.outcome for d in send_due_messages(project)] == ["delivered"]
        ((sender, to, mail),) = box.mails
        assert (sender, to) == ("perennial@example.org", ["a@example.org", "b@example.org"])
        assert "Subject: perennial digits: a run failed" in mail and "a reason" in mail
        assert "Message-ID: <msg_" in mail
        monkeypatch.delenv("SSL_CERT_FILE")  # nobody vouches for the server now
        append(project, run_ended("r2", "failed"))
        (delivery,) = send_due_messages(project, waits=())
        assert delivery.outcome == "waits" and "certificate" in delivery.why.lower()
    assert len(box.mails) == 1


def test_the_command_tries_each_target_and_says_what_came_back(tmp_path, receiver, monkeypatch):
    project = make(tmp_path, **ONE, **SLACK)
    receiver.plan = [200, 500]
    result = CliRunner().invoke(app, ["messages", "test", str(project.folder)])
    assert result.exit_code == 1
    assert "delivered  ops" in result.output
    assert "failed     chat: the address in SLACK_URL must accept the message" in result.output
    assert json.loads(receiver.accepted[0][1])["type"] == "perennial.test"
    assert statuses(project) == []
    append(project, run_ended("r1", "failed"))
    result = CliRunner().invoke(app, ["messages", "send", str(project.folder)])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "message of 1 notice to ops: delivered",
        "message of 1 notice to chat: delivered",
    ]


def notices(tmp_path, events, now=None, **settings):
    project = make(tmp_path)
    append(project, *events)
    with closing(Ledger(project.ledger_url)) as ledger:
        history = ledger.events(*NOTICED)
    now = now or datetime.now(UTC)
    return [(n.kind, n.summary) for n in find_notices(history, MessagesSettings(**settings), now)]


def test_what_people_are_told_of(tmp_path):
    bad, worse = span("2026-01-02"), span("2026-01-03")
    events = [
        run_ended("r1", "promoted"),
        run_ended("r2", "nothing_new"),
        judged(False, bad, "r3"),
        run_ended("r3", "promoted"),
        judged(False, worse, "r4"),
        run_ended("r4", "data_rejected"),
        run_ended("r5", "failed"),
        NewEvent("deployment", deployment("1", 3, "rollback")),
        NewEvent("ab_ended", ABEnded(test=9, outcome="rolled_back", reasons=["worse"])),
        NewEvent("ab_ended", ABEnded(test=10, outcome="expired", reasons=["14 days"])),
    ]
    assert notices(tmp_path, events) == [
        ("quarantined", "quarantined, and waiting for a person: 2026-01-02"),
        ("data_rejected", "the data was refused"),
        ("failed", "run r5 failed"),
        ("rolled_back", "version 1 serves again: rolled back by a test"),
        ("rolled_back", "the challenger of A/B test 9 was taken back"),
    ]
    assert notices(tmp_path / "other", events, about=["failed"]) == [("failed", "run r5 failed")]


def test_a_champion_that_is_kept_again_and_again_is_told_of_once_in_so_many_runs(tmp_path):
    outcomes = ["kept_champion"] * 3 + ["failed", "kept_champion", "promoted"]
    outcomes += ["kept_champion", "nothing_new", "kept_champion"]
    events = [run_ended(f"r{n}", outcome) for n, outcome in enumerate(outcomes)]
    repeated = run_started("r1", selection("r1", attempt=1))  # a repetition of r0 counts with it
    told = notices(tmp_path, [repeated, *events], kept_champion=2, about=["kept_champion"])
    assert told == [
        ("kept_champion", "the champion was kept 2 times in a row"),
        ("kept_champion", "the champion was kept 2 times in a row"),
    ]


def test_runs_are_overdue_once_for_each_time_that_none_came_to_its_end(tmp_path):
    later = datetime.now(UTC) + timedelta(hours=25)
    events = [run_ended("r1"), run_ended("r2", "failed")]
    assert notices(tmp_path, events, later, about=["overdue"]) == []
    ((kind, summary),) = notices(tmp_path / "a", events, later, about=["overdue"], overdue_hours=24)
    assert kind == "overdue" and summary.startswith("no run has come to its end since ")
    early = later - timedelta(hours=2)
    assert notices(tmp_path / "b", events, early, about=["overdue"], overdue_hours=24) == []


def test_the_id_of_a_message_is_made_of_what_it_tells():
    notice = Notice(id="failed-1", kind="failed", at="2026-01-01T00:00:00+00:00", summary="x")
    assert message_id("a", "ops", [notice]) == message_id("a", "ops", [notice])
    assert message_id("a", "ops", [notice]) != message_id("b", "ops", [notice])
    long = notice.model_copy(update={"reasons": ["r" * 1000] * 9})
    text = Message("m", notice.at, "a", [long, long]).text
    assert "and 4 more" in text and max(map(len, text.splitlines())) < 310
