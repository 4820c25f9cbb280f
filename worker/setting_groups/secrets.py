"""Secrets among the settings: read from files, put into URLs, and never a placeholder."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic import BaseModel

_FILE_SUFFIX = "_FILE"
_MAXIMUM_BYTES = 64 * 1024
# Docker mounts secrets here, readable for everybody within the container and nobody outside.
_DOCKER_SECRETS = Path("/run/secrets")
_PLACEHOLDERS = {
    "changeit",
    "changeme",
    "default",
    "example",
    "none",
    "null",
    "pass",
    "passwd",
    "password",
    "placeholder",
    "replaceme",
    "secret",
    "todo",
    "token",
    "yourpassword",
    "yoursecret",
    "yourtoken",
}
# What stands for a value instead of being one: <password>, ${PASSWORD}, ****, ....
_STAND_IN = re.compile(r"<.*>|\$\{.*\}|\$[A-Z_]+|[*.x]+|")


def secret_fields(settings: type[BaseModel]) -> tuple[str, ...]:
    """Name the settings that hold secrets: those that their own representation leaves out."""
    return tuple(name for name, field in settings.model_fields.items() if not field.repr)


def file_variable(variable: str) -> str:
    """Name the variable that holds the path of the file with a secret."""
    return variable + _FILE_SUFFIX


def read_secret_files(variables: Mapping[str, str]) -> dict[str, str]:
    """Read the secrets whose variables with the ending ``_FILE`` are set.

    Parameters
    ----------
    variables
        Field name of each secret with its variable.

    Returns
    -------
    dict
        The secrets that were found, by field name; the line end after one is no part of it.

    Raises
    ------
    SettingsError
        If a file cannot be read, is empty, or the secret is set as a variable as well.
    """
    found = {}
    for name, variable, path in _files(variables):
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {file_variable(variable)} are both set: keep one.")
        found[name] = _read(file_variable(variable), path)
    return found


def exposed_secret_files(variables: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the variables whose secret files other users of this machine may read, with the path.

    A file is out of their reach where it, or a folder above it, is closed to them.
    """
    for _name, variable, path in _files({variable: variable for variable in variables}):
        absolute = path.absolute()
        if _DOCKER_SECRETS in absolute.parents or not absolute.exists():
            continue
        folders_open = all(folder.stat().st_mode & stat.S_IXOTH for folder in absolute.parents)
        if folders_open and absolute.stat().st_mode & stat.S_IROTH:
            yield file_variable(variable), path


def _files(variables: Mapping[str, str]) -> Iterator[tuple[str, str, Path]]:
    for name, variable in variables.items():
        path = os.environ.get(file_variable(variable))
        if path:
            yield name, variable, Path(path)


def _read(variable: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAXIMUM_BYTES + 1)
        secret = content.decode().rstrip("\r\n")
    except OSError as error:
        raise SettingsError(
            f"{variable} names {path}, which cannot be read ({error.strerror}): correct the path, "
            "or let this user read the file."
        ) from None
    except UnicodeDecodeError:
        secret = ""
    if not secret or len(content) > _MAXIMUM_BYTES or "\0" in secret:
        raise SettingsError(f"{variable} names {path}, which holds no secret: write it in there.")
    return secret


def url_with_password(variable: str, url: str, password_variable: str, password: str | None) -> str:
    """Put a password that is set by itself into a URL.

    Raises
    ------
    SettingsError
        If the URL holds a password already, or is none.
    """
    check_url(variable, url)
    if password is None:
        return url
    parts = urlsplit(url)
    if parts.password is not None:
        raise SettingsError(f"{variable} and {password_variable} both hold a password: keep one.")
    user, at, host = parts.netloc.rpartition("@")
    credentials = f"{user if at else ''}:{quote(password, safe='')}"
    return parts._replace(netloc=f"{credentials}@{host}").geturl()


def check_url(variable: str, url: str) -> None:
    """Check that a URL, or each of several with semicolons between them, can be taken apart.

    Raises
    ------
    SettingsError
        If it cannot: libraries would quote the part of a password they take for a port.
    """
    for each in url.split(";"):
        try:
            parts = urlsplit(each)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        if not parts.scheme:
            raise SettingsError(
                f"{variable} is wrong: it is no URL. Write @, /, ; and # within a password as %40, "
                "%2F, %3B and %23."
            )


def check_password(variable: str, password: str | None) -> None:
    """Refuse a placeholder.

    Raises
    ------
    SettingsError
        Naming the variable and the way out, never the value.
    """
    if password is None:
        return
    word = re.sub(r"[-_ ]", "", password.lower())
    if word in _PLACEHOLDERS or _STAND_IN.fullmatch(password.strip()):
        what = "a placeholder instead of a secret" if password.strip() else "an empty password"
        raise SettingsError(
            f"{variable} holds {what}: set the real one, best in a file that "
            f"{file_variable(variable)} names (docs/security.md)."
        )


def check_url_password(variable: str, url: str) -> None:
    """Refuse a placeholder for the password, or for the token, of a URL.

    Raises
    ------
    SettingsError
        As `check_password`.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return  # Whoever parses it says so.
    check_password(variable, unquote(parts.password) if parts.password else parts.password)
    for token in parse_qs(parts.query, keep_blank_values=True).get("token", ()):
        check_password(variable, token)
