"""`angara db`: the database's schema."""

import typer

from pool.cli.books import Books
from pool.cli.options import ShowForm, with_options
from pool.cli.output import tell
from pool.cli.progress import progress

app = typer.Typer(no_args_is_help=True)


@app.command("upgrade")
@with_options
def upgrade_schema(books: Books, form: ShowForm) -> None:
    """Bring the schema to the present version; the embedded default does it by itself."""
    from pool.books.store import upgrade
    from pool.cli.logs import set_up_logs
    from pool.cli.opened_books import place_of

    set_up_logs()
    with progress("upgrading the database"):
        schema = upgrade(place_of(books).url)
    tell("the database has the present schema", {"schema": schema}, form)
