"""What longshore knows and decides: no asyncio, no I/O, no clock."""
