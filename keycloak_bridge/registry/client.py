"""The schema registry's API: the schema that an id names, fetched once, checked and kept.

What cannot be found out now (an outage, refused credentials, an answer that is no registry's) is RegistryUnavailableError,
and the event waits. What the registry has said for good is an EventError.
"""

import copy
import re
import threading
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import BaseAdapter

from keycloak_bridge.domain.errors import (
    BridgeError,
    ConfigError,
    EventDecodeError,
    RegisteredSchemaError,
    RegistryAccessError,
    RegistryUnavailableError,
    UnknownSchemaError,
    Violation,
)
from keycloak_bridge.domain.events import IdKind, SchemaReference
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.events.frames import SCHEMA_ID_HEADER
from keycloak_bridge.ops import tracing
from keycloak_bridge.transport.http import (
    Failure,
    WireAdapter,
    exchange,
    failure_of,
    json_in,
    open_session,
    unusable_file,
)
from keycloak_bridge.transport.tls import TlsNames, tls_problem
from keycloak_bridge.validation.schema import CompiledSchema, Registered, compile_registered
from keycloak_bridge.validation.validator import shortened

MOST_SCHEMA_BYTES = 1_048_576
"""The largest schema, as for a file; the texts that it refers to count."""

MOST_REFERENCES = 50
MOST_KEPT, MOST_KEPT_BYTES = 1000, 16 * MOST_SCHEMA_BYTES
"""So many schemas are kept, and so many characters of their texts; those that were not used for longest go."""

PAUSE_S = 1.0
"""So long after a failure nobody asks: whoever needs a schema that is not known fails for the same reason at once."""

_MOST_ANSWER_BYTES = 4 * MOST_SCHEMA_BYTES
_DEEPEST_NESTING = 64
_REFUSED_BYTES = 1024
_LONGEST_TYPE = 40
_JSON, _AVRO = "JSON", "AVRO"
_BUSY = frozenset({408, 425, 429})
_COMPATIBLE_API = re.compile(r"/apis/ccompat/v([0-9]+)$")
_OF_VERSION_2 = frozenset({"6", "7"})
"""The compatible APIs that Apicurio 2 has; Apicurio 3 has its own API of version 2 too."""

_NO_SUBJECTS = frozenset(("", ".", ".."))
_LATEST_VERSION = 2**31 - 1
"""Versions count from 1; -1 would be whichever is the newest at the moment."""

_NO_SCHEMA = frozenset({40401, 40402, 40403})
_TYPES = "GET /schemas/types"

_UNAVAILABLE: Mapping[Failure, tuple[str, str]] = {
    Failure.UNREACHABLE: (
        "the schema registry cannot be reached ({call})",
        "check [registry] url and that the registry is up",
    ),
    Failure.NO_ANSWER: (
        "the schema registry did not answer ({call})",
        "look at the registry's log and load; raise [registry] timeout if it is merely slow",
    ),
    Failure.TOO_LARGE: (
        "the schema registry's answer to {call} is longer than 4 MiB, and was not read",
        "check [registry] url and the proxies in front of the registry: schemas are shorter",
    ),
    Failure.TLS: (
        "there is no TLS connection to the schema registry: {problem} ({call})",
        "{solution}",
    ),
}


@dataclass(frozen=True, slots=True)
class RegistryConnection:
    """Where the registry is and how to call it; `authorization` returns the value of that header, or None."""

    url: str
    authorization: Callable[[], str | None] = lambda: None
    ca_file: Path | None = None
    timeout_s: float = 10.0
    pool_size: int = 4
    frame_ids: IdKind = IdKind.CONTENT
    formats_must_be_known: bool = False


def basic(username: str, password: str) -> str:
    """Return the header's value for basic authentication."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


def bearer(token: str) -> str:
    """Return the header's value for a bearer token; raises RegistryAccessError for one that no header can hold."""
    if not (token.isascii() and token.isprintable()):
        raise RegistryAccessError(
            "[registry] token has characters that no header can hold",
            remedy="write nothing but the token into [registry] token or its file",
        )
    return f"Bearer {token}"


