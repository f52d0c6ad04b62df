"""The trial of W&B by studies/wandb_live.py, with the real client and the mock server."""

from pathlib import Path

import pytest

from tests.wandb_artifacts import Artifacts
from tests.wandb_client import Client, finished
from tests.wandb_public_api import PublicApi
from tests.wandb_server import WandbServer


@pytest.mark.slow
def test_all_steps_work(online: Client, server: WandbServer, public_api: PublicApi, tmp_path: Path) -> None:
    artifacts = Artifacts(server)
    online.environment["TMPDIR"] = str(tmp_path)
    output = finished(online.python("-m", "studies.wandb_live", "tester/live", "--wait=5"))
    assert "FAILED" not in output and output.count("OK  ") == 11, output
    assert len(server.runs) == 6
    assert [alert["severity"] for alert in server.alerts] == ["WARN"]
    [artifact] = artifacts.of_type("model")
    assert len(artifact.used_by) == 1
    assert len(public_api.views) == 2
