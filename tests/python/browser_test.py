"""The page in a real Chromium, on a real `hone collect`; what was pressed is read back by h5py."""
import json
import random
import shutil
import urllib.request

import h5py
import pytest
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.keys import Keys

from browser import Page, chromium, column, serving

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None or shutil.which("chromedriver") is None,
                                reason="no Chromium here: scripts/packages-browser.txt (Debian)")

XSS = ['<img src=x onerror="window.broken=1">', "<script>window.broken=2</script>", '"><svg onload=window.broken=3>',
       "[click](javascript:window.broken=4)", "![x](https://example.org/x.png)", "`<b>`**<i>bold</i>**", "{{constructor.constructor('window.broken=5')()}}"]

PROJECT = """
id = "default"
title = {title}
guideline = {guideline}
overlap = 1
repeat_share = 0.0
rationale_share = 0.0
dwell_ms = {dwell}
dwell_ms_per_100_chars = 0
lease_s = 600
span_labels = ["wrong", "good"]
[[dimensions]]
name = "helpfulness"
label = {label}
low = 1
high = 7
low_label = "not at all"
high_label = "very"
[[dimensions]]
name = "accuracy"
label = "Is it true?"
low = 1
high = 5
"""


def project(title="Twenty pairs", guideline="# Look closely\n\nPrefer what is **true**.", label="How helpful is it?", dwell=0):
    quote = lambda text: json.dumps(text, ensure_ascii=False)
    return PROJECT.format(title=quote(title), guideline=quote(guideline), label=quote(label), dwell=dwell)


def pairs(count):
    return [{"id": f"pair-{n:02}", "kind": "pairwise", "prompt": f"Question {n}?", "language": "en",
             "candidates": [f"First answer to {n}.", f"Second answer to {n}, which is another."]} for n in range(count)]


@pytest.fixture(scope="module")
def desktop():
    driver = chromium()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def phone():
    driver = chromium(390, 844, phone=True)
    yield driver
    driver.quit()


def fresh(driver):
    """A browser that knows nothing of earlier tests."""
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    driver.get_log("browser")
    return Page(driver)


def forget(page, server):
    page.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": server.address, "storageTypes": "all"})


def meaning(key):
    """What a key of the scale says: (outcome, ranks on screen, strength)."""
    if key == "=":
        return 0, [0, 0], 0
    if key == "0":
        return 1, [], 0
    n = int(key)
    return (0, [0, 1], 5 - n) if n <= 4 else (0, [1, 0], n - 4)


def read_comparisons(server):
    """{prompt: (texts in the order shown, outcome, ranks on screen, strength, skip reason)} of what stands in the end."""
    found, texts, prompts = {}, [], []
    superseded = set()
    for path in server.segments():
        with h5py.File(path) as segment:
            texts += column(segment, "items/text")
            prompts += column(segment, "items/prompt")
            if "comparisons" not in segment:
                continue
            superseded |= set(column(segment, "comparisons/supersedes"))
            for name, items, ranks, shown, outcome, strength, reason in zip(
                    *(column(segment, f"comparisons/{field}") for field in ("id", "items", "ranks", "shown", "outcome", "strength", "skip_reason"))):
                row = ([texts[items[which]] for which in shown], outcome, [ranks[which] for which in shown] if ranks else [], strength, reason)
                found.setdefault(prompts[items[0]], []).append((name, row))
    return {prompt: [row for name, row in rows if name not in superseded] for prompt, rows in found.items()}


