"""What the tests of check and repair share: checks, repairs, and ways to damage a store."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from tests.ops.pruning import Bucket
from tests.support.cache import PROJECT, Notes

from longshore.core import codec
from longshore.core.entry import EngineFacts, Entry, decode_entry, encode_entry
from longshore.core.envelope import Envelope, seal, unseal
from longshore.core.ids import new_id
from longshore.core.keys import Ref, entry_key, parse_entry_key
from longshore.core.recipe import Recipe, decode_recipe
from longshore.ops.check import CheckResult, CheckSettings, check_project
from longshore.ops.repair import RepairSettings, plan_repair, repair
from longshore.store.contract import Store, StoredObject

WINDOW_BYTES = 32 << 20


async def check(
    bucket: Bucket, *, share: float = 0, store: Store | None = None, notes: Notes | None = None
) -> CheckResult:
    """Check the bucket."""
    wanted = CheckSettings(share, WINDOW_BYTES, bucket.random.randbytes)
    return await check_project(store or bucket.store, PROJECT, wanted, notes or Notes())


async def mend(bucket: Bucket, result: CheckResult, *, store: Store | None = None) -> None:
    """Repair what a check found."""
    wanted = RepairSettings(bucket.random.randbytes, bucket.clock.seconds)
    await repair(store or bucket.store, plan_repair(result), wanted)


def costs(result: CheckResult) -> dict[str, set[tuple[str, str, bool, int]]]:
    """Tell of each damaged object by its key what it costs."""
    return {
        one.url.removeprefix("memory:///"): {
            (cost.scope, cost.service, cost.newest, cost.entries) for cost in one.costs
        }
        for one in result.damaged
    }


@dataclass
class Stored:
    """The objects of the bucket, by what they are."""

    bucket: Bucket
    entries: dict[tuple[str, int], str] = field(default_factory=dict)
    """By service, and how old: 0 is the newest."""

    @classmethod
    def of(cls, bucket: Bucket) -> Stored:
        stored = cls(bucket)
        for service in ("web", "worker"):
            keys = [key for key in bucket.keys("entries") if f"/{service}/" in key]
            for age, key in enumerate(sorted(keys, reverse=True)):
                stored.entries[service, age] = key
        return stored

    def recipes(self, service: str, age: int) -> list[str]:
        entry = read_entry(self.bucket, self.entries[service, age])
        return [ref.key(PROJECT) for ref in entry.recipe_refs().values()]

    def own_recipe(self, service: str, age: int) -> str:
        """Name the recipe of a layer that no other entry has."""
        others = {
            recipe
            for other in self.entries
            if other != (service, age)
            for recipe in self.recipes(*other)
        }
        (own,) = set(self.recipes(service, age)) - others
        return own

    def base_recipe(self) -> str:
        """Name the recipe of the layer that all entries have."""
        (base,) = set.intersection(*(set(self.recipes(*entry)) for entry in self.entries))
        return base

    def pack_of(self, recipe: str) -> str:
        """Name the pack of a layer's own contents."""
        return read_recipe(self.bucket, recipe).streams[-1][-1].pack.key(PROJECT)


def read_entry(bucket: Bucket, key: str) -> Entry:
    found = parse_entry_key(key)
    assert found is not None
    return decode_entry(unseal(bucket.objects[key]).payload, PROJECT, found)


def read_recipe(bucket: Bucket, key: str) -> Recipe:
    return decode_recipe(bucket.objects[key], Ref("main", key.rpartition("/")[2]))


def replace(bucket: Bucket, key: str, data: bytes) -> None:
    """Put other bytes in the place of an object, as a broken disk would: its time stays."""
    bucket.store._objects[key] = StoredObject(data, bucket.store._objects[key].modified_at)


def remove(bucket: Bucket, key: str) -> None:
    del bucket.store._objects[key]


def truncate(bucket: Bucket, key: str) -> None:
    replace(bucket, key, bucket.objects[key][:-1])


def flip(bucket: Bucket, key: str, at: int | None = None) -> None:
    data = bytearray(bucket.objects[key])
    data[len(data) // 2 if at is None else at] ^= 0x10
    replace(bucket, key, bytes(data))


def swap(bucket: Bucket, first: str, second: str) -> None:
    one, other = bucket.objects[first], bucket.objects[second]
    replace(bucket, first, other)
    replace(bucket, second, one)


def newer(stored: bytes) -> bytes:
    """Make a document one of a newer version, with the same references."""
    document = msgspec.json.decode(codec.decompress(stored, limit_bytes=1 << 24))
    return codec.compress(msgspec.json.encode(document | {"requires": ["wings"]}), 3)


async def write_flushed(bucket: Bucket, scope: str, service: str) -> str:
    """Store a `flushed` entry. Returns its key."""
    identifier = new_id(bucket.clock.now, bucket.random.randbytes(10))
    entry = Entry(
        kind="flushed",
        project=PROJECT,
        scope=scope,
        service=service,
        platform="linux-amd64",
        id=identifier,
        basis=bucket.clock.now,
        agent="test",
        engine=EngineFacts("", ""),
    )
    key = entry_key(PROJECT, scope, service, "linux-amd64", identifier)
    await bucket.store.put(key, seal(Envelope(encode_entry(entry))))
    return key
