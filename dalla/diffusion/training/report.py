"""Did it learn? Readings with and without the LoRA, what the samples look like, and one sentence of judgement.

Four readings belong together: held-out pictures (the subject was learned), training pictures (they fit), the same
held-out pictures with the class word instead of the trigger word (is it bound to the word?), class pictures if
there are any (what was forgotten).
"""

from __future__ import annotations

import math
from typing import Any

import torch

from dalla.diffusion import likeness
from dalla.diffusion.training import colours, resemblance, setup, validation
from dalla.diffusion.training.choice import Choice
from dalla.diffusion.training.loop import Loop

#: So many training pictures are enough for the reading of how well they fit.
MOST = 8
#: A generated picture this near to a training picture, on a scale where 1 is the same, is likely a copy, unless
#: different training pictures are as near to each other. Those nearer than SAME are one picture twice.
COPY, SAME = 0.97, 0.995


def measure(loop: Loop) -> dict[str, Any]:
    """Take every reading with the adapter that is on the model now, against the bare model."""
    loaded, config = loop.loaded, loop.config
    trigger, word = config.trigger_word.strip(), config.class_word.strip()
    sets: dict[str, tuple[list[Any], list[str] | None]] = {
        "heldOut": (loaded.held_out, None),
        "train": (loaded.train[:MOST], None),
        "prior": (loaded.prior[:MOST], None),
    }
    if trigger:
        swapped = loaded.held_out or loaded.train[:MOST]
        sets["swap"] = (swapped, [setup.swap(e.captions[0], config) for e in swapped])
    found: dict[str, Any] = {}
    for name, (examples, captions) in sets.items():
        if not examples:
            continue
        questions = validation.Questions(
            loaded, examples, captions=captions, timesteps=config.validation.timesteps, noises=config.validation.noises
        )
        with loaded.adapters.off():
            base = questions.ask()
        found[name] = validation.compare(base, questions.ask()).to_json()
    if "swap" in found:
        found["swap"]["words"] = word or "(without the trigger word)"
    return found


def samples(loop: Loop, final: dict[int, Any]) -> dict[str, Any]:
    """Compare the last sample pictures with the training set and with the base model's pictures of the same seeds.

    `similarity` is the mean cosine to the training pictures (the middle of the VAE's latents in 8 x 8 fields,
    seen from halfway between the base model's pictures and the training pictures): without the LoRA, with it,
    and of the training pictures among themselves. `nearest` names the most similar training picture of each sample
    {index, file, similarity, copy}, `copies` counts those that are nearly a training picture again. `drift` is how
    far the LoRA changes pictures of the same seed {withTrigger, withoutTrigger} (mean difference, 0 to 1).
    `colours` is there for the starter model only (colours.of_run), also when no samples were drawn.
    """
    found = _compared(loop, final)
    followed = colours.of_run(loop)
    return {**found, "colours": followed} if followed is not None else found


def _compared(loop: Loop, final: dict[int, Any]) -> dict[str, Any]:
    prompts = {p.index: p for p in loop.loaded.sampler.prompts}
    shared = [i for i in final if i in loop.base_samples]
    if not shared:
        return {}
    train = torch.stack([resemblance.pooled(e.latents) for e in loop.loaded.train])
    images = [*(loop.base_samples[i] for i in shared), *(final[i] for i in shared)]
    before, after = torch.stack(resemblance.encoded(loop, images, loop.loaded.device)).chunk(2)
    centre = resemblance.middle(train, before)
    unit = [torch.nn.functional.normalize(t - centre, dim=1) for t in (train, after)]
    own = unit[0] @ unit[0].T
    count = len(own)
    named = [row for row, i in enumerate(shared) if prompts[i].with_trigger] or list(range(len(shared)))
    nearest = (unit[1] @ unit[0].T).max(1)
    pairs = own[~torch.eye(count, dtype=torch.bool)]
    least = max([COPY, *pairs[pairs < SAME].tolist()])
    copied = (nearest.values > least).tolist()
    plain = [row for row, i in enumerate(shared) if not prompts[i].with_trigger]
    result: dict[str, Any] = {
        "similarity": {
            "base": round(resemblance.cosine(before[named], train, centre), 4),
            "lora": round(resemblance.cosine(after[named], train, centre), 4),
            "trainingAmongThemselves": resemblance.among(train, centre),
        },
        "nearest": [
            {"index": shared[row], "file": loop.loaded.train[int(nearest.indices[row])].file,
             "similarity": round(float(nearest.values[row]), 4), "copy": copied[row]}
            for row in range(len(shared))
        ],
        "copies": sum(copied),
        "likeness": likeness.of_samples(loop, final),
    }  # fmt: skip
    if plain and len(plain) < len(shared):
        result["drift"] = {
            "withTrigger": round(
                _mean([_difference(loop.base_samples[shared[r]], final[shared[r]]) for r in named]), 4
            ),
            "withoutTrigger": round(
                _mean([_difference(loop.base_samples[shared[r]], final[shared[r]]) for r in plain]), 4
            ),
        }
    return result


