"""The mapping's reference and its cookbook: every example runs, every recipe does what it says, nothing is left out."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cli_harness import Bench, call

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, USER_EVENTS, Record, UserEvent
from keycloak_bridge.domain.users import DesiredUser, Intent, LinkPolicy
from keycloak_bridge.event_files.golden_cases import Case, expectation, run_case
from keycloak_bridge.event_files.json_events import EventText
from keycloak_bridge.event_files.previews import preview_text
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.events.record_key import compile_keys
from keycloak_bridge.mapping.mapping import compile_mapping
from keycloak_bridge.mapping.reader import REMOVALS
from keycloak_bridge.mapping.rules import USER_FIELDS
from keycloak_bridge.settings.loading import read_settings
from keycloak_bridge.settings.model import MappingSettings, Settings
from keycloak_bridge.settings.schema import toml_value

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "mapping.md").read_text("utf-8")
COOKBOOK = (ROOT / "docs" / "mapping-cookbook.md").read_text("utf-8")
EVENTS_PAGE = (ROOT / "docs" / "events.md").read_text("utf-8")
TIMES = EVENTS_PAGE.partition("### Times")[2].partition("##")[0]
BLOCK = re.compile(r"^```\w+ (\w+)=(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {(kind, name): text for kind, name, text in BLOCK.findall(DOC)}
INTENTS = [intent for intent in Intent if intent is not Intent.PROVISION]
PROPERTIES = {
    (name,)
    for name in (
        *("userId", "email", "givenName", "familyName", "username", "locale", "tenantId"),
        *("department", "phoneNumber", "active", "roles", "groups", "attributes"),
    )
}


def compiled(name: str) -> Any:
    """Return the example `name`, compiled against the default schema's properties."""
    return compile_mapping(
        tomllib.loads(BLOCKS["example", name]),
        origin="mapping.toml",
        has_property=PROPERTIES.__contains__,
    )


@pytest.mark.parametrize("name", [name for kind, name in BLOCKS if kind == "user"])
def test_an_example_makes_the_user_it_shows(name: str) -> None:
    """Each mapping makes of its event exactly the user printed below it."""
    kind = "event" if ("event", name) in BLOCKS else "update"
    data = json.loads(BLOCKS[kind, name])
    type_ = {"event": "user.created", "update": "user.updated"}[kind]
    user = compiled(name).apply(UserEvent("e1", "/um", type_, data["userId"], None, "urn:s", data))

    assert isinstance(user, DesiredUser)
    shown: dict[str, Any] = {**user.representation}
    shown |= {one.kind: list(one.names) for one in user.memberships}
    if user.cleared:
        shown["cleared"] = sorted(user.cleared)
    assert json.loads(BLOCKS["user", name]) == shown


def test_the_golden_case_is_the_example(tmp_path: Path) -> None:
    """What is shown as expected file is what `test-mapping` expects of the first example."""
    (tmp_path / "mapping.toml").write_text(BLOCKS["example", "small"], encoding="utf-8")
    data = json.loads(BLOCKS["event", "small"])
    envelope = {"specversion": "1.0", "id": "e1", "source": "/um", "type": "user.created"}
    case = Case("small", tmp_path)
    case.event.write_text(json.dumps({**envelope, "data": data}), encoding="utf-8")
    case.expected.write_text(BLOCKS["golden", "small"], encoding="utf-8")
    settings = Settings(mapping=MappingSettings(file=tmp_path / "mapping.toml"))

    assert "equal" == run_case(case, Interpretation(settings)).state


@pytest.mark.parametrize("name", [name for kind, name in BLOCKS if kind == "error"])
def test_a_broken_example_is_refused_as_shown(name: str) -> None:
    """The report is the one that the reference prints."""
    with pytest.raises(ConfigError) as caught:
        compiled(name)

    assert BLOCKS["error", name].strip() == caught.value.message


@pytest.mark.parametrize(
    "word", [*USER_FIELDS, *BOOKKEEPING_ATTRIBUTES, *LinkPolicy, *REMOVALS, *USER_EVENTS, *INTENTS]
)
def test_every_word_is_explained(word: str) -> None:
    """No target, bookkeeping attribute, policy, type of event or intent is left out."""
    assert f"`{word}`" in DOC


def test_the_examples_were_found() -> None:
    """The reference has examples of all kinds."""
    kinds = [kind for kind, _ in BLOCKS if kind in ("user", "event", "update", "error")]

    assert ["error", "event", "event", "update", "user", "user", "user"] == sorted(kinds)


