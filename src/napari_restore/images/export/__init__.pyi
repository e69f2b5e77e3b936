from ._exif import add_to_tiff, iptc_records, jpeg_segments, photoshop_segment
from ._write import aside_of, part_of, remove_leftovers

__all__ = [
    "add_to_tiff",
    "aside_of",
    "iptc_records",
    "jpeg_segments",
    "part_of",
    "photoshop_segment",
    "remove_leftovers",
]
