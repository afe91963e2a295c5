"""The README's picture: `python -m tests.sandbox.screenshot [FILE]` beside a running `make demo`. Not a test.

Signs in as the demo's company in English and photographs its calls. Wait some minutes first: the page should be full.
`--who EMAIL --path /t/0369/integrations` photographs anything else.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZE = (1200, 760)


def link_for(email: str) -> str:
    """A link that signs in once, made beside the demo's gateway."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "user", "link", email], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def photograph(file: Path, email: str, path: str, *, whole: bool) -> None:
    """One page, as the person sees it; with `whole` to its end."""
    link = link_for(email)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(
            viewport={"width": SIZE[0], "height": SIZE[1]}, locale="en-GB", timezone_id="Europe/London"
        )
        page.goto(link)
        parts = urlsplit(link)
        page.goto(f"{parts.scheme}://{parts.netloc}{path}")
        page.wait_for_timeout(1500)
        page.screenshot(path=file, full_page=whole)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A picture of a page of the running demo.")
    parser.add_argument("file", type=Path, nargs="?", default=Path("docs/calls.png"))
    parser.add_argument("--who", default="admin@maple.example")
    parser.add_argument("--path", default="/t/0368/calls")
    parser.add_argument("--whole", action="store_true", help="the whole page, not one screen of it")
    arguments = parser.parse_args()
    photograph(arguments.file, arguments.who, arguments.path, whole=arguments.whole)
