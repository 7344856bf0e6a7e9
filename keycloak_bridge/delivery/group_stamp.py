"""Whose consumer group it is: each commit says for which realm, with which mapping and from which topic its records came.

Two bridges of different realms in one group would share the users out between them: each event would reach one realm only.
So a commit's metadata begins with a stamp, `kbs1:<realm>|<fingerprint of the mappings>|<Kafka's id of the topic>`; the notes
(offsets.py) follow after a blank. The group of another realm is refused. Another mapping may be an older version of one's own,
and is warned of. The id is left out where Kafka gives none, and by older versions; see group_position.py for what it is for.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from keycloak_bridge.domain.errors import ConfigError

_PREFIX = "kbs1:"
_REALM = re.compile("[!-~]{1,200}")
_STAMP = re.compile(
    rf"{_PREFIX}(?P<realm>[!-~]{{1,200}}?)\|(?P<mapping>[0-9a-f]{{1,64}})(?:\|(?P<topic>[0-9a-f-]{{1,36}}))?(?: (?P<notes>.*))?",
    re.DOTALL,
)
_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class GroupStamp:
    """What all members of a group should have in common; `realm` is printable ASCII without blanks."""

    group_id: str
    realm: str
    mapping: str

    def on(self, notes: str, topic_id: str | None = None) -> str:
        """Return the metadata of a commit in this topic with these notes."""
        stamp = f"{_PREFIX}{self.realm}|{self.mapping}"
        if topic_id is not None:
            stamp += f"|{topic_id}"
        return f"{stamp} {notes}" if notes else stamp

    def mapping_of(self, metadata: Iterable[str]) -> str | None:
        """Return the fingerprint of another mapping with which one of the commits was made, None where there is none.

        Raises ConfigError (`foreign-realm`) where one was made for another realm. A commit without a stamp says nothing.
        """
        another = None
        for one in metadata:
            found = _STAMP.fullmatch(one)
            if found is None:
                continue
            if found["realm"] != self.realm:
                raise ConfigError(
                    f"the consumer group {self.group_id} belongs to another realm: {found['realm']}, and this bridge serves "
                    f"{self.realm}; both would share the users out between them",
                    code="foreign-realm",
                    remedy="give each realm a group of its own (kafka.group_id); if it is the same realm under another address, "
                    f"set keycloak.known_as to {found['realm']}; if the group is to serve this realm from now on, stop its "
                    "members and reset its offsets",
                )
            if found["mapping"] != self.mapping:
                another = found["mapping"]
        return another


def topic_of(metadata: str) -> str | None:
    """Return the id of the topic in which the commit was made, None where it does not say."""
    found = _STAMP.fullmatch(metadata)
    return None if found is None else found["topic"]


def notes_of(metadata: str) -> str:
    """Return the metadata of a commit without its stamp."""
    found = _STAMP.fullmatch(metadata)
    return metadata if found is None else found["notes"] or ""


def realm_address(url: str, realm: str) -> str:
    """Return the address of a realm, however its URL is written."""
    parts = urlsplit(url)
    port = parts.port
    where = (parts.hostname or "") + (
        "" if port in (None, _USUAL_PORTS.get(parts.scheme)) else f":{port}"
    )
    address = f"{parts.scheme}://{where}{parts.path.rstrip('/')}/realms/{realm}"
    if _REALM.fullmatch(address):
        return address
    return "sha256:" + hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
