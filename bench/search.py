"""Exact search: ours against every peer, alternated in one run, answers verified first, ratios recorded.

    python bench/search.py                          # 1M x 512, clustered, about ten minutes
    python bench/search.py --quick                  # 100k rows, two minutes
    python bench/search.py --data gaussian --queries 1 32 --peers faiss-flat-best numpy
    python bench/search.py --data decaying|STORE    # STORE: a global store, for example the demo's
    python bench/search.py --binary --rows 10000000 --bits 128
    python bench/search.py --small --dims 512       # 10 to 30,000 rows, 1 to 1,232 queries, k of 1 to 1,000
    python bench/search.py --folder DATA --peers numpy --out RECORD   # one part; the next adds to the record

Every contestant is a process of its own, because OpenBLAS and malloc read their settings when they are
loaded, and
holds the same float16-rounded vectors in the form it likes best. A round is: calibration, ours, the peer.
The ratio is
taken per round, as the speed of a shared machine changes from minute to minute; printed is median [least,
largest]. Calibration is the machine's peak at that moment: float32 multiply-adds, int8 products, bytes read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "support"))
import search_data as data
import search_small
from search_contestants import ENVIRONMENTS, PEERS

CHECKED = 16
"""Queries whose answers are compared with float64."""


class Contestant:
    """A process that searches when it is told to."""

    def __init__(self, name: str, folder: Path, threads: int):
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "ILIAS_FAST_THREADS": str(threads),
            **ENVIRONMENTS.get(name, {}),
        }
        if ENVIRONMENTS.get(name, {}).get("OPENBLAS_CORETYPE") == "":
            del environment["OPENBLAS_CORETYPE"]
        worker = Path(__file__).parent / "support" / "search_contestants.py"
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(worker), name, str(folder), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.about = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def check(contestant: Contestant, count: int, k: int, folder: Path) -> dict[str, Any]:
    """Compare the answers to the first queries with float64."""
    truth = np.load(folder / "truth.npz")
    checked = min(count, CHECKED)
    contestant.ask(queries=count, k=k, save=str(folder / "answer.npy"))
    found = np.load(folder / "answer.npy")[:checked]
    if "distances" in truth:  # codes: distances are what can be compared, most peers leave ties in any order
        distances = np.load(folder / "answer-scores.npy")[:checked]
        return {
            "queries": checked,
            "distances": int((np.sort(distances) == truth["distances"][:checked]).all(axis=1).sum()),
            "order": int((found == truth["indices"][:checked]).all(axis=1).sum()),
        }
    order = truth["indices"][:checked]
    pairs = list(zip(found, order, strict=True))
    recall = statistics.mean(len(set(a.tolist()) & set(b.tolist())) / len(b) for a, b in pairs)
    return {
        "queries": checked,
        "sets": sum(set(a.tolist()) == set(b.tolist()) for a, b in pairs),
        "order": sum(np.array_equal(a, b) for a, b in pairs),
        "recall": recall,
    }


def duel(
    ours: Contestant, peer: Contestant, count: int, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Time two contestants in alternation."""
    result: dict[str, Any] = {
        "peer": peer.name,
        "queries": count,
        "ours_verified": check(ours, count, options.k, folder),
        "peer_verified": check(peer, count, options.k, folder),
        "rounds": [],
    }
    checked = result["ours_verified"]
    if checked["order"] != checked["queries"]:
        raise SystemExit(f"ours differs from float64 ({checked}): nothing was timed")
    start = time.monotonic()
    while len(result["rounds"]) < options.repeat:
        spent = time.monotonic() - start
        if len(result["rounds"]) >= 2 and spent > options.seconds:
            break
        calibration = ours.ask(calibrate=0.05)
        mine, theirs = ours.ask(queries=count, k=options.k), peer.ask(queries=count, k=options.k)
        result["rounds"].append({"calibration": calibration, "ours": mine, "peer": theirs})
    return result


