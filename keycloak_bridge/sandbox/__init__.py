"""A real local Kafka, Keycloak and mail catcher, started from pinned artifacts."""

from keycloak_bridge.sandbox.mail import Mail, MailCatcher, read_mails
from keycloak_bridge.sandbox.options import SandboxError, SandboxOptions
from keycloak_bridge.sandbox.sandbox import Sandbox

__all__ = ["Mail", "MailCatcher", "Sandbox", "SandboxError", "SandboxOptions", "read_mails"]
