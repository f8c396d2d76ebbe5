"""TensorBoard itself reads the event file that the C++ test leaves."""

import os
import pathlib
import subprocess

import pytest

BINARY_DIR = pathlib.Path(os.environ.get("HONE_BINARY_DIR", pathlib.Path(__file__).parents[2] / "build"))


def test_tensorboard_reads_the_scalars(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    binary = BINARY_DIR / "tests" / "engine_metrics_event_file_test"
    if not binary.exists():
        pytest.skip(f"{binary} is not built")
    subprocess.run([binary, "--gtest_filter=EventFileTest.ScalarsReadBack"], check=True, timeout=60,
                   capture_output=True, env={**os.environ, "HONE_EVENTS_FOLDER": str(tmp_path)})
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("ppo/kl")] == [(1, 0.5), (300, 150.0)]
    assert events.Scalars("n" * 200)[1].value == pytest.approx(-1e30)
    assert events.Scalars("ppo/kl")[0].wall_time == 1700000000.25
