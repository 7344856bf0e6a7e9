"""Validation of data against a schema: every broken rule with its place, in words that never repeat a value."""

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from math import inf
from typing import Any

import attrs
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.json_reader import pointer
from keycloak_bridge.domain.patterns import compile_pattern
from keycloak_bridge.events.formats import FORMATS, format_checker
from keycloak_bridge.events.nulls import without_nulls
from keycloak_bridge.events.recognition import is_json_text

NULL_FOR_ABSENT = ", not null; leave the property out"
NOT_NULL = ", not null"
NOT_INSIDE_TEXT = ", not JSON inside a text"
MOST_VIOLATIONS = 50
"""No report names more, however many rules are broken."""

_MOST_CONSIDERED = 1000
_LONGEST_PARAMETER = 200

Schema = Mapping[str, Any]
Found = Iterator[ValidationError]
Place = tuple[str | int, ...]


class _Progress(FormatChecker):
    """What one validation has found so far, handed on to its parts as the checker of formats: the library hands on nothing else.

    `verdicts` says which value fits which schema that a reference names, so that no value is looked into twice. Where
    `judging`, one error is enough and nobody reads it.
    """

    def __init__(self, formats: FormatChecker) -> None:
        self.checkers = formats.checkers
        self.verdicts: dict[Hashable, bool] = {}
        self.judging = False

    def judge(self) -> "_Progress":
        """Return the same validation for those who only ask whether a value fits."""
        if self.judging:
            return self
        other = _Progress(self)
        other.verdicts, other.judging = self.verdicts, True
        return other


class _NoFormError(ValidationError):
    """A value has none of the forms that it may have. What each refuses is found when it is asked for: forms nest."""

    def __init__(self, validator: Any, forms: Sequence[Any]) -> None:
        super().__init__("")
        self._evaluator, self._forms = validator, forms

    def by_form(self) -> list[list[ValidationError]]:
        """Return what each form refuses, no more than a report names: a value may be huge."""
        found = []
        for form in self._forms:
            if form is not False:
                errors = self._evaluator.descend(self.instance, form)
                found.append(list(islice(errors, MOST_VIOLATIONS)))
        for one in (one for errors in found for one in errors):
            one.parent = self
        return found


def _progress(validator: Any) -> _Progress:
    known = validator.format_checker
    return known if isinstance(known, _Progress) else _Progress(known)


def _judge(validator: Any, schema: Any) -> Any:
    """Return a validator of `schema`, a part of what `validator` knows, whose errors nobody reads."""
    resolver = validator._resolver  # noqa: SLF001 # there is no other way to it
    return validator.evolve(
        schema=schema,
        format_checker=_progress(validator).judge(),
        _resolver=resolver.in_subresource(DRAFT202012.create_resource(schema)),
    )


def _is_valid(validator: Any, instance: Any, schema: Any) -> bool:
    return next(_judge(validator, schema).iter_errors(instance), None) is None


def _reference(validator: Any, reference: str, instance: Any, _: Schema) -> Found:
    """Look into a value with a schema once, however many ways lead there: they double with each level that it nests."""
    resolved = validator._resolver.lookup(reference)  # noqa: SLF001 # as above
    schema, resolver = resolved.contents, resolved.resolver
    if not isinstance(instance, dict | list):
        yield from validator.descend(instance, schema, resolver=resolver)
        return
    progress = _progress(validator)
    # what a dynamic reference means depends on the outermost document of each name on the way
    way = tuple(dict.fromkeys(reversed([uri for uri, _ in resolver.dynamic_scope()])))
    key = (id(instance), id(schema), way)
    if (fits := progress.verdicts.get(key)) is None:
        judge = validator.evolve(format_checker=progress.judge())
        errors = judge.descend(instance, schema, resolver=resolver)
        fits = progress.verdicts[key] = next(errors, None) is None
    if not fits and progress.judging:
        yield ValidationError("")
    elif not fits:
        yield from validator.descend(instance, schema, resolver=resolver)


def _required(_: Any, names: Sequence[str], instance: Any, __: Schema) -> Found:
    if isinstance(instance, dict):
        yield from (ValidationError("", path=(name,)) for name in names if name not in instance)


