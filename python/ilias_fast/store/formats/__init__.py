"""Features in other formats: imported into stores, and stores exported to them. A file a format."""

from ilias_fast.store.formats.escaping import escape_id, unescape_id
from ilias_fast.store.formats.exporting import export_store
from ilias_fast.store.formats.importing import import_store
from ilias_fast.store.formats.matrices import read_matrix
from ilias_fast.store.formats.registry import FORMATS, format_of, is_features
from ilias_fast.store.formats.streaming import FeatureFiles

__all__ = [
    "FORMATS",
    "FeatureFiles",
    "escape_id",
    "export_store",
    "format_of",
    "import_store",
    "is_features",
    "read_matrix",
    "unescape_id",
]
