"""Widgets that every part of the panel uses."""
