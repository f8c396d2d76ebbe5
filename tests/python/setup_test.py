"""scripts/setup.sh: what a person is told when the set-up cannot go on."""
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
