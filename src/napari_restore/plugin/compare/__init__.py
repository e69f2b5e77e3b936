"""Before and after: swipe, blink, side by side, figures and side maps.

Nothing here runs a model: it reads the pixels of source and results.
"""
