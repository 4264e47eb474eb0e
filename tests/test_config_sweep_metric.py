"""A sweep's metric: its name's form, and a goal that is the user's, the loss's or left to the task."""

import pytest

from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError


def checked(metric):
    """The metric of a sweep's config once the config is checked."""
    sweep = {"method": "grid", "metric": metric, "parameters": {"beta": {"values": [0.9, 0.5]}}}
    return Config(run_type="sweep", sweep_config=sweep).sweep_config["metric"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, {"name": "outer_valid_loss", "goal": "minimize"}),
        ({"name": "outer_valid_loss"}, {"name": "outer_valid_loss", "goal": "minimize"}),
        ({"name": "train_loss", "goal": "maximize"}, {"name": "train_loss", "goal": "maximize"}),
        ({"name": "outer_valid_mask_iou"}, {"name": "outer_valid_mask_iou"}),
        ({"name": "outer_valid_recall@5"}, {"name": "outer_valid_recall@5"}),
        ({"name": "outer_valid_r2", "goal": "minimize"}, {"name": "outer_valid_r2", "goal": "minimize"}),
    ],
)
def test_a_goal_is_the_user_s_the_loss_s_or_left_to_the_task(asked, found):
    assert checked(asked) == found


EXPECTED = "sweep_config.metric.name: expected train_loss, or outer_valid_NAME with a metric of the task"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "outer_vald_loss"}, f"{EXPECTED}, got 'outer_vald_loss'. Did you mean 'outer_valid_loss'?"),
        ({"name": "train_acc"}, f"{EXPECTED}, got 'train_acc'. Write for example outer_valid_loss."),
        ({"name": "outer_valid_"}, f"{EXPECTED}, got 'outer_valid_'. Did you mean 'outer_valid_loss'?"),
        ({"name": "outer_valid_a b"}, f"{EXPECTED}, got 'outer_valid_a b'. Did you mean 'outer_valid_loss'?"),
        ({"name": "test_loss"}, f"{EXPECTED}, got 'test_loss'. Write for example outer_valid_loss."),
        ({"goal": "maximize"}, f"{EXPECTED}, got None. Write for example outer_valid_loss."),
        (
            {"name": "outer_valid_r2", "goal": "max"},
            "sweep_config.metric.goal: expected one of minimize, maximize, got 'max'. Did you mean 'maximize'?",
        ),
    ],
)
def test_a_bad_metric_is_one_line(asked, message):
    with pytest.raises(UserError) as caught:
        checked(asked)
    assert str(caught.value) == message
