"""No name, address, telephone number or secret leaves by a log, a result or the headers of a dead letter."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bridge_harness import STRUCTURED, Bench, an_event, wait_until

pytestmark = pytest.mark.integration

PLANTED = (
    "zyxmail", "Zyxgiven", "Zyxfamily", "zyxlogin", "15550104711", "zyxgroup", "zyxrole", "Zyxdept",
    "zyxattribute", "zyxtenant", "zyxbad",
)  # fmt: skip
"""Words that stand in the events' personal data and nowhere else."""


@pytest.fixture
def bench(module_bench: Bench) -> Bench:
    """The bench of the module."""
    return module_bench


def personal(user_id: str, **data: Any) -> dict[str, Any]:
    """Return an event full of planted words."""
    return an_event(
        user_id,
        **{
            "email": f"zyxmail.{user_id}@acme.example",
            "givenName": "Zyxgiven",
            "familyName": "Zyxfamily",
            "username": f"zyxlogin-{user_id}",
            "phoneNumber": "+15550104711",
            "department": "Zyxdept",
            "tenantId": "zyxtenant",
            "attributes": {"note": "zyxattribute"},
            **data,
        },
    )


def everything() -> list[tuple[bytes, bytes, Any]]:
    """Return records of every kind of success and failure, each with planted words in it."""
    events = [
        personal("good"),
        personal("good"),
        personal("disabled", active=False),
        personal("schema", email="zyxbad at acme", phoneNumber="zyxbad", locale="zyxbad bad", roles=["zyxrole", 1]),
        personal("username", username="zyxbad login"),
        personal("reserved", username="service-account-zyxlogin"),
        personal("role", roles=["zyxrole"]),
        personal("group", groups=["/zyxgroup@acme.example"]),
        personal("rejected", givenName="Zyxgiven<"),
        personal("rejected-twice", givenName="Zyxgiven<", familyName="Zyxfamily>"),
        personal("homograph", username="zyxlоgin"),  # its o is Cyrillic
        personal("taken", email="zyxmail.good@acme.example"),
        personal("taken-name", username="zyxlogin-good"),
        {**personal("type"), "type": "user.exploded"},
        {**personal("version"), "dataschema": "urn:zyxbad"},
        {**personal("time"), "time": "zyxbad"},
        {**personal("subject"), "subject": "another"},
    ]  # fmt: skip
    raw = json.dumps(personal("raw")).encode()
    records = [(str(e["subject"]).encode(), json.dumps(e).encode(), STRUCTURED) for e in events]
    broken = [raw[:-3], raw.decode().encode("utf-16"), raw.replace(b"Ada", b"\xff"), b"zyxbad", raw.replace(b'"data"', b'"id": "x", "data"'), raw.replace(b"Zyxdept", b"\\ud800Zyxdept"), raw + b"[" * 100]  # fmt: skip
    return records + [(b"broken", value, STRUCTURED) for value in broken]


def leaks(text: str, words: tuple[str, ...]) -> list[str]:
    """Return the lines of `text` that hold one of `words`."""
    lowered = [word.lower() for word in words]
    return [line for line in text.splitlines() if any(word in line.lower() for word in lowered)]


def lower_headers(bench: Bench) -> str:
    """Return all reason headers of all dead letters as lines."""
    return "\n".join(f"{n}: {v}" for _, headers in bench.dead_letters() for n, v in headers.items())


@pytest.mark.parametrize(("level", "form"), [("INFO", "json"), ("DEBUG", "text")])
def test_nothing_personal_and_no_secret_is_told(bench: Bench, level: str, form: str) -> None:
    """Whatever happens to an event, logs, results and reasons hold none of its values."""
    bench = bench.but(
        LOG_LEVEL=level,
        LOG_FORMAT=form,
        KAFKA_GROUP_ID=f"privacy-{level}",
        BRAKE_IN_A_ROW="0",  # nearly all of it is bad, in whatever order
        BRAKE_SHARE="0",
    )
    bench.publish_raw(*everything())

    ran = bench.run_process("run", "--until-caught-up")
    checked = bench.run_process("check-config", "--against-realm")

    assert (0, 0) == (ran.returncode, checked.returncode), ran.stderr + checked.stderr
    words = (*PLANTED, bench.realm.client_secret)
    said = "\n".join((ran.stdout, ran.stderr, checked.stdout, checked.stderr))
    assert [] == leaks(said, words)
    results = "\n".join(record.value.decode() for record in bench.read("results"))
    assert [] == leaks(results, words)
    assert [] == leaks(lower_headers(bench), words)
    due = "\n".join(record.value.decode() for record in bench.read("invitations"))
    assert [] == leaks(due, words)
    # all of that was really tried
    codes = {headers["kb-dlq-code"] for _, headers in bench.dead_letters()}
    assert len(codes) >= 12, codes
    assert {"provisioned", "rejected", "invited"} <= {r["outcome"] for r in bench.results()}


@pytest.mark.parametrize("fault", ["secret", "keycloak", "kafka"])
def test_no_secret_is_told_when_nothing_works(bench: Bench, tmp_path: Path, fault: str) -> None:
    """Not even at DEBUG, where libraries talk."""
    secret = "zyx-secret/with+odd=signs"
    settings = {"secret": {}, "keycloak": {"KEYCLOAK_URL": "http://127.0.0.1:1"}, "kafka": {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}}[fault]  # fmt: skip
    bench = bench.but(LOG_LEVEL="DEBUG", KEYCLOAK_CLIENT_SECRET=secret, **settings)
    bench = replace(bench, folder=tmp_path)
    if fault == "secret":
        said = bench.run_process("run").stderr
    else:
        with bench.running():
            wait_until(lambda: "waiting for it" in bench.log())
        said = bench.log()

    assert [] == leaks(said, ("zyx-secret", "odd%3Dsigns"))


def test_commands_that_show_events_show_no_secret(bench: Bench, tmp_path: Path) -> None:
    """`validate`, `plan` and `apply` show a user's own data on standard output, nothing on standard error."""
    sample = tmp_path / "events.ndjson"
    sample.write_text("\n".join(json.dumps(personal(name)) for name in ("one", "two")))
    said = ""
    for command in (
        ["validate", "--show-mapped"],
        ["plan"],
        ["apply"],
        ["plan", "--format", "json"],
    ):
        done = bench.but(LOG_LEVEL="DEBUG").run_command(*command, str(sample), check=True)
        assert [] == leaks(done.stderr, PLANTED)
        said += done.stdout + done.stderr

    assert "zyxmail" in said
    assert bench.realm.client_secret not in said
