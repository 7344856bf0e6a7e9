"""The schema that an id names: fetched once, checked like a file's, and every answer that a registry may give."""

import gzip
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from fake_wire import WAITS, FakeConnection, FakeSocket
from hypothesis import given
from hypothesis import strategies as st
from registry_stub import CORE, URL, Given, StubRegistry, described
from requests import exceptions as requests_errors

from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    Dependency,
    Disposition,
    RegistryUnavailableError,
)
from keycloak_bridge.domain.events import IdKind, SchemaReference
from keycloak_bridge.registry import client
from keycloak_bridge.registry.client import ConfluentRegistry, RegistryConnection, basic, bearer
from keycloak_bridge.transport.http import WireAdapter
from keycloak_bridge.validation.schema import CompiledSchema

SEVEN = SchemaReference(IdKind.CONTENT, 7)
GUID = UUID(int=7)
USER: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["email"],
    "properties": {"email": {"type": "string"}},
}
REFUSED = ConfigError("the secret file cannot be read", code="secret-unreadable")


def registry(stub: StubRegistry, **options: Any) -> ConfluentRegistry:
    """Return a client for which ten seconds pass between two questions."""
    return ConfluentRegistry(RegistryConnection(URL, **options), stub, partial(next, count(0, 10)))


def schema(answer: object, *, reference: SchemaReference = SEVEN, **others: Any) -> CompiledSchema:
    return registry(StubRegistry({"/schemas/ids/7": answer, **others})).schema(reference)  # type: ignore[dict-item]


def refusal(answer: object, **others: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        schema(answer, **others)
    return caught.value


def outcome(call: Callable[[], object]) -> object:
    """Return what the call returns or raises."""
    try:
        return call()
    except BridgeError as error:
        return error


def pointers(found: CompiledSchema, value: object) -> list[str]:
    return [one.pointer for one in found.violations(value, "")]


def test_a_frame_chooses_the_schema_by_its_dialect() -> None:
    """An older draft means what it means in a file: here `definitions`, and what stands beside `$ref`."""
    content = {
        **USER,
        "properties": {"email": {"$ref": "#/definitions/text", "minLength": 100}},
        "definitions": {"text": {"type": "string"}},
    }
    found = schema(described(content))

    assert [] == pointers(found, {"email": "a@acme.example"})
    assert ["/email"] == pointers(found, {"email": 1})
    assert ["/email"] == pointers(found, {})


def test_what_is_wrong_in_a_schema_of_net_has_its_own_pointer() -> None:
    """Its serializer makes each property a choice between null and something else."""
    content = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "User",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "email": {"type": ["null", "string"]},
            "level": {"type": "integer", "format": "int32", "minimum": 0, "exclusiveMinimum": True},
            "home": {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/Address"}]},
        },
        "definitions": {"Address": {"type": "object", "required": ["city"]}},
    }
    found = schema(described(content))

    assert [] == pointers(found, {"email": None, "level": 1, "home": {"city": "Bern"}})
    assert ["/home/city", "/level", "/other"] == sorted(
        pointers(found, {"level": 0, "home": {}, "other": 1})
    )


@pytest.mark.parametrize("own_id", [None, "user.json", "#user", 7, "http://a.example/user#", "urn:a:b"])  # fmt: skip
def test_an_id_of_its_own_is_not_needed(own_id: object) -> None:
    """Registries name schemas by number; serializers write no `$id`, or one that is relative."""
    content = {**USER, "$id": own_id, "properties": {"next": {"$ref": "#"}}}
    if own_id is None:
        del content["$id"]
    found = schema(described(content))

    assert ["/next/email"] == pointers(found, {"email": 1, "next": {}})


@pytest.mark.parametrize("own_id", [{}, {"id": "http://a.example/user#"}])
def test_a_schema_of_draft_4_is_read(own_id: dict[str, str]) -> None:
    """As serializers of .NET write it."""
    found = schema(described({**USER, "$schema": "http://json-schema.org/draft-04/schema#", **own_id}))  # fmt: skip

    assert ["/email"] == pointers(found, {})