class ConfluentRegistry:
    """A registry with Confluent's API, such as Confluent Schema Registry or Apicurio Registry. Safe to share between threads."""

    def __init__(
        self,
        connection: RegistryConnection,
        adapter: BaseAdapter | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the connections; raises ConfigError for a `ca_file` that cannot be read."""
        adapter = adapter or WireAdapter(connection.pool_size, most_bytes=_MOST_ANSWER_BYTES)
        self._session = open_session("registry", adapter, connection.ca_file)
        self._connection = connection
        self._lock = threading.Lock()
        self._kept: OrderedDict[SchemaReference, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._asked: dict[SchemaReference, Future[CompiledSchema | BridgeError]] = {}
        self.frame_ids = connection.frame_ids
        self.works = False
        """Whether the registry had an answer when it was asked last."""
        self._monotonic = monotonic
        self._failure: tuple[float, RegistryUnavailableError] | None = None

    def schema(self, reference: SchemaReference) -> CompiledSchema:
        """Return the schema that `reference` names, fetched the first time; several threads fetch it once.

        Raises UnknownSchemaError (`unknown-schema-id`), RegisteredSchemaError or RegistryUnavailableError.
        """
        found = self._known_or_found(reference)
        if isinstance(found, BridgeError):
            raise copy.copy(found)  # each event has its own, since more is noted on it
        return found

    def types(self) -> tuple[str, ...]:
        """Return the types of schemas that the registry says it has; raises RegistryUnavailableError."""
        answer = self._get("/schemas/types", _TYPES)
        found = _json(answer) if answer.status_code == HTTPStatus.OK else None
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise _foreign(_TYPES, answer.status_code)
        return tuple(one[:_LONGEST_TYPE] for one in found[:MOST_REFERENCES])

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def _known_or_found(self, reference: SchemaReference) -> CompiledSchema | BridgeError:
        with self._lock:
            kept = self._kept.get(reference)
            if kept is not None:
                self._kept.move_to_end(reference)
                return kept.found
            asked = self._asked.get(reference)
            if asked is None:
                if self._failure is not None and self._monotonic() - self._failure[0] < PAUSE_S:
                    return self._failure[1]
                self._asked[reference] = Future()
        return self._find(reference) if asked is None else asked.result()

    def _find(self, reference: SchemaReference) -> CompiledSchema | BridgeError:
        """Fetch for all who wait for it, and keep what stays true."""
        found: CompiledSchema | BridgeError
        size, stays = 0, True
        try:
            size, found = self._fetch(reference)
        except RegisteredSchemaError as error:
            size, found = _REFUSED_BYTES, copy.copy(error)
        except BridgeError as error:
            found, stays = copy.copy(error), False
        except BaseException:
            self._finish(reference, RegistryUnavailableError("the schema was not fetched"))
            raise
        self._finish(reference, found, size if stays else None)
        return found

    def _finish(
        self,
        reference: SchemaReference,
        found: CompiledSchema | BridgeError,
        size: int | None = None,
    ) -> None:
        with self._lock:
            asked = self._asked.pop(reference)
            self.works, self._failure = True, None
            if isinstance(found, RegistryUnavailableError):
                self.works, self._failure = False, (self._monotonic(), found)
            if size is not None:
                self._kept[reference] = _Kept(found, size)
                self._kept_bytes += size
            while len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._kept_bytes -= oldest.size
        asked.set_result(found)

    def _fetch(self, reference: SchemaReference) -> tuple[int, CompiledSchema]:
        """Return the compiled schema and the size of its texts."""
        named: tuple[_Named, ...] = ()
        if reference.kind is IdKind.GLOBAL:
            text = self._content(reference)
        else:
            answer = self._described(reference)
            text, named = _text_of(answer, str(reference)), tuple(_references(answer))
        schema = Registered(str(reference), _parsed(text, str(reference)))
        size, references = len(text), []
        for one in self._closure(named, str(reference)):
            size += one.size
            if size > MOST_SCHEMA_BYTES:
                raise _unusable(f"{reference}: is too large with all that it refers to")
            references.append(one.schema)
        try:
            made_id = f"urn:keycloak-bridge:{reference.name}"
            return size, compile_registered(
                schema,
                made_id,
                references,
                formats_must_be_known=self._connection.formats_must_be_known,
            )
        except ConfigError as error:
            problems = error.message.splitlines()
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise _unusable(problems[0] + more) from None
        except RecursionError:
            raise _unusable(f"{reference}: nests too deeply") from None

    def _described(self, reference: SchemaReference) -> Mapping[str, Any]:
        """Return what the registry says about an id of its Confluent-compatible API."""
        path, call = f"/schemas/ids/{reference.value}", "GET /schemas/ids/{id}"
        if reference.kind is IdKind.GUID:
            path, call = f"/schemas/guids/{reference.value}", "GET /schemas/guids/{guid}"
        answer = self._get(path, call)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise self._missing(reference, answer)
        return _object(answer, call)

    def _content(self, reference: SchemaReference) -> str:
        """Return the text of the schema with a global id, which only Apicurio's own API can tell."""
        path, call = f"/ids/globalIds/{reference.value}", "GET /ids/globalIds/{id}"
        answer = self._get(path, call, core=True)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise self._missing(reference, answer)
        if b"$ref" in answer.content and _json(
            self._get(f"{path}/references", f"{call}/references", core=True)
        ):
            # with the schemas of others in their places
            answer = self._get(f"{path}{self._core_api().dereferenced}", call, core=True)
        if answer.status_code != HTTPStatus.OK:
            raise _foreign(call, answer.status_code)
        return answer.content.decode("utf-8", "replace")

    def _missing(self, reference: SchemaReference, answer: requests.Response) -> UnknownSchemaError:
        """Return the error for an id that the registry does not have.

        Raises RegistryUnavailableError where the answer is not a registry's own: one that does not know such ids at all,
        or that refuses the form of this one, still says which types it has.
        """
        if _error_code(answer) not in _NO_SCHEMA:
            self.types()
        return _unknown(reference)

    def _closure(self, named: tuple["_Named", ...], origin: str) -> Iterator["_Fetched"]:
        """Yield the schemas that `named` and all that they refer to are, each once for each name."""
        waiting, seen = list(named), set[_Named]()
        while waiting:
            one = waiting.pop(0)
            if one in seen:
                continue
            seen.add(one)
            if len(seen) > MOST_REFERENCES:
                raise _unusable(f"{origin}: refers to more than {MOST_REFERENCES} schemas")
            call = "GET /subjects/{subject}/versions/{version}"
            answer = self._get(
                f"/subjects/{quote(one.subject, safe='')}/versions/{one.version}", call
            )
            what = f"version {one.version} of {shortened(one.subject)}"
            if answer.status_code == HTTPStatus.NOT_FOUND and _error_code(answer) in _NO_SCHEMA:
                raise _unusable(f"{origin}: refers to {what}, which the registry does not have")
            described = _object(answer, call)
            text = _text_of(described, what)
            waiting += _references(described)
            yield _Fetched(Registered(what, _parsed(text, what), one.name), len(text))

    def _get(self, path: str, call: str, *, core: bool = False) -> requests.Response:
        """Return the answer to a GET below the registry's URL, or below that of Apicurio's own API.

        Raises RegistryUnavailableError for one that says nothing about what was asked for.
        """
        url = self._core_api().url if core else self._connection.url
        headers = {}
        try:
            if (authorization := self._connection.authorization()) is not None:
                headers["Authorization"] = authorization
        except ConfigError as error:  # a file that is just being replaced is waited for
            raise RegistryAccessError(
                error.message, code=error.code, remedy=error.remedy
            ) from error
        timeout_s = self._connection.timeout_s
        try:
            request = self._session.prepare_request(
                requests.Request("GET", f"{url}{path}", headers=headers)
            )
            with tracing.calling("GET", f"{url}{call.partition(' ')[2]}") as span:
                request.headers.update(span.carrier())
                answer = exchange(self._session, request, (timeout_s, timeout_s))
                tracing.answered(span, answer.status_code)
        except requests.RequestException as error:
            raise _no_answer(error, call, self._connection.ca_file) from error
        status = answer.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise RegistryAccessError(
                f"the schema registry refuses the bridge ({call}: {status})",
                remedy="check [registry] username and password, or token, and what they may read in the registry",
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY:
            raise RegistryUnavailableError(
                f"the schema registry cannot answer {call} now ({status})",
                remedy="look at the registry's log",
            )
        return answer

    def _core_api(self) -> "_CoreApi":
        """Return Apicurio's own API beside the Confluent-compatible one."""
        api = _COMPATIBLE_API.search(self._connection.url)
        if api is None:
            raise UnknownSchemaError(
                "a global id of Apicurio Registry can be looked up there only, and [registry] url is not its "
                "Confluent-compatible API",
                code="unknown-schema-id",
                remedy='let [registry] url end in /apis/ccompat/v7, or set registry.frame_ids = "content"; then replay the event',
            )
        root = f"{self._connection.url[: api.start()]}/apis/registry"
        if api[1] in _OF_VERSION_2:
            return _CoreApi(f"{root}/v2", "?dereference=true")
        return _CoreApi(f"{root}/v3", "?references=DEREFERENCE")


@dataclass(frozen=True, slots=True)
class _CoreApi:
    """An API of Apicurio, and the query with which it puts what a schema refers to into it."""

    url: str
    dereferenced: str


@dataclass(frozen=True, slots=True)
class _Kept:
    found: CompiledSchema | BridgeError
    size: int


@dataclass(frozen=True, slots=True)
class _Named:
    """A reference as the registry lists it: the text of `$ref`, and where the schema is."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class _Fetched:
    schema: Registered
    size: int


def _text_of(described: Mapping[str, Any], origin: str) -> str:
    """Return the text of a JSON Schema; the registry names no type for Avro."""
    kind = described.get("schemaType") or _AVRO
    if kind != _JSON:
        shown = kind[:_LONGEST_TYPE] if isinstance(kind, str) and kind.isprintable() else "unknown"
        raise RegisteredSchemaError(
            f"{origin} is of type {shown}; the bridge reads JSON Schema",
            code="unsupported-schema-type",
            remedy="publish with a serializer for JSON Schema",
        )
    return str(described["schema"])


def _references(described: Mapping[str, Any]) -> Iterator[_Named]:
    listed = described.get("references")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            name, subject, version = (one.get(key) for key in ("name", "subject", "version"))
            if not (isinstance(name, str) and name and isinstance(subject, str)):
                continue
            # of what a registry cannot have, nothing is put into a path or a message
            if not subject.isprintable() or subject in _NO_SUBJECTS or type(version) is not int:
                continue
            if 0 < version <= _LATEST_VERSION:
                yield _Named(name, subject, version)


def _parsed(text: str, origin: str) -> Any:
    try:
        return parse_json(
            text.encode("utf-8", "surrogatepass"),
            max_bytes=MOST_SCHEMA_BYTES,
            max_depth=_DEEPEST_NESTING,
        )
    except EventDecodeError as error:
        raise _unusable(f"{origin}: {error.message}") from None


def _json(answer: requests.Response) -> Any:
    try:
        return json_in(answer)
    except ValueError:
        return None


def _object(answer: requests.Response, call: str) -> Mapping[str, Any]:
    found = _json(answer) if answer.status_code == HTTPStatus.OK else None
    if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
        raise _foreign(call, answer.status_code)
    return found


def _error_code(answer: requests.Response) -> int | None:
    found = _json(answer)
    code = found.get("error_code") if isinstance(found, dict) else None
    return code if isinstance(code, int) else None


def _unknown(reference: SchemaReference) -> UnknownSchemaError:
    where = f"/headers/{SCHEMA_ID_HEADER}" if reference.kind is IdKind.GUID else ""
    return UnknownSchemaError(
        f"there is no {reference}",
        code="unknown-schema-id",
        remedy="check that [registry] url is the registry of the producer, that it finds schemas by such ids, and "
        "registry.frame_ids; then replay the event",
        violations=(Violation(where, "schema", "must name a schema of the registry"),),
    )


def _unusable(reason: str) -> RegisteredSchemaError:
    return RegisteredSchemaError(
        f"the schema of the registry cannot be used: {reason}",
        remedy="register a correct version, and let the producer use that; docs/events.md says what a schema may hold",
    )


def _foreign(call: str, status: int) -> RegistryUnavailableError:
    return RegistryUnavailableError(
        f"the answer to {call} ({status}) is not a schema registry's",
        code="not-a-registry",
        remedy="check [registry] url: it ends before /schemas/ids, for Apicurio in /apis/ccompat/v7",
    )


def _no_answer(error: requests.RequestException, call: str, ca_file: Path | None) -> BridgeError:
    failure = failure_of(error)
    wrong = unusable_file("registry", ca_file)
    if wrong is not None:  # it was there at start, and may be just being replaced
        return RegistryUnavailableError(wrong.message, code=wrong.code, remedy=wrong.remedy)
    if failure not in _UNAVAILABLE:
        return RegistryUnavailableError(
            "[registry] url is not an address that can be called",
            code="registry-url",
            remedy="write it as http://host:port or https://host, with the path of the API if it has one",
        )
    message, remedy = _UNAVAILABLE[failure]
    problem = tls_problem(error, TlsNames.of_section("registry"))
    return RegistryUnavailableError(
        message.format(call=call, problem=problem.text),
        code=f"registry-{failure}",
        remedy=remedy.format(solution=problem.solution),
    )
