"""Settings from a TOML file, the environment and flags, checked as a whole at start."""

from keycloak_bridge.settings.fields import Setting
from keycloak_bridge.settings.loading import (
    KEYCLOAK_ACCESS,
    LoadedSettings,
    environment_names,
    read_settings,
)
from keycloak_bridge.settings.model import (
    BrakeSettings,
    DeliverySettings,
    EnvelopeSettings,
    EventsSettings,
    HealthSettings,
    InviteSettings,
    KafkaSettings,
    KeycloakSettings,
    LifecycleSettings,
    LimitsSettings,
    LogSettings,
    MappingSettings,
    RetrySettings,
    SchemasSettings,
    Settings,
    TopicsSettings,
    VerifySettings,
)
from keycloak_bridge.settings.schema import (
    sample_toml,
    settings_by_name,
    settings_schema,
)
from keycloak_bridge.settings.secret import Secret

__all__ = [
    "KEYCLOAK_ACCESS",
    "BrakeSettings",
    "DeliverySettings",
    "EnvelopeSettings",
    "EventsSettings",
    "HealthSettings",
    "InviteSettings",
    "KafkaSettings",
    "KeycloakSettings",
    "LifecycleSettings",
    "LimitsSettings",
    "LoadedSettings",
    "LogSettings",
    "MappingSettings",
    "RetrySettings",
    "SchemasSettings",
    "Secret",
    "Setting",
    "Settings",
    "TopicsSettings",
    "VerifySettings",
    "environment_names",
    "read_settings",
    "sample_toml",
    "settings_by_name",
    "settings_schema",
]
