from ._api import evaluate, haze, scores_text, train

__all__ = ["evaluate", "haze", "scores_text", "train"]
