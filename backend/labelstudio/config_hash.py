"""Whether a label config is the one seen before, without parsing it.

Apart from the parser, which imports the SDK and is too slow for the web process's quick answers.
"""

from __future__ import annotations

import hashlib


def config_sha256(xml: str) -> str:
    """SHA-256 of a label config's text.

    Label Studio's own ``label_config_hash`` differs from process to process.
    """
    return hashlib.sha256(xml.encode(errors="replace")).hexdigest()
