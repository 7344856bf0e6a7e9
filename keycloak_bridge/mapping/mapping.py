"""The attribute mapping: from a validated event to the user that Keycloak should have.

A complete event decides every target of the mapping. A partial one decides those whose properties it has. Which usernames
and e-mail addresses are fine is the realm's to say: its user profile may have other rules than Keycloak's default one.
Refused here is only what deceives people, or what no realm can store.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keycloak_bridge.domain.errors import (
    ID_REFUSED,
    ConfigError,
    KeyMismatchError,
    MappingError,
    Violation,
)
from keycloak_bridge.domain.events import USER_CREATED, USER_UPDATED, UserEvent
from keycloak_bridge.domain.numbers import number_text, whole_number
from keycloak_bridge.domain.representation import is_blank, normalised
from keycloak_bridge.domain.unicode_text import has_invisible_character
from keycloak_bridge.domain.users import (
    GROUPS,
    DesiredUser,
    IdentityLink,
    InvitationTerms,
    MatchCriterion,
    Membership,
    OutOfScope,
    UserRepresentation,
    representation_of,
    targets_of,
)
from keycloak_bridge.expressions.expression import Expression, Path, TypesOf, event_scope
from keycloak_bridge.mapping.reader import read_rules
from keycloak_bridge.mapping.reserved_names import (
    is_anonymous,
    refuse_reserved_name,
)
from keycloak_bridge.mapping.rules import (
    NEVER_CLEARED,
    IdentityRule,
    MappingRules,
    MembershipRule,
    TargetRule,
    escaped,
    group_path,
)

Scope = Mapping[str, Any]

_FINGERPRINT_LENGTH = 12
_ANY_ID = "u-1"
_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair
_LONGEST_NAME = 255
"""Characters that Keycloak's database has room for."""

_NAMES = frozenset({"username", "email"})
_ORDINARY = re.compile(r"[a-z0-9._@+-]{1,255}")


def compile_mapping(
    document: Mapping[str, Any],
    *,
    origin: str,
    has_property: Callable[[Path], bool],
    types_of: TypesOf | None = None,
    invitation: InvitationTerms | None = None,
    match_subject: bool = True,
    identifies_only: bool = False,
) -> "AttributeMapping":
    """Return the mapping that `document` describes, every expression compiled and checked.

    `has_property` says whether the event's schema has a path below `data`, `types_of` which types it leaves it. `invitation` has the terms of the mail that
    `[invite]` in the mapping overrides; None means that this bridge sends no mail. `match_subject` demands that the
    event's subject is the external id. `identifies_only` is for events that only name the user: their mapping needs no
    username. Raises ConfigError with one line for every problem.
    """
    rules = read_rules(
        document,
        origin=origin,
        has_property=has_property,
        types_of=types_of,
        identifies_only=identifies_only,
    )
    terms = None if invitation is None else replace(invitation, **rules.invite)
    if terms is not None and terms.redirect_uri and not terms.client_id:
        raise ConfigError(
            f"{origin}: invite.redirect_uri: Keycloak takes it only together with invite.client_id",
            code="mapping",
            remedy="add client_id under [invite], of the client that owns the address",
        )
    # neither the order of keys nor comments and layout count
    content = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:_FINGERPRINT_LENGTH]
    return AttributeMapping(rules, terms, match_subject, fingerprint)


