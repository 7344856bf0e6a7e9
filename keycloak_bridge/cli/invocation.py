"""What one call of the command line says about settings, and the settings that come of it."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from keycloak_bridge.settings import LoadedSettings, Settings

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options that every command shares, wherever they stood on the line."""

    config: Path | None = None
    overrides: tuple[str, ...] = ()

    def load(self, require: Collection[str] = ()) -> "LoadedSettings":
        """Return the settings with their problems; raises ConfigError when the file cannot be read."""
        # by name, so that --help and --version do not wait for JSON Schema
        loaded: LoadedSettings = import_module("keycloak_bridge.settings").read_settings(
            self.config, environ=os.environ, overrides=self.overrides, require=require
        )
        return loaded

    def settings(self, require: Collection[str] = ()) -> "Settings":
        """Return the settings in force and start the logs; `require` names keys that must have a value.

        Raises one ConfigError for all problems.
        """
        loaded = self.load(require)
        loaded.raise_if_wrong()
        log = loaded.settings.log
        import_module("keycloak_bridge.logs").configure_logging(
            level=log.level, log_format=log.format
        )
        return loaded.settings

    def overriding(self, *assignments: str) -> "Invocation":
        """Return the same with more settings overridden, each as `section.key=value`; later ones go before."""
        return replace(self, overrides=(*self.overrides, *assignments))


def invocation_of(ctx: click.Context) -> Invocation:
    """Return what the options said so far."""
    return ctx.find_object(Invocation) or Invocation()


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
"""Decorates a command that takes the `Invocation` as its first argument."""


def settings_options(command: Command) -> Command:
    """Give a command --config, --set and --log-level; they may stand before and behind its name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Add what an option says to the invocation; what stands later goes before."""
    invocation = invocation_of(ctx)
    if parameter.name == "config" and value is not None:
        ctx.obj = replace(invocation, config=value)
    elif parameter.name == "override" and value:
        ctx.obj = invocation.overriding(*value)
    elif parameter.name == "log_level" and value is not None:
        ctx.obj = invocation.overriding(f"log.level={value}")
    elif ctx.obj is None:
        ctx.obj = invocation


_OPTIONS = (
    click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=_remember,
        help="Settings file; else KEYCLOAK_BRIDGE_CONFIG, else ./bridge.toml.",
    ),
    click.option(
        "--set",
        "override",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        expose_value=False,
        callback=_remember,
        help="Override one setting; may be repeated.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
        metavar="LEVEL",
        expose_value=False,
        callback=_remember,
        help="DEBUG, INFO, WARNING or ERROR; short for --set log.level=…",
    ),
)
