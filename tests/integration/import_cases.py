"""Users, good and bad, and what becomes of each in a realm of `PROFILE`: only the first kind may go by import."""

from typing import Any

IMPORTED, REFUSED, UNCERTAIN = "imported", "refused", "uncertain"
ADMIN = {"edit": ["admin"], "view": ["admin"]}


def _attribute(name: str, **rules: Any) -> dict[str, Any]:
    return {"name": name, "permissions": ADMIN, **rules}


def _checked(name: str, validator: str, **config: Any) -> dict[str, Any]:
    return _attribute(name, validations={validator: config})


PROFILE = [
    _checked("least", "length", min=3),
    _checked("most", "length", max="5"),
    _checked("both", "length", min=2, max=4),
    _checked("letters", "pattern", pattern="[a-z]+"),
    _checked("own-words", "pattern", **{"pattern": "[a-z]+", "error-message": "own-message"}),
    _checked("choice", "options", options=["a", "b"]),
    _checked("whole", "integer", min=1, max=5),
    _checked("whole-least", "integer", min=1),
    _checked("whole-most", "integer", max="5"),
    _checked("number", "double", min=1, max=5),
    _checked("day", "iso-date"),
    _checked("day-of-locale", "local-date"),
    _checked("address", "email"),
    _checked("person", "person-name-prohibited-characters"),
    _checked("account", "username-prohibited-characters"),
    _attribute("many", multivalued=True, validations={"length": {"max": 3}}),
    _attribute("few", multivalued=True, validations={"multivalued": {"max": 2}}),
    _attribute("owned", permissions={"edit": ["user"], "view": ["admin", "user"]}),
    _attribute("needed", required={"roles": ["admin"]}),
]
"""On top of the shipped profile."""

_NAMES = [
    ("Ada", "Lovelace"),
    ("Jürgen", "Groß"),
    ("Zoë", "Ng-Lamoureux"),
    ("José María", "Núñez"),
    ("Chloé", "D'Aubigné"),
    ("Łukasz", "Żółć"),
    ("Dvořák", "Příliš"),
    ("Ágnes", "Kőműves"),
    ("İbrahim", "Yıldız"),
    ("Søren", "Ærø"),
    ("Åsa", "Öberg"),
    ("Þórður", "Guðmundsdóttir"),
    ("Siobhán", "Ó Súilleabháin"),
    ("Șerban", "Țepeș"),
    ("Nguyễn Thị", "Ánh"),
    ("Александр", "Пушкин"),
    ("Олександра", "Ґалаґан"),
    ("Γιώργος", "Παπαδόπουλος"),
    ("محمد", "العربي"),
    ("דוד", "בן־גוריון"),
    ("राजेश", "शर्मा"),
    ("সুনীল", "গঙ্গোপাধ্যায়"),
    ("สมชาย", "ใจดี"),
    ("山田", "太郎"),
    ("金", "민준"),
    ("王", "小明"),
    ("გიორგი", "ბერიძე"),
    ("Հայկ", "Պետրոսյան"),
    ("Jean, dit", "von & zu"),
    ("😀", "𠮷野"),
]


def _given(**attributes: object) -> dict[str, Any]:
    return {"attributes": {name.replace("_", "-"): value for name, value in attributes.items()}}


_FINE: dict[str, dict[str, Any]] = {
    "plain": {},
    "disabled": {"enabled": False},
    "no-email": {"email": None},
    "no-names": {"firstName": None, "lastName": None},
    "empty-names": {"firstName": "", "lastName": "", "email": ""},
    "verified": {"emailVerified": True},
    "capitals": {"username": "CaPitals", "email": "CaPitals@Acme.Example"},
    "email-for-name": {"username": "own@acme.example", "email": "own@acme.example"},
    "of-groups": {"groups": ["/staff/engineering", "/customers"]},
    "of-loose-groups": {"groups": ["staff", "customers"]},
    "of-odd-group": {"groups": ["/odd/name"]},
    "actions": {"requiredActions": ["VERIFY_EMAIL", "UPDATE_PASSWORD", "UPDATE_PROFILE"]},
    "switched-off-action": {"requiredActions": ["TERMS_AND_CONDITIONS", "delete_account"]},
    "locale": _given(locale=["de"]),
    "odd-locale": _given(locale=["xx"]),
    "empty-values": _given(department=[""], tenantId=[], many=["a", ""]),
    "blank-names": {"firstName": "  ", "lastName": "\t", "email": " "},
    "odd-blanks": {"firstName": "\u00a0", "lastName": "\u3000", "email": "\u2003"},
    "blank-values": _given(department=["  "], phoneNumber=["\u00a0"], many=["a", " ", "\n"]),
    "blanks-around": {**_given(department=["  R&D "]), "firstName": " Ada "},
    "double-values": _given(many=["a", "a", "b"]),
    "bookkeeping": _given(bridgeEventId=["e1"], bridgeInvitation=["due:e1"]),
    "at-limits": _given(least=["abc"], most=["abcde"], both=["ab"], whole=["5"], number=["1.5"]),
    "rules-met": _given(letters=["abc"], choice=["a"], day=["2028-02-29"], few=["x", "y"]),
    "long-value": _given(userId=["x" * 255]),
    "apostrophes": {"username": "o.brien-smith_3", "lastName": "O'Brien-Smith, Jr."},
}

