"""The device key: one per user and machine whoever comes first, and never one that others can read or replace."""

import multiprocessing
import os
import stat
from base64 import b32encode
from hashlib import blake2b
from pathlib import Path

import pytest
import zmq
from nacl.signing import SigningKey

from zmesh.errors import DeviceKeyError
from zmesh.trust.device import SEED_BYTES, Device, curve_key, fingerprint, read_device, readable, verify

RACERS = 20


def race(path: Path, start: "multiprocessing.synchronize.Event", ids: "multiprocessing.Queue[str]") -> None:
    start.wait()
    ids.put(Device.load_or_create(path).id)


def test_twenty_processes_that_race_end_up_with_one_key(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    path = tmp_path / "home" / "device.key"
    start, ids = spawn.Event(), spawn.Queue()
    racers = [spawn.Process(target=race, args=(path, start, ids)) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    start.set()
    seen = {ids.get(timeout=60) for _ in racers}
    for racer in racers:
        racer.join(60)
    assert seen == {Device.load_or_create(path).id}
    assert [file.name for file in path.parent.iterdir()] == ["device.key"]


def test_a_key_lost_between_the_look_and_the_link_is_the_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "device.key"
    monkeypatch.setattr(Path, "exists", lambda _: False)
    first = Device.load_or_create(path)
    assert Device.load_or_create(path) == first


def test_the_file_is_private_and_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "home" / "device.key"
    first = Device.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Device.load_or_create(path) == first


def test_the_id_is_the_fingerprint_of_the_public_key() -> None:
    device = Device.from_seed(bytes(range(SEED_BYTES)))
    public = bytes(SigningKey(bytes(range(SEED_BYTES))).verify_key)
    assert device.public == public
    assert device.id == b32encode(blake2b(public, digest_size=32).digest()[:20]).decode().lower() == fingerprint(public)
    assert len(device.id) == 32
    assert Device.from_seed(bytes(SEED_BYTES)).id != device.id


def test_the_curve_key_is_a_pair_that_zeromq_accepts() -> None:
    device = Device.from_seed(bytes(SEED_BYTES))
    assert zmq.curve_public(device.curve_secret_z85) == device.curve_public_z85
    assert (len(device.curve_public), len(device.curve_secret)) == (32, 32)


def test_a_signature_holds_for_its_key_and_text_only() -> None:
    device, other = Device.from_seed(bytes(SEED_BYTES)), Device.from_seed(b"x" * SEED_BYTES)
    signature = device.sign(b"text")
    assert len(signature) == 64
    assert verify(device.public, b"text", signature)
    assert not verify(device.public, b"test", signature)
    assert not verify(other.public, b"text", signature)
    assert not verify(device.public, b"text", b"short")
    assert not verify(b"short", b"text", signature)


def test_secrets_stay_out_of_texts() -> None:
    device = Device.from_seed(b"\x07" * SEED_BYTES)
    assert repr(device.seed) not in repr(device)
    assert repr(device.curve_secret) not in repr(device)


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(DeviceKeyError, match="32 bytes, not 31"):
        Device.from_seed(bytes(31))


@pytest.mark.parametrize("size", [0, 31, 33, 4096])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(DeviceKeyError, match=f"device.key is damaged: {size} bytes.*restore"):
        Device.load_or_create(path)
    assert path.stat().st_size == size


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "device.key"
    Device.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(DeviceKeyError, match=r"read or changed by others.*chmod 600 .*device\.key"):
        Device.load_or_create(path)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_in_which_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    with pytest.raises(DeviceKeyError, match=r"others can change the directory.*chmod 700"):
        Device.load_or_create(home / "device.key")
    assert not list(home.iterdir())


def test_the_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    Device.load_or_create(path)
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 12_345, -1)
    with pytest.raises(DeviceKeyError, match="belongs to user id 12345"):
        Device.load_or_create(path)
    os.chown(tmp_path, 12_345, -1)
    with pytest.raises(DeviceKeyError, match="owner 12345"):
        Device.load_or_create(path)


def test_links_and_directories_are_no_key(tmp_path: Path) -> None:
    Device.load_or_create(tmp_path / "real.key")
    (tmp_path / "link.key").symlink_to(tmp_path / "real.key")
    (tmp_path / "dangling.key").symlink_to(tmp_path / "nowhere")
    (tmp_path / "directory.key").mkdir()
    for name in ("link.key", "dangling.key", "directory.key"):
        with pytest.raises(DeviceKeyError, match=name):
            Device.load_or_create(tmp_path / name)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeviceKeyError, match=r"cannot use the device key .*file/device\.key.*ZMESH_HOME"):
        Device.load_or_create(tmp_path / "file" / "device.key")


def test_an_id_for_people_is_read_back_however_they_write_it() -> None:
    device = Device.from_seed(bytes(SEED_BYTES)).id
    shown = readable(device)
    assert [len(group) for group in shown.split("-")] == [4] * 8 + [1]
    for written in (shown, device, shown.upper(), shown.replace("-", " "), f" {shown}\n", device + shown[-1]):
        assert read_device(written) == device


def test_a_slip_of_the_pen_is_noticed() -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    for seed in range(2):
        plain = readable(Device.from_seed(bytes([seed]) * SEED_BYTES).id).replace("-", "")
        for place in range(len(plain)):
            for other in set(alphabet) - {plain[place]}:
                with pytest.raises(DeviceKeyError, match="slip"):
                    read_device(plain[:place] + other + plain[place + 1 :])
            swapped = plain[:place] + plain[place : place + 2][::-1] + plain[place + 2 :]
            if swapped != plain and set(plain[place : place + 2]) != {"a", "7"}:
                with pytest.raises(DeviceKeyError, match="slip"):
                    read_device(swapped)


@pytest.mark.parametrize("text", ["", "a" * 31, "a" * 34, "a" * 64, "1" * 32, "\u212a" * 32, "A-B"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(DeviceKeyError, match="no device id"):
        read_device(text)


def test_the_curve_key_follows_from_the_public_key_and_rubbish_has_none() -> None:
    device = Device.from_seed(bytes(SEED_BYTES))
    assert curve_key(device.public) == device.curve_public
    for rubbish in (b"", b"short", bytes(32), b"\xff" * 32, b"\x01" + bytes(31)):
        with pytest.raises(DeviceKeyError, match="not the public key"):
            curve_key(rubbish)
