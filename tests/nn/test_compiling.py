"""torch.compile: the same values, the same names, and a clear refusal without a compiler."""

from __future__ import annotations

import pytest
import torch

from leanrec.core.errors import MachineError
from leanrec.models.sasrec import SASRec
from leanrec.nn import compiling
from leanrec.nn.blocks import Transformer
from leanrec.nn.packing import Packed

from ..models.worlds import shop


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match="C\\+\\+ compiler"):
        compiling.compile_network(torch.nn.Linear(2, 2))


_long = [
    pytest.mark.long,
    pytest.mark.skipif(not compiling.has_compiler(), reason="there is no C++ compiler"),
    # All three come from inside torch while it traces.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Function.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


class TestCompiled:
    pytestmark = _long

    def test_a_compiled_network_gives_the_same(self) -> None:
        net, packed, items = _small(dropout=0.3)
        net.eval()
        names = list(net.state_dict())
        with torch.no_grad():
            plain = net(items, packed)
            compiling.compile_network(net)
            torch.testing.assert_close(net(items, packed), plain, rtol=1e-4, atol=1e-5)
        assert list(net.state_dict()) == names

    @pytest.mark.parametrize("block", ["sasrec", "ligr"])
    def test_its_gradients_are_the_same(self, block: str) -> None:
        gradients = []
        for compiled in (False, True):
            net, packed, items = _small(dropout=0.0, block=block)
            if compiled:
                compiling.compile_network(net)
            items.requires_grad_()
            net(items, packed).square().sum().backward()
            gradients.append({"items": items.grad, **{name: p.grad for name, p in net.named_parameters()}})
        for name, plain in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], plain, rtol=1e-3, atol=1e-4, msg=name)

    def test_a_compiled_model_learns_as_the_plain_one(self) -> None:
        """With dropout, so masks differ: the same quality, not the same weights."""
        data = shop()
        scores = []
        for compiled in (False, True):
            model = SASRec(dim=16, max_length=8, epochs=4, batch_tokens=128, compile=compiled, precision="float32")
            scores.append(model.fit(data, seed=1).card["validation"][-1])
        assert scores[1] == pytest.approx(scores[0], abs=0.1) and scores[1] > 0


def _small(*, dropout: float, block: str = "sasrec") -> tuple[Transformer, Packed, torch.Tensor]:
    torch.manual_seed(0)
    net = Transformer(block=block, dim=16, layers=1, heads=2, hidden=32, max_length=8, dropout=dropout)
    packed = Packed(torch.tensor([[0, 0, 0, 1, 1, 1, 1, -1]]), torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0]]))
    return net, packed, torch.randn(1, 8, 16)
