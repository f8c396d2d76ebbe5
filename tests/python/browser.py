"""A server of the binary and a Chromium, for browser_test.py."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal

import axe_playwright_python
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from rater_service import Server

AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
PATIENCE = 60  # seconds; machines that test are busy


@contextlib.contextmanager
def serving(hone, folder, project, questions):
    """`hone collect` with its limits of rates, until a graceful stop."""
    server = Server(hone.binary, folder, project, questions, limits=True)
    try:
        yield server.start()
    finally:
        server.stop(signal.SIGINT)


def chromium(width=1280, height=860, phone=False):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-US",
                     "--disable-background-networking", "--disable-component-update", f"--window-size={width},{height}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or "chromedriver"))
    driver.set_script_timeout(PATIENCE)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone})
    if phone:
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    return driver


class Page:
    """What a person at the page sees and presses."""

    def __init__(self, driver):
        self.driver = driver
        self.requests = []
        driver.get_log("performance")

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, condition, what):
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition(), what)

    def press(self, *keys):
        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def press_with(self, modifier, key):
        ActionChains(self.driver, duration=0).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def open(self, url):
        self.driver.get(url)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def exists(self, selector):
        return self.js("return Boolean(document.querySelector(arguments[0]))", selector)

    def join(self, link):
        self.open("about:blank")  # a change of fragment alone loads nothing
        self.open(link)
        self.until(lambda: self.exists(".card .button.primary"), "the invitation's page")
        self.press(Keys.ENTER)
        self.until(lambda: self.exists(".welcome, .task, .managing, .message:not(.card)"), "what follows the invitation")

    def begin(self):
        """Past the guideline, to the first question."""
        self.until(lambda: self.exists(".welcome, .task"), "guideline or question")
        if self.exists(".welcome"):
            self.press(Keys.ENTER)
        self.until(lambda: self.exists(".task"), "a question")

    @property
    def question(self):
        """The assignment in hand: id and texts as the page keeps them."""
        return self.js("const name = Object.keys(localStorage).find((key) => key.endsWith('.held'));"
                       "return name ? JSON.parse(localStorage[name])[0] ?? null : null")

    def kept(self, what):
        return self.js("const name = Object.keys(localStorage).find((key) => key.endsWith('.' + arguments[0]));"
                       "return name ? JSON.parse(localStorage[name]) : []", what)

    def answer(self, *keys):
        """Presses keys, waits until the answer may go, sends it, waits for what comes next."""
        before = self.question["id"]
        self.press(*keys)
        self.js("for (const end of document.querySelectorAll('.sheet > .end')) end.scrollIntoView()")
        self.until(lambda: self.text("#status") == "", f"the way to be free; it says: {self.text('#status')!r}")
        self.press(Keys.ENTER)
        self.until(lambda: (self.question or {}).get("id") != before, "the next question")

    def network(self, on):
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions",
                                    {"offline": not on, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})

    def colours(self, scheme):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]})

    def speak(self, language):
        self.js("localStorage.setItem('hone.preferences', JSON.stringify({language: arguments[0]}))", language)
        self.driver.refresh()

    def axe(self, name):
        """axe-core over the whole document: no violation of any rule. With HONE_SCREENSHOTS=FOLDER also a picture."""
        if folder := os.environ.get("HONE_SCREENSHOTS"):
            self.driver.save_screenshot(str(pathlib.Path(folder) / (re.sub(r"\W+", "-", name) + ".png")))
        self.js(AXE)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then((result) => done(result.violations.map((each) =>"
            " `${each.id} (${each.impact}): ${each.nodes.map((node) => node.html.slice(0, 160)).join(' | ')}`)), (error) => done([String(error)]))")
        assert found == [], f"{name}: {found}"

    def addresses(self):
        """Every address that was asked for since the beginning."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return self.requests

    def complaints(self, *expected):
        """Errors and violations of policy that the console shows; a network that was taken away is none."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"
                and not any(words in entry["message"] for words in ("ERR_INTERNET_DISCONNECTED", *expected))]


def column(segment, path):
    """A column of a segment: texts as str, lists as lists (data/FORMAT.md)."""
    values = segment[path][:]
    if f"{path}_offsets" not in segment:
        return values.tolist()
    offsets = segment[f"{path}_offsets"][:]
    rows = [values[a:b] for a, b in zip(offsets, offsets[1:])]
    is_text = path.split("/")[-1] in {"id", "text", "prompt", "rater", "skip_reason", "rationale", "supersedes", "completion", "source"}
    return [row.tobytes().decode() if is_text else row.tolist() for row in rows]
