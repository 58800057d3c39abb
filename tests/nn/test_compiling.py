"""torch.compile: the same values, the same names, and a clear refusal without a compiler."""

from __future__ import annotations

import pytest
import torch

from leanrec.core.errors import MachineError
from leanrec.nn import compiling
from leanrec.nn.blocks import Transformer
from leanrec.nn.packing import Packed


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match="C\\+\\+ compiler"):
        compiling.compile_network(torch.nn.Linear(2, 2))


@pytest.mark.long
@pytest.mark.skipif(not compiling.has_compiler(), reason="there is no C++ compiler")
def test_a_compiled_network_gives_the_same() -> None:
    torch.manual_seed(0)
    net = Transformer(block="sasrec", dim=16, layers=1, heads=2, hidden=32, max_length=8, dropout=0.3).eval()
    packed = Packed(torch.tensor([[0, 0, 0, 1, 1, 1, 1, -1]]), torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0]]))
    items, names = torch.randn(1, 8, 16), list(net.state_dict())
    with torch.no_grad():
        plain = net(items, packed)
        compiling.compile_network(net)
        torch.testing.assert_close(net(items, packed), plain, rtol=1e-4, atol=1e-5)
    assert list(net.state_dict()) == names
