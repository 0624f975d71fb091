"""How much of everything: the full plan and the smoke run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Counts of pictures, captions and steps. Batches are pictures (captions for the text encoder) per step."""

    avatars: int
    shapes: int
    tokenizer_captions: int
    captions_per_avatar: int
    merges_until: int  # the most pieces the vocabulary gets
    vae_steps: int
    vae_batch: int
    vae_crop_share: float  # this share of the VAE's steps sees 64 px crops, twice as many per batch
    text_captions: int
    text_steps: int
    text_batch: int
    unet_steps: int
    unet_batch: int
    decoder_steps: int
    decoder_batch: int
    measured: int  # prompts of the check at the end


#: What two cores without bfloat16 do in less than an hour and a half.
FULL = Plan(
    avatars=12_000, shapes=3_000, tokenizer_captions=30_000, captions_per_avatar=4, merges_until=1_408,
    vae_steps=2_400, vae_batch=4, vae_crop_share=0.25, text_captions=24_000, text_steps=1_500, text_batch=64,
    unet_steps=4_000, unet_batch=16, decoder_steps=500, decoder_batch=4, measured=60,
)  # fmt: skip

#: Every stage in seconds; the model that comes out draws noise.
QUICK = Plan(
    avatars=48, shapes=8, tokenizer_captions=300, captions_per_avatar=2, merges_until=700, vae_steps=4, vae_batch=2,
    vae_crop_share=0.5, text_captions=200, text_steps=4, text_batch=8, unet_steps=4, unet_batch=4, decoder_steps=2,
    decoder_batch=2, measured=2,
)  # fmt: skip
