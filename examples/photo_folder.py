"""Index a folder of photographs and search it with one of them.

    python examples/photo_folder.py [--images FOLDER] [--query FILE] [--output FOLDER]

Without `--images` a few generated ones are used. Run again after adding photographs: only the new ones are
described.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ilias_fast.extract import ClassicalExtractor, extract_to_stores
from ilias_fast.images import FolderSource
from ilias_fast.rerank import ensemble, rerank
from ilias_fast.search import search
from ilias_fast.store import GlobalStore, LocalStore


def main() -> None:
    """Index, search, re-rank, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--query", type=Path, help="a picture; one of the folder if not given")
    parser.add_argument("--size", type=int, default=30, help="of the generated folder, in images")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    output = arguments.output or Path(tempfile.mkdtemp())
    images = arguments.images
    if images is None:
        from ilias_fast.datasets.generate import generate

        images = output / "images"
        generate(images, images=arguments.size)

    source = FolderSource(images)
    learnt = output / "extractor.safetensors"
    if learnt.exists():
        extractor = ClassicalExtractor.load(learnt)
    else:
        extractor = ClassicalExtractor.fit(source)
        extractor.save(learnt)
    report = extract_to_stores(
        extractor, source, global_store=output / "global", local_store=output / "local"
    )
    print(f"{report.extracted} images described, {report.resumed} were there")
    database, local = GlobalStore.open(output / "global"), LocalStore.open(output / "local")

    query = arguments.query or Path(images) / database.ids[len(database) // 2]
    with tempfile.TemporaryDirectory() as name:
        one = Path(name)
        extract_to_stores(
            extractor,
            FolderSource(query.parent),
            [query.name],
            global_store=one / "global",
            local_store=one / "local",
        )
        run = search(GlobalStore.open(one / "global"), database, 20, force=True)
        scores = rerank(run, LocalStore.open(one / "local"), local, method="spatial")
        found = ensemble(run, scores)[query.name]
    print(f"query: {query.name}")
    for image, score in zip(found.ids[:10], found.scores, strict=False):
        print(f"{score:6.3f}  {image}")


if __name__ == "__main__":
    main()
