"""The sidecar: what runs beside a build, as long as its machine does."""
