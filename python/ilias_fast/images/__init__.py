"""Images: where their bytes come from (folders, files, tars), decoding, the protocol's transforms."""

from ilias_fast.images.boxes import box_mask, crop_to_boxes, resize_mask
from ilias_fast.images.colour import white_balance
from ilias_fast.images.decoding import decode
from ilias_fast.images.files import FilesSource
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
    "FilesSource",
    "FolderSource",
    "ImageSource",
    "TarSource",
    "Transform",
    "box_mask",
    "centre_pad",
    "crop_to_boxes",
    "decode",
    "fit_longer_side",
    "pad_to_multiple",
    "padding",
    "resize",
    "resize_mask",
    "resized_size",
    "white_balance",
]
