"""The files of the recipes are such as the CI services' own schemas want."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ci.conftest import CI
from tests.ci.schemas import fits

# With a mistake for each, so that what a schema says about the file itself means something.
FILES = (
    ("github-actions", "github/action.yml", "using: composite", "using: composit"),
    ("github-actions", "github/export/action.yml", "post-if:", "post-iff:"),
    ("github-workflows", "github/workflow.yml", "runs-on", "run-on"),
    ("gitlab-ci", "gitlab/example.gitlab-ci.yml", "  script:", "  skript:"),
    ("buildkite", "buildkite/pipeline.yml", "steps:", "step:"),
    ("compose-spec", "compose/sidecar.yaml", "condition: service_healthy", "condition: healthy"),
    ("compose-spec", "systemd/compose.yaml", "services:", "service:"),
)


@pytest.mark.parametrize(("schema", "name", "right", "wrong"), FILES, ids=lambda text: text)
def test_the_file_fits_its_schema_and_with_a_mistake_it_would_not(
    schema: str, name: str, right: str, wrong: str, tmp_path: Path
) -> None:
    assert fits(schema, CI / name)

    changed = tmp_path / Path(name).name
    changed.write_text((CI / name).read_text().replace(right, wrong, 1))
    assert not fits(schema, changed)
