"""The rater service as people and programs meet it: a real `hone collect`, every route, roles, errors, stops and
kills. What was answered is judged by what another program reads from the store."""
import collections
import concurrent.futures
import json
import random
import re
import signal
import sqlite3
import ssl
import subprocess
import threading
import time

import pytest

from rater_service import ORDERED, Client, Refused, Server, SteadyRater, pair, status_of


# ---- who one is


def test_the_owners_link_works_once(serve):
    server = serve(questions=[pair(0)])
    owner = server.client()
    me = owner.join(server.owner)
    assert me["role"] == "owner" and me["project"]["id"] == "default" and me["statistics"]["answers"] == 0
    assert re.fullmatch(r"r-[a-z0-9]{10}", me["pseudonym"])
    assert status_of(server.client().join, server.owner) == 403
    server.stop()
    server.start()
    server.stop()
    assert server.output.count("serving") == 2 and server.output.count("/join#") == 1  # there is an owner now


def test_an_unused_owners_link_is_replaced_at_the_next_start(serve):
    server = serve()
    first = server.owner
    server.stop()
    server.start()
    assert server.owner != first
    assert status_of(server.client().join, first) == 403
    assert server.client().join(server.owner)["role"] == "owner"


def test_sessions_begin_and_end(serve):
    server = serve()
    rater = server.person()
    assert rater.get("/api/me")["pseudonym"] == rater.me["pseudonym"]
    rater.post("/api/logout")
    assert status_of(rater.get, "/api/me") == 401
    assert status_of(server.client().get, "/api/me") == 401


def test_names_and_passwords(serve):
    server = serve()
    rater = server.person()
    assert status_of(rater.post, "/api/password", {"name": "ada", "password": "short"}) == 422
    rater.post("/api/password", {"name": "ada", "password": "a long password"})
    other = server.client()
    assert status_of(other.post, "/api/login", {"name": "ada", "password": "a wrong password"}) == 401
    assert other.post("/api/login", {"name": "ada", "password": "a long password"})["pseudonym"] == rater.me["pseudonym"]
    # Somebody at an open page cannot change it without the old one.
    assert status_of(other.post, "/api/password", {"password": "another password"}) == 400
    assert status_of(other.post, "/api/password", {"old": "a wrong password", "password": "another password"}) == 403
    other.post("/api/password", {"old": "a long password", "password": "another password"})


def test_a_cap_is_the_persons_however_often_they_sign_in(serve):
    server = serve(questions=[pair(i) for i in range(4)], project={"session_answers": 2})
    rater = server.person()
    rater.post("/api/password", {"name": "ada", "password": "a long password"})
    for _ in range(2):
        rater.answer(rater.next())
    again = server.client()
    again.post("/api/login", {"name": "ada", "password": "a long password"})
    rater.post("/api/logout")
    server.stop()
    server.start()
    again.connection = None
    third = server.client()
    third.post("/api/login", {"name": "ada", "password": "a long password"})
    for client in (again, third):
        answer = client.post("/api/next")
        assert answer["assignment"] is None and answer["why"] == "session-cap"
        assert 1700 < answer["retry_after_s"] <= 1801
        assert client.get("/api/statistics")["session_answers"] == 2


def test_an_open_project_lets_anyone_in(serve):
    server = serve(project={"join": "open"}, questions=[pair(0)])
    anyone = server.client()
    assert anyone.get("/api/me")["role"] == "rater"
    assert anyone.next()["kind"] == "pairwise"


