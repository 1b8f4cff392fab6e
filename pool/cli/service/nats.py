"""`angara nats`: keys that edges and hubs show themselves with, and the settings of the servers between them.

Nothing here speaks to a server: what it is to know is in its settings, and it reads them anew on SIGHUP.

Must not know: what a key lets its owner do.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.options import NamedBooks, ShowForm, with_options
from pool.cli.output import Form, say, tell
from pool.settings_file import BadConfig
from pool.sites.nats.key import new_key, public_of, seed_in
from pool.sites.nats.server_settings import Certificates, Cluster, Server, settings_of
from pool.whole_file import whole_file

app = typer.Typer(no_args_is_help=True)

# Who runs the server reads it by its group. No secret is in it, and it says who our customers' sites are.
SETTINGS_MODE: Final = 0o640

EdgeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--edge", metavar="NAME=PUBLIC", help="An edge by its key, in place of those of the books; several."
    ),
]


@app.command("key")
@with_options
def make_key(form: ShowForm, file: Annotated[Path, typer.Argument(help="New file, 0600.")]) -> None:
    """Make the key of an edge or a hub, and print its public half. It is never written over another."""
    _tell(file, new_key(file), form)


@app.command("public")
@with_options
def show_public(form: ShowForm, file: Annotated[Path, typer.Argument(help="File that has the key.")]) -> None:
    """Print the public half of a key: for `angara edge add`, and for `angara nats config --hub`."""
    _tell(file, public_of(seed_in(file)), form)


@app.command("config")
@with_options
def write_settings(
    books: NamedBooks,
    name: Annotated[str, typer.Option(help="The server's own name: another one for each.")],
    store: Annotated[Path, typer.Option(help="Directory that it keeps messages in.")],
    hub: Annotated[list[str], typer.Option(metavar="PUBLIC", help="Key of a hub; once for each.")],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where edges and hubs connect.")
    ] = "127.0.0.1:4222",
    edge: EdgeOption = None,
    certificate: Annotated[Path | None, typer.Option(help="Its certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="The key of that certificate, PEM.")] = None,
    authorities: Annotated[
        Path | None, typer.Option(help="Whose certificates of other servers are good, PEM.")
    ] = None,
    cluster_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the other servers of its cluster connect.")
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Where those are, itself among them or not; once for each."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write it to, whole, 0640.")] = None,
) -> None:
    """Write the settings of a NATS server, for `nats-server -c`: who is let in, and may say what.

    Edges are those of the books that are not retired. After `angara edge add`, `set --nkey` and `retire`
    write it again, for every server, and send each SIGHUP.
    """
    edges = _edges_of_books(books) if edge is None else _edges_named(edge, books)
    text = settings_of(
        Server(
            name=name,
            listen=listen,
            store=store,
            hubs=tuple(hub),
            edges=edges,
            certificates=_certificates(certificate, key, authorities),
            cluster=_cluster(cluster_listen, route or []),
        )
    )
    if out is None:
        typer.echo(text, nl=False)
        return
    _write(out, text)
    say(f"{out}: server {name}, with {len(edges)} edge{'' if len(edges) == 1 else 's'}")


def _tell(file: Path, public: str, form: Form) -> None:
    tell(public, {"file": str(file), "public": public}, form)


def _certificates(
    certificate: Path | None, key: Path | None, authorities: Path | None
) -> Certificates | None:
    """Raises BadConfig."""
    if certificate is not None and key is not None and authorities is not None:
        return Certificates(certificate=certificate, key=key, authorities=authorities)
    if any((certificate, key, authorities)):
        raise BadConfig("give --certificate, --key and --authorities together, or none of them")
    return None


def _cluster(listen: str | None, routes: list[str]) -> Cluster | None:
    """Raises BadConfig."""
    if (listen is None) != (not routes):
        raise BadConfig("give --cluster-listen and --route together, or none of them")
    return None if listen is None else Cluster(listen=listen, routes=tuple(routes))


def _edges_of_books(books: NamedBooks) -> dict[str, str]:
    """By their names, with their keys."""
    try:
        opened = books.opened()
    except BadConfig as error:
        raise BadConfig(f"{error}, or name edges with --edge") from None
    rows: list[dict[str, Any]] = opened.ask("edge.list")
    return {row["name"]: row["nkey"] for row in rows if row["retired_at_s"] is None}


def _edges_named(given: list[str], books: NamedBooks) -> dict[str, str]:
    """Raises BadConfig, which does not say again what may be a secret."""
    if any(books):
        raise BadConfig("give --edge, or the books that have the edges, not both")
    found: dict[str, str] = {}
    for text in given:
        name, equals, nkey = text.partition("=")
        if not equals:
            raise BadConfig("--edge: give NAME=PUBLIC")
        if found.setdefault(name, nkey) != nkey:
            raise BadConfig("--edge: one name is given with two keys")
    return found


def _write(out: Path, text: str) -> None:
    """The file that is there keeps its group: who runs the server reads the next one too. Raises OSError."""
    group = out.stat().st_gid if out.exists() else -1
    with whole_file(out) as draft:
        draft.write_text(text, encoding="utf-8")
        if group != -1:
            os.chown(draft, -1, group)
        draft.chmod(SETTINGS_MODE)
