"""Groups whose commands are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LaterGroup(click.Group):
    """A group of commands that stand elsewhere: `later` is `module:function` by name.

    What measures or starts a cluster imports much that one who searches should not wait for.
    """

    def __init__(self, *args: Any, later: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.later = later

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.later})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.later and cmd_name not in self.commands:
            module, _, function = self.later[cmd_name].partition(":")
            self.add_command(getattr(import_module(module), function))
        return super().get_command(ctx, cmd_name)
