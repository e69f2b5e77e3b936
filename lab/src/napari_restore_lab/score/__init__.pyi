from ._case_task import (
    CaseItem as CaseItem,
    MethodTask as MethodTask,
    ScoringTask as ScoringTask,
    plan_to_score as plan_to_score,
    score_item as score_item,
)
from ._cases import (
    Case as Case,
    HazedCase as HazedCase,
    drop_others as drop_others,
    scene_cases as scene_cases,
)
from ._evaluate import CaseAnswer as CaseAnswer, Outcome as Outcome
from ._journal import ScoreJournal as ScoreJournal
from ._methods import (
    CLASSICAL as CLASSICAL,
    MEDIAN as MEDIAN,
    EvaluatedMethod as EvaluatedMethod,
    check_installed as check_installed,
    methods_of as methods_of,
)
from ._outputs import ALL as ALL
from ._pairs import Pair as Pair, Pairs as Pairs, find_pairs as find_pairs
from ._scores import (
    ScoredRange as ScoredRange,
    change_of as change_of,
    reference_of as reference_of,
    scale_of as scale_of,
    scores_of as scores_of,
)
from ._session import perform as perform, summary_of as summary_of
from ._statistics import (
    compare as compare,
    sign_flip_test as sign_flip_test,
    spread_of as spread_of,
)
from ._strips import (
    LONGEST as LONGEST,
    beside as beside,
    file_name as file_name,
    select_extremes as select_extremes,
)
from ._tables import csv_table as csv_table, text_table as text_table
