"""The image that ships with the package; CREDIT.txt says what it is."""

from pathlib import Path

__all__ = ["SAMPLE"]

SAMPLE = Path(__file__).parent / "hazy_town_synthetic.tif"
"""Hazy aerial photo, 3072 × 2048 RGB uint8, EPSG:3857; the haze is synthetic."""
