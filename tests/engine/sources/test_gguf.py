"""Reading GGUF files: as gguf.GGUFReader does, and never a traceback for a damaged one."""

from pathlib import Path

import gguf
import gguf_files
import numpy as np
import pytest
import tiny
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_entropy.core.errors import UserError
from tui_entropy.engine.sources.gguf import GgufFile


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return gguf_files.write(path, tiny.llama(), gguf.GGMLQuantizationType.Q8_0)


def test_keys_and_tensors_are_those_that_the_gguf_library_reads(file: Path) -> None:
    ours, theirs = GgufFile(file), gguf.GGUFReader(file)
    assert ours.metadata == {
        name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")
    }
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        expected = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        np.testing.assert_array_equal(ours.read(tensor.name), expected)


def test_some_tensors_are_quantised_or_the_comparison_says_little(file: Path) -> None:
    assert {tensor.kind.name for tensor in GgufFile(file).tensors.values()} == {"Q8_0", "F32"}


@pytest.mark.parametrize("kept", [0, 3, 20, 1000, -1])
def test_a_file_cut_short_is_refused_in_a_sentence(file: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut\.gguf .*(fetch the GGUF file again|name a GGUF file)"):
        GgufFile(cut)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "song.gguf").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(UserError, match="is not a GGUF file"):
        GgufFile(tmp_path / "song.gguf")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        GgufFile(tmp_path / "nowhere.gguf")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(4, 4000), noise=st.binary(min_size=1, max_size=16))
def test_garbage_in_the_header_never_raises_anything_but_a_sentence(
    file: Path, tmp_path: Path, at: int, noise: bytes
) -> None:
    whole = bytearray(file.read_bytes())
    whole[at : at + len(noise)] = noise
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(whole)
    try:
        GgufFile(broken)
    except UserError as refusal:
        assert "broken.gguf" in str(refusal)
