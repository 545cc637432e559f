"""Commands that other packages bring: entry points of the group ``fusiontrade.commands``, each a typer application.

Always true: nothing of another package is imported before its command is run, not for ``--help`` either; a command that
is known but not installed here says where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from fusiontrade.cli.api import UNAVAILABLE

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from fusiontrade.cloud.storage import Storage

__all__ = ["GROUP", "Reach", "WithCommandsOfOthers"]

GROUP = "fusiontrade.commands"


class Reach:
    """What a command of another package is handed, as its context's object: the ways to AWS, which it has none of."""

    def bucket(self, name: str) -> Storage:
        """Return a bucket."""
        from fusiontrade.cloud.storage import Storage

        return Storage(name)

    def hub_token(self, email: str) -> str:
        """Return the hub token of an account; raises `FusionTradeError` where there is none."""
        from fusiontrade.cli.accounts import hub_token

        return hub_token(email)


@dataclass(frozen=True)
class _Known:
    """What can be said of a command without importing it."""

    help: str
    module: str
    environments: str


_KNOWN: Mapping[str, _Known] = {
    "lookahead": _Known(
        "Look for the future in features, datasets, scalers, models and bundles; exits with 1 where some is found.",
        "serving.lookahead",
        "run, train and dev",
    ),
    "models": _Known(
        "Bring models in: from checkpoints, a hub or a bucket.",
        "serving.bringing",
        "run (pull, sync), train and dev",
    ),
}


class WithCommandsOfOthers(TyperGroup):
    """The ``fusiontrade`` command with the commands of packages that are installed beside it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return our own commands, then the others'."""
        return [*super().list_commands(ctx), *sorted(_KNOWN.keys() | _installed().keys())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return our own command, or the stand-in of another package's."""
        if own := super().get_command(ctx, cmd_name):
            return own
        known = cmd_name in _KNOWN or cmd_name in _installed()
        return _StandIn(cmd_name) if known else None


class _StandIn(TyperCommand):
    """A command of another package, imported when it is run."""

    def __init__(self, name: str) -> None:
        known = _KNOWN.get(name)
        super().__init__(name, help=known.help if known else "")

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the real command, in which its own options are parsed."""
        return self._loaded().make_context(info_name, args, parent=parent, **extra)

    def _loaded(self) -> Any:
        entry = _installed().get(str(self.name))
        if entry is None:
            known = _KNOWN[str(self.name)]
            self._stop(
                f"not installed here. The environments {known.environments} of the repository have it (make run, make "
                f"train and make test bring them up to date); in each, python -m {known.module} does the same"
            )
        try:
            return get_command(entry.load())
        except ImportError as error:
            self._stop(
                f"{entry.value} cannot be imported: {error}. Use an environment of the repository: run, train, dev"
            )

    def _stop(self, told: str) -> NoReturn:
        typer.echo(f"fusiontrade: {self.name}: {told}", err=True)
        raise typer.Exit(UNAVAILABLE)


def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # the other commands do not need it

    return {entry.name: entry for entry in entry_points(group=GROUP)}
