"""Whether published versions of schemas are what they were when they were published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from keycloak_bridge.core.schema_checks import SchemaDocument


@dataclass(frozen=True, slots=True)
class PublicationProblem:
    """A published version that is not what it was: its file, a stable code, and what is wrong."""

    file: str
    code: str
    message: str


def version_name(document: SchemaDocument) -> str:
    """Return the name under which a version is recorded, `<type>/<major>.<minor>.json`."""
    return "{}/{}.{}.json".format(document.type, *document.version)


def publication_problems(
    documents: Sequence[SchemaDocument], published: Mapping[str, str]
) -> Iterator[PublicationProblem]:
    """Yield every version of `published`, SHA-256 by name, whose file has changed or is gone."""
    present = {version_name(document): document for document in documents}
    for name, digest in sorted(published.items()):
        document = present.get(name)
        if document is None:
            yield PublicationProblem(name, "published-removed", "was published and is not there")
        elif document.digest != digest:
            yield PublicationProblem(
                document.origin, "published-changed", "was published and has changed since"
            )


def unpublished(
    documents: Sequence[SchemaDocument], published: Mapping[str, str]
) -> dict[str, str]:
    """Return the SHA-256 by name of every version that is not among `published`."""
    named = {version_name(document): document.digest for document in documents}
    return {name: digest for name, digest in sorted(named.items()) if name not in published}