@dataclass(frozen=True, slots=True)
class AttributeMapping:
    """A mapping ready for use; `fingerprint` changes with every change of its content."""

    rules: MappingRules
    invitation: InvitationTerms | None
    match_subject: bool
    fingerprint: str

    def out_of_scope(self, event: UserEvent) -> OutOfScope | None:
        """Return the filter that excludes `event` from Keycloak, None where none does.

        An event without complete data about the user is filtered only if it has everything that `when` reads.
        """
        when = self.rules.when
        if when is None or not (
            is_complete(event) or EventData(event.data, partial=True).has_all(when)
        ):
            return None
        return None if when.is_true(event_scope(event), "/when") else OutOfScope(when.text)

    def identify(self, event: UserEvent, scope: Scope | None = None) -> MatchCriterion:
        """Return the external id of the user that `event` is about; nothing else of the mapping is evaluated.

        Raises MappingError (`missing-external-id`, `invalid-value`, `id-refused`) or KeyMismatchError (`subject-mismatch`).
        """
        rule = self.rules.identity
        external_id = _target_value(
            rule, event_scope(event) if scope is None else scope, names=True
        )
        by_username = self.rules.id_is_username
        pointer = "/user/username" if by_username else rule.pointer
        # Keycloak drops an attribute of nothing but blanks, and the user would never be found again
        empty = not external_id or not external_id[0].strip()
        if empty or len(external_id) > 1:
            reason = "the external id is empty" if empty else "there are several ids"
            raise MappingError(
                f"the event does not say which user it is about: {reason}",
                code="missing-external-id",
                remedy="the producer must send the user's id in user management",
                violations=(Violation(pointer, "required", reason),),
            )
        if self.match_subject and event.subject is not None and event.subject != external_id[0]:
            raise KeyMismatchError(
                "the event's subject and the user's id in its data differ",
                code="subject-mismatch",
                remedy="the producer must name the same user in both",
                violations=(Violation("/subject", "match", f"differs from {pointer}"),),
            )
        if by_username:
            _check_id(external_id[0])
        else:
            _check_external_id(external_id[0], pointer)
        return MatchCriterion(rule.target, external_id[0])

    def data_naming(self, user_id: str) -> Mapping[str, Any]:
        """Return the least data of an event about this user: the id, wherever the external id is read."""
        return _nested(self.identifying_properties(), user_id)

    def is_named_by_an_id_alone(self) -> bool:
        """Say whether such data give the external id, as one property does, or each of several that stand for another."""
        paths = self.identifying_properties()
        if len(paths) < 2:
            return True
        try:
            found = {
                tuple(_target_value(self.rules.identity, {"data": _nested((path,), _ANY_ID)}) or ())
                for path in paths
            }
        except MappingError:
            return False
        return len(found) == 1 and () not in found

    def identifying_properties(self) -> frozenset[Path]:
        """Return the properties of the data of which the external id is made."""
        expression = self.rules.identity.expression
        return frozenset() if expression is None else properties_read((expression,))

    def apply(self, event: UserEvent) -> DesiredUser | OutOfScope:
        """Return the user that `event`, a `user.created` or `user.updated`, describes.

        A partial event sets only the targets whose properties it has: those without a value are cleared, and those that
        it does not mention are left alone. Raises MappingError, KeyMismatchError (`subject-mismatch`) or ConflictError (`reserved-user`).
        """
        if (outside := self.out_of_scope(event)) is not None:
            return outside
        scope, data = event_scope(event), EventData(event.data, is_partial(event))
        values = self._values(event, scope, data)
        given = {target: value for target, value in values.items() if value is not None}
        representation = normalised(representation_of(given))
        refuse_reserved_name(representation, self.rules.reserved)
        username, email = representation.get("username", ""), representation.get("email", "")
        # without a username, a new user may get its address as one: the realm decides
        if "username" in values and (username or data.partial or not email):
            _check_username(username)
        _check_email(email)
        create_only: set[str] = set()
        if not data.partial:
            create_only |= {rule.target for rule in self.rules.targets if rule.create_only}
            if "enabled" not in representation:
                # Keycloak creates a user without it disabled
                representation["enabled"] = True
                create_only.add("enabled")
        if "enabled" in values and not self._says_enabled(event, scope):
            # a default or a constant must not bring back whom somebody disabled
            create_only.add("enabled")
        memberships = [
            _membership(rule, scope)
            for rule in self.rules.memberships
            if data.decides(rule.pointer, rule.expression)
        ]
        return DesiredUser(
            representation=representation,
            matching=self._criteria(representation),
            create_only=frozenset(create_only),
            cleared=self._cleared(values, representation, partial=data.partial),
            memberships=tuple(one for one in memberships if one is not None),
            identities=self._identities(scope, data),
            link=self.rules.link,
            invitation=self.invitation,
            protected_groups=self.rules.protected_groups,
        )

    def _says_enabled(self, event: UserEvent, scope: Scope) -> bool:
        """Return whether the event itself says if its user may log in."""
        expression = next(one.expression for one in self.rules.targets if one.target == "enabled")
        if expression is None or not any(
            _is_given(event.data, path) for path in properties_read((expression,))
        ):
            return False
        return expression.evaluate(scope, "/user/enabled") is not None

    def _values(self, event: UserEvent, scope: Scope, data: "EventData") -> dict[str, Any]:
        """Return the value of every target that the event decides, None where it gives none."""
        values: dict[str, Any] = {}
        external_id = self.identify(event, scope)
        for rule in self.rules.targets:
            if rule.target == external_id.target:
                values[rule.target] = [external_id.value]
            elif not data.partial:
                values[rule.target] = _target_value(rule, scope)
            elif rule.expression is None or rule.create_only:
                continue  # a partial event never creates
            elif data.decides(rule.pointer, rule.expression):
                values[rule.target] = _target_value(rule, scope)
        return values

    def _cleared(
        self, values: Mapping[str, Any], representation: UserRepresentation, *, partial: bool
    ) -> frozenset[str]:
        erasable = {rule.target for rule in self.rules.targets if partial or rule.managed}
        decided = erasable & values.keys()
        return frozenset(decided - targets_of(representation).keys() - set(NEVER_CLEARED))

    def _identities(self, scope: Scope, data: "EventData") -> tuple[IdentityLink, ...]:
        """Return the accounts that are named, and those to unlink where the event or the mapping says so."""
        links = []
        for rule in self.rules.identities:
            if not data.mentions(rule.user_id):
                continue  # the name at the provider changes nothing without the id
            both = [rule.user_id] if rule.user_name is None else [rule.user_id, rule.user_name]
            data.decides(rule.pointer, *both)
            link = _identity_link(rule, scope)
            if link.user_id is not None or rule.managed or data.partial:
                links.append(link)
        return tuple(links)

    def _criteria(self, representation: UserRepresentation) -> tuple[MatchCriterion, ...]:
        """Return those ways to find the user for which the event has exactly one value."""
        targets = targets_of(representation)
        found = []
        for target in self.rules.matching:
            value = targets.get(target, [])
            values = value if isinstance(value, list) else [value]
            if len(values) == 1:
                found.append(MatchCriterion(target, values[0]))
        return tuple(found)