def test_roles(serve):
    server = serve()
    rater, expert, manager, owner = (server.person(role) for role in ("rater", "expert", "manager", "owner"))
    for client in (rater, expert, server.client()):
        expected = 401 if client.cookie is None else 403
        assert status_of(client.get, "/api/manage/raters") == expected
        assert status_of(client.get, "/api/manage/overview") == expected
        assert status_of(client.post, "/api/manage/invitations", {"role": "rater"}) == expected
    assert status_of(manager.post, "/api/manage/invitations", {"role": "owner"}) == 403
    link = manager.post("/api/manage/invitations", {"role": "rater", "note": "for Ada", "languages": ["de"]})["link"]
    assert link.startswith(server.address + "/join#")
    new = server.client()
    joined = new.join(link)
    assert joined["role"] == "rater"
    listed = manager.get("/api/manage/raters")
    assert [r["role"] for r in listed["raters"] if r["pseudonym"] == joined["pseudonym"]] == ["rater"]
    assert [i["used"] for i in listed["invitations"] if i["note"] == "for Ada"] == [True]
    assert link.split("#")[1] not in json.dumps(listed)
    assert status_of(manager.post, f"/api/manage/raters/{owner.me['pseudonym']}/revoke") == 403
    manager.post(f"/api/manage/raters/{joined['pseudonym']}/revoke")
    assert status_of(new.get, "/api/me") == 401
    assert status_of(manager.post, f"/api/manage/raters/{joined['pseudonym']}/revoke") == 404


