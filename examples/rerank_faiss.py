"""Re-rank what a faiss index found by the local descriptors of the images.

    python examples/rerank_faiss.py [--images DATASET]

The data set is a folder in the ILIAS layout or of photographs; a small one is drawn if none is given.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import faiss
import numpy as np

from ilias_fast.datasets import load_dataset
from ilias_fast.datasets.generate import generate
from ilias_fast.evaluate import evaluate
from ilias_fast.extract import ClassicalExtractor, extract_to_stores
from ilias_fast.rerank import ensemble, rerank
from ilias_fast.run import Run
from ilias_fast.store import GlobalStore, LocalStore


def main() -> None:
    """Describe the images, search with faiss, re-rank, evaluate both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--size", type=int, default=60, help="of the drawn data set, in images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        images = arguments.images
        if images is None:
            images = work / "images"
            generate(images, images=arguments.size)
        dataset = load_dataset(images)
        source = dataset.image_source()
        names = {
            "queries": list(dataset.image_queries),
            "database": [*dataset.positives, *dataset.distractors],
        }
        extractor = ClassicalExtractor.fit(source, names["database"])
        for part, ids in names.items():
            extract_to_stores(
                extractor, source, ids, global_store=work / part, local_store=work / f"{part}-local"
            )
        queries, database = GlobalStore.open(work / "queries"), GlobalStore.open(work / "database")

        # The pipeline as it is: any index will do whose rows are numbered like the store's.
        index = faiss.IndexFlatIP(database.dim)
        index.add(database.rows(np.arange(len(database))).astype(np.float32))
        k = min(100, len(database))
        scores, rows = index.search(queries.rows(np.arange(len(queries))).astype(np.float32), k)

        # Its result as a run, and the run re-ranked.
        lists = {
            query: {database.ids[row]: float(score) for row, score in zip(*found, strict=True)}
            for query, found in zip(queries.ids, zip(rows.tolist(), scores, strict=True), strict=True)
        }
        run = Run.from_dict(lists)
        local = rerank(run, LocalStore.open(work / "queries-local"), LocalStore.open(work / "database-local"))
        better = ensemble(run, local)
        for label, one in (("faiss", run), ("re-ranked", better)):
            print(f"{label:10} mAP {evaluate(one, dataset).tasks['image'].map:6.2f}")


if __name__ == "__main__":
    main()