def _dependent_required(
    _: Any, dependents: Mapping[str, Sequence[str]], instance: Any, __: Schema
) -> Found:
    if isinstance(instance, dict):
        for name, others in dependents.items():
            if name in instance:
                yield from (
                    ValidationError("", path=(other,)) for other in others if other not in instance
                )


def _pattern(_: Any, pattern: str, instance: Any, __: Schema) -> Found:
    if isinstance(instance, str) and not compile_pattern(pattern).is_in(instance):
        yield ValidationError("")


def _descend(validator: Any, value: Any, schema: Any, name: str) -> Found:
    if schema is False:
        # The library would blame the object that holds the value.
        yield ValidationError("", path=(name,), validator="false", validator_value=False)
    else:
        yield from validator.descend(value, schema, path=name)


def _properties(validator: Any, named: Mapping[str, Any], instance: Any, _: Schema) -> Found:
    if isinstance(instance, dict):
        for name, schema in named.items():
            if name in instance:
                yield from _descend(validator, instance[name], schema, name)


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _: Schema
) -> Found:
    if isinstance(instance, dict):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if compile_pattern(pattern).is_in(name):
                    yield from _descend(validator, value, subschema, name)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Schema) -> Found:
    if not isinstance(instance, dict):
        return
    patterns = [compile_pattern(pattern) for pattern in schema.get("patternProperties", ())]
    for name, value in instance.items():
        if name in schema.get("properties", ()) or any(p.is_in(name) for p in patterns):
            continue
        if allowed is False:
            yield ValidationError("", path=(name,))
        else:
            yield from _descend(validator, value, allowed, name)


def _property_names(validator: Any, rule: Any, instance: Any, _: Schema) -> Found:
    if isinstance(instance, dict):
        judge = _judge(validator, rule)
        yield from (
            ValidationError("", path=(name,)) for name in instance if not judge.is_valid(name)
        )


def _any_of(validator: Any, forms: Sequence[Any], instance: Any, _: Schema) -> Found:
    if not any(_is_valid(validator, instance, form) for form in forms):
        yield _NoFormError(validator, forms)


def _one_of(validator: Any, forms: Sequence[Any], instance: Any, _: Schema) -> Found:
    fitting = (form for form in forms if _is_valid(validator, instance, form))
    count = len(list(islice(fitting, 2)))
    if count == 0:
        yield _NoFormError(validator, forms)
    elif count > 1:
        yield ValidationError("")


def _not(validator: Any, excluded: Any, instance: Any, _: Schema) -> Found:
    if _is_valid(validator, instance, excluded):
        yield ValidationError("")


def _if(validator: Any, condition: Any, instance: Any, schema: Schema) -> Found:
    branch = schema.get("then" if _is_valid(validator, instance, condition) else "else", True)
    yield from validator.descend(instance, branch)


def _contains(validator: Any, rule: Any, instance: Any, schema: Schema) -> Found:
    if not isinstance(instance, list):
        return
    least, most = schema.get("minContains", 1), schema.get("maxContains", inf)
    judge = _judge(validator, rule)
    matching = (item for item in instance if judge.is_valid(item))
    count = sum(1 for _ in (matching if most == inf else islice(matching, int(most) + 1)))
    if count > most:
        yield ValidationError("", validator="maxContains", validator_value=most)
    elif count < least and not count:
        yield ValidationError("")
    elif count < least:
        yield ValidationError("", validator="minContains", validator_value=least)


def _fitting_parts(validator: Any, instance: Any, schema: Schema) -> Iterator[tuple[Any, Any]]:
    """Yield those parts of the schema that are about the instance itself and fit it, each with a validator of it."""
    for keyword in ("$ref", "$dynamicRef"):
        if keyword in schema:
            resolved = validator._resolver.lookup(schema[keyword])  # noqa: SLF001 # as above
            part, resolver = resolved.contents, resolved.resolver
            yield validator.evolve(schema=part, _resolver=resolver), part
    parts = [part for keyword in ("allOf", "anyOf", "oneOf") for part in schema.get(keyword, ())]
    if isinstance(instance, dict):
        dependents = schema.get("dependentSchemas", {})
        parts += [part for name, part in dependents.items() if name in instance]
    if "if" in schema:
        fits = _is_valid(validator, instance, schema["if"])
        parts += [schema["if"], schema.get("then", True)] if fits else [schema.get("else", True)]
    for part in parts:
        judge = _judge(validator, part)
        if judge.is_valid(instance):
            yield judge, part


