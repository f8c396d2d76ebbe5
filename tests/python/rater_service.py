"""A real `hone collect` and the people and programs that talk to it, for service_test and security_test."""
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading
import time
import uuid

import pytest

PROJECT = {
    "id": "default", "title": "Which is better?", "guideline": "# Read both", "overlap": 1,
    "repeat_share": 0.0, "gold_share": 0.0, "dwell_ms": 0, "dwell_ms_per_100_chars": 0, "rationale_share": 0.0,
}
ORDERED = {"outcome": "ordered", "ranks": [0, 1], "strength": 3}


def toml(values):
    """Flat keys first, then `dimensions` as tables."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if key != "dimensions"]
    for dimension in values.get("dimensions", []):
        lines += ["[[dimensions]]", *(f"{key} = {json.dumps(value)}" for key, value in dimension.items())]
    return "\n".join(lines) + "\n"


def pair(index, **more):
    return {"id": f"q{index}", "prompt": f"prompt {index}", "candidates": [f"answer A{index}", f"answer B{index}"], **more}


class Refused(Exception):
    def __init__(self, status, body, headers):
        super().__init__(f"{status} {body}")
        self.status, self.body, self.headers = status, body, headers

    @property
    def code(self):
        return self.body["error"]["code"]


def status_of(call, *arguments, **options):
    """The HTTP status of a call that is refused."""
    with pytest.raises(Refused) as refused:
        call(*arguments, **options)
    return refused.value.status


class Client:
    """One browser or program: keeps its connection, its cookie and its token."""

    def __init__(self, port, tls=None, key=None):
        self.port, self.tls, self.key = port, tls, key
        self.cookie = self.csrf = None
        self.connection = None
        self.seen = b""  # every byte that reached it

    def raw(self, method, path, body=None, headers=()):
        """(status, headers, bytes); connects again when the server is new."""
        send = {"Content-Type": "application/json"} if method != "GET" else {}
        if self.cookie:
            send["Cookie"] = self.cookie
        if self.csrf and method != "GET":
            send["X-CSRF-Token"] = self.csrf
        if self.key:
            send["Authorization"] = f"Bearer {self.key}"
        send.update(dict(headers))
        send = {name: value for name, value in send.items() if value is not None}
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if self.connection is None:
            self.connection = (http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
                               if self.tls else http.client.HTTPConnection("127.0.0.1", self.port, timeout=30))
        try:
            self.connection.request(method, path, body=body, headers=send)
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise
        cookie = answer.getheader("Set-Cookie")
        if cookie:
            self.cookie = cookie.split(";")[0]
        self.seen += str(answer.headers).encode() + content
        return answer.status, answer.headers, content

    def call(self, method, path, body=None, headers=()):
        status, answer_headers, content = self.raw(method, path, body, headers)
        assert answer_headers["Content-Type"].startswith("application/json"), (status, content)
        parsed = json.loads(content)
        if status != 200:
            raise Refused(status, parsed, answer_headers)
        if "csrf" in parsed:
            self.csrf = parsed["csrf"]
        return parsed

    def get(self, path, **headers):
        return self.call("GET", path, None, headers)

    def post(self, path, body=None, headers=()):
        return self.call("POST", path, {} if body is None else body, headers)

    def join(self, link):
        return self.post("/api/join", {"invitation": link.split("#")[-1]})

    def next(self):
        return self.post("/api/next")["assignment"]

    def answer(self, assignment, body=ORDERED, key=None, client=None):
        return self.post("/api/answers",
                         {"assignment": assignment["id"], "token": assignment["token"], "body": body,
                          "client": client or {"submit_ms": 1200}},
                         {"Idempotency-Key": key or str(uuid.uuid4())})


class Server:
    """`hone collect` on a store of its own, with a project as TOML or what differs from PROJECT. `owner` is the link of
    the first start; started again, it keeps its port."""

    def __init__(self, binary, folder, project=None, questions=(), options=(), env=None, limits=False):
        self.binary, self.folder, self.store = binary, folder, folder / "store"
        folder.mkdir(parents=True, exist_ok=True)
        text = project if isinstance(project, str) else toml({**PROJECT, **(project or {})})
        (folder / "project.toml").write_text(text, encoding="utf-8")
        (folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
        self.options = ["--project", folder / "project.toml", *options]
        if questions:
            self.options += ["--questions", folder / "questions.jsonl"]
        if not limits:
            self.options += ["--rater-rate", "0", "--address-rate", "0"]
        self.env = {**os.environ, **(env or {})}
        self.process = self.port = self.owner = None
        self.output = ""

    def start(self, port=None):
        port = port or self.port or 0
        self.log = open(self.folder / "stderr.txt", "ab")
        self.printed = open(self.folder / f"stdout-{time.monotonic_ns()}.txt", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [str(self.binary), "collect", "--store", str(self.store), "--listen", f"127.0.0.1:{port}",
             *map(str, self.options)], stdout=self.printed, stderr=self.log, env=self.env)
        deadline = time.monotonic() + 60
        lines = ""
        # The owner's link comes with the address, in one flush.
        while not re.search(r"serving \S+\n", lines):
            assert self.process.poll() is None and time.monotonic() < deadline, \
                lines + (self.folder / "stderr.txt").read_text()
            time.sleep(0.005)
            lines = pathlib.Path(self.printed.name).read_text(encoding="utf-8")
        self.address = re.search(r"serving (\S+)", lines).group(1)
        self.port = int(self.address.rsplit(":", 1)[1])
        link = re.search(r"\S+/join#\S+", lines)
        self.owner = link.group(0) if link else self.owner
        return self

    def client(self, **options):
        return Client(self.port, **options)

    def person(self, role="rater", **options):
        """Somebody who was invited by `hone raters invite` and has joined."""
        client = self.client(**options)
        client.me = client.join(self.raters("invite", "--role", role).strip())
        return client

    def invite(self, *options):
        return self.raters("invite", "--url", self.address, *options).strip().splitlines()[-1]

    def forget_questions(self):
        """Starts without their file from now on: they are in the store."""
        at = self.options.index("--questions")
        del self.options[at:at + 2]

    def segments(self):
        return sorted((self.store / "segments").glob("*.h5"))

    def raters(self, verb, *arguments, code=0):
        done = subprocess.run([str(self.binary), "raters", verb, "--store", str(self.store), *map(str, arguments)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr if code else done.stdout

    def loop(self):
        return self.client(key=self.raters("key", "--role", "loop").strip())

    def stop(self, signal_number=signal.SIGTERM):
        if self.process is None:
            return None
        self.process.send_signal(signal_number)
        code = self.process.wait(60)
        self.output += pathlib.Path(self.printed.name).read_text(encoding="utf-8")
        self.printed.close()
        self.log.close()
        self.process = None
        return code

    def kill(self):
        return self.stop(signal.SIGKILL)

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop(signal.SIGKILL)


class SteadyRater(threading.Thread):
    """Answers until told to stop or until nothing is left. A test's own says what to send, and which failures of a
    call to sit out by making it again, with the same key."""

    def __init__(self, client, stopped):
        super().__init__(daemon=True)
        self.client, self.stopped, self.failure = client, stopped, None

    def run(self):
        try:
            while not self.stopped.is_set():
                assignment = self.patient(lambda: self.client.post("/api/next"))["assignment"]
                if assignment is None:
                    return
                self.answer(assignment, str(uuid.uuid4()), random.choice([[0, 1], [1, 0], [0, 0]]))
        except Exception as failure:  # noqa: BLE001: reported by the test
            self.failure = failure

    def answer(self, assignment, key, ranks):
        raise NotImplementedError

    def patient(self, call):
        raise NotImplementedError


def exchange(port, data, timeout=10):
    """Raw bytes out, everything back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(socket.timeout, ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer
