"""LoRA layers computed in two products answer and learn like PEFT's own, and step aside where they must."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import LoraConfig, inject_adapter_in_model  # noqa: E402

from dalla.diffusion.training import fused  # noqa: E402


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(12, 20)
        self.second = torch.nn.Linear(20, 6, bias=False)

    def forward(self, x: Any) -> Any:
        return self.second(torch.tanh(self.first(x)))


def pair(**settings: Any) -> tuple[Any, Any]:
    """The same network with the same adapter twice: PEFT's own way, and fused."""
    torch.manual_seed(3)
    net = Net().requires_grad_(False)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["first", "second"], **settings}
    inject_adapter_in_model(LoraConfig(**options), net, "default")
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return net, copy.deepcopy(net)


def calls(monkeypatch) -> list[int]:
    """Count how often the fused way is taken."""
    seen: list[int] = []
    apply = fused._Joined.apply
    monkeypatch.setattr(fused._Joined, "apply", lambda *args: seen.append(1) or apply(*args))
    return seen


def gradients(net: Any, x: Any) -> dict[str, Any]:
    net.zero_grad()
    net(x).pow(2).mean().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("x_learns", [False, True])
def test_same_answers_and_gradients(monkeypatch, x_learns):
    own, mine = pair()
    assert fused.fuse(mine, "default") == 2
    seen = calls(monkeypatch)
    x = torch.randn(2, 15, 12)
    xs = [x.clone().requires_grad_(x_learns) for _ in range(2)]
    expected, found = gradients(own, xs[0]), gradients(mine, xs[1])
    assert len(seen) == 2
    assert torch.allclose(own(x), mine(x), atol=1e-5)
    assert len(expected) == 4 and expected.keys() == found.keys()
    for name in expected:
        assert torch.allclose(expected[name], found[name], atol=1e-5), name
    if x_learns:
        assert torch.allclose(xs[0].grad, xs[1].grad, atol=1e-5)


def test_a_checkpointed_layer_learns_the_same():
    from torch.utils.checkpoint import checkpoint

    own, mine = pair()
    fused.fuse(mine, "default")
    x = torch.randn(40, 12)
    expected = gradients(own, x)
    mine.zero_grad()
    checkpoint(mine, x, use_reentrant=False).pow(2).mean().backward()
    for name, parameter in mine.named_parameters():
        if name in expected:
            assert torch.allclose(expected[name], parameter.grad, atol=1e-5), name


def test_the_adapter_off_is_the_plain_model(monkeypatch):
    own, mine = pair()
    fused.fuse(mine, "default")
    seen = calls(monkeypatch)
    for net in (own, mine):
        for layer in (net.first, net.second):
            layer._disable_adapters = True
    x = torch.randn(40, 12)
    assert torch.equal(own(x), mine(x)) and not seen


def test_few_rows_and_autocast_take_the_usual_way(monkeypatch):
    own, mine = pair()
    fused.fuse(mine, "default")
    seen = calls(monkeypatch)
    x = torch.randn(2, 12)  # putting 12 x 20 together would cost more than two rows
    assert torch.equal(own(x), mine(x)) and not seen
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine(torch.randn(40, 12))
    assert not seen


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_dropout": 0.1}])
def test_other_kinds_of_lora_are_left_alone(settings):
    assert fused.fuse(pair(**settings)[1], "default") == 0


def test_an_adapter_with_a_bias_is_left_alone():
    assert fused.fuse(pair(lora_bias=True, target_modules=["first"])[1], "default") == 0


def test_half_precision_weights_are_left_alone():
    _, mine = pair()
    mine.first.base_layer.to(torch.bfloat16)
    assert fused.fuse(mine, "default") == 1
