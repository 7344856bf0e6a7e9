"""Fill a realm with users by SQL: a million in a minute, where Keycloak itself would take an hour."""

from bench.postgres import INDEX, PostgresServer

ATTRIBUTES = ("userId", "bridgeUserId", "tenantId", "department")
"""The first two have the same value, so that a user is found in either layout."""

_DROP = "DROP INDEX IF EXISTS user_attribute_lower_value"
_ANALYZE = "VACUUM ANALYZE user_entity; VACUUM ANALYZE user_attribute"


def user_id(number: int) -> str:
    """Return the id in user management of a user that `fill` makes; it is the username too."""
    return f"u-{number:08d}"


def email(number: int) -> str:
    """Return the address of a user that `fill` makes."""
    return f"person.{number:08d}@acme.example"


def fill(database: PostgresServer, realm: str, first: int, last: int) -> None:
    """Add the users from number `first` to `last`, with ATTRIBUTES and the realm's default role, as `POST /users` would."""
    database.sql(
        f"""
        BEGIN;
        CREATE TEMPORARY TABLE crowd AS
          SELECT n, gen_random_uuid()::text AS id, 'u-' || lpad(n::text, 8, '0') AS name,
                 'person.' || lpad(n::text, 8, '0') || '@acme.example' AS email
          FROM generate_series({first}, {last}) AS n;
        INSERT INTO user_entity (id, realm_id, username, email, email_constraint, email_verified, enabled,
                                 first_name, last_name, created_timestamp, not_before)
          SELECT crowd.id, realm.id, crowd.name, crowd.email, crowd.email, false, true,
                 'Given' || n, 'Family' || n % 9973, 1790000000000 + n, 0
          FROM crowd, realm WHERE realm.name = '{realm}';
        INSERT INTO user_attribute (id, user_id, name, value)
          SELECT gen_random_uuid()::text, crowd.id, one.name, one.value
          FROM crowd, LATERAL (VALUES ('userId', crowd.name), ('bridgeUserId', crowd.name),
                                      ('tenantId', 'tenant-' || n % 50),
                                      ('department', 'Department ' || n % 200)) AS one (name, value);
        INSERT INTO user_role_mapping (user_id, role_id)
          SELECT crowd.id, realm.default_role FROM crowd, realm WHERE realm.name = '{realm}';
        DROP TABLE crowd;
        COMMIT;
        """  # noqa: S608 # a database of our own
    )
    tidy(database)


def index(database: PostgresServer, *, wanted: bool) -> None:
    """Make the index that docs/keycloak.md gives, or take it away."""
    database.sql(_DROP)
    if wanted:
        database.sql(INDEX)
    tidy(database)


def tidy(database: PostgresServer) -> None:
    """Bring the statistics up to date, so that queries are planned for what is there."""
    for statement in _ANALYZE.split("; "):
        database.sql(statement)
