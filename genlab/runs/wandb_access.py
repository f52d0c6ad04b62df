"""Checks that Weights & Biases can be used from this machine: an API key is configured and the server answers."""

import socket
import urllib.parse
import urllib.request

from genlab.runs.errors import UsageError, error_message
from genlab.runs.wandb_variables import check_variables, use_writable_cache

CONNECT_SECONDS = 5.0
"""How long the W&B server may take to accept a connection."""


def require_wandb(without_key: str = "", without_server: str = "", cannot_be: str = "used") -> None:
    """Checks that W&B can be used, for a command that needs it.

    Args:
        without_key: End of the message where no key is configured: what the user can do instead.
        without_server: End of the message where no server answers.
        cannot_be: The participle in "W&B cannot be ...", for the message where no server answers.

    Raises:
        UsageError: There is no usable key, or no server answers, or a variable has a value that W&B refuses.
    """
    check_variables()
    import wandb.errors

    try:
        if not has_key():
            raise UsageError(f"no W&B API key is configured; `wandb login` saves one{without_key}")
        check_server()
    except (wandb.errors.Error, OSError) as error:
        raise UsageError(f"W&B cannot be {cannot_be} ({error_message(error)}){without_server}") from None


def has_key() -> bool:
    """Returns whether W&B has an API key. Asks neither the user nor the server.

    Raises:
        wandb.errors.Error: A key is configured, but it is malformed.
    """
    import wandb

    use_writable_cache()
    settings = wandb.setup().settings
    before = settings.silent, settings.mode
    settings.silent = True  # otherwise login asks the server for the name of the user
    settings.mode = "online"  # otherwise login refuses where WANDB_MODE is not online
    try:
        return wandb.login(prompt=False, verify=False)
    finally:
        settings.silent, settings.mode = before


def check_server() -> None:
    """Connects to the W&B server once, so that an unreachable server costs seconds, not minutes.

    Raises:
        OSError: Nothing accepts a connection at W&B's address.
    """
    import wandb

    settings = wandb.setup().settings
    address = urllib.parse.urlsplit(settings.base_url)
    host = address.hostname or ""
    proxy = address.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
    if proxy or settings.http_proxy or settings.https_proxy:
        return  # the wandb client connects through the proxy
    port = address.port or (443 if address.scheme == "https" else 80)
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
        pass