def _nested(paths: Iterable[Path], value: str) -> Mapping[str, Any]:
    """Return data that have `value` at each of `paths`, none of which leads to another."""
    data: dict[str, Any] = {}
    for path in paths:
        here = data
        for name in path[:-1]:
            here = here.setdefault(name, {})
        here[path[-1]] = value
    return data


def _target_value(rule: TargetRule, scope: Scope, *, names: bool = False) -> Any:
    """Return the value of the target, which `names` the user if it is the external id; None when the event has none.

    Fields get text or a flag, attributes and required actions a list of different texts. Raises MappingError.
    """
    names = names or rule.target in _NAMES
    value = None if rule.expression is None else rule.expression.evaluate(scope, rule.pointer)
    if value is None or _is_empty(value):
        value = rule.default
    if value is None:
        converted: Any = None
    elif rule.kind is bool:
        if not isinstance(value, bool):
            reason = f"the value must be true or false, not {_kind(value)}"
            raise _refusal(rule.pointer, "type", reason)
        converted = value
    elif rule.kind is str:
        converted = None if _is_empty(value) else _text(value, rule.pointer, names=names)
    else:
        converted = _texts(value, rule.pointer, names=names) or None
    if converted is None and rule.required:
        raise _refusal(rule.pointer, "required", "the event gives no value", code="missing-value")
    return converted


def _membership(rule: MembershipRule, scope: Scope) -> Membership | None:
    """Return what the event names, each once; None where nothing is named and nothing can be removed.

    Raises MappingError (`group-not-allowed`, `role-not-allowed`, `organization-not-allowed`) for names that the mapping
    does not allow.
    """
    given = _texts(rule.expression.evaluate(scope, rule.pointer), rule.pointer)
    if rule.kind == GROUPS:
        given = list(map(group_path, given))
    names = given or rule.default
    if not names and not rule.managed:
        return None
    allow = rule.allow
    if allow is not None:
        refused = [index for index, name in enumerate(names) if name not in allow]
        if refused and not rule.ignore_others:
            what = rule.word
            reason = f"the mapping does not allow this {what}"
            raise MappingError(
                f"the event asks for {len(refused)} {what}(s) that the mapping does not allow",
                code=f"{what}-not-allowed",
                remedy=f"add the {what} to allow in [user.{rule.kind}], or correct the event",
                violations=[Violation(f"{rule.pointer}/{at}", "allow", reason) for at in refused],
            )
        names = [name for name in names if name in allow]
    owned = allow if rule.managed and allow is not None else frozenset[str]()
    if not names and not owned:
        return None
    return Membership(rule.kind, tuple(dict.fromkeys(names)), owned, rule.create_missing)


