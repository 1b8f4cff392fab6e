"""A report as JSON: its data under its name, and the hash of that data.

Integers are exact and can be above 2^53. `content_sha256` is of the object beside it as canonical JSON:
sorted keys, no spaces, ASCII; `proof`, where there is one, is signed and of both.
Must not know: what a report is about.
"""

import msgspec

from pool.reports.document import Document


def render_json(document: Document) -> bytes:
    """Indented, keys sorted, one newline at the end."""
    content: dict[str, object] = {document.name: document.data}
    if document.content_hash is not None:
        content["content_sha256"] = document.content_hash
    if document.proof is not None:
        content["proof"] = document.proof
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2) + b"\n"
