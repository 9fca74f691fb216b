"""What a configuration comes to, for ``edco validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edco_core.config import Config, CurriculumSection, GrpoSection, KeepCheckpoints
from flows.prepare import check_ledger, check_texts, complete, load_inputs

if TYPE_CHECKING:
    from edco_core.training import Plan


def describe(config: Config, store_url: str) -> dict[str, Any]:
    """Check everything without training and give the plan and its budget."""
    ledger = check_ledger(store_url)
    inputs = load_inputs(config, store_url)
    check_texts(inputs, store_url)
    prepared = complete(inputs)
    config, plan, pool = prepared.config, prepared.plan, prepared.pool
    peft = config.model.peft
    facts: dict[str, Any] = {
        "model": config.model.name_or_path,
        "tuning": "full fine-tuning" if peft is None else f"LoRA r={peft.r}",
        "pool": f"{len(pool)} samples ({pool.num_duplicates} duplicates merged, "
        f"{len(pool.skipped)} bad rows skipped)",
        "evaluation": "none",
        "strategy": config.curriculum.type,
        "intervals": plan.num_intervals,
        "samples_per_interval": plan.samples_per_interval,
        "trainer": config.training.type,
        "samples_per_step": plan.slots_per_step,
        "steps_per_interval": plan.steps_per_interval,
        "total_steps": plan.total_steps,
        "samples_scored": plan.num_intervals * len(pool),
        "checkpoints_kept": _kept(config.run.keep_checkpoints),
        "ledger": ledger,
        "texts_in_ledger": "kept" if config.store.keep_texts else "not kept",
    }
    if isinstance(config.training, GrpoSection):
        facts |= _budget_of_rollouts(config.training, config.curriculum, plan)
    if prepared.eval_pool is not None and config.evaluation is not None:
        measured = [config.evaluation.metric.type]
        if config.evaluation.pass_at_k is not None:
            measured += [f"pass@{k}" for k in config.evaluation.pass_at_k.reported]
        facts["evaluation"] = f"{len(prepared.eval_pool)} samples, {', '.join(measured)}"
    return facts


def _budget_of_rollouts(
    training: GrpoSection, curriculum: CurriculumSection, plan: Plan
) -> dict[str, Any]:
    """What is sampled; where groups are passed over it is known only afterwards."""
    from edco_core.training.sampling import build_sampling, num_answers

    per_prompt, prompts = num_answers(training), plan.slots_per_step
    rounds = plan.steps_per_interval // plan.steps_per_round
    rules = [build_sampling(training, curriculum.at(i)) for i in range(plan.num_intervals)]
    least = rounds * len(rules) * prompts * per_prompt
    most = rounds * sum(rule.most_answers(prompts, per_prompt) for rule in rules)
    return {
        "rewards": ", ".join(f"{each.type} x {each.weight:g}" for each in training.rewards),
        "answers_per_prompt": per_prompt,
        "kl_reference": training.kl_reference if training.args.get("beta") else "none (no beta)",
        "answers_sampled": least if most == least else f"{least} to {most}",
    }


def _kept(keep: KeepCheckpoints) -> str:
    if keep == "all":
        return "all"
    return "start, best and newest" if keep == "best" else f"start, best and the newest {keep}"
