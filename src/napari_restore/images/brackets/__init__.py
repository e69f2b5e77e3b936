"""Brackets: frames of one scene with different exposures."""
