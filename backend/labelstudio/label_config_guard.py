"""What the SDK's parser would spend minutes on, told before it is asked.

Any member of a project writes its label config. The SDK walks a tag's attributes once for each
attribute, so that a tag of 60,000 takes fifteen seconds; expat reads them in a millisecond.
"""

from __future__ import annotations

from xml.parsers import expat

_LONGEST = 4 << 20  # characters: 60,000 classes have 1.4 million
_MOST_ATTRIBUTES = 200  # of one tag; Label Studio's own tags have some twenty


def costs_too_much(xml: str) -> str:
    """Why a label config is not given to the parser; empty where nothing speaks against it."""
    if len(xml) > _LONGEST:
        return f"it has {len(xml):,} characters, at most {_LONGEST:,} are read"
    found: list[str] = []

    def tag(name: str, attributes: list[str]) -> None:
        count = len(attributes) // 2
        if count > _MOST_ATTRIBUTES and not found:
            found.append(
                f"its tag {name[:40]} has {count:,} attributes, at most {_MOST_ATTRIBUTES} are read"
            )

    reader = expat.ParserCreate()
    reader.ordered_attributes = True
    reader.StartElementHandler = tag
    try:
        reader.Parse(xml, True)
    except (expat.ExpatError, ValueError) as error:
        # What another parser would make of it nobody counted.
        return f"it is no XML ({type(error).__name__})"
    return "".join(found)
