"""How workers meet, each in a thread of its own."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import free_addresses

from charlstm.cluster import Cluster
from charlstm.errors import CharlstmError
from charlstm.rendezvous import meet

SAME = {"version": "1", "units": 24}


@pytest.fixture
def addresses() -> tuple[str, ...]:
    return free_addresses(3)


def outcomes(
    addresses: tuple[str, ...], brought: list[Any], delays: tuple[float, ...] = (0, 0, 0)
) -> list[str]:
    """Let workers meet who bring these values, or do not come; return their errors."""

    def come(index: int) -> str:
        if brought[index] is None:
            return ""
        time.sleep(delays[index])
        try:
            meet(Cluster(addresses, index), brought[index], timeout=2)
        except CharlstmError as error:
            return error.line("--{}".format)
        return ""

    with ThreadPoolExecutor(len(addresses)) as pool:
        return list(pool.map(come, range(len(addresses))))


@pytest.mark.parametrize("delays", [(0, 0, 0), (0.5, 0, 0.2), (0, 0.5, 0.2)])
def test_equal_workers_meet_in_any_order(
    delays: tuple[float, ...], addresses: tuple[str, ...]
) -> None:
    assert outcomes(addresses, [SAME] * 3, delays) == [""] * 3


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({**SAME, "version": "2"}, "its version is 2, but that of worker 1 is 1; start all"),
        ({**SAME, "units": 25}, "its units is 25, but that of worker 1 is 24; start all"),
        ({**SAME, "cell": "gru"}, "its cell is gru, but that of worker 1 is the default; start"),
        ({"version": "1"}, "its units is the default, but that of worker 1 is 24; start all"),
    ],
)
def test_all_are_told_who_differs(
    other: dict[str, Any], complaint: str, addresses: tuple[str, ...]
) -> None:
    found = outcomes(addresses, [SAME, SAME, other])
    assert len(set(found)) == 1
    assert found[0].startswith(f"worker 3 ({addresses[2]}): {complaint}")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_the_others_are_told_who_has_not_come(missing: int, addresses: tuple[str, ...]) -> None:
    brought = [None if index == missing else SAME for index in range(3)]
    found = [error for error in outcomes(addresses, brought) if error]
    assert len(found) == 2
    for error in found:
        who = f"worker {missing + 1} ({addresses[missing]})"
        what = "has not come; start all workers, or allow more time with --start_timeout"
        assert error == f"{who} {what}"


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"index": 9}\n', b'{"index": 0}\n', b""]
)
def test_strangers_do_not_disturb(sent: bytes, addresses: tuple[str, ...]) -> None:
    def disturb() -> None:
        time.sleep(0.3)
        with socket.create_connection(("127.0.0.1", int(addresses[0].split(":")[1]))) as server:
            server.sendall(sent)

    with ThreadPoolExecutor(1) as pool:
        stranger = pool.submit(disturb)
        assert outcomes(addresses, [SAME] * 3, (0, 1, 0)) == [""] * 3
        stranger.result()


def test_a_port_in_use_is_named(addresses: tuple[str, ...]) -> None:
    port = int(addresses[0].split(":")[1])
    with socket.create_server(("", port)), pytest.raises(CharlstmError) as raised:
        meet(Cluster(addresses, 0), SAME, timeout=1)
    assert str(raised.value).startswith(f"worker 1 ({addresses[0]}) cannot listen on its port: ")


def test_the_earlier_of_two_workers_with_the_same_index_is_told(addresses: tuple[str, ...]) -> None:
    """It is easily copied with the rest of TF_CONFIG."""

    def early() -> str:
        time.sleep(0.3)
        with socket.create_connection(("127.0.0.1", int(addresses[0].split(":")[1]))) as chief:
            chief.sendall(b'{"index": 1, "brought": {}}\n')
            return chief.makefile().readline()

    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(early)
        assert outcomes(addresses, [SAME] * 3, (0, 1, 1.3)) == [""] * 3
        assert f"worker 2 ({addresses[1]}) has come twice" in told.result()
