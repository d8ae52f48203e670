"""Which settings of a sweep matter for its scores, by Optuna's own measure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from chord_exp.report.figures.compare import GroupScores

# below this a measure of importance is one of chance
FEWEST_GROUPS = 8


def setting_importance(scores: Sequence[GroupScores], higher_is_better: bool) -> dict[str, float]:
    """Return the share of each setting in what tells good groups from others, the largest first.

    Returns:
        Nothing where there are too few groups, or one setting alone.
    """
    scored = [(one.group.settings, fmean(one.judged.values())) for one in scores if one.judged]
    if len(scored) < FEWEST_GROUPS or len(scored[0][0]) < 2 or len({value for _, value in scored}) < 2:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if higher_is_better else "minimize")
    choices = {key: sorted({settings[key] for settings, _ in scored}) for key in scored[0][0]}
    kinds = {key: optuna.distributions.CategoricalDistribution(texts) for key, texts in choices.items()}
    for settings, value in scored:
        study.add_trial(optuna.trial.create_trial(params=dict(settings), distributions=dict(kinds), value=value))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
