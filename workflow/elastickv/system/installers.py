"""Environment variables for pip and uv: keeps settings of package sources, removes those that redirect installations.

A cluster's settings may send every package to the user's folder (`PIP_USER=1`, a `target` in pip.conf); here packages
go where the command says. Standard library only: the set-up uses it before anything is installed.
"""

from __future__ import annotations

import ast
import glob
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping

# Settings of pip that stay, by the names of its configuration files.
KEPT_OF_PIP = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy"),
    *("keyring-provider", "use-feature", "timeout", "default-timeout", "retries", "constraint"),
    *("cache-dir", "no-cache-dir", "disable-pip-version-check"),
)
# Settings of uv that stay: indexes and their credentials, the network, the cache.
KEPT_OF_UV = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX.*|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|KEYRING_PROVIDER|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS"
    r"|OFFLINE|HTTP_.*|REQUEST_TIMEOUT|CONCURRENT_.*|CACHE_DIR|NO_CACHE|LINK_MODE|NO_PROGRESS|CONFIG_FILE|NO_CONFIG)"
)
REDIRECTING = ("PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX")
# What uv calls a setting of pip: it does not read pip's files.
AS_OF_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
OLDER_NAMES = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
PIP_SECONDS = 60


def bundled_pip() -> str | None:
    """The pip that comes with this Python, inside its wheel, where Python can run it; None where there is none."""
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR") or "", "/usr/share/python-wheels"]  # Debian keeps it elsewhere
    ensurepip = importlib.util.find_spec("ensurepip")
    if ensurepip and ensurepip.origin:
        folders.append(os.path.join(os.path.dirname(ensurepip.origin), "_bundled"))
    wheels = [wheel for folder in folders for wheel in glob.glob(os.path.join(folder, "pip-*.whl"))]
    return os.path.join(wheels[-1], "pip") if wheels else None


def variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which pip and uv are called."""
    given = dict(os.environ if environment is None else environment)
    settings = kept_settings(configuration(given))
    clean = {key: value for key, value in given.items() if not _redirects(key)}
    clean |= {f"PIP_{key.replace('-', '_').upper()}": value for key, value in settings.items()}
    for key, name in AS_OF_UV.items():
        if settings.get(key) and name not in clean and OLDER_NAMES.get(name) not in clean:
            clean[name] = _for_uv(key, settings[key])
    if "UV_INDEX" in clean and "UV_INDEX" not in given:
        clean.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # all indexes alike, as pip takes them
    # UTF-8 by the locale: builds that uv starts run without Python's UTF-8 mode, and write the checkout's path.
    return clean | {"PIP_CONFIG_FILE": os.devnull, "LC_ALL": "C.UTF-8"}


def _redirects(variable: str) -> bool:
    if variable.startswith("UV_"):
        return not KEPT_OF_UV.fullmatch(variable)
    return variable.startswith("PIP_") or variable in REDIRECTING


def _for_uv(key: str, value: str) -> str:
    """uv separates local folders and files by commas, everything else by blanks, as pip does."""
    return ",".join(value.split()) if key == "find-links" else " ".join(value.split())


def configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """All settings of pip, by names such as `global.index-url` and `:env:.user`; {} where pip cannot say."""
    pip = bundled_pip()
    if pip is None:
        return {}
    # `user = true` of a configuration file would be this command's --user, which reads the user's file alone.
    clean = {key: value for key, value in environment.items() if key not in REDIRECTING} | {"PIP_USER": "0"}
    command = [sys.executable, pip, "config", "list"]
    try:
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=PIP_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {key: str(ast.literal_eval(value)) for key, value in pairs}


def kept_settings(found: Mapping[str, str]) -> dict[str, str]:
    """The settings that stay. Later sections win, as in pip: all commands, `pip install`, environment variables."""
    settings: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for key in KEPT_OF_PIP:
            if f"{section}.{key}" in found:
                settings[key] = found[f"{section}.{key}"]
    return settings