def test_the_bridges_own_schema_may_be_registered() -> None:
    """With the `$id` that it has in the folder."""
    own = "urn:keycloak-bridge:schema:user.created:1.0"

    assert own == schema(described({**USER, "$id": own})).id


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        (SEVEN, "/schemas/ids/7"),
        (SchemaReference(IdKind.CONTENT, 2**63), f"/schemas/ids/{2**63}"),
        (SchemaReference(IdKind.GUID, GUID), f"/schemas/guids/{GUID}"),
    ],
)
def test_each_kind_of_id_has_its_path(reference: SchemaReference, path: str) -> None:
    """A GUID is in the header of newer serializers."""
    stub = StubRegistry({path: described(USER)})

    assert [] == pointers(registry(stub).schema(reference), {"email": "a"})
    assert {path: 1} == stub.asked


def test_a_global_id_is_looked_up_in_apicurios_own_api() -> None:
    """The Confluent-compatible one does not know such ids, and may have another schema by that number."""
    stub = StubRegistry({"/ids/globalIds/7": (200, json.dumps(USER))})

    found = registry(stub).schema(SchemaReference(IdKind.GLOBAL, 7))

    assert ["/email"] == pointers(found, {})
    assert CORE == registry(stub)._core_api().url
    assert 1 == sum(stub.asked.values())


@pytest.mark.parametrize(
    ("references", "whole"),
    [
        ((200, [{"name": "address.json"}]), True),
        ((200, []), False),
        ((404, ""), False),
        ((200, "<html>"), False),
    ],
)
def test_apicurio_itself_puts_references_into_a_schema(references: Given, whole: bool) -> None:
    """Where a schema has any; early versions of its API cannot say so."""
    path = "/ids/globalIds/7"
    content = {**USER, "definitions": {"a": {}}, "properties": {"b": {"$ref": "#/definitions/a"}}}
    stub = StubRegistry(
        {
            path: (200, json.dumps(content)),
            f"{path}/references": references,
            f"{path}?dereference=true": (200, json.dumps({**USER, "required": ["zip"]})),
        }
    )
    found = registry(stub).schema(SchemaReference(IdKind.GLOBAL, 7))

    assert ["/zip" if whole else "/email"] == pointers(found, {})


@pytest.mark.parametrize(
    ("url", "core"),
    [
        ("https://a/x/apis/ccompat/v6", "https://a/x/apis/registry/v2?dereference=true"),
        ("https://a/apis/ccompat/v8", "https://a/apis/registry/v3?references=DEREFERENCE"),
    ],
)
def test_apicurios_own_api_is_beside_the_compatible_one(url: str, core: str) -> None:
    """Version 8 of the compatible one came with version 3 of Apicurio."""
    found = ConfluentRegistry(RegistryConnection(url))._core_api()

    assert core == found.url + found.dereferenced


def test_a_global_id_means_nothing_elsewhere() -> None:
    """A record says so, not the settings: only it becomes a dead letter."""
    with pytest.raises(BridgeError, match="global id of Apicurio") as caught:
        ConfluentRegistry(RegistryConnection("http://registry:8081")).schema(
            SchemaReference(IdKind.GLOBAL, 7)
        )
    assert ("unknown-schema-id", True) == (caught.value.code, caught.value.is_final)


