from ._api import evaluate as evaluate, haze as haze, scores_text as scores_text, train as train
