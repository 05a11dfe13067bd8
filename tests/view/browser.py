"""Pages opened in a real browser without a window, and driven from within."""

import hashlib
import json
import re
import shutil
import subprocess
from base64 import b64encode

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--enable-unsafe-swiftshader", "--window-size=1000,900",
    "--virtual-time-budget=60000", "--enable-logging=stderr", "--v=0",
]  # fmt: skip
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
# What a test may ask of a page; it stands before the page's own script.
HELP = """
const refused = [];
document.addEventListener("securitypolicyviolation", (e) => refused.push(e.violatedDirective));
const until = async (test) => {
  while (!test()) await new Promise((done) => setTimeout(done, 50));
};
const set = async (id, value) => {
  const control = document.getElementById(id);
  if (control.type === "checkbox") control.checked = value;
  else if (value !== undefined) control.value = value;
  control.dispatchEvent(new Event(control.type === "button" ? "click" : "input"));
  await new Promise((done) => setTimeout(done, 300));
  return document.getElementById("readout").textContent;
};
const state = () => document.documentElement.dataset.state;
"""


def drive(page, folder, script, *flags):
    """What the script `(async () => {...})` returns in the page, and what was refused or loaded."""
    said = (
        f"{HELP} addEventListener('load', async () => {{ try {{ await until(state);"
        f"const answer = await (async () => {{ {script} }})();"
        "const loaded = performance.getEntriesByType('resource').map((each) => each.name)"
        ".filter((name) => !name.startsWith('data:') && !name.startsWith('blob:'));"
        "console.log('ANSWER' + JSON.stringify({answer, refused, loaded}) + 'END');"
        "} catch (e) { console.log('ANSWER' + JSON.stringify({error: String(e)}) + 'END'); } });"
    )
    digest = b64encode(hashlib.sha256(said.encode()).digest()).decode()
    allowed = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    path = folder / "page.html"
    path.write_text(allowed.replace("</title>", f"</title><script>{said}</script>", 1), "utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, *flags, "--dump-dom", path.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=240,
    )  # fmt: skip
    found = re.search(r"ANSWER(\{.*\})END", done.stderr)
    assert found, done.stderr[-3000:]
    answer = json.loads(found[1].replace('\\"', '"') if '\\"' in found[1] else found[1])
    assert "error" not in answer, answer
    return answer


def print_out(page, folder):
    """The page printed to a PDF."""
    path, pdf = folder / "page.html", folder / "page.pdf"
    path.write_text(page, "utf-8")
    subprocess.run(
        [CHROMIUM, *FLAGS, f"--print-to-pdf={pdf}", path.as_uri()],
        capture_output=True, check=True, timeout=240,
    )  # fmt: skip
    return pdf.read_bytes()
