from __future__ import annotations

import pytest

from dalla.bucketing import batches_per_epoch, buckets, plan


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (1024, 64), (128, 16), (768, 32), (100, 64), (64, 64)])
def test_no_bucket_has_more_pixels_than_the_square_and_sides_fit_the_step(resolution, step):
    found = buckets(resolution, step)
    side = max(step, resolution // step * step)
    assert (side, side) in found
    for width, height in found:
        assert width % step == 0 and height % step == 0
        assert width * height <= max(resolution**2, side**2)
        assert (height, width) in found


def test_limits_of_the_sides_are_kept():
    found = buckets(512, 64, lo=384, hi=640)
    assert min(min(s) for s in found) >= 384 and max(max(s) for s in found) <= 640


def test_a_square_picture_loses_nothing():
    crop = plan(2000, 2000, buckets(512, 64))
    assert crop.bucket == (512, 512) and crop.box == (0, 0, 2000, 2000) and crop.lost_fraction == 0
    assert not crop.upscaled and crop.scale == pytest.approx(0.256)


def test_portrait_and_landscape_go_to_their_own_buckets():
    choices = buckets(512, 64)
    assert plan(1000, 1500, choices).bucket[0] < plan(1000, 1500, choices).bucket[1]
    assert plan(1500, 1000, choices).bucket == plan(1000, 1500, choices).bucket[::-1]


def test_the_box_has_the_buckets_shape_and_lies_inside():
    choices = buckets(512, 64)
    for width, height in [(1, 1), (1, 5000), (20000, 3), (333, 777), (640, 480), (513, 511), (90, 16)]:
        crop = plan(width, height, choices)
        left, top, right, bottom = crop.box
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        if min(width, height) > 50:
            kept = (right - left) / (bottom - top)
            assert kept == pytest.approx(crop.bucket[0] / crop.bucket[1], rel=0.02)
        assert 0 <= crop.lost_fraction < 1


def test_a_small_picture_is_told():
    assert plan(200, 200, buckets(512, 64)).upscaled
    assert plan(200, 200, buckets(512, 64)).scale == pytest.approx(2.56)


def test_more_is_cut_at_the_bottom_than_at_the_top():
    left, top, right, bottom = plan(300, 1000, [(512, 512)]).box
    assert top < 1000 - bottom and top > 0


def test_a_focus_stays_in_the_crop():
    box = plan(1000, 300, [(512, 512)], focus=(0.95, 0.5)).box
    assert box[2] == 1000
    box = plan(1000, 300, [(512, 512)], focus=(0.5, 0.5)).box
    assert box[0] == pytest.approx(350, abs=1)


def test_short_batches_count():
    assert batches_per_epoch([5, 1, 4], 4) == 4


def test_nonsense_is_refused():
    with pytest.raises(ValueError):
        plan(0, 5, [(64, 64)])