# what the registry says for good


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ((404, {"error_code": 40403}), "unknown-schema-id", "there is no schema 7 of the registry"),
        ((404, "<html>"), "unknown-schema-id", "there is no schema 7 of the registry"),
        (described({"type": "record"}, "AVRO"), "unsupported-schema-type", "schema 7 of the registry is of type AVRO"),
        (described({"type": "record"}, None), "unsupported-schema-type", "is of type AVRO"),
        (described("syntax = 'proto3';", "PROTOBUF"), "unsupported-schema-type", "is of type PROTOBUF"),
        (described(USER, "A\nB"), "unsupported-schema-type", "is of type unknown"),
        (described("{no json"), "unusable-schema", "schema 7 of the registry: the value is not JSON"),
        (described("\ud800"), "unusable-schema", "schema 7 of the registry: the value is not UTF-8"),
        (described("[" * 65 + "]" * 65), "unusable-schema", "schema 7 of the registry: "),
        (described(json.dumps(" " * client.MOST_SCHEMA_BYTES)), "unusable-schema", "bytes"),
        (described([]), "unusable-schema", "must be a JSON object"),
        (described(True), "unusable-schema", "must be a JSON object"),
        (described({"type": "record"}), "unusable-schema", "schema 7 of the registry: /type: is no schema"),
        (described({"$schema": "http://json-schema.org/draft-03/schema#"}), "unusable-schema", "/$schema: names no draft that is read"),
        (described({"pattern": "(a*)*\\1"}), "unusable-schema", "/pattern: is not a regular expression"),
        (described({"$ref": "http://elsewhere.example/user.json"}), "unusable-schema", "names no schema"),
        (described({"properties": {"a": {"$ref": "other.json"}}}), "unusable-schema", "names no schema"),
        (described({"$ref": "#"}), "unusable-schema", "refers to itself without end"),
        (described({"type": 1, "minLength": "1"}), "unusable-schema", "(and 1 more)"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_schema_and_what_to_do(answer: Any, code: str, message: str) -> None:
    """It becomes a dead letter at once: nothing changes under an id."""
    error = refusal(answer)

    assert (code, True) == (error.code, error.is_final)
    assert message in error.message
    assert error.remedy


def test_an_unknown_format_is_an_error_only_where_the_settings_say_so() -> None:
    """As for a schema of a folder."""
    stub = StubRegistry({"/schemas/ids/7": described({"properties": {"a": {"format": "phone"}}})})

    assert [] == pointers(registry(stub).schema(SEVEN), {"a": "?"})
    with pytest.raises(BridgeError, match="/properties/a/format"):
        registry(stub, formats_must_be_known=True).schema(SEVEN)


def test_nothing_is_fetched_but_the_schema() -> None:
    """A remote reference asks nobody."""
    stub = StubRegistry({"/schemas/ids/7": described({"$ref": f"{URL}/schemas/ids/8"})})

    with pytest.raises(BridgeError):
        registry(stub).schema(SEVEN)
    assert {"/schemas/ids/7": 1} == stub.asked


# references to other subjects

ADDRESS = {"subject": "address-value", "version": 2, "name": "address.json"}
AT_ADDRESS = "/subjects/address-value/versions/2"


@pytest.mark.parametrize("own_id", [None, "http://a.example/schemas/user.json"])
@pytest.mark.parametrize("its_id", [None, "http://b.example/address"])
def test_references_are_fetched_by_their_names(own_id: str | None, its_id: str | None) -> None:
    """As `$ref` writes them: relative, or relative to the `$id`; with a pointer or without; and on to others."""
    ids = {"$id": own_id} if own_id else {}
    content = {**USER, **ids, "properties": {"home": {"$ref": "address.json"}, "zip": {"$ref": "address.json#/definitions/zip"}}}  # fmt: skip
    address = {
        "$schema": USER["$schema"],
        **({"$id": its_id} if its_id else {}),
        "required": ["zip"],
        "properties": {"zip": {"$ref": "#/definitions/zip"}, "country": {"$ref": "country"}},
        "definitions": {"zip": {"type": "string"}},
    }
    country = {"subject": "a/b", "version": 1, "name": "country"}
    stub = StubRegistry(
        {
            "/schemas/ids/7": described(content, references=[ADDRESS, ADDRESS]),
            AT_ADDRESS: described(address, references=[country]),
            "/subjects/a/b/versions/1": described({"enum": ["DE"]}, references=[country]),
        }
    )
    found = registry(stub).schema(SEVEN)

    assert [] == pointers(found, {"email": "a", "home": {"zip": "1", "country": "DE"}})
    wrong = {"email": "a", "zip": 1, "home": {"zip": 1, "country": "FR"}}
    assert ["/home/country", "/home/zip", "/zip"] == pointers(found, wrong)
    assert [1, 1, 1] == list(stub.asked.values())


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ((404, {"error_code": 40402}), "unusable-schema", "refers to version 2 of address-value, which"),
        (described({}, "AVRO"), "unsupported-schema-type", "version 2 of address-value is of type AVRO"),
        (described("no json"), "unusable-schema", "version 2 of address-value: the value is not JSON"),
        (described({"type": 1}), "unusable-schema", "version 2 of address-value: /type"),
        (described({"$ref": "file:///etc/passwd"}), "unusable-schema", "names no schema"),
        (described({"title": " " * (client.MOST_SCHEMA_BYTES - 14)}), "unusable-schema", "too large"),
        ((503, ""), "registry-unavailable", "GET /subjects/{subject}/versions/{version}"),
        ((200, "{}"), "not-a-registry", "is not a schema registry's"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_reference_names_it(answer: Any, code: str, message: str) -> None:
    """By subject and version, as the registry does."""
    content = described({"$ref": "address.json"}, references=[ADDRESS])
    error = refusal(content, **{AT_ADDRESS: answer})

    assert code == error.code
    assert message in error.message


def test_references_are_bounded() -> None:
    """A registry, or whoever answers for it, may refer on without end."""
    stub = StubRegistry()

    def refer_on() -> None:
        number = sum(stub.asked.values())
        further = [{"name": f"{number}.json", "subject": "s", "version": number}]
        stub.otherwise = described({}, references=further)

    stub.before = refer_on
    with pytest.raises(BridgeError, match="refers to more than 50 schemas"):
        registry(stub).schema(SEVEN)
    assert 51 == sum(stub.asked.values())


@pytest.mark.parametrize(
    "references",
    [
        *(1, {}, [1], [{"name": "n"}]),
        [{"name": 1, "subject": "s", "version": 1}],
        [{"name": "", "subject": "s", "version": 1}],
        *(
            [{"name": "n", "subject": one, "version": 1}]
            for one in ("", "..", "\ud800", "s\r\nX: 1")
        ),
        *([{"name": "n", "subject": "s", "version": one}] for one in (True, -1, 0, 10**400)),
    ],
)
def test_a_list_of_references_that_is_none_is_ignored(references: object) -> None:
    """Whatever refers to them says that it leads nowhere."""
    answer = (200, {"schema": "{}", "schemaType": "JSON", "references": references})

    assert [] == pointers(schema(answer), 1)


# what must wait


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (requests_errors.ConnectTimeout(), "registry-unreachable"),
        (requests_errors.ReadTimeout(), "registry-no-answer"),
        (requests_errors.SSLError(), "registry-tls"),
        (requests_errors.InvalidURL(), "registry-url"),
        ((500, ""), "registry-unavailable"),
        ((503, {"error_code": 50003}), "registry-unavailable"),
        ((429, ""), "registry-unavailable"),
        ((401, {"error_code": 40101}), "registry-access"),
        ((403, ""), "registry-access"),
        ((301, ""), "not-a-registry"),
        ((200, "<html>"), "not-a-registry"),
        ((200, "[" * 100_000), "not-a-registry"),
        ((200, []), "not-a-registry"),
        ((200, {"schema": {}}), "not-a-registry"),
        ((418, ""), "not-a-registry"),
    ],
)
def test_an_outage_waits(answer: Any, code: str) -> None:
    """Whatever says nothing about the event is tried again, and makes no dead letter."""
    error = refusal(answer)

    assert code == error.code
    assert (Disposition.RETRY, Dependency.REGISTRY) == (error.disposition, error.dependency)
    assert error.remedy


