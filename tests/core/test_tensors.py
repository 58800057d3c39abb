"""Arrays on disk: what is written is mapped again, and a header that lies is refused before anything is allocated."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from leanrec.core.errors import BundleError
from leanrec.core.tensors import map_tensors, serialize, write_tensors

DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]
arrays = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
    st.sampled_from(DTYPES).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0))
    ),
    max_size=4,
)


def assert_same(found, tensors):
    assert set(found) == set(tensors)
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays)
def test_round_trip(tmp_path, tensors):
    file = tmp_path / "a.safetensors"
    write_tensors(file, tensors)
    assert_same(map_tensors(file), tensors)
    assert_same(load_file(file), tensors)
    file.write_bytes(serialize(tensors))
    assert_same(map_tensors(file), tensors)


def with_header(file, change):
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    fresh = json.dumps(header).encode()
    file.write_bytes(len(fresh).to_bytes(8, "little") + fresh + content[8 + size :])


LIES = {
    "a billion rows": lambda h: h["a"].update(shape=[10**9]),
    "more than memory": lambda h: h["a"].update(shape=[2**61]),
    "an overflow": lambda h: h["a"].update(shape=[2**32, 2**32, 2**32]),
    "a negative size": lambda h: h["a"].update(shape=[-4]),
    "a fraction": lambda h: h["a"].update(shape=[4.0]),
    "another type": lambda h: h["a"].update(dtype="F99"),
    "no type": lambda h: h["a"].pop("dtype"),
    "a wide type": lambda h: h["a"].update(dtype="F64"),
    "beyond the end": lambda h: h["a"].update(shape=[8], data_offsets=[0, 32]),
    "an overlap": lambda h: h.update(b={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}),
    "a gap": lambda h: h["a"].update(shape=[2], data_offsets=[8, 16]),
    "many dimensions": lambda h: h["a"].update(shape=[1] * 99 + [4]),
    "a shape of text": lambda h: h["a"].update(shape="4"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie(tmp_path, lie):
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"a": np.arange(4, dtype=np.float32)})
    with_header(file, LIES[lie])
    with pytest.raises(BundleError, match=r"a.safetensors has a broken safetensors header"):
        map_tensors(file)


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 8, (10).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7)])
def test_files_that_are_cut(tmp_path, content):
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"a.safetensors is not a safetensors file, or is cut short"):
        map_tensors(file)


@pytest.mark.parametrize("header", [b"[]", b"nul", b"\xff\xfe", b'{"a":1}', b'{"a":{},"a":{}}', b"[" * 5000])
def test_headers_that_are_no_table(tmp_path, header):
    file = tmp_path / "a.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BundleError, match="broken safetensors header"):
        map_tensors(file)
