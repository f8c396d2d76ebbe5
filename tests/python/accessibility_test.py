"""axe-core over every screen, dialog and kind of question, answered in part as people see it, in all five languages, dark
and light, on a desktop and on a phone."""
import pytest
from selenium.webdriver.common.keys import Keys

from browser import serving
from browser_test import KINDS, desktop, dialogs, forget, fresh, look_at_everything, of_kinds, phone, project, pytestmark  # noqa: F401

LANGUAGES = ["en", "de", "fr", "es", "ar"]

# What a person does to each kind before axe looks: marks, ranks, choices and edits have their own colours.
DONE = {
    "pairwise": lambda page: page.press("d", "6"),
    "ranking": lambda page: page.press("2", "1", "="),
    "rating": lambda page: page.press("6"),
    "demonstration": lambda page: page.press("w", "Some words of mine."),
    "correction": lambda page: page.press("w", Keys.END, " And more."),
    "spans": lambda page: (page.press(*[Keys.ARROW_RIGHT] * 3), page.press_with(Keys.SHIFT, Keys.ARROW_RIGHT), page.press("1", "2")),
    "steps": lambda page: page.press("3", "1"),
    "review": lambda page: page.press("n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_axe_finds_nothing_anywhere(hone, request, tmp_path, device, scheme, language):
    page = fresh(request.getfixturevalue(device))
    with serving(hone, tmp_path, project(), of_kinds()) as server:
        name = f"{device} " + look_at_everything(page, server, scheme, language)
        for n, each in enumerate(KINDS):
            kind = each["kind"]
            page.until(lambda: page.exists(f".task.{kind}"), kind)
            page.press(Keys.ESCAPE)
            if n < len(DONE):
                page.axe(name + kind)
                DONE[kind](page)
                page.axe(name + kind + " answered")
                page.press(Keys.ESCAPE)
            if n == 0:
                dialogs(page, name)
            before = page.question["id"]
            if n == len(KINDS) - 1:
                page.press("f", "1", Keys.ENTER)  # to the experts
            else:
                page.press("s")
                page.until(lambda: page.exists("dialog[open]"), "skip")
                page.press("1")
            page.until(lambda: (page.question or {}).get("id") != before, "the next question")
        page.until(lambda: page.exists(".message h1") and not page.exists(".task"), "the end")
        page.axe(name + "end")
        page.until(lambda: not page.kept("outbox"), "the receipts")

        forget(page, server)
        page.join(server.invite("--role", "expert"))
        page.speak(language)
        page.begin()
        page.until(lambda: page.exists(".escalated"), "what was flagged")
        page.axe(name + "escalated")
        page.press("b")  # on a phone one answer is on screen
        page.answer("3")
        page.until(lambda: page.exists("dialog[open]"), "what the others said")
        page.axe(name + "others")
        page.press(Keys.ESCAPE)

        page.join(server.owner)
        page.speak(language)
        page.open(server.address + "/manage")
        page.until(lambda: page.exists("#gold") and page.exists(".people tbody tr"), "the plots")
        page.axe(name + "manage")
        page.js("document.querySelector('.people .erase').click()")
        page.until(lambda: page.exists("dialog[open]"), "the question whether")
        page.axe(name + "erase")
        assert page.complaints("401") == [], "but that nobody was signed in at first"
