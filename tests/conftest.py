import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "disabled"
os.environ["WANDB_ERROR_REPORTING"] = "false"

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.wandb_client import KEY, Client
from tests.wandb_public_api import PublicApi
from tests.wandb_server import WandbServer

torch.set_num_threads(1)

LONGEST = ("test_docs.py", "test_wheel.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the longest tests, so that no worker waits for one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creates a data folder with a small mnist.npz, cifar10.npz and fashionmnist.npz."""
    from tests.helpers import write_npz

    root = tmp_path_factory.mktemp("data")
    write_npz(root / "mnist.npz", (28, 28))
    write_npz(root / "fashionmnist.npz", (28, 28))
    write_npz(root / "cifar10.npz", (32, 32, 3))
    return root


@pytest.fixture(scope="session")
def encoder_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the best checkpoint of a small autoencoder with three latent dimensions, trained for two epochs."""
    from tests.helpers import fit

    return fit(tmp_path_factory.mktemp("encoder")).folder / "checkpoints" / "best.ckpt"


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server
    server.check()


@pytest.fixture
def client(server: WandbServer, tmp_path: Path) -> Client:
    return Client(tmp_path, server)


@pytest.fixture
def online(client: Client) -> Client:
    """Returns a client with an API key that sends the history without delay."""
    client.environment |= {"WANDB_API_KEY": KEY, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}
    return client


@pytest.fixture
def public_api(server: WandbServer) -> Iterator[PublicApi]:
    """Makes the server answer the requests of W&B's public API and of wandb-workspaces, too."""
    with PublicApi(server) as public_api:
        yield public_api


@pytest.fixture
def reader(client: Client, tmp_path: Path) -> Client:
    """Returns a client with an API key for the public API, which creates a folder for each run in TMPDIR."""
    client.environment |= {"WANDB_API_KEY": KEY, "TMPDIR": str(tmp_path)}
    return client