def test_twenty_pairs_on_a_phone_with_undo_a_lost_network_and_a_reload(hone, phone, tmp_path):
    """Twenty pairs by keyboard only, one taken back, five without a network, a reload among those: h5py has what was pressed."""
    page = fresh(phone)
    dice = random.Random(6)
    pressed = {}

    def rate(key):
        shown = page.question
        page.press("b")  # both answers have to be seen; on a phone one is on screen
        page.answer(key)
        pressed[shown["prompt"]] = (shown["texts"], key)

    with serving(hone, tmp_path, project(), pairs(24)) as server:
        page.join(server.invite())
        page.begin()
        for n in range(8):
            rate(dice.choice("12345678=0"))
        page.press("u")
        page.until(lambda: (page.question or {}).get("draft"), "the question that was taken back")
        again = page.question
        assert pressed.pop(again["prompt"])[0] == again["texts"], "the same order as before"
        assert page.exists(".level.chosen"), "with the answer of then"
        rate("1")

        page.until(lambda: len(page.kept("held")) >= 6 and not page.kept("outbox"), "questions kept ahead")
        page.network(False)
        for n in range(2):
            rate(dice.choice("12345678=0"))
        page.press("u")  # never sent: taken back here
        page.until(lambda: len(page.kept("outbox")) == 1, "one answer taken back without a network")
        rate("8")
        assert page.js("return document.querySelector('.sync').classList.contains('offline')")
        page.driver.refresh()  # without a network: the page and what it keeps are still there
        page.until(lambda: page.exists(".task"), "the page after a reload without a network")
        for n in range(3):
            rate(dice.choice("12345678=0"))
        assert len(page.kept("outbox")) == 5
        page.network(True)
        page.until(lambda: not page.kept("outbox"), "the answers to go out")

        page.press("7")
        page.until(lambda: (page.question.get("draft") or {}).get("strength") == 3, "a draft")
        page.driver.refresh()  # in the middle of a question
        page.until(lambda: page.exists(".level-7.chosen"), "the draft after a reload")
        rate("2")
        while len(pressed) < 20:
            rate(dice.choice("12345678=0"))
        page.until(lambda: not page.kept("outbox") and "20" in page.text(".count"), "twenty answers stored")
        twenty = dict(pressed)
        rate("=")  # the latest answer may be taken back for some minutes, so it stays in the journal
        page.until(lambda: not page.kept("outbox"), "one more")
        assert page.complaints() == []
        assert all(address.startswith((server.address, "about:", "data:")) for address in page.addresses()), page.addresses()
        server.stop()

        stored = read_comparisons(server)
        assert set(stored) == set(twenty)
        for prompt, (texts, key) in twenty.items():
            outcome, ranks, strength = meaning(key)
            assert stored[prompt] == [(texts, outcome, ranks, strength, "")], f"{prompt}: pressed {key}"
        lefts = sum(texts[0].startswith("First") for texts, _ in twenty.values())
        assert 8 <= lefts <= 12, "sides are balanced"
        assert hone("verify", server.store).returncode == 0


def answers_of(server):
    """Every answer as the journal's loop interface gives it: {question: body on screen}."""
    rows = server.loop().get("/api/labels?after=0&limit=1000")["answers"]
    return {each["question"]: each for each in rows if each["type"] == "answer" and not each["undone"]}


KINDS = [
    {"id": "k1", "kind": "pairwise", "candidates": ["One.", "Two, rather."], "priority": 90},
    {"id": "k2", "kind": "ranking", "candidates": ["Red.", "Green.", "Blue.", "Grey."], "priority": 80},
    {"id": "k3", "kind": "rating", "candidates": ["A single answer."], "priority": 70},
    {"id": "k4", "kind": "demonstration", "candidates": [], "priority": 60},
    {"id": "k5", "kind": "correction", "candidates": ["Their is a mistake."], "priority": 50},
    {"id": "k6", "kind": "spans", "candidates": ["🗼 The tower is 300 metres tall."], "priority": 40},
    {"id": "k7", "kind": "steps", "candidates": ["Ten percent is 24.\n\nHalf of it is 14."], "priority": 30},
    {"id": "k8", "kind": "review", "candidates": ["Dear customer, ..."], "priority": 20},
    {"id": "k9", "kind": "pairwise", "candidates": ["Skip me.", "Skip me, too."], "priority": 10},
    {"id": "k10", "kind": "pairwise", "candidates": ["Flag me.", "Flag me, too."], "priority": 5},
]


def of_kinds():
    return [{"prompt": f"What of {each['id']}?", "language": "en", **each} for each in KINDS]


