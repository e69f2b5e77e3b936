"""The residual store: what is put comes back, from every tier, in just the bytes planned."""

import threading

import pytest
import torch

from napari_restore.engine.ledger.map_records import (
    FILE,
    ResidualStore,
    Transfer,
    earlier_slots,
    pinned,
)
from napari_restore.engine.ledger.slab import Slots
from napari_restore.errors import DiskFull, OutOfMemory

SHAPES = ((6, 8, 8), (12, 4, 4), (5, 3, 1))
VALUES = 6 * 64 + 12 * 16 + 15
ONE_EACH = Slots(device=1, ram=1, disk=1)


def tile(seed, dtype=torch.float32, device="cpu", shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(shape, generator=generator).to(dtype=dtype, device=device) for shape in shapes
    )


@pytest.fixture
def store_of(tmp_path):
    """Opens stores in one folder, and closes them in the end."""
    stores = []

    def open_store(slots=ONE_EACH, dtype=torch.float32, **options):
        options = {"shapes": SHAPES, "key": "k", **options}
        store = ResidualStore(tmp_path / "s" / FILE, dtype=dtype, slots=slots, **options)
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


def assert_same(got, put, dtype):
    assert got is not None
    assert [tensor.dtype for tensor in got] == [dtype] * len(put)
    for one, other in zip(got, put, strict=True):
        assert torch.equal(one, other.to(dtype).to(one.device))


def test_slots_name_the_tier_in_the_order_of_encoding():
    slots = Slots(device=1, ram=2, disk=1)
    tiers = [slots.of(slot) for slot in range(-1, 6)]
    assert tiers == [None, "device", "ram", "ram", "disk", None, None]
    assert slots.total == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("given", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_tier_gives_back_what_was_put(store_of, dtype, given):
    store = store_of(Slots(2, 2, 2), dtype)
    tiles = [tile(seed, given) for seed in range(6)]
    for slot, residuals in enumerate(tiles):
        store.put(slot, residuals)
    for slot in reversed(range(6)):
        assert_same(store.get(slot), tiles[slot], dtype)


def test_layout_in_memory_does_not_matter(store_of):
    store = store_of()
    contiguous = tile(0)
    strided = (
        contiguous[0].permute(1, 2, 0).contiguous().permute(2, 0, 1),
        contiguous[1].flip(2).contiguous().flip(2).transpose(1, 2).contiguous().transpose(1, 2),
        contiguous[2][:, :, :1].expand(5, 3, 1),
    )
    assert not strided[0].is_contiguous()
    batch = torch.stack([torch.zeros_like(strided[0]), strided[0]], dim=3)[..., 1]
    for slot in range(3):
        store.put(slot, (batch, *strided[1:]))
        assert_same(store.get(slot), contiguous, torch.float32)
        assert all(tensor.is_contiguous() for tensor in store.get(slot))


def test_values_that_are_no_numbers_are_kept_bit_for_bit(store_of):
    store = store_of()
    residuals = tile(0)
    residuals[0][0, 0, :3] = torch.tensor([float("nan"), float("-inf"), -0.0])
    for slot in range(3):
        store.put(slot, residuals)
        for one, other in zip(store.get(slot), residuals, strict=True):
            assert torch.equal(one.view(torch.int32), other.view(torch.int32))


def test_what_is_got_is_the_callers_own(store_of):
    store = store_of()
    residuals = tile(0)
    for slot in range(3):
        store.put(slot, residuals)
        for tensor in store.get(slot):
            tensor.zero_()
        assert_same(store.get(slot), residuals, torch.float32)


def test_a_tile_put_again_takes_the_place_of_the_first(store_of):
    store = store_of()
    for slot in range(3):
        store.put(slot, tile(0))
        store.put(slot, tile(1))
        assert_same(store.get(slot), tile(1), torch.float32)


def test_a_tile_put_by_half_is_not_there(store_of, monkeypatch):
    store = store_of()
    for slot in range(3):
        store.put(slot, tile(0))

    def half(source, target):
        target[:1] = 5.0
        raise MemoryError

    monkeypatch.setattr(store._transfer, "out", half)
    with pytest.raises(MemoryError):
        store.put(1, tile(1))
    assert store.get(1) is None
    with pytest.raises(MemoryError):
        store.put(2, tile(1))
    assert_same(store.get(2), tile(0), torch.float32)


def test_what_was_not_put_or_is_beyond_all_tiers_is_none(store_of):
    store = store_of()
    store.put(3, tile(3))
    for slot in (-1, 0, 1, 2, 3, 100):
        assert store.get(slot) is None


def test_residuals_of_another_shape_are_refused(store_of):
    store = store_of()
    for wrong in (tile(0)[:2], (tile(0)[0].mT, tile(0)[1], tile(0)[2].mT)):
        with pytest.raises(ValueError, match="instead of"):
            store.put(1, wrong)
    assert store.get(1) is None


# -- bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 4), (torch.float16, 2)])
def test_each_tier_holds_exactly_its_bytes(store_of, tmp_path, dtype, width):
    store = store_of(Slots(2, 5, 3), dtype)
    assert store.record_bytes == VALUES * width
    expected = {"device": 2 * VALUES * width, "ram": 5 * VALUES * width}
    expected["disk"] = 3 * VALUES * width
    assert store.bytes_by_tier() == expected
    for slot in range(12):
        store.put(slot, tile(slot))
    assert store.bytes_by_tier() == expected
    assert sum(slab.untyped_storage().nbytes() for slab in store._slabs.values()) == (
        expected["device"] + expected["ram"]
    )
    assert (tmp_path / "s" / FILE).stat().st_size == expected["disk"]
    store.close()
    assert store.bytes_by_tier() == {**expected, "device": 0, "ram": 0}
    store.remove()
    assert list((tmp_path / "s").iterdir()) == []


def test_without_tiles_on_disk_nothing_is_written(store_of, tmp_path):
    store = store_of(Slots(ram=3))
    store.put(2, tile(2))
    assert not (tmp_path / "s").exists()
    store.remove()


def test_ram_that_is_not_there_is_out_of_memory(store_of):
    with pytest.raises(OutOfMemory, match=r"not enough memory for .* TiB of residuals"):
        store_of(Slots(ram=1 << 44))
    # The store let go of its file, and can be opened again with less.
    with pytest.raises(OutOfMemory):
        store_of(Slots(ram=1 << 44, disk=1))
    store_of(Slots(ram=1, disk=1)).put(1, tile(0))


def test_a_full_disk_is_told_at_once(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, old[1]))
    try:
        with pytest.raises(DiskFull, match='residuals="recompute"'):
            ResidualStore(tmp_path / FILE, SHAPES, torch.float32, Slots(disk=1000), key="k")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


