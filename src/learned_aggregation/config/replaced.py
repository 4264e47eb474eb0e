"""Settings of the published research code that are not needed here, and what to do about a name that is no setting."""

from collections.abc import Sequence

from learned_aggregation.registry import nearest

REPLACED = {
    "needs_state": "Remove it: a model's state is always carried.",
    "use_pmap": "Remove it: num_devices chooses the devices.",
    "pmap_across_devices": "Remove it: num_devices chooses the devices.",
    "steps_per_jit": "Remove it: a whole window (truncation_length rounds) is one compiled step.",
    "prefetch_batches": "Remove it: batches are drawn on the device.",
    "keep_batch_in_gpu_memory": "Remove it: the data stays on the device.",
    "gradient_accumulation_steps": "Remove it: tasks_per_chunk bounds the memory.",
    "wandb_checkpoint_id": "Use test_checkpoint with the checkpoint's path.",
    "train_project": "Use test_project, the wandb project of every run.",
    "lo_clip_grad": "Use schedule.clip.",
    "skip_test": "Remove it: testing is a run of its own, run_type='benchmark'.",
    "test_interval": "Use eval_every.",
    "start_from_test_ckpt": "Use from_checkpoint.",
    "weight_decay": "Remove it: the meta-optimizer is optax's AdamW.",
    "meta_optimizer": "Remove it: the meta-optimizer is AdamW.",
    "es_std": "Use perturbation_std.",
    "use_es": "Use estimator.",
    "gradient_estimator": "Use estimator.",
    "global_learning_rate": "Use learning_rate.",
    "number_clients": "Use num_clients.",
    "participation_rate": "Use num_grads (K) out of num_clients (C).",
    "use_adamw": "Remove it: the meta-optimizer is AdamW.",
}
"""The name of a setting that is not here -> what to do instead."""


def advice(name: str, known: Sequence[str], prefix: str = "") -> str:
    """What to do about a setting that is not among `known`; `prefix` goes before each of them."""
    close = nearest(prefix + name, [prefix + other for other in known]).strip()
    return REPLACED.get(name) or close or "--help lists them all."
