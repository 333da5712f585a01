import pytest

from charlstm.errors import CharlstmError
from charlstm.network.device import Device, choose_precision

PLAIN, GPU = Device("CPU", on_gpu=False), Device("GPU", on_gpu=True)
ABLE = Device("CPU", on_gpu=False, bfloat16=True)


@pytest.mark.parametrize(
    ("choice", "device", "expected"),
    [
        ("auto", PLAIN, "float32"),
        ("auto", ABLE, "bfloat16"),
        ("auto", GPU, "float32"),
        ("float32", ABLE, "float32"),
        ("float32", GPU, "float32"),
        ("bfloat16", ABLE, "bfloat16"),
        ("float16", GPU, "float16"),
    ],
)
def test_a_supported_precision_is_used(choice: str, device: Device, expected: str) -> None:
    assert choose_precision(choice, device) == expected


@pytest.mark.parametrize(
    ("saved", "device", "expected"),
    [
        ("float32", ABLE, "float32"),
        ("bfloat16", ABLE, "bfloat16"),
        ("bfloat16", PLAIN, "float32"),
        ("bfloat16", GPU, "float32"),
        ("float16", GPU, "float16"),
        ("float16", ABLE, "bfloat16"),
    ],
)
def test_a_resumed_run_keeps_its_precision_where_it_is_supported(
    saved: str, device: Device, expected: str
) -> None:
    assert choose_precision("auto", device, saved=saved) == expected
    assert choose_precision("float32", device, saved=saved) == "float32"


@pytest.mark.parametrize(
    ("choice", "device", "reason"),
    [
        ("bfloat16", PLAIN, "slower than float32 on this processor.*; use float32"),
        ("bfloat16", GPU, "to float32 around cuDNN.*; use float32 or float16"),
        ("float16", PLAIN, "slower than float32 on a CPU; use float32"),
        ("float16", ABLE, "slower than float32 on a CPU; use bfloat16 or float32"),
    ],
)
def test_a_precision_that_is_no_faster_is_refused_with_the_reason(
    choice: str, device: Device, reason: str
) -> None:
    with pytest.raises(CharlstmError, match=f"{choice} is .*{reason}"):
        choose_precision(choice, device)