# -- reopening -----------------------------------------------------------------------


def test_after_reopening_the_disk_is_there_and_the_memory_is_not(store_of):
    store = store_of(Slots(1, 1, 2))
    for slot in range(4):
        store.put(slot, tile(slot))
    store.close()
    store = store_of(Slots(1, 1, 2))
    assert store.get(0) is None
    assert store.get(1) is None
    assert_same(store.get(2), tile(2), torch.float32)
    assert_same(store.get(3), tile(3), torch.float32)


@pytest.mark.parametrize(
    "other",
    [
        {"key": "l"},
        {"slots": Slots(1, 2, 2)},
        {"shapes": ((6, 8, 8), (3, 8, 8), (5, 3, 1))},
        {"dtype": torch.int32},
    ],
    ids=lambda o: next(iter(o)),
)
def test_a_store_of_something_else_starts_anew(store_of, other):
    """Also where the bytes would fit: a record must not be read as another tile or dtype."""
    first = store_of(Slots(1, 1, 2))
    first.put(2, tile(2))
    first.close()
    again = store_of(**{"slots": Slots(1, 1, 2), **other})
    assert again.record_bytes == first.record_bytes
    assert [again.get(slot) for slot in range(6)] == [None] * 6


def test_the_split_of_an_earlier_run_is_found(store_of, tmp_path):
    def found(key="k 1", shapes=SHAPES, dtype=torch.float32):
        return earlier_slots(tmp_path / "s", shapes, dtype, key=key)

    assert found() is None
    store = store_of(Slots(1, 2, 3), key="k 1")
    assert found() == Slots(1, 2, 3)
    assert found(key="k") is None
    assert found(dtype=torch.float16) is None
    assert found(shapes=SHAPES[:1]) is None
    store.remove()
    assert found() is None


