"""Settings from flags, environment and a TOML file, checked as a whole before anything else happens."""

from keycloak_bridge.settings.describing import sample_toml, settings_table
from keycloak_bridge.settings.fields import Setting
from keycloak_bridge.settings.loading import (
    KEYCLOAK_ACCESS,
    LoadedSettings,
    environment_names,
    load_settings,
    read_settings,
)
from keycloak_bridge.settings.model import (
    BrakeSettings,
    DeliverySettings,
    HealthSettings,
    InviteSettings,
    KeycloakSettings,
    LogSettings,
    RetrySettings,
    Settings,
)
from keycloak_bridge.settings.model_events import (
    EnvelopeSettings,
    EventsSettings,
    LifecycleSettings,
    MappingSettings,
    SchemasSettings,
)
from keycloak_bridge.settings.model_guards import LimitsSettings, VerifySettings
from keycloak_bridge.settings.model_kafka import KafkaSettings, TopicsSettings
from keycloak_bridge.settings.schema import settings_by_name, settings_schema
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
    "load_settings",
    "read_settings",
    "sample_toml",
    "settings_by_name",
    "settings_schema",
    "settings_table",
]
