"""One named test for each class of hole that other annotation tools had (FEEDBACK.md, section 5), against a real
`hone collect`."""
import json
import re
import socket
import stat
import time

import pytest

from rater_service import ORDERED, exchange, pair, status_of

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`${7*7}{{nonce}}"
POLICIES = ["secret-policy-hash-aaaa", "secret-policy-hash-bbbb"]


def raw_status(port, head, body=b"", **options):
    answer = exchange(port, head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body, **options)
    return int(answer.split(b" ", 2)[1]) if answer else 0


# ---- default secrets


def test_no_default_secret_lets_anybody_in(serve):
    """Two stores have no secret in common, and nothing well known opens one."""
    one, two = serve(), serve()
    assert one.owner.split("#")[1] != two.owner.split("#")[1]
    assert status_of(two.client().join, one.owner) == 403
    rater = one.person()
    stolen = two.client()
    stolen.cookie = rater.cookie
    assert status_of(stolen.get, "/api/me") == 401
    for name, password in [("admin", "admin"), ("owner", "1234"), ("argilla", "12345678"), ("root", "")]:
        assert status_of(one.client().post, "/api/login", {"name": name, "password": password}) in (401, 429)
    for key in ["1234", "admin.apikey", "hone_", "null", ""]:
        assert status_of(one.client(key=key).get, "/api/labels") == 401


def test_secrets_at_rest_are_hashed_and_private(serve):
    server = serve(questions=[pair(0)])
    rater, loop = server.person(), server.loop()
    rater.post("/api/password", {"name": "ada", "password": "a long password"})
    unused = server.raters("invite").strip().split("#")[1]
    secrets = [rater.cookie.split("=")[1], loop.key, unused, server.owner.split("#")[1], "a long password", rater.csrf]
    for file in server.store.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for secret in secrets:
                assert secret.encode() not in content, file
        if file.name.startswith("accounts.sqlite"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_secret_in_any_output(serve):
    """KEY IN LOG: neither standard output nor standard error names what somebody sent or was given."""
    server = serve(questions=[pair(0)])
    rater, loop = server.person(), server.loop()
    rater.answer(rater.next())
    loop.get("/api/labels")
    wrong = "hone_" + "x" * 43
    status_of(server.client(key=wrong).get, "/api/labels")
    status_of(server.client().post, "/api/login", {"name": "ada", "password": "a wrong password"})
    server.stop()
    printed = server.output + (server.folder / "stderr.txt").read_text()
    for secret in [rater.cookie.split("=")[1], rater.csrf, loop.key, wrong, "a wrong password"]:
        assert secret not in printed


def test_a_key_in_the_address_is_no_key(serve):
    server = serve()
    key = server.raters("key").strip()
    for name in ("key", "api_key", "token", "access_token"):
        assert status_of(server.client().get, f"/api/labels?{name}={key}") == 401


# ---- cross-site scripting


def assert_inert(server, client, path):
    """What comes back as data is JSON that no browser runs, under a policy that lets nothing run."""
    status, headers, body = client.raw("GET" if not path.startswith("POST ") else "POST", path.removeprefix("POST "),
                                       None if not path.startswith("POST ") else "{}")
    assert headers["Content-Type"].startswith(("application/json", "text/plain"))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    return status, body


def test_stored_xss_through_every_text_field(serve):
    questions = [{"id": f"<{i}>", "kind": kind, "prompt": SCRIPT, "candidates": texts}
                 for i, (kind, texts) in enumerate([("pairwise", [SCRIPT, SCRIPT + "2"]), ("demonstration", []),
                                                    ("correction", [SCRIPT])])]
    server = serve(questions=questions, project={"title": SCRIPT, "guideline": SCRIPT, "span_labels": [SCRIPT]})
    rater, manager = server.person(), server.person("manager")
    me = rater.get("/api/me")
    assert me["project"]["title"] == SCRIPT
    assert rater.get("/api/guideline?hash=" + me["guideline_hash"])["markdown"] == SCRIPT
    for _ in questions:
        assignment = rater.next()
        assert assignment["prompt"] == SCRIPT
        body = {"pairwise": {**ORDERED, "rationale": SCRIPT}, "demonstration": {"outcome": "written", "text": SCRIPT},
                "correction": {"outcome": "written", "position": 0, "text": SCRIPT + "!"}}[assignment["kind"]]
        rater.answer(assignment, body, client={"device": SCRIPT})
    rater.post("/api/password", {"name": SCRIPT[:90], "password": "a long password"})
    manager.post("/api/manage/invitations", {"note": SCRIPT})
    for client, path in [(rater, "/api/me"), (rater, "POST /api/next"), (manager, "/api/manage/raters"),
                         (manager, "/api/manage/overview"), (server.loop(), "/api/labels"), (rater, "/metrics"),
                         (rater, "/api/guideline?hash=" + me["guideline_hash"])]:
        assert_inert(server, client, path)
    # The page itself is the same for everybody: no stored text is ever put into HTML.
    for path in ("/", "/manage"):
        _, headers, body = rater.raw("GET", path)
        assert b"alert(1)" not in body
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy and "require-trusted-types-for 'script'" in policy and "default-src 'none'" in policy


def test_control_characters_are_refused_at_every_door(serve, hone, tmp_path):
    """NUL ends a text for C programs and an escape drives a terminal: neither gets in, and the field is named."""
    server = serve(questions=[pair(0)], project={"languages": ["en"]})
    rater, manager, loop = server.person(), server.person("manager"), server.loop()
    assignment = rater.next()
    for control in ("\0", "\x1b[2J", "\x7f", "\x9b"):
        for refused in [
                lambda: rater.answer(assignment, {**ORDERED, "rationale": "a" + control}),
                lambda: rater.answer(assignment, {"outcome": "skipped", "reason": control}),
                lambda: rater.post("/api/password", {"name": "a" + control, "password": "a long password"}),
                lambda: manager.post("/api/manage/invitations", {"note": control}),
                lambda: manager.post("/api/manage/invitations", {"languages": [control]}),
                lambda: loop.post("/api/questions", pair(1, prompt=control)),
                lambda: loop.post("/api/questions", pair(1, candidates=["x", control])),
                lambda: loop.post("/api/questions", {"messages": [{"role": "user", "content": control}], "a": "x", "b": "y"})]:
            assert status_of(refused) == 422
    rater.answer(assignment, {**ORDERED, "rationale": "one\n\ttwo"})
    for text, file, field in [('title = "a\\u0000b"\n', "project.toml", "title"),
                              (json.dumps(pair(0)) + "\n" + json.dumps(pair(1, prompt="\0")) + "\n", "questions.jsonl:2", "prompt")]:
        path = tmp_path / file.split(":")[0]
        path.write_text(text)
        option = "--project" if path.suffix == ".toml" else "--questions"
        done = hone("collect", "--store", tmp_path / "other", "--listen", "127.0.0.1:0", option, path, code=2)
        assert f"{file}: {field}: " in done.stderr and "control characters" in done.stderr, done.stderr


def test_stored_xss_through_an_import(serve, hone, tmp_path):
    """What others' files bring is data too."""
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": SCRIPT, "chosen": SCRIPT, "rejected": "x"}) + "\n")
    server = serve(questions=[pair(0)])
    server.stop()
    hone("import", "--format", "preference-jsonl", "--input", tmp_path / "pairs.jsonl", "--store", server.store)
    server.start()
    manager = server.person("manager")
    for path in ("/api/manage/overview", "/api/manage/raters", "/metrics"):
        assert_inert(server, manager, path)


def test_reflected_xss(serve):
    """No route repeats what the address, a header or a body says as something a browser would run."""
    server = serve(questions=[pair(0)])
    rater, manager = server.person(), server.person("manager")
    quoted = "%3Cscript%3Ealert(1)%3C/script%3E"
    for client, path in [(rater, f"/api/{quoted}"), (rater, f"/api/guideline?hash={quoted}"), (rater, f"/{quoted}"),
                         (manager, f"/api/manage/overview?project={quoted}"), (rater, f"/assets/{quoted}"),
                         (server.loop(), f"/api/labels?after={quoted}"), (server.loop(), f"/api/labels?project={quoted}")]:
        status, body = assert_inert(server, client, path)
        assert b"<script" not in body, path
    for headers in ({"Host": "<script>alert(1)</script>"}, {"Origin": "<script>"}, {"Idempotency-Key": "<script>"}):
        status, answer_headers, body = rater.raw("POST", "/api/answers", "{}", headers)
        assert status in (400, 403, 421) and b"<script" not in body and "<script" not in str(answer_headers)


def test_every_answer_has_the_security_headers(serve):
    server = serve()
    rater = server.person()
    answers = [rater.raw("GET", path)[1] for path in ("/", "/manage", "/api/me", "/nothing", "/metrics", "/worker.js")]
    answers.append(rater.raw("POST", "/api/next", "{")[1])
    raw = exchange(server.port, b"NONSENSE\r\n\r\n").decode()
    for headers in answers:
        for name in ("X-Content-Type-Options", "Content-Security-Policy", "X-Frame-Options", "Referrer-Policy",
                     "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Permissions-Policy", "Cache-Control"):
            assert headers[name] and name in raw, name
        assert headers["Access-Control-Allow-Origin"] is None and headers["Server"] is None


# ---- requests of other sites


def test_csrf(serve):
    server = serve(questions=[pair(0)], project={"join": "invitation"})
    rater = server.person()
    body = json.dumps({})
    for changed in ({"X-CSRF-Token": None}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64},
                    {"X-CSRF-Token": server.person().csrf}, {"Origin": "http://evil.example"}, {"Origin": "null"},
                    {"Origin": f"http://127.0.0.1:{server.port + 1}"}, {"Sec-Fetch-Site": "cross-site"},
                    {"Sec-Fetch-Site": "same-site"}):
        assert rater.raw("POST", "/api/next", body, changed)[0] == 403, changed
    # A form of another site can only send these types.
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
        assert rater.raw("POST", "/api/next", body, {"Content-Type": kind})[0] == 415
    assert rater.raw("POST", "/api/next", body, {"Origin": f"http://127.0.0.1:{server.port}",
                                                 "Sec-Fetch-Site": "same-origin"})[0] == 200
    cookie = exchange(server.port, ("POST /api/join HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                    "Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (
                                        (lambda b: (len(b), b))(json.dumps({"invitation": server.raters("invite").strip().split("#")[1]}))
                                    )).encode()).decode()
    attributes = re.search(r"Set-Cookie: (.*)\r\n", cookie).group(1)
    assert "SameSite=Strict" in attributes and "HttpOnly" in attributes and "Path=/" in attributes and "Domain" not in attributes


def test_no_cors(serve):
    server = serve()
    rater = server.person()
    status, headers, _ = rater.raw("OPTIONS", "/api/next", None, {"Origin": "http://evil.example",
                                                                  "Access-Control-Request-Method": "POST"})
    assert status in (403, 404, 405)
    for method, path in (("OPTIONS", "/api/next"), ("GET", "/api/me"), ("GET", "/")):
        headers = rater.raw(method, path, None, {"Origin": "http://evil.example"})[1]
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_dns_rebinding(serve):
    """A stranger's name that suddenly points here is not answered."""
    server = serve()
    rater = server.person()
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "localhost.evil.example", "",
                 "[::1].evil", "a b"):
        assert rater.raw("GET", "/api/me", None, {"Host": host})[0] in (400, 421), host
    for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]:80"):
        assert rater.raw("GET", "/api/me", None, {"Host": host})[0] == 200, host
    named = serve(options=["--host", "rate.example.org"])
    assert named.client().raw("GET", "/", None, {"Host": "rate.example.org"})[0] == 200


# ---- files, addresses, programs


def test_path_traversal(serve):
    server = serve()
    rater = server.person()
    asset = re.search(rb'"(/assets/[0-9a-f]+)/', rater.raw("GET", "/")[2]).group(1).decode()
    for path in ("/../../etc/passwd", "/assets/../../../etc/passwd", f"{asset}/../../../../etc/passwd",
                 f"{asset}/..%2f..%2f..%2fetc%2fpasswd", f"{asset}/%2e%2e/%2e%2e/etc/passwd", f"{asset}//etc/passwd",
                 f"{asset}/..\\..\\etc\\passwd", "/assets/accounts.sqlite", "/store/accounts.sqlite", "/accounts.sqlite",
                 f"{asset}/", asset, "/assets/0000000000000000/app.js", "/%00", "/.git/config", f"{asset}/README.md",
                 "/api/manage/raters/../../me", "/api/guideline?hash=../../accounts.sqlite"):
        status, _, body = rater.raw("GET", path)
        assert status in (400, 404) and b"root:" not in body and b"SQLite" not in body, path


def test_ssrf_by_absence(serve):
    """The server never opens a connection: with connect() denied to it everything still works."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.5)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    server = serve(questions=[{"id": url, "prompt": f"![a]({url}) <img src='{url}'>", "candidates": [url, f"file:///etc/passwd {url}"]}],
                   project={"guideline": f"![a]({url}) {url}"})
    rater, loop = server.person(), server.loop()
    assignment = rater.next()
    rater.answer(assignment, {**ORDERED, "rationale": url}, client={"device": url})
    loop.post("/api/questions", json.dumps({"prompt": url, "candidates": [url, "b"], "id": "u"}),
              {"Content-Type": "application/x-ndjson"})
    with pytest.raises(socket.timeout):
        listener.accept()
    listener.close()


def test_csv_injection(serve, hone, tmp_path):
    """No cell of an export begins with what a spreadsheet would run."""
    evil = "=HYPERLINK(\"http://evil\")"
    server = serve(questions=[{"id": "q", "prompt": evil, "candidates": ["+1+1", "-2@SUM(1)"]},
                              {"id": "w", "kind": "demonstration", "prompt": "@x", "candidates": []}])
    rater = server.person()
    for _ in range(2):
        assignment = rater.next()
        rater.answer(assignment, {**ORDERED, "rationale": "\t=1+1"} if assignment["kind"] == "pairwise" else
                     {"outcome": "written", "text": "=cmd|' /C calc'!A0"})
    server.stop()
    output = tmp_path / "out.csv"
    hone("export", server.store, "--format", "csv", "--output", output)
    import csv
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert any("HYPERLINK" in cell for row in rows for cell in row)
    for row in rows:
        for cell in row:
            assert not cell.lstrip().startswith(("=", "@", "\t", "\r")), cell
            assert not re.match(r"[+-](?!\d+(\.\d+)?$)", cell), cell


def test_nothing_is_evaluated(serve):
    """DESERIALISATION: bodies are JSON, never objects of a language; odd numbers and keys do no harm."""
    server = serve(questions=[pair(0)])
    rater = server.person()
    assignment = rater.next()
    for body in ('{"__proto__": {"role": "owner"}, "held": []}', '{"held": [], "held": ["x"]}', '{"a": 1e999}'):
        assert rater.raw("POST", "/api/next", body)[0] in (200, 400)
    for token in ("1e400", "-1", "99999999999999999999999", "1.5", '"1"', "null", "[]", "{}", "NaN"):
        body = '{"assignment": "%s", "token": %s, "body": {"outcome": "both_bad"}}' % (assignment["id"], token)
        assert rater.raw("POST", "/api/answers", body, {"Idempotency-Key": "k"})[0] in (400, 409), token
    assert rater.get("/api/me")["role"] == "rater"


# ---- people against people


def test_session_fixation(serve):
    """A secret that somebody planted is never the session's."""
    server = serve()
    victim = server.client()
    victim.cookie = "hone=planted-by-an-attacker"
    victim.join(server.raters("invite").strip())
    assert victim.cookie != "hone=planted-by-an-attacker"
    attacker = server.client()
    attacker.cookie = "hone=planted-by-an-attacker"
    assert status_of(attacker.get, "/api/me") == 401
    # An attacker's own live session, planted: signing in ends it rather than taking it over.
    attacker = server.person()
    planted = attacker.cookie
    victim = server.client()
    victim.cookie = planted
    victim.join(server.raters("invite").strip())
    assert victim.cookie != planted
    # After signing out the secret is worth nothing.
    old = victim.cookie
    victim.post("/api/logout")
    victim.cookie = old
    assert status_of(victim.get, "/api/me") == 401


def test_idor_between_raters(serve):
    """Nothing of one rater's can be read, changed, answered or taken back by another."""
    server = serve(questions=[pair(i) for i in range(4)])
    ada, eve = server.person(), server.person()
    hers = ada.next()
    assert status_of(eve.answer, hers) == 409
    assert eve.post("/api/renew", {"assignment": hers["id"], "token": hers["token"]}) == {"alive": False}
    assert status_of(eve.call, "PUT", "/api/draft",
                     {"assignment": hers["id"], "token": hers["token"], "body": {"outcome": "both_bad"}}) == 409
    receipt = ada.answer(hers, key="the-same-key")["receipt"]
    # Another's idempotency key gives no receipt of theirs.
    mine = eve.next()
    assert eve.answer(mine, key="the-same-key")["receipt"]["sequence"] != receipt["sequence"]
    eve.post("/api/undo")
    assert status_of(eve.post, "/api/undo") == 422  # nothing of hers left, and nothing of Ada's
    assert ada.get("/api/statistics")["answers"] == 1
    for path in (f"/api/manage/raters/{ada.me['pseudonym']}/revoke", f"/api/manage/raters/{ada.me['pseudonym']}/erase"):
        assert status_of(eve.post, path) == 403
    # Held assignments of another are no way to see them.
    assert eve.post("/api/next", {"held": [hers["id"]]})["assignment"]["id"] != hers["id"]


def test_assignment_ids_say_nothing(serve):
    server = serve(questions=[pair(i) for i in range(6)])
    rater = server.person()
    ids = []
    for _ in range(6):
        assignment = rater.next()
        ids.append(assignment["id"])
        rater.answer(assignment)
    assert len(set(ids)) == 6 and all(len(each) >= 16 for each in ids)
    assert not any(re.search(r"q\d|r-", each) for each in ids)


def test_blindness_of_every_byte(serve):
    """Policies, samplers, reward models, gold, propensity and ids never reach a rater's browser."""
    def question(i, **more):
        return {"id": f"internal-id-{i}", "prompt": f"prompt {i}", "propensity": 0.123456, "acquisition": "secret-rule",
                "reward_model": "secret-reward-hash", "group": "secret-group",
                "candidates": [{"id": f"candidate-id-{c}", "text": f"text {i} {c} by the SecretModel",
                                "policy": POLICIES[c], "sampler": {"temperature": 0.987654}} for c in range(2)], **more}

    gold = {"outcome": "ordered", "ranks": [0, 1]}
    server = serve(questions=[question(0), question(1, gold=json.dumps(gold)), question(2), question(3)],
                   project={"scrub": ["SecretModel"], "gold_share": 0.3, "repeat_share": 0.2})
    rater, expert, manager = server.person(), server.person("expert"), server.person("manager")
    for client in (rater, expert):
        for n in range(8):
            assignment = client.next()
            if assignment is None:
                break
            # Of two one at most is gold, whose flag concerns no expert.
            client.answer(assignment, {"outcome": "flagged", "flags": ["unsafe"]} if n < 2 and client is rater else ORDERED)
        client.post("/api/undo")
        client.get("/api/me")
        client.get("/api/statistics")
        status_of(client.get, "/api/guideline?hash=x")
        for path in ("/", "/join", "/worker.js"):
            client.raw("GET", path)
    manager.get("/api/manage/overview")
    manager.get("/api/manage/raters")
    for client in (rater, expert, manager):
        for word in (*POLICIES, "secret-policy", "0.987654", "temperature", "secret-reward", "secret-rule", "0.123456",
                     "propensity", "candidate-id", "internal-id", "secret-group", "SecretModel", "is_gold", '"gold":true'):
            assert word.encode() not in client.seen, word
    assert b"by the" in rater.seen  # the rest of the text was shown
    # The answer of a gold question looks like any other's.
    assert b"gold" not in re.sub(rb"(?s)<script.*?</script>|\.gold\w*", b"", rater.seen)


# ---- limits


def test_oversized_bodies(serve):
    server = serve(questions=[pair(0)])
    rater = server.person()
    big = 3 << 20
    for path, limit in (("/api/next", 16 << 10), ("/api/answers", 1 << 20), ("/api/login", 16 << 10), ("/api/questions", 0)):
        # Refused from the head alone: the body is never waited for.
        head = (f"POST {path} HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {big}")
        assert raw_status(server.port, head) in (401, 413), path
    assert raw_status(server.port, "GET /api/me HTTP/1.1\nHost: localhost\nContent-Length: 5", b"hello") == 413
    assert raw_status(server.port, "GET / HTTP/1.1\nHost: localhost\nX: " + "y" * 20000) == 431
    assert raw_status(server.port, "GET /" + "y" * 5000 + " HTTP/1.1\nHost: localhost") == 414
    assignment = rater.next()
    assert status_of(rater.answer, assignment, {**ORDERED, "rationale": "x" * 1100000}) == 413
    assert rater.answer(assignment)["receipt"]["sequence"] == 1


def test_slow_bodies_hold_nobody_up(serve):
    """Hundreds of trickling connections: others are answered at once meanwhile, and a trickle is cut off."""
    server = serve(questions=[pair(0)])
    rater = server.person()
    slow = []
    for _ in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(b"POST /api/next HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        slow.append(connection)
    begin = time.monotonic()
    rater.answer(rater.next())
    assert time.monotonic() - begin < 2
    head = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head.sendall(b"GET / HTTP/1.1\r\nHo")
    begin = time.monotonic()
    answer = b""
    while b"\r\n\r\n" not in answer and time.monotonic() - begin < 19:
        try:
            head.settimeout(1)
            if not (piece := head.recv(4096)):
                break
            answer += piece
        except socket.timeout:
            head.sendall(b"s")  # keeps trickling
    assert b" 408 " in answer
    for connection in [head, *slow]:
        connection.close()


def test_rate_limits(serve):
    server = serve(questions=[pair(0)], limits=True)
    rater = server.person()
    statuses = [rater.raw("GET", "/api/statistics")[0] for _ in range(150)]
    assert statuses[0] == 200 and 429 in statuses and statuses.index(429) >= 50
    status, headers, _ = rater.raw("GET", "/api/statistics")
    assert status == 200 or int(headers["Retry-After"]) >= 1
    other = server.person()
    assert other.raw("GET", "/api/statistics")[0] == 200  # another rater is not held up


def test_guessing_is_slowed(serve):
    server = serve(limits=True)
    guesser = server.client()
    statuses = [guesser.raw("POST", "/api/login", json.dumps({"name": "owner", "password": f"guess {n} guess"}))[0]
                for n in range(14)]
    assert statuses[0] == 401 and statuses[-1] == 429
    statuses = [guesser.raw("POST", "/api/join", json.dumps({"invitation": "x"}))[0] for n in range(60)]
    assert statuses[0] == 403 and statuses[-1] == 429
    # Whoever has a link is let in all the same: nobody guesses 256 bits.
    server.client().join(server.owner)


def test_no_accounts_through_other_sites(serve):
    server = serve(project={"join": "open"})
    assert server.client().raw("GET", "/api/me", None, {"Sec-Fetch-Site": "cross-site"})[0] == 401
    assert server.client().raw("GET", "/api/me", None, {"Sec-Fetch-Site": "same-origin"})[0] == 200
    assert len(json.loads(server.raters("list", "--json"))["raters"]) == 1


# ---- two readings of one request


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("head, status", [
    ("POST /api/login HTTP/1.1\nHost: localhost\nContent-Length: 4\nTransfer-Encoding: chunked", 501),
    ("POST /api/login HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", 501),
    ("POST /api/login HTTP/1.1\nHost: localhost\nTransfer-Encoding: xchunked", 501),
    ("POST /api/login HTTP/1.1\nHost: localhost\nTransfer-Encoding : chunked", 400),
    ("POST /api/login HTTP/1.1\nHost: localhost\nContent-Length: 0\nContent-Length: 44", 400),
    ("POST /api/login HTTP/1.1\nHost: localhost\nContent-Length: 0, 44", 400),
    ("POST /api/login HTTP/1.1\nHost: localhost\nContent-Length: -1", 400),
    ("POST /api/login HTTP/1.1\nHost: localhost\n Content-Length: 44", 400),
    ("POST /api/login HTTP/1.1\nHost: localhost\nHost: evil.example", 400),
    ("GET http://evil.example/ HTTP/1.1\nHost: localhost", 400),
    ("GET / HTTP/1.1\nHost: localhost\nX: a\rB: c", 400),
    ("GET / HTTP/1.1", 400),
    ("PRI * HTTP/2.0", 505),
])
def test_header_smuggling(serve, head, status):
    server = serve()
    answer = exchange(server.port, head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + SMUGGLED)
    assert int(answer.split(b" ", 2)[1]) == status, answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1  # what followed was not read as a request


def test_responses_cannot_be_split(serve):
    server = serve()
    rater = server.person()
    for path in ("/api/guideline?hash=%0d%0aSet-Cookie:%20hone=evil", "/%0d%0aX-Evil:%201"):
        _, headers, _ = rater.raw("GET", path)
        assert headers["X-Evil"] is None and headers["Set-Cookie"] is None


def test_garbage_never_stops_the_server(serve):
    """Random bytes, cut-off requests, binary bodies: each connection ends, the service goes on."""
    import random
    chance = random.Random(7)
    server = serve(questions=[pair(0)])
    rater = server.person()
    head = f"POST /api/answers HTTP/1.1\r\nHost: localhost\r\nCookie: {rater.cookie}\r\nX-CSRF-Token: {rater.csrf}\r\n" \
           "Content-Type: application/json\r\nIdempotency-Key: k\r\nConnection: close\r\n"
    body = json.dumps({"assignment": "a", "token": 1, "body": ORDERED, "client": {}})
    for n in range(150):
        mutated = bytearray((head + f"Content-Length: {len(body)}\r\n\r\n" + body).encode())
        for _ in range(chance.randrange(1, 8)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        if n % 3 == 0:
            mutated = mutated[:chance.randrange(len(mutated))]
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(bytes(mutated))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert rater.answer(rater.next())["receipt"]["sequence"] == 1
    assert server.process.poll() is None


# ---- erasure


def test_erasing_a_person(serve, hone):
    """Answers, account and sessions are gone from every file; what others said stays."""
    server = serve(questions=[{"id": f"w{i}", "kind": "demonstration", "prompt": f"write {i}", "candidates": []} for i in range(4)])
    ada, eve, owner = server.person(), server.person(), server.person("owner")
    for n in range(2):
        ada.answer(ada.next(), {"outcome": "written", "text": f"words of Ada {n}"})
        eve.answer(eve.next(), {"outcome": "written", "text": f"words of Eve {n}"})
    server.stop()  # sealed
    server.start()
    owner.port = server.port
    owner.connection = None
    assert status_of(server.person("manager").post, f"/api/manage/raters/{ada.me['pseudonym']}/erase") == 403
    assert owner.post(f"/api/manage/raters/{ada.me['pseudonym']}/erase") == {"answers": 2}
    server.stop()
    assert hone("verify", server.store).returncode == 0
    everything = b"".join(f.read_bytes() for f in server.store.rglob("*") if f.is_file())
    assert b"words of Ada" not in everything and ada.me["pseudonym"].encode() not in everything
    assert b"words of Eve" in everything