def _identity_link(rule: IdentityRule, scope: Scope) -> IdentityLink:
    """Return the user's account at the provider; its `user_id` is None where the event names none.

    Raises MappingError.
    """
    pointer = rule.pointer + "/userId"
    user_id = rule.user_id.evaluate(scope, pointer)
    if _is_empty(user_id):
        return IdentityLink(rule.alias, None)
    name_pointer = rule.pointer + "/userName"
    name = None if rule.user_name is None else rule.user_name.evaluate(scope, name_pointer)
    return IdentityLink(
        rule.alias,
        _text(user_id, pointer, names=True),
        None if _is_empty(name) else _text(name, name_pointer, names=True),
    )


def _is_empty(value: Any) -> bool:
    return is_blank(value) or (not value and isinstance(value, list | dict))


def _texts(value: Any, pointer: str, *, names: bool = False) -> list[str]:
    if type(value) is str:  # as nearly all are
        return [_text(value, pointer)] if value.strip() else []
    if _is_empty(value):
        return []
    items = value if isinstance(value, list) else [value]
    given = [_text(item, pointer, names=names) for item in items if not _is_empty(item)]
    return list(dict.fromkeys(given))


def _text(value: Any, pointer: str, *, names: bool = False) -> str:
    """Return the value as text; what `names` somebody may be no number that two values are read as."""
    if isinstance(value, list | dict):
        raise _refusal(pointer, "type", f"the value must be text, not {_kind(value)}")
    if names and isinstance(value, float) and whole_number(value) is None:
        raise _refusal(
            pointer,
            "exact",
            "a number that names a user must be whole, and without a point and an exponent from 2^53 on",
            code="invalid-value",
        )
    text = value if isinstance(value, str) else number_text(value)
    if "\0" in text or (not text.isascii() and _SURROGATE.search(text)):
        # PostgreSQL stores neither; Keycloak would answer 500 for ever
        raise _refusal(
            pointer,
            "characters",
            "the value contains a character that cannot be stored",
            code="invalid-value",
        )
    return text


def _kind(value: Any) -> str:
    kinds = {"dict": "an object", "list": "a list", "str": "text"}
    return kinds.get(type(value).__name__, "a number")


def _refusal(
    pointer: str, keyword: str, reason: str, *, code: str = MappingError.default_code
) -> MappingError:
    return MappingError(
        f"the mapping cannot set {pointer}: {reason}",
        code=code,
        remedy="correct the event, or the expression in the mapping file",
        violations=(Violation(pointer, keyword, reason),),
    )


def is_partial(event: UserEvent) -> bool:
    """Return whether the event has only what changed: a `user.updated` without `"complete": true` in its data."""
    return event.type == USER_UPDATED and event.data.get("complete") is not True


def is_complete(event: UserEvent) -> bool:
    """Return whether the event has all data of the user; types other than these two hardly do more than name it."""
    return event.type == USER_CREATED or (event.type == USER_UPDATED and not is_partial(event))


def is_present(data: Mapping[str, Any], path: Path) -> bool:
    """Return whether `data` has the property at `path`.

    Null counts as a value. A parent that is no object counts for its parts: null for the whole is null for each part,
    and a list is given with everything in it.
    """
    here: Any = data
    for name in path:
        if not isinstance(here, Mapping):
            return True
        if name not in here:
            return False
        here = here[name]
    return True


def _is_given(data: Mapping[str, Any], path: Path) -> bool:
    """Return whether `data` has a value at `path`, other than null."""
    here: Any = data
    for name in path:
        if not isinstance(here, Mapping):
            return here is not None
        here = here.get(name)
    return here is not None


