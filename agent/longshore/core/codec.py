"""Compression of chunks and documents: zstd frames that say how long they are.

Nothing is decompressed before its frame has been held against a limit, so a hostile frame costs
no more memory than an honest one.
"""

from __future__ import annotations

import threading

import zstandard

from longshore.errors import CorruptData

_MAX_WINDOW_BYTES = 1 << 27  # zstd's own default limit
_threads = threading.local()


def compress(data: bytes | memoryview, level: int, *, checksum: bool = False) -> bytes:
    """Compress into one frame that carries its content size. Releases the GIL.

    Args:
        checksum: have the frame carry one as well, for what has no digest of its own.
    """
    compressors: dict[bool, tuple[int, zstandard.ZstdCompressor]] = _threads.__dict__.setdefault(
        "compressors", {}
    )
    kept_level, compressor = compressors.get(checksum, (None, None))
    if compressor is None or kept_level != level:
        # Contexts must not be shared between threads, and are worth keeping within one; but only
        # the last one: each takes megabytes, and levels change seldom.
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
        compressors[checksum] = level, compressor
    return compressor.compress(data)


def content_size(frame: bytes | memoryview) -> int:
    """Tell what a frame claims to hold; 0 if it claims nothing, or is no frame."""
    try:
        size: int = zstandard.get_frame_parameters(frame).content_size
    except zstandard.ZstdError:
        return 0
    return 0 if size == zstandard.CONTENTSIZE_UNKNOWN else size


def decompress(frame: bytes | memoryview, *, limit_bytes: int) -> bytes:
    """Decompress one frame that says its size. Releases the GIL.

    Raises:
        CorruptData: it is no such frame, is damaged, is followed by more, or holds more than
            `limit_bytes`.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
        size = parameters.content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > limit_bytes:
            raise CorruptData(
                f"a compressed frame claims {size:,} bytes; at most {limit_bytes:,} are allowed"
            )
        decompressor = _threads.__dict__.get("decompressor")
        if decompressor is None:
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
            _threads.decompressor = decompressor
        plain: bytes = decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptData(f"a compressed frame is damaged ({error})") from error
    if len(plain) != size:
        raise CorruptData("a compressed frame does not hold what it claims")
    return plain
