"""The names that experiments have on a page: an option that a run varies is named, also where it is at its default."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sdbench.report.escape import clean
from sdbench.report.grouping import group_by
from sdbench.schema.experiment import Experiment
from sdbench.schema.record import Record

# How an option is called where the label of an experiment leaves it out.
_WORDS: Mapping[str, Callable[[Any], str]] = {
    "scheduler": str,
    "backend": str,
    "attention": str,
    "autocast": lambda _: "no autocast",
    "tf32": lambda _: "no TF32",
    "max_sequence_length": lambda count: f"{count} tokens",
    "timestep_spacing": lambda _: "native spacing",
    "threads": lambda _: "all threads",
    "inter_op_threads": lambda _: "default inter-op threads",
    "graph_optimization": lambda value: f"graph optimization {value}",
    "channels_last": lambda _: "channels first",
    "vae_slicing": lambda _: "VAE not sliced",
    "vae_tiling": lambda _: "VAE not tiled",
    "guidance_scale": lambda value: f"guidance {value:g}",
    "seed": lambda value: f"seed {value}",
}
# The label of an experiment never has these, whatever their value.
_NEVER_NAMED = ("guidance_scale", "max_sequence_length", "seed")
# What belongs together in a label.
_PHRASE = re.compile(
    r"batch \d+|largest batch(?:: \d+)?|\d+ (?:steps?|threads?|tokens|inter-op threads)|autocast \w+|no \w+"
    r"|TF32 convolutions|\S+ attention|graph optimization \w+|VAE (?:not )?\w+|channels \w+"
    r"|(?:all|default inter-op) threads|native spacing|guidance \S+|seed \d+|against fp32|\S+"
)
_FIELDS = tuple(Experiment.model_fields)


def name_experiments(records: Sequence[Record]) -> dict[str, str]:
    """Return the label of each experiment by its id: the plan's, with what its run varies and the plan does not name.

    Two experiments that still have one label get the start of their id, but not the two arms of a session.
    """
    labels: dict[str, str] = {}
    for record in records:
        varied = _varied_options([result.planned.experiment for result in record.results])
        for result in record.results:
            planned = result.planned
            words = [_WORDS[name](getattr(planned.experiment, name)) for name in varied.get(planned.experiment_id, ())]
            longer = clean(" ".join([planned.label, *words]))
            labels[planned.experiment_id] = max(labels.get(planned.experiment_id, ""), longer, key=len)
    owners = group_by(labels, labels.__getitem__)
    arms = _arms(records)
    return {
        key: label if len(owners[label]) == 1 or _are_arms(owners[label], arms) else f"{label} ({key[:6]})"
        for key, label in labels.items()
    }


def _varied_options(experiments: Sequence[Experiment]) -> dict[str, list[str]]:
    """Per experiment the options that no label names, and in which alone another experiment differs from it."""
    rows = [tuple(getattr(experiment, name) for name in _FIELDS) for experiment in experiments]
    varied: dict[str, list[str]] = {}
    for name in _WORDS:
        place = _FIELDS.index(name)
        if len({row[place] for row in rows}) < 2:  # noqa: PLR2004 - one value is no variation
            continue
        others = [row[:place] + row[place + 1 :] for row in rows]
        families = group_by(range(len(rows)), others.__getitem__)
        for family in families.values():
            for index in family if len(family) > 1 else ():
                if name in _NEVER_NAMED or rows[index][place] == Experiment.model_fields[name].default:
                    varied.setdefault(experiments[index].experiment_id, []).append(name)
    return varied


def _arms(records: Sequence[Record]) -> dict[str, set[tuple[str, str]]]:
    """Per experiment the sessions and arms that it is of."""
    arms: dict[str, set[tuple[str, str]]] = {}
    for record in records:
        arm = (record.session.session_id, record.session.arm) if record.session else (record.run_id, "")
        for result in record.results:
            arms.setdefault(result.planned.experiment_id, set()).add(arm)
    return arms


def _are_arms(experiment_ids: Sequence[str], arms: Mapping[str, set[tuple[str, str]]]) -> bool:
    """Whether experiments are one each of the arms of one session: what they differ in is the arms' name."""
    all_arms = [arm for key in experiment_ids for arm in arms[key]]
    return len({session for session, _ in all_arms}) == 1 and len(set(all_arms)) == len(all_arms)


def split_labels(labels: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return what labels have in common, and each label's own words: ``tiny batch 1``, then ``fp32`` and ``bf16``."""
    distinct = list(dict.fromkeys(labels))
    phrases = {label: _PHRASE.findall(label) for label in distinct}
    if len(distinct) < 2:  # noqa: PLR2004 - nothing differs
        return "", {label: label for label in distinct}
    shared = [phrase for phrase in phrases[distinct[0]] if all(phrase in others for others in phrases.values())]
    own = {label: " ".join(word for word in words if word not in shared) for label, words in phrases.items()}
    if not all(own.values()) or len(set(own.values())) < len(own):
        return "", {label: label for label in distinct}
    return " ".join(shared), own
