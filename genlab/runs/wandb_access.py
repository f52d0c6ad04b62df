"""Whether Weights & Biases can be used from here: a key, and somebody who listens."""

import socket
import urllib.parse
import urllib.request

import wandb
import wandb.errors

from genlab.runs.errors import UsageError

REACH_SECONDS = 5.0
"""How long W&B may take to accept a connection."""


def need_wandb(no_key: str = "", away: str = "", cannot: str = "used") -> None:
    """For what makes no sense without W&B.

    Args:
        no_key: what else can be done without a key, as the end of the message.
        away: the same without a server.
        cannot: what W&B cannot be without a server.

    Raises:
        UsageError: there is no key to use, or no server.
    """
    try:
        if not has_key():
            raise UsageError(f"no W&B API key is configured; `wandb login` saves one{no_key}")
        reach_server()
    except (wandb.errors.Error, OSError) as error:
        raise UsageError(f"W&B cannot be {cannot} ({one_line(error)}){away}") from None


def has_key() -> bool:
    """Whether W&B has a key to use; asks neither the user nor the server.

    Raises:
        wandb.errors.Error: there is one that is no key.
    """
    settings = wandb.setup().settings
    before = settings.silent, settings.mode
    settings.silent = True  # else login asks the server for the name of the user
    settings.mode = "online"  # else login refuses where WANDB_MODE says otherwise
    try:
        return wandb.login(prompt=False, verify=False)
    finally:
        settings.silent, settings.mode = before


def reach_server() -> None:
    """Raises OSError when nobody listens at the W&B address, so that a dead server costs seconds, not minutes."""
    settings = wandb.setup().settings
    address = urllib.parse.urlsplit(settings.base_url)
    host = address.hostname or ""
    proxy = address.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
    if proxy or settings.http_proxy or settings.https_proxy:
        return  # the proxy is the client's business
    port = address.port or (443 if address.scheme == "https" else 80)
    with socket.create_connection((host, port), timeout=REACH_SECONDS):
        pass


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