def _evaluated_items(validator: Any, instance: Sequence[Any], schema: Any) -> set[int]:
    """Return the places of the items that the schema, or a part of it that is about the list, says something of."""
    if isinstance(schema, bool):
        return set()
    if "items" in schema:
        return set(range(len(instance)))
    found = set(range(len(schema.get("prefixItems", ()))))
    for inner, part in _fitting_parts(validator, instance, schema):
        found |= _evaluated_items(inner, instance, part)
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in schema:
            judge = _judge(validator, schema[keyword])
            rest = ((at, item) for at, item in enumerate(instance) if at not in found)
            found.update([at for at, item in rest if judge.is_valid(item)])
    return found


def _evaluated_properties(validator: Any, instance: Mapping[str, Any], schema: Any) -> set[str]:
    """Return the names of the properties that the schema, or a part of it that is about the object, says something of."""
    if isinstance(schema, bool):
        return set()
    found = set(schema.get("properties", ()))
    for pattern in map(compile_pattern, schema.get("patternProperties", ())):
        found.update(filter(pattern.is_in, instance))
    for inner, part in _fitting_parts(validator, instance, schema):
        found |= _evaluated_properties(inner, instance, part)
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in schema:
            judge = _judge(validator, schema[keyword])
            rest = [name for name in instance if name not in found]
            found.update([name for name in rest if judge.is_valid(instance[name])])
    return found


def _unevaluated_items(validator: Any, _: Any, instance: Any, schema: Schema) -> Found:
    if isinstance(instance, list):
        found = _evaluated_items(validator, instance, schema)
        if not found.issuperset(range(len(instance))):
            yield ValidationError("")


def _unevaluated_properties(validator: Any, _: Any, instance: Any, schema: Schema) -> Found:
    if isinstance(instance, dict) and not (
        instance.keys() <= _evaluated_properties(validator, instance, schema)
    ):
        yield ValidationError("")


def _multiple_of(_: Any, step: float, instance: Any, __: Schema) -> Found:
    is_number = isinstance(instance, int | float) and not isinstance(instance, bool)
    if is_number and not is_multiple(instance, step):
        yield ValidationError("")


def is_multiple(number: float, step: float) -> bool:
    """Say whether `number` is a multiple of `step` as both are written: 19.99 is one of 0.01, though no double is either."""
    return (Fraction(repr(number)) / Fraction(repr(step))).denominator == 1


def _unique_items(_: Any, unique: bool, instance: Any, __: Schema) -> Found:
    if unique and isinstance(instance, list) and not are_unique(instance):
        yield ValidationError("")


def are_unique(items: Sequence[Any]) -> bool:
    """Say whether no two items are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    return len(set(map(_comparable, items))) == len(items)


def _comparable(value: Any) -> Hashable:
    """Return what stands for `value`: equal for values that are equal in JSON, and for no others."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return ("list", *map(_comparable, value))
    if isinstance(value, dict):
        return frozenset((name, _comparable(item)) for name, item in value.items())
    if isinstance(value, int | float):
        # as text: whoever chooses numbers can choose them all with the same hash
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        return ("number", repr(whole))
    return value  # type: ignore[no-any-return] # a text or null


def _is_too_large(instance: Any, schema: Schema) -> bool:
    """Say whether an instance is longer than the schema allows."""
    for kind, keyword in _SIZES:
        if isinstance(instance, kind):
            return bool(len(instance) > schema.get(keyword, inf))
    return False


_SIZES = ((str, "maxLength"), (list, "maxItems"), (dict, "maxProperties"))


def _unless_too_large(check: Callable[..., Found | None]) -> Callable[..., Found]:
    """Return `check` for instances of an allowed size; nobody looks into what is refused already, which may be huge."""

    def checked(validator: Any, parameter: Any, instance: Any, schema: Schema) -> Found:
        if not _is_too_large(instance, schema):
            yield from check(validator, parameter, instance, schema) or ()

    return checked