def test_invitations_into_what_is_no_store_are_refused(hone, tmp_path):
    for verb in ("invite", "list", "key"):
        assert "store.json" in hone("raters", verb, "--store", tmp_path, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_one_server_a_store_and_an_erasure_beside_it_is_the_owners(serve, hone):
    server = serve()
    for arguments in (("collect", "--store", server.store, "--listen", "127.0.0.1:0"),
                      ("raters", "erase", "--store", server.store, "r-nobody")):
        assert "/manage" in hone(*arguments, code=1).stderr
    server.stop()
    with sqlite3.connect(server.store / "journal.sqlite") as database:
        database.execute("UPDATE meta SET value = '9' WHERE name = 'version'")
    out = server.store.parent / "out.jsonl"
    for arguments in (("collect", "--store", server.store, "--listen", "127.0.0.1:0"), ("verify", server.store),
                      ("inspect", server.store),
                      ("export", server.store, "--format", "trl-preference", "--output", out)):
        said = hone(*arguments, code=2)
        assert "journal version: expected 1, got 9" in said.stdout + said.stderr, arguments
    assert not out.exists()


def test_the_command_line_revokes_beside_a_running_server(serve):
    server = serve()
    rater = server.person()
    listed = json.loads(server.raters("list", "--json"))
    assert [r["pseudonym"] for r in listed["raters"]] == [rater.me["pseudonym"]]
    server.raters("revoke", rater.me["pseudonym"])
    assert status_of(rater.get, "/api/me") == 401
    server.raters("revoke", "r-nobody", code=2)


# ---- questions and answers

KINDS = {
    "pairwise": ({"candidates": ["one", "two"]}, [ORDERED, {"outcome": "ordered", "ranks": [0, 0]}, {"outcome": "both_bad"}]),
    "ranking": ({"candidates": ["one", "two", "three", "four"]}, [{"outcome": "ordered", "ranks": [1, 0, None, 1]}]),
    "rating": ({"candidates": ["one"]}, [{"outcome": "rated", "ratings": [{"helpful": 5, "true": 2}]}]),
    "demonstration": ({"candidates": []}, [{"outcome": "written", "text": "my own answer"}]),
    "correction": ({"candidates": ["teh"]}, [{"outcome": "written", "position": 0, "text": "the"}]),
    "spans": ({"candidates": ["a wrong word"]},
              [{"outcome": "marked", "spans": [{"position": 0, "start": 2, "end": 7, "label": "wrong"}]}]),
    "steps": ({"candidates": ["first\n\nsecond"]},
              [{"outcome": "marked", "steps": [{"position": 0, "step": 0, "value": 1}, {"position": 0, "step": 1, "value": -1}]}]),
    "review": ({"candidates": ["out with it"]}, [{"outcome": "reviewed", "approved": True}]),
}


def test_every_kind_is_asked_and_answered(serve):
    questions, bodies = [], {}
    for kind, (content, answers) in KINDS.items():
        for n, body in enumerate(answers):
            questions.append({"id": f"{kind}{n}", "kind": kind, "prompt": f"{kind} {n}", **content})
            bodies[f"{kind} {n}"] = body
    questions.append({"id": "chat", "messages": [{"role": "user", "content": "hello"}], "candidates": ["hi", "no"]})
    dimension = {"label": "", "low": 1, "high": 7, "low_label": "", "high_label": ""}
    server = serve(questions=questions, project={"span_labels": ["wrong"], "dimensions": [
        {**dimension, "name": "helpful"}, {**dimension, "name": "true"}]})
    rater, loop = server.person(), server.loop()
    said = {}
    for _ in questions:
        assignment = rater.next()
        assert set(assignment) >= {"id", "token", "kind", "prompt", "texts", "expires_us", "dwell_ms", "ask_rationale",
                                   "escalated", "draft"}
        if isinstance(assignment["prompt"], list):
            assert assignment["prompt"] == [{"role": "user", "content": "hello"}]
            body = ORDERED
        else:
            body = bodies[assignment["prompt"]]
        done = rater.answer(assignment, body)
        said[done["receipt"]["sequence"]] = (assignment, body)
    assert rater.post("/api/next") == {"assignment": None, "why": "done", "retry_after_s": 0}
    labels = loop.get("/api/labels?limit=1000")["answers"]
    assert len(labels) == len(questions)
    contents = {q["id"]: q["candidates"] for q in questions}
    for label in labels:
        assignment, body = said[label["sequence"]]
        assert label["rater"] == rater.me["pseudonym"] and label["kind"] == assignment["kind"]
        # The candidates in the order shown are the texts that were on screen.
        assert [contents[label["question"]][c] for c in label["shown"]] == assignment["texts"]
        assert {k: v for k, v in label["body"].items() if k in body} == body
    statistics = rater.get("/api/statistics")
    assert statistics["answers"] == len(questions) and statistics["ties"] == 1


def test_answers_that_do_not_fit_are_refused_in_words(serve):
    server = serve(questions=[pair(0)])
    rater = server.person()
    assignment = rater.next()
    for body in ({"outcome": "ordered", "ranks": [0, 1, 2]}, {"outcome": "ordered", "ranks": [0, "x"]}, {"outcome": "?"},
                 {"outcome": "rated", "ratings": []}, {}, {"outcome": "ordered", "ranks": [0, 1], "strength": 9}):
        with pytest.raises(Refused) as refused:
            rater.answer(assignment, body)
        assert refused.value.status == 422 and refused.value.code == "does-not-fit", body
        assert refused.value.body["error"]["message"]
    assert rater.answer(assignment)["receipt"]["sequence"] == 1


def test_the_same_key_gives_the_same_receipt(serve):
    server = serve(questions=[pair(i) for i in range(3)])
    rater = server.person()
    assignment = rater.next()
    first = rater.answer(assignment, key="k1")["receipt"]
    again = rater.answer(assignment, key="k1")["receipt"]
    assert again.pop("repeated") and not first.pop("repeated") and again == first
    assert len(server.loop().get("/api/labels")["answers"]) == 1
    assert status_of(rater.call, "POST", "/api/answers", {"assignment": "x", "token": 1, "body": {}}) == 400  # no key


def test_a_lost_lease_is_a_conflict(serve):
    server = serve(questions=[pair(0)])
    rater = server.person()
    assignment = rater.next()
    assert status_of(rater.answer, {**assignment, "token": assignment["token"] + 1}) == 409
    assert status_of(rater.answer, {**assignment, "id": "nothing"}) == 409
    assert rater.post("/api/renew", {"assignment": assignment["id"], "token": assignment["token"]}) == {"alive": True}
    assert rater.post("/api/renew", {"assignment": "nothing", "token": 1}) == {"alive": False}


def test_an_expired_lease_goes_to_another(serve):
    server = serve(questions=[pair(0)], project={"lease_s": 1})
    gone, other = server.person(), server.person()
    assignment = gone.next()
    answer = other.post("/api/next")
    assert answer["assignment"] is None and answer["why"] == "all-leased" and answer["retry_after_s"] >= 1
    time.sleep(1.2)
    assert other.answer(other.next())["receipt"]["sequence"] == 1
    assert status_of(gone.answer, assignment) == 409


def test_a_draft_comes_back(serve):
    server = serve(questions=[{"id": "w", "kind": "demonstration", "prompt": "write", "candidates": []}])
    rater = server.person()
    assignment = rater.next()
    draft = {"outcome": "written", "text": "half a sen"}
    rater.call("PUT", "/api/draft", {"assignment": assignment["id"], "token": assignment["token"], "body": draft})
    server.stop(signal.SIGKILL)
    server.start(rater.port)
    rater.connection = None
    again = rater.next()
    assert again["id"] == assignment["id"] and again["draft"] == draft


def test_undo_leases_the_question_again_with_the_old_answer(serve):
    server = serve(questions=[pair(i) for i in range(2)])
    rater = server.person()
    assert status_of(rater.post, "/api/undo") == 422
    first = rater.next()
    rater.answer(first, ORDERED)
    again = rater.post("/api/undo")["assignment"]
    assert again["prompt"] == first["prompt"] and again["texts"] == first["texts"]
    assert again["draft"]["ranks"] == ORDERED["ranks"]
    loop = server.loop()
    before = loop.get("/api/labels")
    assert [row["type"] for row in before["answers"]] == ["answer", "undo"] and before["next"] == 2
    rater.answer(again, {"outcome": "both_bad"})
    kept = [a for a in loop.get("/api/labels")["answers"] if a["type"] == "answer" and not a["undone"]]
    assert [a["body"]["outcome"] for a in kept] == ["both_bad"]
    rater.post("/api/undo")  # of a row that the loop has read
    rest = loop.get("/api/labels?after=3")["answers"]
    assert [(row["type"], row["supersedes"]) for row in rest] == [("undo", 3)]
    manager = server.person("manager")
    assert manager.get("/api/manage/overview")["queue"]["answers"] == 0
    assert manager.get("/api/manage/overview")["raters"] == []


def test_a_flag_escalates_to_an_expert_who_sees_the_others_after_deciding(serve):
    server = serve(questions=[pair(0)])
    rater, expert = server.person(), server.person("expert")
    rater.answer(rater.next(), {"outcome": "flagged", "flags": ["unsafe"]})
    assignment = expert.next()
    assert assignment["escalated"] and "others" not in assignment
    server.stop(signal.SIGKILL)  # what the others said does not depend on one process
    server.start(expert.port)
    expert.connection = None
    for repeated in (False, True):
        answer = expert.answer(assignment, key="decision")
        assert answer["receipt"]["repeated"] == repeated
        assert [other["outcome"] for other in answer["others"]] == ["flagged"]


def test_the_guideline_by_its_hash(serve):
    server = serve(project={"guideline": "# Häuser\n<b>bold</b>"})
    rater = server.person()
    found = rater.get(f"/api/guideline?hash={rater.me['guideline_hash']}")
    assert found == {"hash": rater.me["guideline_hash"], "markdown": "# Häuser\n<b>bold</b>"}
    assert status_of(rater.get, "/api/guideline?hash=" + "0" * 64) == 404


def test_routes_and_types(serve):
    server = serve()
    rater = server.person()
    assert status_of(rater.get, "/api/nothing") == 404
    assert status_of(rater.get, "/api/next") == 404
    with pytest.raises(Refused) as refused:
        rater.call("DELETE", "/api/next")
    assert refused.value.status == 405 and refused.value.headers["Allow"] == "POST"
    assert rater.raw("POST", "/api/next", "{}", {"Content-Type": "text/plain"})[0] == 415
    assert rater.raw("POST", "/api/next", "{", {})[0] == 400
    assert rater.raw("POST", "/api/next", "[]", {})[0] == 400
    assert rater.raw("POST", "/api/next", "[" * 100000, {})[0] in (400, 413)
    assert rater.raw("POST", "/api/next", b'{"held": ["\xff"]}', {})[0] == 400
    assert rater.raw("POST", "/api/next", json.dumps({"held": "x" * 20000}), {})[0] == 413


def test_the_page_and_its_files(serve):
    server = serve()
    client = server.client()
    for path in ("/", "/join", "/manage"):
        status, headers, body = client.raw("GET", path)
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-store" and b"{{" not in body
        nonce = re.search(r"'nonce-([\w-]+)'", headers["Content-Security-Policy"]).group(1)
        assert len(nonce) >= 22 and client.raw("GET", path)[1]["Content-Security-Policy"] != headers["Content-Security-Policy"]
        files = re.findall(rb'(?:src|href)="(/assets/[^"]+)"', body)
        assert files
        for file in files:
            status, headers, _ = client.raw("GET", file.decode())
            assert status == 200, file
            assert "immutable" in headers["Cache-Control"]
            assert headers["Content-Type"].split(";")[0] in {"text/javascript", "text/css", "image/svg+xml",
                                                             "application/manifest+json", "image/png"}
    status, headers, body = client.raw("GET", "/worker.js")
    assert status == 200 and headers["Cache-Control"] == "no-cache" and b"{{assets}}" not in body


# ---- programs


def test_a_training_loop_brings_questions_and_takes_labels(serve):
    server = serve(questions=[pair(0)])
    loop, rater = server.loop(), server.person()
    lines = "\n".join(json.dumps(pair(i, propensity=0.25, acquisition="dopt 1.5")) for i in range(1, 4))
    ndjson = {"Content-Type": "application/x-ndjson"}
    assert loop.post("/api/questions", lines, ndjson) == {"added": 3, "duplicates": 0}
    assert loop.post("/api/questions", lines, ndjson) == {"added": 0, "duplicates": 3}
    with pytest.raises(Refused) as refused:
        loop.post("/api/questions", lines + '\n{"prompt": 5}', ndjson)
    assert refused.value.status == 422 and "line 4" in refused.value.body["error"]["message"]
    for _ in range(4):
        rater.answer(rater.next())
    page = loop.get("/api/labels?limit=3")
    assert [a["sequence"] for a in page["answers"]] == [1, 2, 3] and page["next"] == 3
    rest = loop.get(f"/api/labels?after={page['next']}")
    assert [a["sequence"] for a in rest["answers"]] == [4]
    assert loop.get("/api/labels?after=4") == {"answers": [], "next": 4}
    assert status_of(loop.get, "/api/labels?after=-1") == 400
    for client in (server.client(), server.client(key="hone_wrong"), rater,
                   server.client(key=server.raters("key", "--role", "metrics").strip())):
        assert status_of(client.get, "/api/labels") == 401
        assert status_of(client.post, "/api/questions", lines, ndjson) == 401


def test_metrics_are_prometheus_text(serve):
    server = serve(questions=[pair(i) for i in range(5)])
    rater = server.person()
    rater.answer(rater.next())
    status, headers, body = server.client().raw("GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {}
    for line in body.decode().splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) hone_\w+ .+", line), line
        else:
            name, value = re.fullmatch(r'(hone_\w+(?:\{\w+="[^"]*"(?:,\w+="[^"]*")*\})?) ([-\d.e+]+)', line).groups()
            samples[name] = float(value)
    assert samples['hone_answers{project="default"}'] == 1
    assert samples[f'hone_rater_position{{project="default",rater="{rater.me["pseudonym"]}",bound="share"}}'] == 1
    assert samples['hone_outcomes{project="default",outcome="ties"}'] == 0
    assert samples['hone_questions{project="default"}'] == 5
    assert samples["hone_submit_seconds_count"] == 1 and samples["hone_submit_seconds_sum"] > 0


def test_the_overview_counts_what_was_said(serve):
    server = serve(questions=[pair(i) for i in range(12)], project={"overlap": 2})
    manager, raters = server.person("manager"), [server.person() for _ in range(2)]
    for rater in raters:
        for n in range(12):
            rater.answer(rater.next(), [ORDERED, {"outcome": "ordered", "ranks": [0, 0]}, {"outcome": "both_bad"},
                                        ORDERED][n % 4])
    overview = manager.get("/api/manage/overview?project=default")
    assert overview["queue"]["answers"] == 24 and overview["queue"]["complete"] == 12
    assert len(overview["hours"]) == 48 and sum(hour["answers"] for hour in overview["hours"]) == 24
    assert sum(day["answers"] for day in overview["days"]) == 24 and sum(day["ties"] for day in overview["days"]) == 6
    assert {r["pseudonym"] for r in overview["raters"]} == {r.me["pseudonym"] for r in raters}
    for rater in overview["raters"]:
        assert rater["answers"] == 12 and rater["ties"] == 3 and rater["both_bad"] == 3
        assert rater["position"]["of"] == 6 and rater["position"]["left"] == 6
    assert status_of(manager.get, "/api/manage/overview?project=nothing") == 404


# ---- starting and stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_seals_and_says_which_signal(serve, hone, number):
    server = serve(questions=[pair(i) for i in range(5)])
    rater = server.person()
    for _ in range(5):
        rater.answer(rater.next())
    assert server.stop(number) == 128 + number
    assert "sealed segment-" in server.output
    assert hone("verify", server.store).returncode == 0
    server.start()
    assert len(server.loop().get("/api/labels")["answers"]) == 5


def test_it_does_not_listen_beyond_this_machine_without_tls(hone, tmp_path):
    done = hone("collect", "--store", tmp_path / "s", "--listen", "0.0.0.0:0", code=2)
    assert "--tls-cert" in done.stderr and "--behind-proxy" in done.stderr
    assert not (tmp_path / "s").exists()
    hone("collect", code=2)
    hone("collect", "--store", tmp_path / "s", "--listen", "nonsense", code=2)
    hone("collect", "--store", tmp_path / "s", "--tls-cert", "a.pem", code=2)


def test_tls(serve, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=rate.example", "-addext", "subjectAltName=DNS:rate.example,IP:127.0.0.1",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    server = serve(questions=[pair(i) for i in range(30)], options=["--tls-cert", cert, "--tls-key", key])
    context = ssl.create_default_context(cafile=cert)
    rater = server.client(tls=context)
    assert server.owner.startswith("https://")
    rater.join(server.owner)
    assert rater.cookie.startswith("__Host-hone=")
    status, headers, _ = rater.raw("GET", "/api/me")
    assert status == 200 and headers["Strict-Transport-Security"]
    assert rater.raw("GET", "/", None, {"Host": "rate.example"})[0] == 200
    assert rater.raw("GET", "/", None, {"Host": "other.example"})[0] == 421
    for _ in range(30):
        rater.answer(rater.next(), {**ORDERED, "rationale": "x" * 5000})


def test_the_demo_is_ready_at_once(hone, tmp_path):
    begin = time.monotonic()
    server = Server(hone.binary, tmp_path, options=["--demo", "--run", tmp_path / "none"])
    server.options = server.options[2:]  # no project of its own
    with server:
        anyone = server.client()
        anyone.get("/api/me")
        assignment = anyone.next()
        assert len(assignment["texts"]) == 2
        time.sleep(assignment["dwell_ms"] / 1000)
        anyone.answer(assignment)
        assert time.monotonic() - begin < 10
        server.stop()
        assert "written by hand" in server.output


# ---- nothing lost


class Rater(SteadyRater):
    """Sends again whatever it got no receipt for."""

    def __init__(self, server, stop, receipts):
        super().__init__(server.person(), stop)
        self.receipts = receipts

    def answer(self, assignment, key, ranks):
        try:
            receipt = self.patient(
                lambda: self.client.answer(assignment, {"outcome": "ordered", "ranks": ranks}, key))["receipt"]
            self.receipts.append((key, receipt["sequence"], self.client.me["pseudonym"], ranks))
        except Refused as refused:
            assert refused.status == 409, refused

    def patient(self, call):
        while True:
            try:
                return call()
            except (OSError, ConnectionError, __import__("http").client.HTTPException):
                if self.stopped.is_set():
                    raise
                time.sleep(0.01)


def kill_and_restart(serve, kills, raters, questions):
    server = serve(questions=[pair(i) for i in range(questions)], project={"overlap": 2})
    server.forget_questions()
    port, stop, receipts = server.port, threading.Event(), []
    people = [Rater(server, stop, receipts) for _ in range(raters)]
    for person in people:
        person.start()
    chance = random.Random(1)
    slowest = 0.0
    for _ in range(kills):
        time.sleep(chance.uniform(0.02, 0.25))
        server.stop(signal.SIGKILL)
        begin = time.monotonic()
        server.start(port)
        slowest = max(slowest, time.monotonic() - begin)
    time.sleep(0.2)
    stop.set()
    for person in people:
        person.join(30)
        assert person.failure is None or isinstance(person.failure, (OSError, __import__("http").client.HTTPException)), \
            person.failure
    labels = {}
    loop, after = server.loop(), 0
    while page := loop.get(f"/api/labels?after={after}&limit=1000")["answers"]:
        for label in page:
            assert label["sequence"] not in labels
            labels[label["sequence"]] = label
        after = page[-1]["sequence"]
    assert len(receipts) > kills  # something happened between the kills
    assert len({key for key, *_ in receipts}) == len({sequence for _, sequence, *_ in receipts}) == len(receipts)
    for _, sequence, rater, ranks in receipts:  # 0 acknowledged lost
        assert labels[sequence]["rater"] == rater and labels[sequence]["body"]["ranks"] == ranks
    answers = collections.Counter((label["question"], label["rater"]) for label in labels.values())
    assert max(answers.values()) == 1  # 0 duplicated
    assert max(collections.Counter(question for question, _ in answers).values()) <= 2
    assert server.stop(signal.SIGTERM) == 143
    return server, slowest, len(receipts)


def test_kills_in_the_middle_lose_nothing(serve, hone):
    server, slowest, receipts = kill_and_restart(serve, 4, 4, 400)
    assert hone("verify", server.store).returncode == 0
    print(f"{receipts} receipts, slowest restart {slowest:.2f} s")


@pytest.mark.slow
def test_a_thousand_kills_lose_nothing(serve, hone):
    server, slowest, receipts = kill_and_restart(serve, 1000, 6, 20000)
    assert hone("verify", server.store).returncode == 0
    print(f"{receipts} receipts, slowest restart {slowest:.2f} s")


# ---- exact overlap


def crowd(serve, raters, questions, overlap, threads):
    """Half of the raters take a question and vanish; the others go on until nothing is left."""
    server = serve(questions=[pair(i) for i in range(questions)], project={"overlap": overlap, "lease_s": 2, "join": "open"})
    answered, lock = collections.Counter(), threading.Lock()

    def vanishing(_):
        client = Client(server.port)
        client.csrf = client.get("/api/me")["csrf"]
        client.next()
        client.connection.close()

    def staying(_):
        client = Client(server.port)
        client.csrf = client.get("/api/me")["csrf"]
        for _ in range(100000):
            answer = client.post("/api/next")
            if answer["assignment"] is None:
                if answer["why"] == "done":
                    break
                time.sleep(0.2)
                continue
            try:
                client.answer(answer["assignment"])
                with lock:
                    answered[answer["assignment"]["prompt"]] += 1
            except Refused as refused:
                assert refused.status == 409
        client.connection.close()

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for job in [pool.submit(vanishing if n % 2 else staying, n) for n in range(raters)]:
            job.result(timeout=600)
    assert set(answered.values()) == {overlap} and len(answered) == questions
    loop, after, stored = server.loop(), 0, collections.Counter()
    while page := loop.get(f"/api/labels?after={after}&limit=5000")["answers"]:
        stored.update(label["question"] for label in page)
        after = page[-1]["sequence"]
    assert set(stored.values()) == {overlap} and len(stored) == questions


def test_every_slot_is_answered_exactly_though_half_vanish(serve):
    crowd(serve, raters=60, questions=80, overlap=3, threads=12)


@pytest.mark.slow
def test_ten_thousand_raters(serve):
    crowd(serve, raters=10000, questions=5000, overlap=3, threads=64)
