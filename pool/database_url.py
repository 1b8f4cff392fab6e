"""A database's URL, as operators write it: also one of several PostgreSQL servers, as libpq has it.

    postgresql://USER@HOST:PORT,HOST:PORT/NAME

Each is tried in turn, at each connection. Of several only one may be written to: a standby, which answers as
well, is not it, so that one is asked for (target_session_attrs) where nothing else is said.

Must not know: what is in the database, where the URL is from.
"""

import re
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

SEVERAL: Final = re.compile(r"(?P<before>\w[\w+]*://(?:[^@]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>[/?].*)?")


def read_url(text: str) -> URL:
    """Raises ValueError; its words may have a part of the text, which may be a secret."""
    several = SEVERAL.fullmatch(text)
    try:
        url = make_url(text if several is None else several["before"] + (several["after"] or ""))
    except ArgumentError:
        raise ValueError("it is no URL of a database") from None
    if several is not None:
        url = url.update_query_dict({"host": several["hosts"].split(",")})
    hosts = url.query.get("host", ())
    one = "," not in hosts if isinstance(hosts, str) else len(hosts) < 2
    if not one and "target_session_attrs" not in url.query:
        url = url.update_query_dict({"target_session_attrs": "read-write"})
    return url