def verdict(choice: Choice, readings: dict[str, Any], pictures: dict[str, Any], moved: bool) -> dict[str, Any]:
    """Say in words what came out: {level, text, hints, recommendedStep, reason, evidence}.

    `evidence` says how much the held-out pictures can tell: "none", "weak" (one), "little" (two or three), "good".
    """
    held = readings.get("heldOut")
    count = held["pictures"] if held else 0
    evidence = "none" if not held else "weak" if count == 1 else "little" if count < 4 else "good"
    where = "On the one picture it never saw" if count == 1 else f"On {count} pictures it never saw"
    if not moved:
        level, text = "not_learned", "The LoRA is all zeros: it changes nothing. The learning rate was too low or zero."
    elif held is None:
        level = "unknown"
        text = (
            "No pictures were set aside, so whether the subject was learned or only the pictures cannot be told from "
            "numbers. Look at the samples; with 8 or more pictures one is set aside."
        )
    elif held["change"] < 0 and held["pValue"] < 0.05:
        level = "learned"
        learned = "It has learned the subject." if count > 3 else "That speaks for having learned the subject."
        text = (
            f"{where}, the error is {-held['change']:.1%} lower than without the LoRA "
            f"({held['improved']} of {held['pairs']} comparisons better). {learned}"
        )
    elif held["change"] < 0:
        level = "weak"
        text = (
            f"{where}, the error is {-held['change']:.1%} lower, which may be chance "
            f"(p = {held['pValue']:.2f}). More steps, a higher rank or more pictures should help."
        )
    else:
        level = "overfitted"
        text = (
            f"{where}, the error is {held['change']:.1%} higher than without the LoRA: it seems to have "
            "memorised the training pictures. Use fewer steps, a lower learning rate or more pictures."
        )
    if moved and count:
        text += _CAUTION.get(evidence, "")
    hints = []
    swap = readings.get("swap")
    if held and swap and held["change"] < 0 and swap["change"] < 0.8 * held["change"]:
        hints.append(
            "The likeness also shows without the trigger word. A class word with prior weight 1 and a trained text "
            "encoder keep the two apart; either alone does not where the text encoder cannot tell the words apart."
        )
    if pictures.get("copies"):
        hints.append(
            "Some samples are nearly copies of training pictures. Fewer steps, a lower learning rate or more pictures "
            "help against copying."
        )
    hints += (pictures.get("colours") or {}).get("notes", [])
    return {"level": level, "text": text, "hints": hints, "recommendedStep": choice.step, "reason": choice.reason,
            "evidence": evidence}  # fmt: skip


#: What few held-out pictures cannot tell.
_CAUTION = {
    "weak": " One picture is weak evidence: another one could have said something else. Judge by the samples; with 15 or "
    "more pictures two or more are set aside.",
    "little": " So few pictures are little evidence. Judge by the samples, too.",
}


def _difference(a: Any, b: Any) -> float:
    from PIL import ImageChops, ImageStat

    return _mean(ImageStat.Stat(ImageChops.difference(a.convert("RGB"), b.convert("RGB"))).mean) / 255


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