@pytest.mark.parametrize(
    "row", [one for one in TIMES.splitlines() if one.startswith("|") and "timestamp(body" in one]
)
def test_a_time_is_read_as_the_page_says(row: str) -> None:
    """Of the samples that stand there whole; where each has its own expression, by that."""
    written, _, read = row.strip("| ").partition(" | ")
    samples = [one for one in re.findall(r"`([^`]+)`", written) if "…" not in one]
    expressions = re.findall(r"`([^`]+)`", read)
    if len(expressions) == 1:
        expressions *= len(samples)

    assert samples
    for sample, expression in zip(samples, expressions, strict=True):
        custom = compile_envelope({"id": "'1'", "type": "'t'", "data": "body", "time": expression})
        body = json.dumps({"time": json.loads(sample)}).encode()
        event = decode(Record("t", 0, 0, 0, None, body, ()), EnvelopeRules(custom=custom))
        assert event.time is not None
        assert "2026-11-28" == f"{event.time:%Y-%m-%d}"


@pytest.mark.parametrize(
    "setting", re.findall(r"`((?:data|cleared|key|id) = \"[^`…]+\")`", EVENTS_PAGE)
)
def test_a_setting_for_a_producer_is_sound(setting: str) -> None:
    """What the page says to set in `[envelope]` passes the checks at start."""
    ((name, text),) = tomllib.loads(setting).items()

    if name == "key":
        assert compile_keys(text, None).expression is not None
    else:
        assert compile_envelope({"id": "'1'", "type": "'t'", "data": "body", name: text})


START = "start"


@dataclass(frozen=True, slots=True)
class Example:
    """One promise of the cookbook: what `shown` says comes of everything before it in its recipe."""

    recipe: str
    kind: str = ""
    shown: str = ""
    mapping: tuple[str, ...] = ()
    settings: str = ""
    schema: str = ""
    update: str = ""
    event: str = ""
    body: str = ""
    found: str = ""


def examples() -> Iterator[Example]:
    """Yield the promises in order; a later block of a recipe overrides an earlier one, a mapping adds to it."""
    recipes: dict[str, Example] = {}
    for kind, name, text in BLOCK.findall(COOKBOOK):
        now = recipes.setdefault(name, Example(name))
        if kind == "mapping":
            recipes[name] = replace(now, mapping=(*now.mapping, text))
        elif kind in ("result", "plan"):
            yield replace(now, kind=kind, shown=text)
        elif kind != "mapper":
            recipes[name] = replace(now, **{kind: text})


