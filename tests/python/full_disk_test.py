"""A live `hone collect` on a file system of its own that fills up while people answer: what has a receipt is there, what
has none is kept by whoever sent it, and the service goes on when there is room."""
import collections
import json
import signal
import subprocess
import threading
import time

import pytest

from browser_test import desktop, forget, fresh, pytestmark as needs_browser  # noqa: F401
from rater_service import Client, Refused, Server, SteadyRater, pair

BLOCK = 4096


def fill(folder):
    """Until not even a block fits."""
    with open(folder / "filler", "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(16 * BLOCK))
        except OSError:
            pass
        try:
            while True:
                filler.write(bytes(BLOCK))
        except OSError:
            pass


def make_room(folder):
    (folder / "filler").unlink()


class Rater(SteadyRater):
    """Sends again whatever was not stored."""

    def __init__(self, server):
        super().__init__(Client(server.port), threading.Event())
        self.client.get("/api/me")
        self.receipts, self.refusals, self.messages = [], 0, set()

    def answer(self, assignment, key, ranks):
        body = {"outcome": "ordered", "ranks": ranks, "rationale": "because " * 60}
        receipt = self.patient(lambda: self.client.answer(assignment, body, key))["receipt"]
        self.receipts.append((key, receipt["sequence"], ranks))

    def patient(self, call):
        while True:
            try:
                return call()
            except Refused as refused:
                assert refused.status == 503 and refused.code == "disk", refused
                assert int(refused.headers["Retry-After"]) > 0
                self.refusals += 1
                self.messages.add(refused.body["error"]["message"])
                time.sleep(0.02)


@pytest.fixture
def full(disk, hone, tmp_path):
    """(server, folder of the small disk) with a queue of questions; ends with the test."""
    folder = disk("size=8m")
    server = Server(hone.binary, tmp_path / "server", project={"overlap": 2, "join": "open"},
                    questions=[pair(i) for i in range(400)])
    server.store = folder / "store"
    with server:
        server.forget_questions()
        yield server, folder


def labels_of(server):
    loop, after, labels = server.loop(), 0, {}
    while page := loop.get(f"/api/labels?after={after}&limit=5000")["answers"]:
        labels.update({label["sequence"]: label for label in page})
        after = page[-1]["sequence"]
    return labels


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_nothing_lost(server, people):
    labels = labels_of(server)
    receipts = [receipt for person in people for receipt in person.receipts]
    assert len({key for key, *_ in receipts}) == len({sequence for _, sequence, _ in receipts}) == len(receipts)
    for _, sequence, ranks in receipts:
        assert labels[sequence]["body"]["ranks"] == ranks
    answers = collections.Counter((label["question"], label["rater"]) for label in labels.values())
    assert max(answers.values()) == 1
    return labels


@pytest.mark.slow
def test_a_disk_that_fills_up_under_a_live_server_loses_nothing(full, hone):
    server, folder = full
    people = [Rater(server) for _ in range(4)]
    for person in people:
        person.start()
    for _ in range(3):  # filled and freed while everybody goes on
        before = sum(len(person.receipts) for person in people)
        wait_for(lambda: sum(len(person.receipts) for person in people) >= before + 20)
        fill(folder)
        refused = [person.refusals for person in people]
        wait_for(lambda: all(person.refusals > r + 3 for person, r in zip(people, refused)))
        # Who looks still sees the page and the numbers.
        watcher = Client(server.port)
        assert watcher.raw("GET", "/")[0] == 200 and watcher.raw("GET", "/metrics")[0] == 200
        make_room(folder)
    for person in people:
        person.join(120)
        assert not person.is_alive() and person.failure is None, person.failure
    assert all("disk is full" in message and "not stored" in message for person in people for message in person.messages)
    labels = assert_nothing_lost(server, people)
    assert len(labels) == 800 and set(collections.Counter(label["question"] for label in labels.values()).values()) == {2}
    # Operators are told, with the cause.
    wait_for(lambda: "the disk fails" in (server.folder / "stderr.txt").read_text())
    assert server.stop(signal.SIGTERM) == 143
    assert hone("verify", server.store).returncode == 0


@pytest.mark.slow
def test_a_full_disk_at_a_stop_and_at_a_start_loses_nothing(full, hone):
    """Sealing finds no room, at the stop and at a later one; a start finds none; with room everything is there."""
    server, folder = full
    people = [Rater(server) for _ in range(3)]
    for person in people:
        person.start()
    wait_for(lambda: all(len(person.receipts) >= 30 for person in people))
    fill(folder)
    wait_for(lambda: all(person.refusals > 3 for person in people))
    for person in people:
        person.stopped.set()
    make_room(folder)  # so that what is under way ends
    for person in people:
        person.join(60)
        assert person.failure is None, person.failure
    fill(folder)
    assert server.stop(signal.SIGTERM) == 143
    assert "not sealed; the journal keeps the answers" in (server.folder / "stderr.txt").read_text()
    assert server.segments() == [] and not list((server.store / "segments").glob("*.tmp*"))
    done = subprocess.run([str(server.binary), "collect", "--store", str(server.store), "--listen", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "full" in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    make_room(folder)
    server.start()
    for person in people:
        person.client.connection = None
    assert_nothing_lost(server, people)
    again = Rater(server)
    again.start()
    wait_for(lambda: len(again.receipts) >= 10)
    again.stopped.set()
    again.join(60)
    assert again.failure is None, again.failure
    labels = assert_nothing_lost(server, [*people, again])
    assert server.stop(signal.SIGTERM) == 143
    assert len(server.segments()) == 1
    assert hone("verify", server.store).returncode == 0
    # But for each person's last one, which may still be taken back.
    assert json.loads(hone("inspect", server.store, "--json").stdout)["comparisons"] == len(labels) - 4


@needs_browser
@pytest.mark.slow
def test_the_page_keeps_an_answer_that_the_server_cannot_store(full, desktop):
    """It says so, goes on with the next question, survives a reload, and sends when there is room."""
    server, folder = full
    page = fresh(desktop)
    forget(page, server)
    page.open(server.address)
    page.begin()
    page.answer("3")
    page.until(lambda: len(page.kept("held")) >= 3 and not page.kept("outbox"), "questions kept ahead and a receipt")
    fill(folder)
    page.answer("6")
    page.until(lambda: len(page.kept("outbox")) == 1 and "cannot store · 1 kept here" in page.text(".sync"), "what it says")
    page.driver.refresh()
    page.until(lambda: page.exists(".task"), "the next question after a reload")
    page.answer("=")
    assert len(page.kept("outbox")) == 2
    make_room(folder)
    page.until(lambda: not page.kept("outbox"), "the answers to go out")
    bodies = [label["body"] for _, label in sorted(labels_of(server).items())]
    assert bodies == [{"outcome": "ordered", "ranks": [0, 1], "strength": 2}, {"outcome": "ordered", "ranks": [1, 0], "strength": 2},
                      {"outcome": "ordered", "ranks": [0, 0]}]
    assert page.complaints("503") == []
