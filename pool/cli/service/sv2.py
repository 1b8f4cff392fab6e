"""`angara sv2`: the key that machines of Stratum V2 know the pool by.

Must not know: what is certified with it.
"""

from pathlib import Path
from typing import Annotated

import typer

from pool.authority_key import make_authority, read_authority
from pool.cli.options import ShowForm, with_options
from pool.cli.output import Form, tell
from pool.settings_file import BadConfig
from stratum.sv2.authority import public_text

app = typer.Typer(no_args_is_help=True)


@app.command("key")
@with_options
def make_key(form: ShowForm, file: Annotated[Path, typer.Argument(help="New file, 0600.")]) -> None:
    """Make the pool's authority key, and print its public half. It is never written over another.

    Keep a copy where nobody else comes: with another key every machine has to be told so.
    """
    try:
        public = make_authority(file)
    except OSError as error:
        raise BadConfig(f"cannot make {file}: {error.strerror}") from None
    _tell(file, public, form)


@app.command("public")
@with_options
def show_public(form: ShowForm, file: Annotated[Path, typer.Argument(help="File that has the key.")]) -> None:
    """Print the public half: stratum2+tcp://HOST:PORT/PUBLIC is what machines are set to."""
    _tell(file, public_text(read_authority(file).x_only), form)


def _tell(file: Path, public: str, form: Form) -> None:
    tell(public, {"file": str(file), "public": public}, form)
