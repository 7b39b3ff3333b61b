"""What a page is to somebody who cannot see it well, asked of Chromium: names, contrast, focus."""

from __future__ import annotations

from dataclasses import dataclass, field

from selenium.webdriver.common.keys import Keys

from tests.e2e.browser.chromium import Browser

#: Roles of Chromium's accessibility tree that must have a name.
_NAMED = frozenset(
    ("button", "checkbox", "combobox", "DisclosureTriangle", "figure", "Figure", "image", "img",
     "link", "navigation", "progressbar", "ProgressIndicator", "region", "table", "textbox")
)  # fmt: skip
_FOCUSABLE = (
    "a[href], button:not(:disabled), select, summary, [tabindex='0'], input:not([type='hidden'])"
)
# Of every visible text: WCAG's contrast with what is behind it, colours with alpha laid over it.
_CONTRASTS = """
const parsed = (text) => {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  return text === 'none' ? [0, 0, 0, 0] : [r, g, b, a];
};
const over = ([r, g, b, a], under) => [r, g, b].map((v, k) => a * v + (1 - a) * under[k]);
const light = (c) => {
  const [r, g, b] = c.map(v => v / 255).map(v =>
    v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (one) => {
  const layers = [];
  for (let at = one; at; at = at.parentElement) {
    layers.push(parsed(getComputedStyle(at).backgroundColor));
  }
  return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const one = walker.currentNode.parentElement;
  if (!text || one.closest('script, template, .hidden, .skip:not(:focus)')) continue;
  if (!one.checkVisibility() || !one.getClientRects().length) continue;
  const style = getComputedStyle(one);
  const ground = behind(one);
  const ink = over(parsed(one.closest('svg') ? style.fill : style.color), ground);
  const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
  found.push([(high + 0.05) / (low + 0.05), text.slice(0, 40)]);
}
return found;
"""
_FOCUS = """
const one = document.activeElement;
if (!one || one === document.body) return null;
const style = getComputedStyle(one);
const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
return [[...document.querySelectorAll('*')].indexOf(one), outlined, one.outerHTML.slice(0, 80)];
"""
_VISIBLE = f"""
const all = [...document.querySelectorAll('*')];
return [...document.querySelectorAll("{_FOCUSABLE}")]
  .filter(one => one.checkVisibility()).map(one => all.indexOf(one));
"""


@dataclass
class Names:
    """Counts of elements that must have a name, and what has none, by role."""

    named: dict[str, int] = field(default_factory=dict)
    unnamed: list[str] = field(default_factory=list)


def names(window: Browser) -> Names:
    """What Chromium's accessibility tree calls each element that must have a name."""
    tree = window.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = Names()
    for node in tree:
        role = str(node.get("role", {}).get("value", ""))
        if node.get("ignored") or role not in _NAMED:
            continue
        if str(node.get("name", {}).get("value", "")).strip():
            found.named[role] = found.named.get(role, 0) + 1
        else:
            which = {"backendNodeId": node["backendDOMNodeId"]}
            told = window.driver.execute_cdp_cmd("DOM.describeNode", which)["node"]
            found.unnamed.append(f"{role}: <{told['nodeName']} {told.get('attributes')}>")
    return found


def contrasts(window: Browser) -> list[tuple[float, str]]:
    """Contrast of every visible text with what is behind it, the lowest first."""
    found: list[tuple[float, str]] = [
        (ratio, text) for ratio, text in window.run(_CONTRASTS.strip())
    ]
    return sorted(found)


def walk_by_tab(window: Browser) -> tuple[int, list[str]]:
    """Go round the page with Tab. Returns: how many were reached; what is wrong."""
    wanted = set(window.run(_VISIBLE.strip()))
    reached: set[int] = set()
    wrong = []
    for _ in range(len(wanted) + 20):
        window.press(Keys.TAB)
        seen = window.run(_FOCUS.strip())
        if seen is None:
            if wanted <= reached:
                break
            continue
        place, outlined, words = seen
        if place in reached and wanted <= reached:
            break
        reached.add(place)
        if not outlined:
            wrong.append(f"no visible focus: {words}")
    if wanted - reached:
        wrong.append(f"{len(wanted - reached)} of {len(wanted)} are not reached by Tab")
    return len(reached), wrong