def properties_read(expressions: Iterable[Expression]) -> frozenset[Path]:
    """Return the paths of the data that the expressions read, without those that only lead to others."""
    paths = frozenset().union(*(one.data_paths for one in expressions))
    above = {path[:length] for path in paths for length in range(1, len(path))}
    return paths - above


@dataclass(frozen=True, slots=True)
class EventData:
    """The data of an event, and which targets of a mapping they decide; complete data decide all of them.

    `partial` data decide a target when they have the properties that its expressions read; null counts.
    """

    data: Mapping[str, Any]
    partial: bool

    def decides(self, pointer: str, *expressions: Expression) -> bool:
        """Return whether the event decides the target at `pointer`, made by `expressions`.

        Raises MappingError (`incomplete-update`) where it has some of their properties and lacks others.
        """
        if not self.partial:
            return True
        properties = properties_read(expressions)
        absent = sorted(path for path in properties if not is_present(self.data, path))
        if len(absent) == len(properties):
            return False
        if absent:
            together = ", ".join("data." + ".".join(path) for path in sorted(properties))
            pointers = ["/".join(("/data", *map(escaped, path))) for path in absent]
            reason = f"is needed to set {pointer}"
            raise MappingError(
                f"the event changes only a part of what {pointer} is made of",
                code="incomplete-update",
                remedy=f"the producer must send these together: {together}; or send a complete event",
                violations=[Violation(one, "required", reason) for one in pointers],
            )
        return True

    def mentions(self, expression: Expression) -> bool:
        """Return whether the event is complete or has any property that the expression reads."""
        if not self.partial:
            return True
        return any(is_present(self.data, path) for path in properties_read((expression,)))

    def has_all(self, expression: Expression) -> bool:
        """Return whether the event has every property that the expression reads."""
        return all(is_present(self.data, path) for path in properties_read((expression,)))


def _check_id(external_id: str) -> None:
    """Refuse an id that no realm can have as a username, or would change."""
    problem = username_problem(external_id.lower())
    if problem is None and external_id != external_id.strip():
        problem = "it begins or ends with white space"
    if problem is not None:
        raise MappingError(
            f"the user's id cannot be a username: {problem}",
            code=ID_REFUSED,
            remedy="correct the id in user management, or use a layout that keeps it in an attribute (docs/keycloak.md, Large realms)",
            violations=(Violation("/user/username", "username", problem),),
        )


def _check_external_id(external_id: str, pointer: str) -> None:
    """Refuse an id that no subject can be, or that looks like another one."""
    if len(external_id) > _LONGEST_NAME:
        reason = f"the external id has {len(external_id)} characters; 255 are allowed"
        raise _refusal(pointer, "maxLength", reason, code="invalid-value")
    if has_invisible_character(external_id):
        reason = "the external id contains a control character, or another one that nobody can see"
        raise _refusal(pointer, "characters", reason, code="invalid-value")


def _check_username(username: str) -> None:
    if problem := username_problem(username):
        raise MappingError(
            f"the mapping makes a username that cannot be used: {problem}",
            code="invalid-username",
            remedy="correct the username in user management, or the mapping's user.username",
            violations=(Violation("/user/username", "username", problem),),
        )


def _check_email(email: str) -> None:
    """Refuse an address that hides something, since people log in by it and a realm may take it as the username; or is too long."""
    if len(email) > _LONGEST_NAME:
        raise _refusal(
            "/user/email",
            "maxLength",
            f"the e-mail address has {len(email)} characters; Keycloak stores no more than 255",
            code="invalid-value",
        )
    if has_invisible_character(email):
        raise _refusal(
            "/user/email",
            "characters",
            "the e-mail address contains a character that nobody can see",
            code="invalid-value",
        )


def username_problem(username: str) -> str | None:
    """Return why the lower-case `username` is refused in every realm, without quoting it; None where the realm decides."""
    if _ORDINARY.fullmatch(username) and not is_anonymous(username):
        return None
    if not username:
        return "the event gives no username"
    if len(username) > _LONGEST_NAME:
        return f"the username has {len(username)} characters; Keycloak stores no more than 255"
    if has_invisible_character(username):
        return "the username contains a control character, or another one that nobody can see"
    if is_anonymous(username):
        return "the username is one that anonymised users get"
    return None