def test_each_kind_once_by_keyboard(hone, desktop, tmp_path):
    page = fresh(desktop)
    with serving(hone, tmp_path, project("Each kind"), of_kinds()) as server:
        forget(page, server)
        page.join(server.invite())
        page.begin()
        order = {}

        def now(kind):
            page.until(lambda: page.exists(f".task.{kind}"), f"a question of kind {kind}")
            order[kind] = page.question["texts"]

        now("pairwise")
        page.answer("6")
        now("ranking")
        page.answer("2", "1", "=")  # A second, B and C first, D without rank
        now("rating")
        page.press("9")  # not on this scale
        page.answer("6", "4")
        now("demonstration")
        page.press("An answer of mine, ", "with 5 words more.")
        page.until(lambda: (page.question.get("draft") or {}).get("text", "").endswith("more."), "the draft")
        page.driver.refresh()
        page.until(lambda: page.js("return document.querySelector('.writing')?.value") == "An answer of mine, with 5 words more.", "the draft after a reload")
        page.press_with(Keys.CONTROL, Keys.ENTER)
        now("correction")
        assert page.text(".status") == "Change something first"
        page.press(Keys.HOME, *[Keys.DELETE] * 5, "There")
        page.until(lambda: page.text(".difference ins") == "There" and page.text(".difference del") == "Their", "the difference")
        page.press_with(Keys.CONTROL, Keys.ENTER)
        now("spans")
        page.press(*[Keys.ARROW_RIGHT] * 4)
        page.press_with(Keys.SHIFT, Keys.ARROW_RIGHT)
        page.answer("1")  # "300 metres"
        now("steps")
        page.answer("3", "1")
        now("review")
        page.answer("n")
        now("pairwise")
        page.press("s")
        page.until(lambda: page.exists("dialog[open]"), "the question why")
        page.press("2")
        page.until(lambda: "Flag me" in page.text(".task"), "the next question")
        page.press("f", "1")
        page.until(lambda: page.exists("dialog input:checked"), "a flag")
        page.press(Keys.ENTER)
        page.until(lambda: page.text("#screen h1") == "All done" and not page.kept("outbox"), "the end")
        assert page.complaints() == []

        found = answers_of(server)
        bodies = {name: each["body"] for name, each in found.items()}
        assert bodies["k1"] == {"outcome": "ordered", "ranks": [1, 0], "strength": 2}
        assert bodies["k2"] == {"outcome": "ordered", "ranks": [1, 0, 0, None]}
        assert bodies["k3"] == {"outcome": "rated", "ratings": [{"helpfulness": 6, "accuracy": 4}]}
        assert bodies["k4"] == {"outcome": "written", "text": "An answer of mine, with 5 words more."}
        assert bodies["k5"] == {"outcome": "written", "position": 0, "text": "There is a mistake."}
        text = KINDS[5]["candidates"][0]
        start = text.index("300")
        assert bodies["k6"] == {"outcome": "marked", "spans": [{"position": 0, "start": start, "end": start + len("300 metres"), "label": "wrong"}]}
        assert bodies["k7"] == {"outcome": "marked", "steps": [{"position": 0, "step": 0, "value": 1}, {"position": 0, "step": 1, "value": -1}]}
        assert bodies["k8"] == {"outcome": "reviewed", "approved": False}
        assert bodies["k9"] == {"outcome": "skipped", "reason": "not my field"}
        assert bodies["k10"] == {"outcome": "flagged", "flags": ["unsafe"]}
        client = found["k2"]["client"]
        assert len(client["seen"]) == 4 and all(ms > 0 for ms in client["seen"]) and client["submit_ms"] >= client["first_input_ms"] > 0
        assert found["k4"]["client"]["typed_chars"] > 10 and client["ui"] in page.js("return document.documentElement.dataset.assets")


