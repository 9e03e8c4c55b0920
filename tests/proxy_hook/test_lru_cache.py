"""proxy_hook/lru_cache.py: a bounded dictionary."""

from __future__ import annotations

from proxy_hook.lru_cache import LruCache


def test_the_least_recently_used_entry_is_evicted() -> None:
    """Reading counts as a use, and so does writing again; the others stay."""
    cache: LruCache[str, int] = LruCache(3)
    for key in "abc":
        cache.put(key, 1)
    assert cache.get("a") == 1
    cache.put("b", 2)
    cache.put("d", 1)
    assert [cache.get(key) for key in "abcd"] == [1, 2, None, 1]


def test_an_entry_can_be_removed() -> None:
    """Also one that is not there."""
    cache: LruCache[str, int] = LruCache(3)
    cache.put("a", 1)
    cache.pop("a")
    cache.pop("a")
    assert cache.get("a") is None
