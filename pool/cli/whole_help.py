"""A group of commands that tells of each in a whole sentence.

Must not know: which commands there are.
"""

from typing import Any, Final

from typer.core import TyperGroup

HELP_CHARS_MAX: Final = 1000  # more than any sentence


class WholeHelp(TyperGroup):
    """What a command is for is told in a whole sentence, on as many lines as that takes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [
            (name, it.get_short_help_str(HELP_CHARS_MAX)) for name, it in commands if it and not it.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
