"""Names of projects, scopes and roots that are hard to keep apart, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from longshore.core.keys import Ref, entry_key

_ID = "019424f8-632e-7001-8203-040506070809"

names = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=260)
    | st.text("aB~.-_/%2F é:*?${}", min_size=1, max_size=260)
    | st.sampled_from(["a", "ab", "a-evil", "a/b", "a*", "a?", "main", "pr:1", "pr:12", "x" * 250])
).filter(lambda name: name not in (".", ".."))
roots = st.text('aZ09._-/ +é"\\', max_size=20) | st.sampled_from(["", "cache", "a/b"])


def keys_of(project: str, scope: str, service: str = "web") -> list[str]:
    """Return one key of each kind that an export writes."""
    return [
        entry_key(project, scope, service, "linux-amd64", _ID),
        Ref(scope, f"{'0123456789abcdef' * 4}.{_ID}").key(project),
        Ref(scope, _ID).key(project),
    ]