_OWN: Mapping[str, Callable[..., Found | None]] = {
    "$ref": _reference,
    "$dynamicRef": _reference,
    "required": _required,
    "dependentRequired": _dependent_required,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "properties": _properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "anyOf": _any_of,
    "contains": _contains,
    "if": _if,
    "multipleOf": _multiple_of,
    "not": _not,
    "oneOf": _one_of,
    "unevaluatedItems": _unevaluated_items,
    "unevaluatedProperties": _unevaluated_properties,
    "uniqueItems": _unique_items,
}
_LOOKS_INSIDE = (
    *("format", "pattern"),
    *("items", "prefixItems", "contains", "uniqueItems", "unevaluatedItems"),
    *("properties", "patternProperties", "additionalProperties", "unevaluatedProperties"),
    *("propertyNames", "dependentSchemas"),
)

_StrictValidator: type[Validator] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        **_OWN,
        **{
            keyword: _unless_too_large(_OWN.get(keyword, Draft202012Validator.VALIDATORS[keyword]))
            for keyword in _LOOKS_INSIDE
        },
    },
)


def _evolve(validator: Any, **changes: Any) -> Any:
    """Return what the library's method does, for whatever schema: that one chooses a class by its `$schema`."""
    return attrs.evolve(validator, **changes)


_StrictValidator.evolve = _evolve  # type: ignore[assignment,method-assign]


ASSERTING = frozenset(_StrictValidator.VALIDATORS) | {"then", "else", "minContains", "maxContains"}
"""Every keyword that can refuse a value; all others only describe."""


def compile_schema(content: Schema, registry: Registry[Any]) -> Validator:
    """Return a validator of `content` that asserts formats and resolves references in `registry` only."""
    return _StrictValidator(content, registry=registry, format_checker=format_checker())


def find_violations(validator: Validator, instance: Any, *, root: str) -> tuple[Violation, ...]:
    """Return the broken rules, by pointer; pointers begin with `root`, the place of the instance.

    Names at most `MOST_VIOLATIONS`, however large the instance is.
    """
    try:
        errors = _errors(validator, instance)
        is_null = any(_is_null_for_absent(error) for error in errors)
        missing = _missing_without_nulls(validator, instance) if is_null else frozenset()
        found = {_violation(error, root, missing) for error in errors}
    except RecursionError:
        found = {_too_deep(root)}
    except BaseException as error:
        # what a library in Rust makes of a RecursionError, and no Exception
        if type(error).__name__ != "PanicException":
            raise
        found = {_too_deep(root)}
    ordered = sorted(found, key=lambda v: (v.pointer, v.keyword, v.message))
    return tuple(ordered[:MOST_VIOLATIONS])


def _errors(validator: Validator, instance: Any) -> list[ValidationError]:
    whole = _evolve(validator, format_checker=_progress(validator)).iter_errors(instance)
    return list(islice((one for error in whole for one in _causes(error)), _MOST_CONSIDERED))


def _missing_without_nulls(validator: Validator, instance: Any) -> frozenset[Place]:
    """Return the properties that the instance would lack if it had none that are null."""
    return frozenset(
        tuple(error.absolute_path)
        for error in _errors(validator, without_nulls(instance))
        if error.validator in ("required", "dependentRequired")
    )


def _is_null_for_absent(error: ValidationError) -> bool:
    """Say whether a property is null and must not be; one of a list can only be another."""
    place = error.absolute_path
    is_property = bool(place) and isinstance(place[-1], str)
    return error.validator == "type" and error.instance is None and is_property


def _causes(error: ValidationError) -> Found:
    """Yield what is wrong in the one form that a value can have, where all others are of another type; else the error.

    Serializers write an optional property as a choice between null and what it is.
    """
    forms = error.by_form() if isinstance(error, _NoFormError) else []
    other_types = [one for one in map(_of_another_type, forms) if one is not None]
    if not forms or len(forms) - len(other_types) > 1:
        yield error
    elif len(forms) == len(other_types):
        types = dict.fromkeys(
            name for one in other_types for name in _types_in(one.validator_value)
        )
        yield ValidationError(
            "",
            validator="type",
            path=error.absolute_path,
            validator_value=list(types),
            instance=error.instance,
        )
    else:
        for form in forms:
            if _of_another_type(form) is None:
                for one in form:
                    yield from _causes(one)


