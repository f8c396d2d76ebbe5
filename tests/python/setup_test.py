"""scripts/setup.sh: what a person is told when the set-up cannot go on."""
import hashlib
import subprocess

import pytest

from conftest import ROOT


def failing_step(tmp_path, says):
    """A step of the set-up that says `says` and fails, in a checkout of its own."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/setup.sh").write_text((ROOT / "scripts/setup.sh").read_text())
    (tmp_path / "says.txt").write_text(says)
    script = f'source "{tmp_path}/scripts/setup.sh"; step "some step" bash -c \'cat "{tmp_path}/says.txt"; exit 100\''
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("says, expected", [
    ("Err:1 http://deb.debian.org\n  Temporary failure resolving 'deb.debian.org'\nE: Unable to fetch some archives", "network: "),
    ("NewConnectionError('Failed to establish a new connection: [Errno 101] Network is unreachable')\nERROR: No matching "
     "distribution found", "network: "),
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk: "),
])
def test_a_reason_that_a_person_can_mend_is_one_line(tmp_path, says, expected):
    done = failing_step(tmp_path, says)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 2, done.stderr  # "==> some step ..." and why not
    assert lines[1].startswith("hone: " + expected) and "some-step.log" in lines[1], done.stderr


def test_another_reason_shows_the_end_of_the_log(tmp_path):
    done = failing_step(tmp_path, "\n".join(f"line {i}" for i in range(100)))
    assert done.returncode == 1
    assert "line 99" in done.stderr and "line 75" in done.stderr and "line 74\n" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"hone: some step failed; the whole log is {tmp_path}/build/logs/some-step.log"


REVIEWS = b"as pip would fetch them"
NAME = "vaderSentiment-3.3.2.tar.gz"


def fetching(tmp_path, function, pip):
    """`function` of setup.sh in a checkout of its own, whose pip is the script `pip`."""
    (tmp_path / "scripts").mkdir(parents=True)
    (tmp_path / "scripts/setup.sh").write_text((ROOT / "scripts/setup.sh").read_text())
    digest = hashlib.sha256(REVIEWS).hexdigest()
    (tmp_path / "requirements-data.txt").write_text(f"vaderSentiment==3.3.2 --hash=sha256:{digest}\n")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n" + pip)
    python.chmod(0o755)
    script = f'source "{tmp_path}/scripts/setup.sh"; {function}; echo went on'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60,
                          env={"PATH": "/usr/bin:/bin", "HONE_CACHE": str(tmp_path / "cache")})


OFFLINE = "echo 'Temporary failure in name resolution'; exit 1\n"


def test_the_reviews_are_fetched_once(tmp_path):
    done = fetching(tmp_path, "fetch_data; fetch_data", f"echo >>'{tmp_path}/calls'; printf '{REVIEWS.decode()}' >'{tmp_path}/cache/{NAME}'\n")
    assert done.returncode == 0 and done.stdout == "went on\n", done.stderr
    assert (tmp_path / "calls").read_text() == "\n"
    assert (tmp_path / "cache" / NAME).read_bytes() == REVIEWS


def test_without_a_network_quickstart_ends_and_the_tests_go_on(tmp_path):
    ends = fetching(tmp_path / "ends", "fetch_data", OFFLINE)
    assert ends.returncode == 1 and ends.stdout == "", ends.stderr
    assert "hone: network: " in ends.stderr
    goes_on = fetching(tmp_path / "goes_on", "fetch_data_or_skip", OFFLINE)
    assert goes_on.returncode == 0 and goes_on.stdout == "went on\n", goes_on.stderr
    assert "hone: network: " in goes_on.stderr and "are skipped" in goes_on.stderr.splitlines()[-1]


def test_other_reviews_are_named(tmp_path):
    done = fetching(tmp_path, "fetch_data", f"echo other >'{tmp_path}/cache/{NAME}'\n")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("hone: data: expected "), done.stderr
