"""What must work where only the wheel and its dependencies are installed; prints a digest of the answers."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

started = time.perf_counter()
import ilias_fast  # noqa: E402

assert time.perf_counter() - started < 5
from ilias_fast import cpu, kernels  # noqa: E402
from ilias_fast.errors import MissingExtraError  # noqa: E402
from ilias_fast.search import search  # noqa: E402
from ilias_fast.store import BinaryStore, GlobalStore, read_matrix  # noqa: E402

assert cpu.level() == os.environ.get("ILIAS_FAST_CPU", cpu.level())
for heavy in ("torch", "cv2", "h5py", "faiss", "PIL"):
    assert importlib.util.find_spec(heavy) is None, f"{heavy} is installed: this is no empty environment"

digest = hashlib.sha256()


def note(*arrays: object) -> None:
    """Add the bytes of results to the digest, which must not depend on the CPU level."""
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())


rng = np.random.default_rng(0)
queries = rng.standard_normal((12, 96)).astype(np.float32)
database = rng.standard_normal((3000, 96)).astype(np.float16)
scores, indices = kernels.topk(queries, database, 10)
wide = database.astype(np.float64)
for query, row, score in zip(queries, indices, scores, strict=True):
    exact = [np.float32(math.fsum(query.astype(np.float64) * wide[i])) for i in row]
    assert exact == list(score), "topk is not exact"
note(scores, indices)

codes = rng.integers(0, 256, (400, 16), dtype=np.uint8)
bits = np.unpackbits(codes[:, None] ^ codes[None, :50], axis=2).sum(axis=2)
assert np.array_equal(kernels.hamming_matrix(codes, codes[:50]), bits)
note(*kernels.hamming_topk(codes[:9], codes, 7), *kernels.match(codes[:99], codes[99:], max_distance=48))
note(kernels.chamfer(codes[:50], codes, [0, 100, 100, 400]))
xy = rng.uniform(0, 500, (80, 2)).astype(np.float32)
found = kernels.verify_spatial(xy, 0.5 * xy + 3, threshold=1.0)
assert found.inliers == 80
note(found.mask)
note(kernels.average_precision([0.9, 0.8, 0.7], [True, False, True], positives=2, k=10))

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    ids = [f"cup/pos/{row}.jpg" for row in range(len(database))]
    with GlobalStore.create(folder / "database", dim=96) as writer:
        writer.append(ids, database)
    with BinaryStore.create(folder / "codes", bits=128) as binary:
        binary.append(ids[:400], codes)
    store = GlobalStore.open(folder / "database")
    run = search((["cup/query/a.jpg"], queries[:1]), store, 5)
    assert list(run["cup/query/a.jpg"].ids) == [ids[i] for i in indices[0, :5]]
    np.save(folder / "q.npy", queries)
    program = [sys.executable, "-m", "ilias_fast"]
    for arguments in (
        ["--version"],
        ["search", "q.npy", "database", "-k", "5", "-o", "run.json"],
        ["store", "verify", "database"],
        ["store", "info", "codes"],
        ["doctor"],
    ):
        subprocess.run([*program, *arguments], check=True, cwd=folder, capture_output=True)
    digest.update((folder / "run.json").read_bytes())
    said = ""
    try:
        read_matrix(folder / "features.hdf5")
    except MissingExtraError as error:
        said = str(error)
    assert "ilias-fast[hdf5]" in said, "reading HDF5 without h5py"

print(f"ilias-fast {ilias_fast.__version__}, answers {digest.hexdigest()[:16]}")
