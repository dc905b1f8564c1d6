"""The Docker engine, behind a contract."""