_REFUSED: dict[str, dict[str, Any]] = {
    "too-short-name": {"username": "ab"},
    "too-long-name": {"username": "x" * 256},
    "bad-name": {"username": "bad<name"},
    "two-wrongs": {"username": "a<"},
    "bad-email": {"email": "nobody"},
    "no-domain": {"email": "nobody@"},
    "blank-in-email": {"email": "no body@acme.example"},
    "long-local-part": {"email": f"{'a' * 65}@acme.example"},
    "bad-first": {"firstName": "<Ada>"},
    "bad-both": {"firstName": "<", "lastName": "x" * 256},
    "long-and-bad": {"firstName": "<" * 256},
    "two-values": _given(tenantId=["a", "b"]),
    "two-short-values": _given(least=["a", "b"]),
    "short": _given(least=["a"]),
    "long": _given(most=["abcdef"]),
    "out-of-both": _given(both=["a"]),
    "no-match": _given(letters=["A"]),
    "no-option": _given(choice=["c"]),
    "no-integer": _given(whole=["x"]),
    "integer-out": _given(whole=["9"]),
    "integer-low": _given(whole_least=["0"]),
    "integer-high": _given(whole_most=["9"]),
    "double-out": _given(number=["9"]),
    "no-date": _given(day=["2026-02-30"]),
    "no-address": _given(address=["nobody"]),
    "bad-person": _given(person=["<"]),
    "bad-account": _given(account=["a b"]),
    "one-of-many-long": _given(many=["a", "abcd"]),
    "too-many": _given(few=["a", "b", "c"]),
    "needed-missing": _given(needed=[]),
    "much-wrong": {"email": "x", "firstName": "<", **_given(letters=["A"], least=["a"])},
}

_UNCERTAIN: dict[str, dict[str, Any]] = {
    "unknown-attribute": _given(unheard_of=["x"]),
    "unknown-validator": _given(day_of_locale=["11/24/2026"]),
    "unknown-action": {"requiredActions": ["NO_SUCH_ACTION"]},
    "action-in-small": {"requiredActions": ["verify_email"]},
    "not-the-admins": _given(owned=["x"]),
    "another-script": {"username": "александр"},
    "another-email": {"username": "someone@acme.example", "email": "else@acme.example"},
    "odd-email": {"email": "a@b"},
    "letters-in-email": {"email": "zoë@acme.example"},
    "own-words": _given(own_words=["A"]),
    "blank-email": {"email": " blank@acme.example"},
    "read-only": _given(LDAP_ID=["x"]),
    "email-as-attribute": _given(email=["x@acme.example"]),
    "roles": {"realmRoles": ["viewer"]},
    "own-id": {"id": "0d3c8f0e-6a24-4f4e-9a3a-6f0f5b0e8a11"},
    "no-username": {"username": None},
}


def _user(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    attributes = {"userId": [name], "needed": ["x"], **changes.get("attributes", {})}
    user = {
        "username": name,
        "email": f"{name}@acme.example",
        "enabled": True,
        "firstName": "Ada",
        "lastName": "Lovelace",
        **changes,
        "attributes": {key: value for key, value in attributes.items() if value != []}
        if name == "needed-missing"
        else attributes,
    }
    return {key: value for key, value in user.items() if value is not None}


CASES: list[tuple[str, str, dict[str, Any]]] = [
    *(
        (f"named-{n}", IMPORTED, _user(f"named-{n}", {"firstName": a, "lastName": b}))
        for n, (a, b) in enumerate(_NAMES)
        if "&" not in a + b
    ),
    *((name, IMPORTED, _user(name, changes)) for name, changes in _FINE.items()),
    *((name, REFUSED, _user(name, changes)) for name, changes in _REFUSED.items()),
    *((name, UNCERTAIN, _user(name, changes)) for name, changes in _UNCERTAIN.items()),
]
"""A name, what becomes of the user, and the user."""
