"""Times calls on a GPU and makes rows of a table of them, beside a copy and a GEMM measured in the same run. For gpu_kernels.py, which
says what a row holds."""
import re
import time
import traceback

import torch

F32, BF16 = torch.float32, torch.bfloat16


class Timer:
    """Least milliseconds of a call on the device."""

    def __init__(self, device, repeats):
        self.cuda = device.type == "cuda"
        self.repeats = repeats
        # Larger than any second-level cache: what a row left there does not help the next run.
        self.flush = torch.empty(64 << 20, dtype=F32, device=device) if self.cuda else None

    def __call__(self, work):
        work()
        return min(self.once(work) for _ in range(self.repeats))

    def once(self, work):
        if not self.cuda:
            start = time.perf_counter()
            work()
            return (time.perf_counter() - start) * 1e3
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        self.flush.sum()  # read: words that were written would be carried off during the next run
        torch.cuda._sleep(300_000)  # the host is through with its part of the work before the GPU begins it
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)


class Bench:
    """Rows of a table: `add` runs one and prints its line."""

    def __init__(self, arguments):
        self.device = torch.device(arguments.device)
        self.small = arguments.small
        self.timer = Timer(self.device, 3 if self.small else 20)
        self.filter = re.compile(arguments.filter)
        self.rows, self.copy, self.gemm = [], 0.0, {}

    def n(self, size, small):
        return small if self.small else size

    def draw(self, *shape, dtype=F32):
        return torch.randn(*shape, device=self.device, dtype=dtype)

    def limits(self):
        size = self.n(1 << 28, 1 << 18)
        a, b = torch.empty(size, dtype=F32, device=self.device), torch.ones(size, dtype=F32, device=self.device)
        self.copy = 8.0 * size / self.timer(lambda: a.copy_(b)) / 1e6
        del a, b
        side = self.n(8192, 128)
        for dtype in (BF16, F32):
            x, y = self.draw(side, side, dtype=dtype), self.draw(side, side, dtype=dtype)
            self.gemm[str(dtype)[6:]] = 2.0 * side**3 / self.timer(lambda: x @ y) / 1e9

    def graph_ms(self, make, nbytes):
        """Milliseconds of a call inside a CUDA graph of calls on different arrays, 256 MiB of them or a thousand calls."""
        calls = [make()[0] for _ in range(min(1000, max(2, -(-(256 << 20) // nbytes))))]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            calls[0]()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = [call() for call in calls]  # results of their own
        ms = self.timer(graph.replay) / len(calls)
        del kept
        return ms

    def add(self, name, make, nbytes=0, flop=0, dtype=F32, graph=False):
        """make() -> (ours, {peer: call}); nbytes or flop: what the op must at least do; graph: time it in a CUDA graph too."""
        if not self.filter.search(name):
            return
        row = {"row": name, "device": str(self.device)}
        self.rows.append(row)
        try:
            ours, peers = make()
            row["ms"] = self.timer(ours)
            row["extra_gb"] = self.extra_gigabytes(ours)
            if nbytes:
                row["gb_per_s"] = nbytes / row["ms"] / 1e6
                row["percent_of_copy"] = 100 * row["gb_per_s"] / self.copy
            if flop:
                row["tflop_per_s"] = flop / row["ms"] / 1e9
                row["percent_of_gemm"] = 100 * row["tflop_per_s"] / self.gemm[str(dtype)[6:]]
            if graph and self.device.type == "cuda":
                row["graph_ms"] = self.graph_ms(make, nbytes)
            row["peers"] = {}
            for peer, call in peers.items():
                try:
                    ms = self.timer(call)
                    row["peers"][peer] = {"ms": ms, "times_slower": ms / row["ms"], "extra_gb": self.extra_gigabytes(call)}
                except Exception as error:  # a peer that cannot run here is said so, and is no failure of ours
                    row["peers"][peer] = {"error": str(error).splitlines()[0][:200]}
        except Exception as error:
            row["error"] = "".join(traceback.format_exception_only(error)).strip().splitlines()[0][:300]
        print(line_of(row), flush=True)

    def extra_gigabytes(self, work):
        """What a call allocates beyond its results, at the most."""
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        results = work()
        torch.cuda.synchronize()
        extra = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
        del results
        return extra / 1e9

    def compiled(self, function):
        return torch.compile(function, dynamic=False) if self.device.type == "cuda" else function

    def torch_peers(self, function, *inputs, compiles=True):
        """The function as it stands and under torch.compile, which takes seconds."""
        peers = {"torch": lambda: function(*inputs)}
        if compiles:
            compiled = self.compiled(function)
            peers["torch.compile"] = lambda: compiled(*inputs)
        return peers


def line_of(row):
    if "error" in row:
        return f"{row['row']:<58} failed: {row['error']}"
    said = f"{row['row']:<58} {row['ms']:10.4f} ms"
    if "percent_of_copy" in row:
        said += f"  {row['gb_per_s']:8.0f} GB/s {row['percent_of_copy']:5.1f} % of copy"
    if "percent_of_gemm" in row:
        said += f"  {row['tflop_per_s']:8.1f} TF/s {row['percent_of_gemm']:5.1f} % of GEMM"
    if row.get("extra_gb", 0) >= 0.1:
        said += f"  {row['extra_gb']:.2f} GB extra"
    if "graph_ms" in row:
        said += f"  in a graph {row['graph_ms']:.4f} ms"
    for peer, got in row["peers"].items():
        said += f"  | {peer} " + (f"x{got['times_slower']:.2f}" if "ms" in got else "cannot run: " + got["error"][:40])
    return said