def test_ranking_by_pointer(hone, desktop, tmp_path):
    """Letters dragged between the rungs, and ranks given by a click."""
    page = fresh(desktop)
    question = {"id": "r", "kind": "ranking", "prompt": "Order?", "candidates": ["Red.", "Green.", "Blue.", "Grey."]}
    with serving(hone, tmp_path, project(), [question]) as server:
        forget(page, server)
        page.join(server.invite())
        page.begin()

        def drag(chip, target):
            start, end = (page.js("const box = document.querySelector(arguments[0]).getBoundingClientRect();"
                                  "return [box.x + box.width / 2, box.y + box.height / 2].map(Math.round)", each) for each in (f".chip[data-position='{chip}']", target))
            pointer = ActionBuilder(page.driver)
            pointer.pointer_action.move_to_location(*start).pointer_down().move_to_location((start[0] + end[0]) // 2, start[1]).move_to_location(*end).pointer_up()
            pointer.perform()

        drag(2, ".gap[data-before='0']")  # C alone
        drag(0, ".gap[data-before='1']")  # C > A
        drag(3, ".rung[data-rank='1']")  # C > A = D
        ladder = "return [...document.querySelectorAll('.rung')].map((rung) => [...rung.querySelectorAll('.chip')].map((chip) => chip.textContent).join(''))"
        assert page.js(ladder) == ["C", "AD", "B"]
        drag(3, ".rung.tray")
        page.js("document.querySelector('.position1 .rank:nth-of-type(4) input').click()")
        assert page.js(ladder) == ["C", "A", "B", "D"]
        page.answer()
        page.until(lambda: not page.kept("outbox"), "the receipt")
        assert answers_of(server)["r"]["body"] == {"outcome": "ordered", "ranks": [1, 2, 0, None]}


def test_experts_see_what_others_said_after_their_own_answer(hone, desktop, tmp_path):
    page = fresh(desktop)
    with serving(hone, tmp_path, project(), pairs(1)) as server:
        forget(page, server)
        page.join(server.invite())
        page.begin()
        page.press("2", "f", "1", "b")  # flagged beside the answer
        page.until(lambda: "Unsafe" in page.text(".flags-set"), "the flag")
        page.press("w", "x")  # no commands here
        page.answer()
        page.until(lambda: not page.kept("outbox"), "the receipt")
        said = answers_of(server)["pair-00"]
        assert said["body"] == {"outcome": "ordered", "ranks": [0, 1], "strength": 3, "flags": ["unsafe"]}

        forget(page, server)
        page.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        page.join(server.invite("--role", "expert"))
        page.begin()
        assert page.exists(".escalated") and page.question["escalated"]
        assert "Unsafe" not in page.text("body") and "clearly" not in page.text("body")
        same_sides = page.question["texts"][0] == f"{'First' if said['shown'] == [0, 1] else 'Second'} answer to 0" + (
            "." if said["shown"] == [0, 1] else ", which is another.")
        page.answer("7")
        page.until(lambda: page.exists("dialog .others li"), "what the others said")
        assert page.text("dialog .others") == f"{'A' if same_sides else 'B'} is clearly better · Unsafe"
        page.press(Keys.ENTER)
        page.until(lambda: not page.exists("dialog"), "the dialog to close")
        server.stop()


def test_submit_waits_for_both_texts_and_the_least_time(hone, desktop, tmp_path):
    page = fresh(desktop)
    long = "\n\n".join(f"Paragraph {n} of a long answer that has to be read to its end." for n in range(60))
    questions = [{"id": "w", "kind": "pairwise", "prompt": "?", "language": "en", "candidates": [long + " Here.", "No: " + long + " There."]}, *pairs(2)]
    with serving(hone, tmp_path, project(dwell=4000), [{**q, "priority": -n} for n, q in enumerate(questions)]) as server:
        forget(page, server)
        page.join(server.invite())
        page.begin()
        first = page.question["id"]
        assert page.exists(".level") and not page.exists("mark.differs")
        page.press("3", Keys.ENTER)
        assert "Not read to its end yet" in page.text("#status") and page.question["id"] == first
        page.js("document.querySelector('.pane .scroll').scrollTop = 1e6")
        page.until(lambda: page.js("return [...document.querySelectorAll('.pane .scroll')].every((each) => each.scrollTop > 100)"), "the other pane to follow")
        page.until(lambda: "end" not in page.text("#status"), "both ends to be seen")
        page.press(Keys.ENTER)  # decided; the rest of the least time runs out by itself
        page.until(lambda: page.question["id"] != first, "the answer to go by itself")
        page.press("d", "1")
        assert page.exists("mark.differs"), "differences on a key"
        page.until(lambda: not page.kept("outbox"), "the receipt")
        assert page.text(".sync").startswith("Stored")
        assert page.complaints() == [], "the server found the time long enough"


def test_texts_stay_texts_and_nothing_leaves(hone, desktop, tmp_path):
    page = fresh(desktop)
    hostile = "\n\n".join(XSS)
    questions = [
        {"id": "x1", "kind": "pairwise", "prompt": [{"role": "<img src=x onerror=window.broken=6>", "content": hostile}], "candidates": [hostile, hostile + "!"]},
        {"id": "x2", "kind": "ranking", "prompt": hostile, "candidates": XSS},
        {"id": "x3", "kind": "correction", "prompt": hostile, "candidates": [hostile]},
        {"id": "x4", "kind": "spans", "prompt": hostile, "candidates": [hostile]},
    ]
    for question in questions:
        if isinstance(question["prompt"], list):
            question["messages"] = question.pop("prompt")
            question["messages"][0]["role"] = "user"
    with serving(hone, tmp_path, project("<img src=x onerror=window.broken=7>", hostile, "<b>how?</b>"), [{**q, "priority": -n} for n, q in enumerate(questions)]) as server:
        forget(page, server)
        page.join(server.invite())
        page.until(lambda: page.exists(".welcome"), "the guideline")
        shown = page.text(".welcome")
        assert XSS[0] in shown and XSS[1] in shown and "javascript:" in shown
        page.begin()
        for n, question in enumerate(questions):
            page.until(lambda: page.exists(f".task.{question['kind']}"), question["kind"])
            shown = page.text(".task")
            assert XSS[1] in shown or page.js("return document.querySelector('.writing')?.value ?? ''").count(XSS[1]), question["kind"]
            page.press(Keys.ESCAPE, "?")
            page.until(lambda: not page.js("return document.getElementById('guide').hidden"), "the guideline beside")
            page.press("?", "s")
            page.until(lambda: page.exists("dialog[open]"), "the question why")
            page.press("1")
        page.until(lambda: page.text("#screen h1") == "All done", "the end")
        assert page.js("return window.broken ?? null") is None
        assert page.js("return document.querySelectorAll('img, script:not([src]), iframe, a[href^=javascript], svg[onload]').length") == 0
        assert page.complaints() == []
        outside = [address for address in page.addresses() if not address.startswith((server.address, "about:", "data:"))]
        assert outside == []
        policy = urllib.request.urlopen(server.address + "/", timeout=30).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "require-trusted-types-for 'script'" in policy


def look_at_everything(page, server, scheme, language):
    """axe over every screen and dialog."""
    forget(page, server)
    page.colours(scheme)
    name = f"{scheme} {language}: "
    link = server.invite()
    page.open(server.address)
    page.until(lambda: page.exists("form.card"), "the way in")
    page.speak(language)
    page.until(lambda: page.exists("form.card"), "the way in")
    page.axe(name + "sign in")
    page.open("about:blank")
    page.open(link)
    page.until(lambda: page.exists("#join-language"), "the invitation")
    page.axe(name + "join")
    page.press(Keys.ENTER)
    page.until(lambda: page.exists(".welcome"), "the guideline")
    assert page.js("return document.documentElement.dir") == ("rtl" if language == "ar" else "ltr")
    page.axe(name + "guideline")
    page.begin()
    return name


def dialogs(page, name):
    for key, what in (("s", "skip"), ("f", "flag"), (",", "settings"), ("i", "session")):
        page.press(key)
        page.until(lambda: page.exists("dialog[open]"), what)
        page.axe(name + what)
        page.press(Keys.ESCAPE)
        page.until(lambda: not page.exists("dialog[open]"), "the dialog to close")
    page.press("?")
    page.axe(name + "guideline beside")
    page.press("?")


@pytest.mark.parametrize("scheme,language", [("dark", "ar")])
def test_axe_finds_nothing_on_pairs(hone, desktop, tmp_path, scheme, language):
    page = fresh(desktop)
    with serving(hone, tmp_path, project(), pairs(3)) as server:
        name = look_at_everything(page, server, scheme, language)
        page.press("d", "3")
        page.axe(name + "pair")
        dialogs(page, name)
        page.join(server.owner)
        page.open(server.address + "/manage")
        page.until(lambda: page.exists("#gold"), "the plots")
        page.axe(name + "manage")
        assert page.complaints("401") == [], "but that nobody was signed in at first"


def test_a_link_works_once_and_managers_invite_and_revoke(hone, desktop, tmp_path):
    page = fresh(desktop)
    with serving(hone, tmp_path, project(), pairs(6)) as server:
        forget(page, server)
        link = server.invite()
        page.join(link)
        page.begin()
        page.answer("3")
        page.until(lambda: not page.kept("outbox"), "the receipt")
        forget(page, server)
        page.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        page.open("about:blank")
        page.open(link)
        page.until(lambda: page.exists(".card .button.primary"), "the invitation's page")
        page.press(Keys.ENTER)
        page.until(lambda: "works once" in page.text(".problem"), "that the link was used")
        page.open(server.address + "/manage")
        page.until(lambda: "for managers" in page.text(".problem"), "that it is for managers")

        page.join(server.owner)
        assert page.js("return [...document.querySelectorAll('#top a')].map((each) => each.hidden || each.pathname)") == ["/manage"]
        page.open(server.address + "/manage")
        page.until(lambda: page.exists("#gold") and page.exists(".people tbody tr"), "the page")
        assert page.js("return ['queue', 'rate', 'agreement', 'gold', 'position', 'repeats', 'drift', 'outcomes'].filter((id) => !document.getElementById(id))") == []
        assert page.exists("#rate svg rect") and page.exists("#position svg circle")
        assert not any(word in page.text("main") for word in ("null", "undefined", "NaN"))
        page.js("document.querySelector('.invite .primary').click()")
        page.until(lambda: page.exists(".made .link"), "a new link")
        made = page.js("return document.querySelector('.made .link').value")
        assert made.startswith(server.address + "/join#")
        revoke = "document.querySelector('.people .revoke').click()"
        who = page.js("return document.querySelector('.people .revoke').getAttribute('aria-label')").split()[-1]
        page.js(revoke)
        page.js(revoke)
        page.until(lambda: page.js("return [...document.querySelectorAll('.people tr.gone th')].map((each) => each.textContent)") == [who], "the rater to be gone")
        page.js("document.querySelector('.people .erase').click()")  # an owner's, of the one who answered
        page.until(lambda: page.exists("dialog[open]"), "the question whether")
        page.press(who[:-1], Keys.ENTER)
        assert page.exists("dialog[open]"), "only the whole pseudonym"
        page.press(who[-1], Keys.ENTER)
        page.until(lambda: "Erased answers: 1" in page.text("#top"), "the erasure")
        assert who not in page.text("main") and answers_of(server) == {}
        assert page.complaints("401", "403") == [], "but what was refused"


@pytest.mark.slow
def test_a_killed_server_loses_and_doubles_nothing(hone, phone, tmp_path):
    """The server dies among the answers and comes back: the page sends again, with the same keys."""
    page = fresh(phone)
    pressed = {}
    with serving(hone, tmp_path, project(), pairs(14)) as server:
        forget(page, server)
        page.join(server.invite())
        page.begin()
        for n in range(12):
            if n in (4, 8):
                page.until(lambda: len(page.kept("held")) >= 5, "questions kept ahead")
                server.kill()
            shown = page.question
            page.press("b")
            page.answer(str(n % 8 + 1))
            pressed[shown["prompt"]] = (shown["texts"], str(n % 8 + 1))
            if n in (6, 10):
                server.start()
                page.until(lambda: not page.kept("outbox"), "the answers to go out")
        page.until(lambda: not page.kept("outbox"), "the last one to go out")
        server.stop()
        pressed.popitem()  # the latest may still be taken back: it stays in the journal
        assert read_comparisons(server) == {prompt: [(texts, *meaning(key), "")] for prompt, (texts, key) in pressed.items()}
