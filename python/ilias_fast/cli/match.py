"""`ilias-fast match`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ilias_fast.cli import _options as options
from ilias_fast.cli._console import out, plain, print_json

__all__ = ["match"]


def _png(path: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise typer.BadParameter(f"expected a file name ending in .png, found {path.name!r}")
    options.in_a_folder(path)
    return path


def match(
    query: Annotated[Path, typer.Argument(help="The first image, the query.", exists=True, dir_okay=False)],
    database: Annotated[Path, typer.Argument(help="The second image.", exists=True, dir_okay=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture, a .png.", callback=_png)
    ] = Path("match.png"),
    learnt: Annotated[
        Path | None,
        typer.Option(
            help="A learnt extractor (`extractor.safetensors` of a run); if not given, the codes are learnt "
            "from the two images.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    keypoints: Annotated[int, typer.Option(help="Keypoints of an image, at most.", min=1)] = 500,
    max_distance: Annotated[
        int, typer.Option(help="Largest Hamming distance of a correspondence, of 128 bits.", min=0)
    ] = 32,
    threshold: Annotated[
        float, typer.Option(help="Largest distance of an inlier, as a fraction of the longer side.")
    ] = 0.02,
    ratio: Annotated[
        float, typer.Option(help="Largest ratio to the distance of the second nearest; 1 keeps all.")
    ] = 1.0,
    mutual: Annotated[bool, typer.Option(help="Keep only each other's nearest.")] = True,
    score: Annotated[
        Literal["significance", "inliers"], typer.Option(help="How the pair is scored.")
    ] = "significance",
    model: Annotated[
        Literal["translation", "similarity", "affine", "homography"],
        typer.Option(help="The richest family of maps that is fitted."),
    ] = "affine",
    as_json: options.AsJson = False,
) -> None:
    """Match and verify two images, and draw what was found."""
    from ilias_fast._files import read_bytes, written
    from ilias_fast.images import decode
    from ilias_fast.report.drawing import draw_match
    from ilias_fast.rerank import SpatialOptions, match_pair

    chosen = SpatialOptions(
        max_distance=max_distance,
        threshold=threshold,
        ratio=ratio,
        mutual=mutual,
        score=score,
        model=model,
    )
    images = [decode(read_bytes(path), str(path)) for path in (query, database)]
    first, second = _described(images, learnt, keypoints)
    found = match_pair(first, second, chosen)
    picture = draw_match(
        images[0],
        images[1],
        found,
        keypoints=(first.xy * first.size, second.xy * second.size),
    )
    with written(output) as file:
        file.write(picture)
    facts = {
        "query": {"image": str(query), "size": list(first.size), "keypoints": len(first.xy)},
        "database": {"image": str(database), "size": list(second.size), "keypoints": len(second.xy)},
        "tentative": len(found.inliers),
        "inliers": int(found.inliers.sum()),
        "score": round(found.score, 3),
        "model": None if found.model is None else found.model.tolist(),
        "picture": str(output),
    }
    if as_json:
        print_json(facts)
        return
    out.print(
        f"{len(first.xy)} and {len(second.xy)} keypoints, {facts['tentative']} tentative correspondences, "
        f"{facts['inliers']} inliers, score {facts['score']}",
        soft_wrap=True,
    )
    if found.model is None:
        out.print("model: none")
    else:
        divided = " / w" if len(found.model) == 3 else ""
        for row, name in zip(found.model.tolist(), "xyw", strict=False):
            terms = f"{row[0]:+.4f} x {row[1]:+.4f} y {row[2]:+.1f}"
            if name == "w":
                out.print(f"w  = {row[0]:+.6f} x {row[1]:+.6f} y {row[2]:+.4f}", markup=False)
            else:
                out.print(f"{name}' = " + (f"({terms}){divided}" if divided else terms), markup=False)
    out.print(f"picture: {plain(output)}", soft_wrap=True)


def _described(images: list[Any], learnt: Path | None, keypoints: int) -> tuple[Any, Any]:
    """Return the local descriptors of both images."""
    import numpy as np

    from ilias_fast.adapt import Itq
    from ilias_fast.extract import ClassicalExtractor, ClassicalOptions
    from ilias_fast.extract.classical import local_features
    from ilias_fast.extract.sift import DIM, detect

    extractor = None if learnt is None else ClassicalExtractor.load(learnt)
    side = (ClassicalOptions() if extractor is None else extractor.options).longer_side
    found = [detect(image, longer_side=side, keypoints=keypoints) for image in images]
    if extractor is not None:
        itq = extractor.itq
    else:
        # Two images without keypoints teach nothing, and there is nothing to apply it to either.
        sample = np.concatenate([*(part.descriptors for part in found), np.eye(2, DIM, dtype=np.float32)])
        itq = Itq.fit(sample, DIM)
    return local_features(found[0], itq, keypoints), local_features(found[1], itq, keypoints)
