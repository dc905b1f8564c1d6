"""Longshore keeps the images of a project's Docker services in S3."""

__version__ = "0.1.0"