def over(below: Any, above: Any) -> Any:
    """Return `above` put over `below`, object by object."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: over(below.get(key), value) for key, value in above.items()}}


def block(kind: str, name: str) -> str:
    """Return the only block of that kind and name."""
    found: list[str] = [text for k, n, text in BLOCK.findall(COOKBOOK) if (k, n) == (kind, name)]
    assert 1 == len(found)
    return found[0]


def lay_out(example: Example, folder: Path) -> None:
    """Write settings, mappings, schema and event of `example`, as its reader would."""
    mapping = tomllib.loads(block("mapping", START))
    for snippet in example.mapping:
        mapping = over(mapping, tomllib.loads(snippet))
    lines = [f"{key} = {toml_value(value)}\n" for key, value in mapping.items()]
    (folder / "mapping.toml").write_text("".join(lines), encoding="utf-8")
    settings = f'{example.settings}\n[mapping]\nfile = "mapping.toml"\n'
    (folder / "bridge.toml").write_text(settings, encoding="utf-8")
    if example.update:
        (folder / "update.toml").write_text(example.update, encoding="utf-8")
    if example.schema:
        schemas = folder / "my-schemas" / "user.created"
        schemas.mkdir(parents=True)
        version = json.loads(example.schema)["$id"].rpartition(":")[2]
        (schemas / f"{version}.json").write_text(example.schema, encoding="utf-8")
    event = json.loads(example.body) if example.body else event_with(json.loads(example.event))
    (folder / "event.json").write_text(json.dumps(event), encoding="utf-8")


def event_with(shown: dict[str, Any]) -> dict[str, Any]:
    """Return a whole event: `shown` are data, or, where there is `data` in it, parts of the envelope too.

    An event of a later type has the user's id and nothing else besides.
    """
    parts = shown if "data" in shown else {"data": shown}
    start = json.loads(block("event", START))
    data = over({"userId": start["userId"]} if "type" in parts else start, parts["data"])
    return {
        "specversion": "1.0",
        "id": "event-1",
        "source": "/user-management",
        "type": "user.created",
        "subject": data["userId"],
        "time": "2026-11-01T09:30:00Z",
        **parts,
        "data": data,
    }


def outcome_in(folder: Path) -> Any:
    """Return what becomes of the event in `folder`, compared as `test-mapping` compares."""
    loaded = read_settings(folder / "bridge.toml", environ={}, overrides=())
    loaded.raise_if_wrong()
    text = EventText("event.json", 1, (folder / "event.json").read_bytes())
    return expectation(preview_text(Interpretation(loaded.settings), text))


def part_of(whole: Any, shown: Any) -> Any:
    """Return the part of `whole` that `shown` mentions; what is not there is None."""
    if not isinstance(whole, dict) or not isinstance(shown, dict):
        return whole
    return {key: part_of(whole.get(key), value) for key, value in shown.items()}


EXAMPLES = list(examples())
RESULTS = [one for one in EXAMPLES if one.kind == "result"]
PLANS = [one for one in EXAMPLES if one.kind == "plan"]


@pytest.mark.parametrize("example", RESULTS, ids=lambda one: one.recipe)
def test_a_recipe_makes_what_it_shows(example: Example, tmp_path: Path) -> None:
    """Its mapping turns its event into what is printed below it, compared as `test-mapping` compares."""
    lay_out(example, tmp_path)
    shown = json.loads(example.shown)

    assert shown == part_of(outcome_in(tmp_path), shown)


@pytest.mark.parametrize("example", PLANS, ids=lambda one: one.recipe)
def test_a_recipe_plans_what_it_shows(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the user that it shows, `plan` prints what the recipe shows."""
    monkeypatch.chdir(tmp_path)
    lay_out(example, tmp_path)
    bench = Bench(tmp_path, monkeypatch)
    found = json.loads(example.found)
    for path in found.get("groups", ()):
        bench.keycloak.add_group(path)
    bench.keycloak.add_user(found)

    assert example.shown == bench.run("plan", "event.json").stdout


@pytest.mark.parametrize(
    "example",
    {one.recipe: one for one in RESULTS if one.schema}.values(),
    ids=lambda one: one.recipe,
)
def test_a_schema_of_a_recipe_is_sound(example: Example, tmp_path: Path) -> None:
    """`schemas check` finds nothing wrong with its version, and `check-config` nothing with the whole."""
    lay_out(example, tmp_path)

    assert 0 == call("schemas", "check", str(tmp_path / "my-schemas")).exit_code
    assert 0 == call("check-config", "--config", str(tmp_path / "bridge.toml")).exit_code


def test_the_beginning_is_shown_whole(tmp_path: Path) -> None:
    """Of the mapping that every recipe is put into, nothing is left out."""
    (example,) = [one for one in RESULTS if one.recipe == START]
    shown = {key: value for key, value in json.loads(example.shown).items() if value is not None}
    lay_out(example, tmp_path)

    assert shown == outcome_in(tmp_path)


def test_every_recipe_is_run() -> None:
    """Below each heading is something that the tests check, and the list at the top leads to it."""
    recipes = re.split(r"^### ", COOKBOOK, flags=re.MULTILINE)[1:]
    without = [text.splitlines()[0] for text in recipes if not re.search(r" (result|plan)=", text)]
    anchors = {
        re.sub(r"[^\w -]", "", text.splitlines()[0].lower()).replace(" ", "-") for text in recipes
    }

    assert [] == without
    assert anchors == set(re.findall(r"\]\(#([^)]+)\)", COOKBOOK))
    assert len(anchors) == len(recipes) >= 20


def test_every_block_is_used() -> None:
    """No block is skipped because of a misspelt kind."""
    kinds = {kind for kind, _, _ in BLOCK.findall(COOKBOOK)}

    assert kinds <= {"mapping", "settings", "schema", "update", "event", "body", "found", "result", "plan", "mapper"}  # fmt: skip
    assert COOKBOOK.count("```") == 2 * len(BLOCK.findall(COOKBOOK))


def test_the_protocol_mapper_is_the_shipped_one() -> None:
    """The realm in keycloak-config/ has it, to the letter."""
    realm = json.loads((ROOT / "keycloak-config" / "acme-realm.json").read_text("utf-8"))
    (client,) = [one for one in realm["clients"] if one["clientId"] == "demo-app"]

    assert json.loads(block("mapper", "claim")) in client["protocolMappers"]