def report(result: dict[str, Any], rows: int, dim: int, binary: bool) -> None:
    """Print one line a duel."""
    rounds = result["rounds"]
    ours = [r["ours"]["seconds"] for r in rounds]
    theirs = [r["peer"]["seconds"] for r in rounds]
    line = (
        f"{result['queries']:5d} queries, {result['peer']:18} ours ms {median([1e3 * x for x in ours])}  "
        f"peer ms {median([1e3 * x for x in theirs])}  "
        f"RATIO {median([b / a for a, b in zip(ours, theirs, strict=True)])}"
    )
    line += "\n" + 15 * " "
    if not binary:
        work = 2.0 * result["queries"] * rows * dim
        peaks = [t * r["calibration"]["fma"] / work for t, r in zip(ours, rounds, strict=True)]
        line += f"of the time at FMA peak {median(peaks)}  "
    bandwidth = [r["ours"]["bytes"] / t / r["calibration"]["read"] for t, r in zip(ours, rounds, strict=True)]
    line += f"of the read rate {median(bandwidth)}"
    line += f"  peer verified {result['peer_verified']}"
    line += (
        f"  memory MB ours {rounds[-1]['ours']['memory_mb']:.0f} peer {rounds[-1]['peer']['memory_mb']:.0f}"
    )
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument(
        "--data", default="clustered", help="clustered, gaussian, decaying, or a global store"
    )
    parser.add_argument("--binary", action="store_true", help="Hamming search")
    parser.add_argument("--bits", type=int, default=128)
    parser.add_argument("--small", action="store_true", help="the grid of small databases")
    parser.add_argument("--dims", type=int, nargs="+", default=list(search_small.DIMS), help="of the grid")
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--queries", type=int, nargs="+")
    parser.add_argument("--peers", nargs="+", help="names; all that suit the task if not given")
    parser.add_argument("--ours", default=None, help="which of ours: ours, ours-planes, ours-avx2, ...")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=25, help="for one duel, at most (two rounds at least)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="100k rows (1M codes), three rounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the data are, or are put and stay")
    parser.add_argument("--prepare", action="store_true", help="only write the data to --folder")
    parser.add_argument("--out", type=Path, help="JSON record; one of the same settings is added to")
    options = parser.parse_args()
    if options.small:
        with tempfile.TemporaryDirectory(prefix="bench-search-") as temporary:

            def start(name: str, data_folder: Path) -> Contestant:
                return Contestant(name, data_folder, options.threads)

            search_small.run(start, Path(temporary), options.dims, options.repeat, options.out)
        return
    task = "binary" if options.binary else "vectors"
    options.rows = (
        options.rows
        or {
            "binary": 1_000_000 if options.quick else 10_000_000,
            "vectors": 100_000 if options.quick else 1_000_000,
        }[task]
    )
    options.repeat = 3 if options.quick else options.repeat
    counts = options.queries or {"binary": [1, 8, 32, 1232], "vectors": [1, 8, 32, 1232]}[task]
    ours_name = options.ours or {"binary": "ours-hamming", "vectors": "ours"}[task]
    peers = options.peers or PEERS[task]

    with tempfile.TemporaryDirectory(prefix="bench-search-") as temporary:
        folder = options.folder or Path(temporary)
        if (folder / "shape.json").exists():
            shape = json.loads((folder / "shape.json").read_text())
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shape = data.write(folder, task, options, max(counts), CHECKED)
            (folder / "shape.json").write_text(json.dumps(shape))
        rows, dim = shape
        if options.prepare:
            return
        ours = Contestant(ours_name, folder, options.threads)
        print(f"{rows} x {dim}, k = {options.k}, {ours_name}: {ours.about}", flush=True)
        results, skipped = [], {}
        for name in peers:
            try:
                peer = Contestant(name, folder, options.threads)
            except RuntimeError as error:
                skipped[name] = str(error)
                print(f"{name}: {error}", flush=True)
                continue
            print(f"{name}: {peer.about}", flush=True)
            small = peer.ask(queries=min(counts), k=options.k)["seconds"]
            for count in counts:
                estimate = small * count / min(counts)
                if peer.about.get("linear") and estimate > options.seconds:
                    skipped[f"{name}, {count} queries"] = f"would take about {estimate:.0f} s a call"
                    print(f"{name}, {count} queries: about {estimate:.0f} s a call, skipped", flush=True)
                    continue
                result = duel(ours, peer, count, options, folder)
                report(result, rows, dim, options.binary)
                results.append(result)
            peer.close()
        about = ours.about
        ours.close()
    if options.out is not None:
        of_part = ("folder", "prepare", "out", "peers", "queries", "repeat", "seconds")
        settings = {key: value for key, value in vars(options).items() if key not in of_part}
        record = {
            "bench": f"search-{task}",
            **data.machine(),
            "settings": {**settings, "ours": ours_name, "cpu_level": about["cpu_level"]},
            "rows": rows,
            "dim": dim,
            "skipped": skipped,
            "results": results,
        }
        if options.out.exists():
            before = json.loads(options.out.read_text())
            if [before[key] for key in ("settings", "commit")] != [
                record[key] for key in ("settings", "commit")
            ]:
                raise SystemExit(f"{options.out} is a record of other settings or another commit")
            record["results"] = before["results"] + results
            record["skipped"] = before["skipped"] | skipped
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
