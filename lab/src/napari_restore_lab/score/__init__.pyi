from ._case_task import CaseItem, MethodTask, ScoringTask, plan_to_score, score_item
from ._cases import Case, HazedCase, drop_others, scene_cases
from ._evaluate import CaseAnswer, Outcome
from ._journal import ScoreJournal
from ._methods import CLASSICAL, MEDIAN, EvaluatedMethod, check_installed, methods_of
from ._outputs import ALL
from ._pairs import Pair, Pairs, find_pairs
from ._scores import ScoredRange, change_of, reference_of, scale_of, scores_of
from ._session import perform, summary_of
from ._statistics import compare, sign_flip_test, spread_of
from ._strips import LONGEST, beside, file_name, select_extremes
from ._tables import csv_table, text_table

__all__ = [
    "ALL",
    "CLASSICAL",
    "LONGEST",
    "MEDIAN",
    "Case",
    "CaseAnswer",
    "CaseItem",
    "EvaluatedMethod",
    "HazedCase",
    "MethodTask",
    "Outcome",
    "Pair",
    "Pairs",
    "ScoreJournal",
    "ScoredRange",
    "ScoringTask",
    "beside",
    "change_of",
    "check_installed",
    "compare",
    "csv_table",
    "drop_others",
    "file_name",
    "find_pairs",
    "methods_of",
    "perform",
    "plan_to_score",
    "reference_of",
    "scale_of",
    "scene_cases",
    "score_item",
    "scores_of",
    "select_extremes",
    "sign_flip_test",
    "spread_of",
    "summary_of",
    "text_table",
]
