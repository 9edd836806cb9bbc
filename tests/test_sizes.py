import json

import pytest

from p2p_keras.sizes import Size, to_size


@pytest.mark.parametrize("value", ["256x512", (256, 512), [256, 512], Size(256, 512)])
def test_height_comes_first(value):
    assert to_size(value) == (256, 512)
    assert str(to_size(value)) == "256x512"
    assert to_size(json.loads(json.dumps(to_size(value).plain))) == (256, 512)


@pytest.mark.parametrize("value", ["64", 64, (64, 64), "64x64"])
def test_one_number_is_a_square(value):
    assert to_size(value) == (64, 64)
    assert to_size(value).plain == 64


@pytest.mark.parametrize(
    "value", ["", "x", "256x", "0", "-1", "1x2x3", "1x²", 0, -3, (), (1, 2, 3), (1, 0), True, 2.5, None]
)
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match="a size is one number or height x width"):
        to_size(value)


def test_halvings_are_those_of_both_sides():
    assert Size(256, 256).halvings == Size(256, 512).halvings == 8
    assert Size(256, 320).halvings == Size(320, 256).halvings == 6
    assert Size(96, 32).halvings == 5
    assert Size(3, 4).halvings == 0