@pytest.mark.parametrize("kind", [IdKind.CONTENT, IdKind.GLOBAL, IdKind.GUID])
@pytest.mark.parametrize("body", ["", "<html>", {"error_code": "x"}, {"error_code": [1]}])
def test_nothing_found_by_what_is_no_registry_waits(kind: IdKind, body: object) -> None:
    """A wrong URL must not make a dead letter of each event; a registry that lacks such ids says which types it has."""
    stub = StubRegistry({"/schemas/types": (404, body)})
    stub.otherwise = (404, body)
    reference = SchemaReference(kind, GUID if kind is IdKind.GUID else 7)

    with pytest.raises(RegistryUnavailableError) as caught:
        registry(stub).schema(reference)
    assert "not-a-registry" == caught.value.code

    stub.answers["/schemas/types"] = (200, ["JSON"])
    with pytest.raises(BridgeError) as caught_then:
        registry(stub).schema(reference)
    assert "unknown-schema-id" == caught_then.value.code


@given(st.integers(100, 599), st.one_of(st.text(max_size=40), st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["schema", "schemaType", "references", "error_code"]), inner, max_size=4), max_leaves=9)))  # fmt: skip
def test_any_answer_is_a_schema_or_a_known_error(status: int, body: object) -> None:
    """Whoever answers."""
    stub = StubRegistry()
    stub.answers.clear()
    stub.otherwise = (status, body)
    asked = registry(stub)
    for call in (lambda: asked.schema(SEVEN), asked.types):
        found = outcome(call)
        assert not isinstance(found, BridgeError) or found.remedy


