"""Metrics of the difference of two images over their valid pixels.

A metric is a function ``(a, b, data_range, valid=None) -> float`` of two images (h, w) or (h, w, C)
of any real type: `data_range` is the distance of white from black in their units, and only pixels
where `valid` (h, w) is true count. Other packages add theirs through the entry-point group
``napari_restore.metrics``.
"""

from napari_restore.metrics._ciede2000 import ciede2000
from napari_restore.metrics._comparable import strips
from napari_restore.metrics._luma import luma, psnr_y, ssim_y
from napari_restore.metrics._matched import psnr_clipped, psnr_matched
from napari_restore.metrics._mef_ssim import mef_ssim
from napari_restore.metrics._mef_ssim_dynamic import mef_ssim_dynamic
from napari_restore.metrics._psnr import psnr
from napari_restore.metrics._registry import Metric, metric_ids, metric_of
from napari_restore.metrics._ssim import (
    K1 as SSIM_K1,
    K2 as SSIM_K2,
    SIGMA as SSIM_SIGMA,
    WINDOW as SSIM_WINDOW,
    ssim,
)

__all__ = [
    "SSIM_K1",
    "SSIM_K2",
    "SSIM_SIGMA",
    "SSIM_WINDOW",
    "Metric",
    "ciede2000",
    "luma",
    "mef_ssim",
    "mef_ssim_dynamic",
    "metric_ids",
    "metric_of",
    "psnr",
    "psnr_clipped",
    "psnr_matched",
    "psnr_y",
    "ssim",
    "ssim_y",
    "strips",
]
