"""What processes of tasks are forked from: a task begins with its work, and not with imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine_fixtures import FreshEngine
from tests.support.images import import_busybox
from tests.support.seaweedfs import ADMIN, SeaweedFS

import longshore

SOURCE = str(Path(longshore.__file__).parents[1])
SCRIPT = """
import json, sys
import longshore.cli_preloaded
from longshore.cli_task import perform_task
from longshore.service.task import Task

before = set(sys.modules)
done = perform_task(Task(sys.argv[1], flags={"strict": True}), lambda event: None)
print(json.dumps([done.exit_code, done.text, sorted({*sys.modules} - before)]))
"""


@pytest.mark.engine
@pytest.mark.s3
def test_a_task_finds_everything_imported(
    fresh_engine: FreshEngine, seaweedfs: SeaweedFS, s3_bucket: str, tmp_path: Path
) -> None:
    engine = fresh_engine()
    import_busybox(engine.api, "web:1")
    (tmp_path / "compose.yaml").write_text(
        "services: {web: {image: 'web:1', build: ., x-longshore: {cached: true}}}"
    )
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": SOURCE,
        "DOCKER_HOST": engine.host,
        "LONGSHORE_STORE": f"s3://{s3_bucket}/cache",
        "LONGSHORE_ENDPOINT_URL": seaweedfs.endpoint_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "LONGSHORE_SCOPE": "main",
        "LONGSHORE_PROJECT": "shop",
    }
    for command in ("export", "import", "list"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        )
        code, text, late = json.loads(done.stdout)
        assert code == 0
        assert "web" in text
        assert late == []