def test_a_damaged_record_is_none_and_its_neighbours_are_not(store_of, tmp_path):
    store = store_of(Slots(ram=1, disk=3))
    for slot in range(4):
        store.put(slot, tile(slot))
    with open(tmp_path / "s" / FILE, "r+b") as file:
        file.seek(store.record_bytes * 3 // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    assert store.get(2) is None
    for slot in (0, 1, 3):
        assert_same(store.get(slot), tile(slot), torch.float32)


# -- threads and devices -------------------------------------------------------------


@pytest.mark.nightly
def test_one_thread_puts_while_another_gets(store_of):
    count, turns = 9, 30
    store = store_of(Slots(3, 3, 3), torch.float16)
    wrong: list[int] = []
    stop = threading.Event()

    def constant(value):
        return tuple(torch.full(shape, float(value)) for shape in SHAPES)

    def get():
        slot = 0
        while not stop.is_set():
            slot = (slot + 1) % count
            got = store.get(slot)
            if got is not None:
                values = torch.cat([tensor.flatten() for tensor in got])
                if not (values == values[0]).all() or int(values[0]) % count != slot:
                    wrong.append(slot)

    reader = threading.Thread(target=get)
    reader.start()
    for turn in range(turns):
        for slot in range(count):
            store.put(slot, constant(slot + count * turn))
    stop.set()
    reader.join()
    assert wrong == []
    for slot in range(count):
        assert_same(store.get(slot), constant(slot + count * (turns - 1)), torch.float16)


@pytest.mark.nightly
def test_several_threads_may_put(store_of):
    store = store_of(Slots(1, 1, 4), shapes=((64, 32, 32),))
    shape = store.shapes[0]

    def put(slot):
        for _ in range(25):
            store.put(slot, (torch.full(shape, float(slot)),))

    threads = [threading.Thread(target=put, args=(slot,)) for slot in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for slot in range(6):
        assert_same(store.get(slot), (torch.full(shape, float(slot)),), torch.float32)


def test_copies_on_the_host_are_done_at_once_and_share_nothing():
    transfer = Transfer(torch.device("cpu"))
    source = torch.arange(6.0).view(2, 3).T
    target = torch.zeros(3, 2, dtype=torch.float16)
    transfer.out(source, target)()
    assert torch.equal(target, source.half())
    (copy,) = transfer.into([target])
    target.zero_()
    assert torch.equal(copy, source.half())
    transfer.wait()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_copies_of_a_device_wait_for_its_computations(dtype):
    device = torch.device("cuda")
    transfer = Transfer(device)
    hosts = [torch.zeros(1 << 20, dtype=dtype) for _ in range(12)]
    unlock = [pinned(host) for host in hosts]
    assert all(host.is_pinned() for host in hosts)
    square = torch.randn(1500, 1500, device=device)
    for value, host in enumerate(hosts):
        for _ in range(20):
            square = (square @ square).tanh()
        # Ready only after the products; its memory is let go of while the copy waits.
        source = torch.zeros(1 << 20, device=device) + square[0, 0] * 0 + value
        transfer.out(source, host)
        del source
        torch.full((1 << 20,), -1.0, device=device)
    transfer.wait()
    for value, host in enumerate(hosts):
        assert (host == value).all()
    for value, copies in enumerate(map(transfer.into, zip(hosts, hosts, strict=True))):
        assert all(copy.is_cuda and bool((copy == value).all()) for copy in copies)
    for done in unlock:
        done()
    assert not any(host.is_pinned() for host in hosts)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_tier_gives_back_what_was_put_from_a_gpu(store_of, dtype):
    device = torch.device("cuda")
    store = store_of(Slots(3, 3, 3), dtype, device=device)
    assert store._slabs["ram"].is_pinned()
    for slot in range(9):
        store.put(slot, tile(slot, device=device))
    for slot in reversed(range(9)):
        got = store.get(slot)
        assert got is not None and all(tensor.is_cuda for tensor in got)
        assert_same(got, tile(slot), dtype)
    store.close()
