"""Errors that the user can correct, and error messages in one line."""

import re


class UsageError(Exception):
    """The user asked for something that cannot be done.

    The message says what is wrong, where, and what to do, in one line for each error.
    """


def error_message(error: BaseException) -> str:
    """Returns the message of an error in one line, or the name of its class where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def describe_error(error: BaseException) -> str:
    """Returns the class and the message of an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_full_gpu_memory(error: BaseException) -> bool:
    """Whether CUDA says by this error that the memory of the GPU is full."""
    return re.search("out of memory|CUBLAS_STATUS_ALLOC_FAILED", str(error)) is not None
