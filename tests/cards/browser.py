"""A headless Chromium, where there is one, that opens pages and tells what it found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)


@dataclass(frozen=True)
class Visit:
    """A page to be opened on a screen of this size, and the body of a function that runs once it
    has loaded."""

    html: str
    size: tuple[int, int]
    script: str


@dataclass(frozen=True)
class Browser:
    """Opens files; scratch: a folder of its own."""

    command: str
    scratch: Path

    def screenshot(self, html: str, size: tuple[int, int], *options: str) -> Path:
        """A PNG of the top of this page."""
        out = self.scratch / "page.png"
        self._run(html, f"--window-size={size[0]},{size[1]}", f"--screenshot={out}", *options)
        return out

    def visit(self, visits: Mapping[str, Visit]) -> tuple[dict[str, Any], list[str]]:
        """What the script of each returned, and what all of them wrote to the console. They stand
        in frames, whose width is the screen's to them: a window has a least width."""
        frames = "".join(_frame(name, visit) for name, visit in visits.items())
        collect = (
            "<script>window.found = {}; addEventListener('load', () => {"
            "const out = document.createElement('pre'); out.id = 'found';"
            "out.textContent = JSON.stringify(found); document.body.append(out); });</script>"
        )
        page = f"<!doctype html><body>{collect}{frames}</body>"
        done = self._run(page, "--window-size=1400,1000", "--dump-dom")
        found = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr[-2000:]
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return json.loads(unescape(found[-1])), console

    def _run(self, html: str, *options: str) -> subprocess.CompletedProcess[str]:
        page = self.scratch / "page.html"
        page.write_text(html)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--no-first-run", "--enable-logging=stderr", "--force-device-scale-factor=1"]
        flags += ["--hide-scrollbars", f"--user-data-dir={self.scratch / 'profile'}"]
        called = [self.command, *flags, *options, page.as_uri()]
        return subprocess.run(called, capture_output=True, text=True, timeout=90, check=True)


def _frame(name: str, visit: Visit) -> str:
    asked = (
        "<script>addEventListener('load', () => {"
        f"parent.found[{json.dumps(name)}] = (() => {{{visit.script}}})();}});</script></body>"
    )
    page = escape(visit.html.replace("</body>", asked))
    width, height = visit.size
    return f'<iframe width="{width}" height="{height}" style="border:0" srcdoc="{page}"></iframe>'


def installed(scratch: Path) -> Browser:
    """The first one on PATH; the test is skipped where there is none."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        pytest.skip(f"no browser to look at the page with: none of {', '.join(NAMES)} is on PATH")
    return Browser(found, scratch)
