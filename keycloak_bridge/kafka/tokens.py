"""The tokens that the bridge logs in to Kafka with (OAUTHBEARER): its own client's, issued by its realm in Keycloak."""

from dataclasses import replace
from functools import lru_cache

from kafka.net.sasl.oauth import AbstractTokenProvider

from keycloak_bridge.domain.errors import BridgeError, ConfigError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.keycloak.access import client_auth, keycloak_http
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.settings.model import KafkaSettings, KeycloakSettings

_LONGEST_WAIT_S = 3.0
"""A token is asked for in kafka-python's thread, which sends heartbeats too."""

_REST_S = 5.0
"""After a failure, so that a Keycloak that does not answer does not keep that thread waiting all the time."""


class KafkaTokens(AbstractTokenProvider):
    """Gives out a token that is valid for a while yet. Safe to share between threads and clients.

    It is renewed half a minute before it expires, or after half of a short life; kafka-python asks for it at each new
    connection, and again before the broker would end the session.
    """

    def __init__(self, keycloak: KeycloakSettings, scope: str | None, clock: Clock) -> None:
        hurried = replace(
            keycloak,
            connect_timeout=min(keycloak.connect_timeout, _LONGEST_WAIT_S),
            read_timeout=min(keycloak.read_timeout, _LONGEST_WAIT_S),
            pool_size=1,
        )
        self._http = keycloak_http(hurried)
        self._source = TokenSource(self._http, client_auth(hurried, clock), clock, scope=scope)
        self._clock = clock
        self._failed: tuple[float, BridgeError] | None = None

    def token(self) -> str:
        """Return the token; raises BridgeError where Keycloak gives none."""
        failed = self._failed
        if failed is not None and self._clock.monotonic() < failed[0]:
            raise failed[1]
        try:
            token = self._source.token()
        except BridgeError as error:
            self._failed = (self._clock.monotonic() + _REST_S, error)
            raise
        finally:
            self._http.close()  # a token lasts for minutes, longer than a connection is kept
        self._failed = None
        return token


def token_provider(settings: KafkaSettings) -> KafkaTokens:
    """Return the tokens of these settings, the same for all clients of the process. Raises ConfigError."""
    if settings.token_client is None:
        raise ConfigError(
            "[kafka] sasl_mechanism is OAUTHBEARER, and no client is known that gets tokens",
            remedy="set [keycloak] realm and how its client authenticates",
        )
    return _provider(settings.token_client, settings.sasl_oauth_scope)


@lru_cache(maxsize=8)
def _provider(keycloak: KeycloakSettings, scope: str | None) -> KafkaTokens:
    return KafkaTokens(keycloak, scope, SystemClock())