# the wire


class Wire:
    """A registry behind a socket that is none."""

    def __init__(self, answer: bytes, endless: bytes = b"", takes_s: float = 0.0) -> None:
        self.sock = FakeSocket(answer)
        self.sock.endless, self.sock.takes_s = endless, takes_s
        connection: Any = FakeConnection(self.sock)
        adapter = WireAdapter(
            1,
            monotonic=lambda: self.sock.now_s,
            most_bytes=10_000,
            connect=lambda *_: connection,
            waits=WAITS,
        )
        self.registry = ConfluentRegistry(RegistryConnection("http://registry:8081"), adapter)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (Wire(HEAD + b"\r\n", endless=b"x" * 5000), "registry-answer-too-large"),
        (Wire(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(b" " * 10_001)) + gzip.compress(b" " * 10_001)), "registry-answer-too-large"),
        (Wire(HEAD + b"Content-Length: 99\r\n\r\n", endless=b"x", takes_s=1.0), "registry-no-answer"),
        (Wire(b"SSH-2.0\r\n\r\n"), "registry-no-answer"),
    ],
    ids=["huge", "unpacked", "dripping", "other protocol"],
)  # fmt: skip
def test_an_answer_is_bounded_in_size_and_time(wire: Wire, code: str) -> None:
    """However it comes."""
    with pytest.raises(RegistryUnavailableError) as caught:
        wire.registry.schema(SEVEN)

    assert code == caught.value.code
    assert wire.sock.now_s <= 1012


# credentials


@pytest.mark.parametrize(
    ("authorization", "sent"),
    [
        (lambda: None, None),
        (lambda: basic("ada", "p:ä"), "Basic YWRhOnA6w6Q="),
        (lambda: bearer("t0k.en"), "Bearer t0k.en"),
    ],
)
def test_credentials_are_asked_for_at_each_request(
    authorization: Callable[[], str | None], sent: str | None
) -> None:
    """So that a rotated secret takes effect."""
    stub = StubRegistry({"/schemas/ids/7": described(USER)})
    registry(stub, authorization=authorization).schema(SEVEN)

    assert [sent] == stub.authorizations


def failing() -> str:
    raise REFUSED


@pytest.mark.parametrize("authorization", [failing, lambda: bearer("s3cret\nX: y"), lambda: bearer("s3crét")])  # fmt: skip
def test_credentials_that_cannot_be_sent_wait(authorization: Callable[[], str]) -> None:
    """A file that is being replaced comes back; nothing of a secret is in the message."""
    with pytest.raises(RegistryUnavailableError) as caught:
        registry(StubRegistry(), authorization=authorization).schema(SEVEN)

    assert "s3cr" not in f"{caught.value} {caught.value.remedy}"
    assert caught.value.__cause__ is REFUSED or caught.value.__cause__ is None


def test_an_unreadable_ca_file_is_a_wrong_setting(tmp_path: Path) -> None:
    """Found at start."""
    with pytest.raises(ConfigError, match=r"\[registry\] ca_file"):
        ConfluentRegistry(RegistryConnection(URL, ca_file=tmp_path / "missing.pem"))


# what is kept


def test_what_the_registry_said_for_good_is_kept() -> None:
    """Also a refusal; an outage and an unknown id are asked about again."""
    stub = StubRegistry({"/schemas/ids/1": described(USER), "/schemas/ids/2": described({"type": 1}), "/schemas/ids/3": (500, "")})  # fmt: skip
    asked = registry(stub)
    found = [outcome(partial(asked.schema, SchemaReference(IdKind.CONTENT, number))) for number in (1, 2, 3, 4) * 2]  # fmt: skip
    errors = [one for one in found if isinstance(one, BridgeError)]

    assert [1, 1, 2, 2] == list(stub.asked.values())
    assert len(errors) == len(set(map(id, errors))) == 6


