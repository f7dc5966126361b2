"""Images: where their bytes come from (folders, WebDataset tars), decoding, the protocol's resizing rules."""

from ilias_fast.images.decoding import decode
from ilias_fast.images.folder import FolderSource
from ilias_fast.images.resizing import (
    Transform,
    centre_pad,
    fit_longer_side,
    pad_to_multiple,
    padding,
    resize,
    resized_size,
)
from ilias_fast.images.source import IMAGE_SUFFIXES, ImageSource
from ilias_fast.images.tar import TarSource

__all__ = [
    "IMAGE_SUFFIXES",
    "FolderSource",
    "ImageSource",
    "TarSource",
    "Transform",
    "centre_pad",
    "decode",
    "fit_longer_side",
    "pad_to_multiple",
    "padding",
    "resize",
    "resized_size",
]
