"""What does axe-core say of a page in a real Chromium? It runs in a world of its own, made by DevTools: the page's content security policy stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.web.browser import NARROW, WIDE, Screen

HERE = Path(__file__).parent / "accessibility"
LOOKS = [(width, dark) for width in (WIDE, NARROW) for dark in (False, True)]
# Every rule but the experimental ones. Style sheets are not fetched a second time.
_RUN = """axe.run(document, {preload: false, resultTypes: ['violations', 'incomplete']}).then((found) => JSON.stringify({
  violations: found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.target.join(' ')).join(', ')}`),
  rules: found.passes.length,
}))"""


def source() -> str:
    """What `npm ci` installs; else the test is skipped, and fails where CI says that everything is there."""
    file = HERE / "node_modules" / "axe-core" / "axe.min.js"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    reason = f"axe-core is not installed: npm ci in {HERE.relative_to(HERE.parents[2])}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def violations(screen: Screen, *, every_look: bool = True) -> list[str]:
    """Of the page as it stands, with width and colours of each look in which it was found."""
    tools = screen.devtools
    frame = tools.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
    world = tools.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "axe"})["executionContextId"]
    tools.send("Runtime.evaluate", {"expression": source(), "contextId": world})
    found = []
    for width, dark in LOOKS if every_look else LOOKS[:1]:
        screen.page.set_viewport_size({"width": width, "height": 900})
        # colours on their way from light to dark are nobody's
        screen.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        asked = {"expression": _RUN, "contextId": world, "awaitPromise": True, "returnByValue": True}
        answer = tools.send("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        told = json.loads(answer["result"]["value"])
        assert told["rules"], "it looked at nothing"
        found += [f"{width} {'dark' if dark else 'light'}: {each}" for each in told["violations"]]
    return found