def test_it_is_known_whether_the_registry_works() -> None:
    """As of its last answer; what is kept proves nothing."""
    stub = StubRegistry({"/schemas/ids/7": described(USER), "/schemas/ids/8": (500, "")})
    asked = registry(stub)
    seen = [asked.works]
    for number in (7, 8, 7, 9):
        outcome(partial(asked.schema, SchemaReference(IdKind.CONTENT, number)))
        seen.append(asked.works)

    assert [False, True, False, False, True] == seen


def test_only_so_many_schemas_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last."""
    monkeypatch.setattr(client, "MOST_KEPT", 2)
    stub = StubRegistry()
    stub.otherwise = described(USER)
    asked = registry(stub)
    for number in (1, 2, 1, 3, 1, 2):
        asked.schema(SchemaReference(IdKind.CONTENT, number))

    assert {"/schemas/ids/1": 1, "/schemas/ids/2": 2, "/schemas/ids/3": 1} == stub.asked


def test_only_so_much_text_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few large ones would take as much."""
    monkeypatch.setattr(client, "MOST_KEPT_BYTES", 2 * len(json.dumps(USER)))
    stub = StubRegistry()
    stub.otherwise = described(USER)
    asked = registry(stub)
    for number in (1, 2, 3):
        asked.schema(SchemaReference(IdKind.CONTENT, number))

    assert 2 == len(asked._kept)


def test_nobody_asks_right_after_a_failure() -> None:
    """A registry that is away would keep every worker waiting for its time-out, and those whose schema is known with them."""
    now_s = [0.0]
    stub = StubRegistry({"/schemas/ids/7": (500, ""), "/schemas/ids/8": described(USER)})
    asked = ConfluentRegistry(RegistryConnection(URL), stub, lambda: now_s[0])
    eight = SchemaReference(IdKind.CONTENT, 8)
    found = [outcome(partial(asked.schema, one)) for one in (SEVEN, SEVEN, eight)]
    now_s[0] = client.PAUSE_S

    assert isinstance(outcome(partial(asked.schema, eight)), CompiledSchema)
    assert ["registry-unavailable"] * 3 == [one.code for one in found if isinstance(one, BridgeError)]  # fmt: skip
    assert 3 == len(set(map(id, found)))
    assert {"/schemas/ids/7": 1, "/schemas/ids/8": 1} == stub.asked


@pytest.mark.parametrize("answer", [described(USER), (500, ""), described({"type": 1})])
def test_several_threads_ask_once(answer: Any) -> None:
    """At start every worker has a record with the same id."""
    stub = StubRegistry({"/schemas/ids/7": answer})
    began, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        goes_on.wait()

    stub.before = hold
    asked = ConfluentRegistry(RegistryConnection(URL), stub, lambda: 0.0)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(outcome, partial(asked.schema, SEVEN)) for _ in range(8)]
        began.wait()
        goes_on.set()
        found = [one.result() for one in waiting]

    if isinstance(found[0], BridgeError):
        assert 8 == len(set(map(id, found)))
    else:
        assert 1 == len(set(map(id, found)))
    assert {"/schemas/ids/7": 1} == stub.asked


def test_whoever_waits_is_released_when_the_fetch_breaks_down() -> None:
    """Also by what no one foresees."""
    stub = StubRegistry({"/schemas/ids/7": RuntimeError()})
    asked = registry(stub)

    with pytest.raises(RuntimeError):
        asked.schema(SEVEN)
    assert {} == asked._asked
    stub.answers["/schemas/ids/7"] = described(USER)
    asked.schema(SEVEN)


def test_types_are_what_the_doctor_asks_for() -> None:
    """The lightest question that every registry answers."""
    assert ("JSON", "PROTOBUF", "AVRO") == registry(StubRegistry()).types()
    stub = StubRegistry({"/schemas/types": (200, {"a": 1})})
    with pytest.raises(RegistryUnavailableError):
        registry(stub).types()
    registry(stub).close()


def test_requests_is_not_what_raises() -> None:
    """Each of its errors is one of the bridge's."""
    error = refusal(requests.RequestException("http://ada:secret@registry"))

    assert "secret" not in f"{error} {error.remedy}"
