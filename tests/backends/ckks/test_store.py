"""Files: both engines read what they wrote, and nothing else; the server has no secret."""

import gc
import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einloom.backends.ckks import seal as seal_engine
from einloom.backends.ckks.engine import Engine
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.seal import Seal, sealapi
from einloom.backends.ckks.simulator import Simulator
from einloom.backends.ckks.store import read_parameters
from einloom.ir.errors import ArgumentError, EinloomError, SlotError, UnsupportedError

from .engines import DEEP, SMALL, pair, vector

ENGINES = pytest.mark.parametrize(
    "engine", [Simulator(DEEP), Seal(DEEP)], ids=["simulated", "seal"]
)

SERVER = """
import sys
from einloom.backends.ckks.seal import Seal
from einloom.backends.ckks.simulator import Simulator
from einloom.backends.ckks.store import read_parameters

name, folder = sys.argv[1:]
engine = {"simulated": Simulator, "seal": Seal}[name](read_parameters(folder + "/keys"))
server = engine.evaluator(engine.load_keys(folder + "/keys"))
a = engine.load_ciphertext(folder + "/input")
y = server.rescale(server.relinearize(server.multiply(a, server.rotate(a, 2))))
engine.save(y, folder + "/output")
"""


@ENGINES
def test_client_and_server_are_two_processes(engine: Engine, tmp_path: Path) -> None:
    x = vector(DEEP)
    client = engine.client()
    client.save_secret_key(tmp_path / "secret")
    engine.save(client.evaluation_keys((2,)), tmp_path / "keys")
    engine.save(client.encrypt(client.encode(x)), tmp_path / "input")
    command = [sys.executable, "-c", SERVER, engine.name, str(tmp_path)]
    subprocess.run(command, check=True)
    result = engine.load_ciphertext(tmp_path / "output")
    assert (result.level, result.size) == (1, 2)
    got = engine.load_client(tmp_path / "secret").decrypt(result)
    np.testing.assert_allclose(got, x * np.roll(x, -2), atol=1e-5)
    assert np.array_equal(got, client.decrypt(result))
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
    names = {"secret", "keys", "input", "output"}
    assert {path.name for path in tmp_path.iterdir()} == names  # nothing half-written is left


@ENGINES
def test_evaluation_keys_say_what_they_are(engine: Engine, tmp_path: Path) -> None:
    client = engine.client()
    for steps, relinearization in (((), False), ((), True), ((1, -1), False), ((1,), True)):
        keys = client.evaluation_keys(steps, relinearization=relinearization)
        engine.save(keys, tmp_path / "keys")
        again = engine.load_keys(tmp_path / "keys")
        assert (again.owner, again.steps) == (client.owner, keys.steps)
        assert again.relinearization == relinearization
        assert again.bytes == keys.bytes
    assert read_parameters(tmp_path / "keys") == DEEP


