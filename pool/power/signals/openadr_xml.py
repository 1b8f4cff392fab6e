"""What libxml2 may be given of what a stranger sends: it reads and validates in C, in the pool's process.

libxml2 ends the process where a document declares entities and is validated while it is read (seen with the
one in lxml 6.1.3). So expat looks first, which does neither: at a document in UTF-8 that declares nothing of
what it is made of, of bounded depth. Another encoding would hide a declaration from whoever looks for it.

Pure. Must not know: what the document says.
"""

from typing import Any, Final
from xml.parsers import expat

DEPTH_MAX: Final = 64  # an event is twelve deep
ENCODINGS: Final = (None, "utf-8", "us-ascii")


class BadXml(ValueError):
    """Nobody is to read that; the text says why."""


def check_xml(body: bytes) -> None:
    """Raises BadXml."""
    depth = 0
    # Read as what it says it is: libxml2 reads it so as well, and knows more encodings than these.
    parser = expat.ParserCreate()

    def declared(version: str, encoding: str | None, standalone: int) -> None:
        if (None if encoding is None else encoding.lower()) not in ENCODINGS:
            raise BadXml("it is not in UTF-8")

    def doctype(*_: Any) -> None:
        raise BadXml("it declares what it is made of")

    def begins(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_MAX:
            raise BadXml(f"it is more than {DEPTH_MAX} deep")

    def ends(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser.XmlDeclHandler = declared
    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = begins
    parser.EndElementHandler = ends
    if b"\0" in body:  # UTF-16 needs no declaration
        raise BadXml("it is not in UTF-8")
    try:
        body.decode()
        parser.Parse(body, True)
    except UnicodeDecodeError:
        raise BadXml("it is not in UTF-8") from None
    except expat.ExpatError as error:
        raise BadXml(f"it is no XML: {error}") from None