def _of_another_type(form: Sequence[ValidationError]) -> ValidationError | None:
    """Return the error that says that a value is of another type than this form of it."""
    return next((one for one in form if one.validator == "type" and not one.relative_path), None)


def _types_in(parameter: Any) -> list[str]:
    return [parameter] if isinstance(parameter, str) else list(parameter)


def _too_deep(root: str) -> Violation:
    return Violation(root, "depth", "nests deeper than its schema can be followed")


def _violation(error: ValidationError, root: str, missing: frozenset[Place]) -> Violation:
    # A schema that is `false` has no keyword of its own.
    keyword = str(error.validator) if error.validator else "false"
    message = _message(keyword, error.validator_value) + _instead(error, missing)
    return Violation(root + pointer(error.absolute_path), keyword, message)


def _instead(error: ValidationError, missing: frozenset[Place]) -> str:
    """Return what is there instead, where producers write it by mistake; what would be `missing` without it is required."""
    instance = error.instance
    if error.validator != "type":
        return ""
    if _is_null_for_absent(error) and tuple(error.absolute_path) not in missing:
        return NULL_FOR_ABSENT
    if instance is None:
        return NOT_NULL
    return NOT_INSIDE_TEXT if is_json_text(instance) else ""


def _message(keyword: str, parameter: Any) -> str:
    if keyword in _COUNTED:
        least, unit = _COUNTED[keyword]
        plural = unit if parameter == 1 else unit.replace("y", "ie") + "s"
        return f"must have {least} {parameter} {plural}"
    write = _MESSAGES.get(keyword)
    return write(parameter) if write else f"breaks the rule {keyword} of the schema"


def _any_of_types(parameter: Any) -> str:
    return "must be " + " or ".join(_TYPES.get(name, str(name)) for name in _types_in(parameter))


def _length(word: str) -> Callable[[Any], str]:
    return lambda count: f"must be {word} {count} character{'' if count == 1 else 's'} long"


def _text(parameter: Any) -> str:
    return shortened(json.dumps(parameter, ensure_ascii=False))


def shortened(text: str) -> str:
    """Return `text`, without its end where it is long."""
    return text if len(text) <= _LONGEST_PARAMETER else text[: _LONGEST_PARAMETER - 1] + "…"


_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}

_COUNTED = {
    "minItems": ("at least", "item"),
    "maxItems": ("at most", "item"),
    "minProperties": ("at least", "property"),
    "maxProperties": ("at most", "property"),
    "minContains": ("at least", "matching item"),
    "maxContains": ("at most", "matching item"),
}

_MESSAGES: Mapping[str, Callable[[Any], str]] = {
    "additionalProperties": lambda _: "is a property that the schema does not know",
    "anyOf": lambda forms: f"must have at least one of the {len(forms)} allowed forms",
    "const": lambda value: f"must be {_text(value)}",
    "contains": lambda _: "must contain an item of the form that the schema asks for",
    "dependentRequired": lambda _: "is required beside what is given",
    "enum": lambda values: f"must be one of: {_text(list(values))[1:].removesuffix(']')}",
    "exclusiveMaximum": lambda bound: f"must be less than {bound}",
    "exclusiveMinimum": lambda bound: f"must be greater than {bound}",
    "false": lambda _: "is not allowed here",
    "format": lambda name: f"must be {FORMATS[name][1] if name in FORMATS else name}",
    "maximum": lambda bound: f"must be at most {bound}",
    "maxLength": _length("at most"),
    "minimum": lambda bound: f"must be at least {bound}",
    "minLength": _length("at least"),
    "multipleOf": lambda step: f"must be a multiple of {step}",
    "not": lambda _: "has a form that the schema excludes",
    "oneOf": lambda forms: f"must have exactly one of the {len(forms)} allowed forms",
    "pattern": lambda pattern: f"must match the pattern {shortened(pattern)}",
    "propertyNames": lambda _: "is not an allowed name of a property",
    "required": lambda _: "is required",
    "type": _any_of_types,
    "unevaluatedItems": lambda _: "holds items that the schema does not know",
    "unevaluatedProperties": lambda _: "holds properties that the schema does not know",
    "uniqueItems": lambda _: "must not hold an item twice",
}