@ENGINES
def test_a_damaged_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    client = engine.client()
    path = tmp_path / "file"
    engine.save(client.encrypt(client.encode([1.0])), path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    newer = whole[:13] + b"\x02" + whole[14:]
    long_header = whole[:15] + b"\xff\xff\xff\x7f" + whole[19:]
    for damaged, message in (
        (b"", "not a file of CKKS"),
        (b"x" * 100, "not a file of CKKS"),
        (whole[:13], "not a file of CKKS"),
        (whole[:-1], "another length"),
        (whole + b"\0", "another length"),
        (whole[:30], "cut short"),
        (flipped, "its digest differs"),
        (newer, "version 2"),
        (long_header, "cut short"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ArgumentError, match=message):
            engine.load_ciphertext(path)


def forged(whole: bytes, change: dict[str, Any], payload: bytes | None) -> bytes:
    """A file with another header or payload, and the digest that fits it."""
    (length,) = struct.unpack_from("<I", whole, 15)
    header = json.loads(whole[19 : 19 + length])
    header.update(change)
    text = json.dumps(header).encode()
    held = whole[27 + length : -32] if payload is None else payload
    size = struct.pack("<Q", len(held))
    body = whole[:15] + struct.pack("<I", len(text)) + text + size + held
    return body + hashlib.sha256(body).digest()


@ENGINES
def test_a_forged_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    client = engine.client()
    path = tmp_path / "file"
    engine.save(client.encrypt(client.encode([1.0])), path)
    whole = path.read_bytes()
    changes: list[dict[str, Any]] = [
        {"kind": "evaluation keys"},
        {"engine": "another"},
        {"parameters": SMALL.to_json()},
        {"level": 3},
        {"level": None},
        {"scale": "nan"},
        {"size": 9},
    ]
    path.write_bytes(forged(whole, {}, None))
    engine.load_ciphertext(path)
    for change in changes:
        path.write_bytes(forged(whole, change, None))
        with pytest.raises(ArgumentError):
            engine.load_ciphertext(path)
    for payload in (b"", b"\0" * 10, b"\xff" * (16 + 16 * DEEP.slots)):
        path.write_bytes(forged(whole, {}, payload))
        with pytest.raises(ArgumentError):
            engine.load_ciphertext(path)


@ENGINES
def test_files_of_one_kind_do_not_pass_for_another(engine: Engine, tmp_path: Path) -> None:
    client = engine.client()
    engine.save(client.evaluation_keys(), tmp_path / "keys")
    client.save_secret_key(tmp_path / "secret")
    with pytest.raises(ArgumentError, match="another kind"):
        engine.load_ciphertext(tmp_path / "keys")
    with pytest.raises(ArgumentError, match="another kind"):
        engine.load_keys(tmp_path / "secret")
    with pytest.raises(ArgumentError, match="another kind"):
        engine.load_client(tmp_path / "keys")
    other = Simulator(SMALL)
    other.save(other.client().evaluation_keys(), tmp_path / "small")
    with pytest.raises(ArgumentError, match=r"another engine|other parameters"):
        engine.load_keys(tmp_path / "small")


def test_engines_do_not_take_each_others_things() -> None:
    simulated, seal = pair(Simulator(DEEP)), pair(Seal(DEEP))
    a = seal.client.encrypt(seal.client.encode([1.0]))
    with pytest.raises(SlotError, match="under other keys"):
        simulated.server.negate(a)
    with pytest.raises(SlotError, match="another engine"):
        seal.server.add_plain(a, simulated.client.encode([1.0]))
    with pytest.raises(ArgumentError, match="another engine"):
        simulated.engine.evaluator(seal.client.evaluation_keys())
    with pytest.raises(ArgumentError, match="other parameters"):
        Simulator(SMALL).evaluator(simulated.client.evaluation_keys())


def reachable(start: object) -> list[object]:
    """Whatever can be reached from an object, but for modules and classes."""
    seen, found, left = {id(start)}, [start], [start]
    while left:
        for item in gc.get_referents(left.pop()):
            if id(item) in seen or isinstance(item, type | type(sys) | type(reachable)):
                continue
            seen.add(id(item))
            found.append(item)
            left.append(item)
    return found


def test_the_server_has_no_secret_to_find() -> None:
    """All that a server's objects lead to holds no key that decrypts; those that it has do not."""
    engine = Seal(DEEP)
    client = engine.client()
    keys = client.evaluation_keys((1,))
    a = client.encrypt(client.encode([0.5] * DEEP.slots))
    server = Seal(DEEP).evaluator(keys)
    api = sealapi()
    secret_kinds = (api.SecretKey, api.KeyGenerator, api.Decryptor)
    for start in (server, keys, a, engine):
        assert not [item for item in reachable(start) if isinstance(item, secret_kinds)]
    # The walk does see one where there is one.
    assert [item for item in reachable(client) if isinstance(item, secret_kinds)]
    # A server that makes up a key of its own reads noise.
    other = engine.client()
    with pytest.raises(SlotError):
        other.decrypt(a)
    assert "_decryptor" not in vars(other)  # it was refused before a decryptor was made
    context: Any = vars(engine)["_context"]
    held = api.Plaintext()
    maker = api.KeyGenerator(context.seal)
    api.Decryptor(context.seal, maker.secret_key()).decrypt(a.payload, held)
    read = np.array(context.encoder.decode_double(held))
    assert np.abs(read - 0.5).min() > 1e-3


def test_the_simulated_server_has_no_secret_to_find() -> None:
    engine = Simulator(DEEP)
    client = engine.client()
    keys = client.evaluation_keys((1,))
    secret: Any = vars(client)["_secret"]
    for start in (engine.evaluator(keys), keys, engine):
        assert not [item for item in reachable(start) if item is secret]
    assert [item for item in reachable(client) if item is secret]


def test_without_tenseal(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(seal_engine, "import_module", missing)
    with pytest.raises(UnsupportedError, match=r"pip install 'einloom\[fhe\]'"):
        Seal(DEEP)


def test_an_insecure_chain_runs_on_seal_by_the_flag() -> None:
    parameters = Parameters.create(4096, [60, 40, 40, 60], insecure=True)
    it = pair(Seal(parameters))
    a = it.client.encrypt(it.client.encode([0.5]))
    assert it.client.decrypt(it.server.rotate(a, 1))[-1].real == pytest.approx(0.5, abs=1e-6)


def test_an_overflow_is_the_same_garbage_on_both() -> None:
    read = list[Any]()
    for it in (pair(Simulator(SMALL)), pair(Seal(SMALL))):
        room = 2.0 ** (SMALL.log2_modulus(0) - 1) / SMALL.scale
        values = np.random.default_rng(1).uniform(-0.2, 0.4, SMALL.slots) * 8 * room
        a = it.client.encrypt(it.client.encode(values / 8, level=0))
        for _ in range(6):
            a = it.server.add(a, a)
        read.append(it.client.decrypt(a))
    assert np.abs(read[1]).max() > room
    assert np.abs(read[0] - read[1]).max() < 1e-2 * np.abs(read[1]).max()


def test_mistakes_are_einlooms() -> None:
    it = pair(Simulator(DEEP))
    for values in ([[1.0]], ["x"], 3.0):
        with pytest.raises(EinloomError):
            it.client.encode(values)
