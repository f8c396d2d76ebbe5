"""hone bench kernels: the figures of a filter as JSON, their table and picture, and devices that are not there."""

import json
import subprocess
import sys
import xml.etree.ElementTree as tree

import pytest
import torch

from conftest import ROOT


def test_figures_stand_beside_their_bound_and_become_a_table_and_a_picture(hone, tmp_path):
    raw, kept, svg = tmp_path / "raw.json", tmp_path / "kept.json", tmp_path / "kept.svg"
    hone("bench", "kernels", "--filter", "whiten|head_nll/1536", "--json", raw, "--", "--benchmark_min_time=0.001")
    rows = json.loads(raw.read_text())["benchmarks"]
    assert {row["name"].split("/")[0] for row in rows} == {"BM_whiten", "BM_head_nll"}
    for row in rows:
        assert row["ms"] > 0 and row["bound_ms"] > 0
        assert row["percent_of_limit"] == pytest.approx(100 * row["bound_ms"] / row["ms"])
        assert row["bytes/s" if "whiten" in row["name"] else "FLOP/s"] > 0
    script = ROOT / "experiments/bench/kernels_table.py"
    done = subprocess.run([sys.executable, script, raw, "--json", kept, "--svg", svg], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(kept.read_text())["rows"]] == ["head_nll/1536/128/2048", "whiten/1048576"]
    assert len(tree.fromstring(svg.read_text()).findall("{http://www.w3.org/2000/svg}rect")) == 3


def test_a_device_that_is_not_there_is_named(hone):
    done = hone("bench", "kernels", "--", "--device", "abacus", code=2)
    assert "--device: expected cpu or cuda, got 'abacus'" in done.stderr
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = hone("bench", "kernels", "--", "--device", "cuda", code=77)
    assert "no NVIDIA GPU on this machine" in done.stderr or "built with -DHONE_CUDA=ON" in done.stderr
