"""What the compiler says of the CUDA kernels' registers: the hot ones do not spill and stay small enough for the blocks that their files
count on. The reports are left in the build tree by the build (scripts/cmake/keep_resource_report)."""
import os
import pathlib
import re

import pytest

SOURCE = pathlib.Path(os.environ["HONE_SOURCE_DIR"])
REPORTS = pathlib.Path(os.environ["HONE_BINARY_DIR"]) / "ptxas"

# The kernels that steps of training and decoding wait for, and the registers that a thread of them may use: 65536 registers an SM
# hold 2048 threads at 32, 1024 at 64, 512 at 128. None may spill on sm_90, which they are tuned on; elsewhere a register or two may.
HOT = {
    "adamw_kernel": 48,
    "advantages_kernelI": 128,
    "sample_kernelI": 64,
    r"sample_filtered_kernelI\w*Bfloat16": 128,
    r"partial_sums_of_runs_kernel\w*policy_loss_cu": 80,
    r"policy_sequences_kernelIf\w*PolicyFormE0\w*CutILi128ELi128E": 80,  # the usual form and length
    "policy_sequences_kernel": 128,
    r"ranking_kernelIfLb[01]ELb1E": 64,  # Plackett-Luce
    "ranking_kernel": 128,
    r"partial_sums_of_runs_kernel\w*value_loss_cu": 64,
    r"partial_sums_of_runs_kernel\w*preference_loss_cu": 64,
    r"partial_sums_of_runs_kernel\w*direct_loss_cu": 80,
    "held_group_kernel": 64,
    "head_rows_forward_kernel": 48,
    "head_rows_backward_kernel": 48,
    "whiten_kernel": 40,
    "dropout_kernel": 40,
    "rms_norm_kernel": 64,
    "rms_norm_held_kernel": 64,
    "rms_norm_backward_kernel": 64,
    r"rms_norm_backward_held_kernel\w*Lb1E": 128,  # aligned rows
    r"swiglu_kernelILb1E": 64,  # aligned rows
    "attend_kernel": 128,
    "attend_tiles_kernel": 255,
    "queries_backward_kernel": 255,
    "keys_backward_kernel": 255,
    r"attend_rows_kernelILi(64|128)E": 168,
}
# A few registers of addresses that are read once a step of 16 to 64 tokens: nothing beside its work.
SPILLS_OF_TILES = {"keys_backward_kernel": 8, "attend_rows_kernelILi128E": 32}
# What the kernels tuned on sm_90 need elsewhere.
SPILLS_ELSEWHERE = {r"sample_kernelI\w*Bfloat16": 64, r"policy_sequences_kernelIf\w*CutILi128ELi128E": 80}
REGISTERS_ELSEWHERE = {"head_rows_forward_kernel": 64}
# The others may call a function (exp or log in double), which saves some registers on the stack.
SPILLS_OF_OTHERS = 128


def kernels_of(report):
    """(kernel, architecture) -> registers, bytes of spill stores and loads."""
    found, current = {}, None
    for line in report.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            current = found.setdefault(match.groups(), {})
        elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if current is not None:  # functions that are called, not inlined, have lines of their own
                current["spills"] = max(current.get("spills", 0), *map(int, match.groups()))
        elif match := re.search(r"Used (\d+) registers", line):
            current["registers"] = int(match.group(1))
    return found


def breaches(kernels):
    for (kernel, architecture), used in sorted(kernels.items()):
        if re.search("(?<!SumsIn)Id[dEL]", kernel):
            continue  # the double form is an oracle; sums are in double everywhere
        limit = next((most for name, most in HOT.items() if re.search(name, kernel)), None)
        tiles = next((most for name, most in SPILLS_OF_TILES.items() if re.search(name, kernel)), 0)
        elsewhere = 0 if architecture == "sm_90" else max(
            [16, *(most for name, most in SPILLS_ELSEWHERE.items() if re.search(name, kernel))])
        if limit and architecture != "sm_90":
            limit = max([limit, *(most for name, most in REGISTERS_ELSEWHERE.items() if re.search(name, kernel))])
        spills = SPILLS_OF_OTHERS if not limit else max(tiles, elsewhere)
        if used["spills"] > spills:
            yield f"{kernel} for {architecture}: expected at most {spills} bytes of spills, got {used['spills']}"
        if limit and used["registers"] > limit:
            yield f"{kernel} for {architecture}: expected at most {limit} registers, got {used['registers']}"


def built_kernels():
    if not REPORTS.is_dir():
        pytest.skip("CUDA is off in this build: no compiler report (configure with nvcc, -DHONE_CUDA=ON)")
    found = {}
    for source in sorted((SOURCE / "kernels" / "cuda").glob("*.cu")):
        report = REPORTS / f"{source.name}.txt"
        if not report.is_file():
            pytest.skip(f"{source.name} is not built: no compiler report (build hone_kernels_cuda)")
        found.update(kernels_of(report.read_text()))
    return found


def test_hot_kernels_are_small_and_do_not_spill():
    assert list(breaches(built_kernels())) == []


def test_every_hot_kernel_is_built_for_every_architecture():
    kernels = built_kernels()
    architectures = {architecture for _, architecture in kernels}
    for name in HOT:
        missing = architectures - {architecture for kernel, architecture in kernels if re.search(name, kernel)}
        assert not missing, f"{name}: no report for {missing}"


REPORT = """ptxas info    : Compiling entry function '_ZN4hone12adamw_kernelIfEEv' for 'sm_90'
ptxas info    : Function properties for _ZN4hone12adamw_kernelIfEEv
    {frame} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers
"""


@pytest.mark.parametrize(
    "stores, loads, registers, said",
    [(0, 0, 48, None), (8, 0, 48, "0 bytes of spills, got 8"), (0, 12, 48, "0 bytes of spills, got 12"), (0, 0, 49, "at most 48 registers, got 49")],
)
def test_a_report_with_a_spill_is_a_breach(stores, loads, registers, said):
    found = list(breaches(kernels_of(REPORT.format(frame=stores, stores=stores, loads=loads, registers=registers))))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]
