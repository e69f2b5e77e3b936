"""Where the servers of buckets are, and with which credentials obstore and GDAL ask them.

Both libraries find most credentials themselves. What only one of them knows, as the profiles of AWS,
other names of a variable, or that there are none, is passed to the other here, so that both ask alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser, Error as ConfigError
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from napari_restore.errors import UnreadableImage

FOLDERS = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
"""GDAL's name of the files of each kind of bucket."""
_MAKER = Path("/sys/devices/virtual/dmi/id/sys_vendor")
"""Contains the cloud that this machine is rented in, which may have credentials of its own."""
_YES = ("YES", "TRUE", "ON", "1")


class Access(NamedTuple):
    """Settings that lead to a bucket; they contain secrets and are never shown or written."""

    store: dict[str, Any]
    """Of obstore."""
    gdal: dict[str, str]

    def __repr__(self) -> str:
        return "Access(…)"


def access_to(scheme: str) -> Access:
    """Return the access to buckets of ``s3``, ``gs`` or ``az`` by the environment; raises `UnreadableImage`."""
    return {"s3": _amazon, "gs": _google, "az": _azure}[scheme]()


def _set(*names: str) -> str:
    """Return the first of these environment variables that is set, else an empty text."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _is_rented_from(maker: str) -> bool:
    try:
        return _MAKER.read_text("utf-8").startswith(maker)
    except (OSError, ValueError):
        return False


# -- Amazon, and all who speak like it -------------------------------------------------


def _amazon() -> Access:
    profile = _profile()
    endpoint = _set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT")
    endpoint = endpoint or profile.get("endpoint_url", "")
    if endpoint and "://" not in endpoint:
        secure = _set("AWS_HTTPS").upper() != "NO"
        endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    region = _set("AWS_REGION", "AWS_DEFAULT_REGION") or profile.get("region", "us-east-1")
    virtual = _set("AWS_VIRTUAL_HOSTING").upper() in _YES or not endpoint
    store: dict[str, Any] = {"region": region, "virtual_hosted_style_request": virtual}
    gdal = {"AWS_REGION": region, "AWS_VIRTUAL_HOSTING": "TRUE" if virtual else "FALSE"}
    if endpoint:
        store["endpoint"] = endpoint
        parts = urlsplit(endpoint)
        gdal["AWS_S3_ENDPOINT"] = f"{parts.netloc}{parts.path.rstrip('/')}"
        gdal["AWS_HTTPS"] = "NO" if parts.scheme == "http" else "YES"
    if _set("AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE").upper() in _YES:
        store["skip_signature"], gdal["AWS_NO_SIGN_REQUEST"] = True, "YES"
    elif _set("AWS_ACCESS_KEY_ID"):
        pass  # Both libraries read it.
    elif "aws_access_key_id" in profile:
        store["access_key_id"] = profile["aws_access_key_id"]
        store["secret_access_key"] = profile.get("aws_secret_access_key", "")
        if token := profile.get("aws_session_token"):
            store["session_token"] = token
    elif not _amazon_has_others():
        store["skip_signature"], gdal["AWS_NO_SIGN_REQUEST"] = True, "YES"
    return Access(store, gdal)


def _amazon_has_others() -> bool:
    """Return whether the machine or its container may have credentials."""
    return bool(
        _set(
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        )
    ) or _is_rented_from("Amazon")


def _profile() -> Mapping[str, str]:
    """Return what the files of AWS say of the profile that is in use."""
    name = _set("AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
    folder = Path.home() / ".aws"
    files = (
        (_set("AWS_CONFIG_FILE") or folder / "config", f"profile {name}"),
        (_set("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials", name),
    )
    found: dict[str, str] = {}
    for file, section in files:
        parser = ConfigParser(interpolation=None)
        try:
            parser.read(file, "utf-8")
        except (ConfigError, OSError, ValueError):
            # The message would quote the line, which may be a key.
            raise UnreadableImage(
                f"{file} cannot be read as settings of AWS.", "Correct it or set AWS_ACCESS_KEY_ID."
            ) from None
        for each in (section, name):
            if parser.has_section(each):
                found |= dict(parser[each])
    elsewhere = {"role_arn", "sso_session", "sso_start_url", "credential_process"} & set(found)
    if elsewhere and "aws_access_key_id" not in found and not _set("AWS_ACCESS_KEY_ID"):
        raise UnreadableImage(
            f"The AWS profile {name} gets its keys by {min(elsewhere)}.",
            "Set AWS_ACCESS_KEY_ID and what belongs to it: aws configure export-credentials tells it.",
        )
    return found


# -- Google ----------------------------------------------------------------------------


def _google() -> Access:
    store: dict[str, Any] = {}
    gdal: dict[str, str] = {}
    if endpoint := _set("STORAGE_EMULATOR_HOST", "CPL_GS_ENDPOINT").rstrip("/"):
        endpoint = endpoint if "://" in endpoint else f"http://{endpoint}"
        store["base_url"], gdal["CPL_GS_ENDPOINT"] = endpoint, f"{endpoint}/"
    own = Path.home() / ".config" / "gcloud" / "application_default_credentials.json"
    key = _set("GOOGLE_APPLICATION_CREDENTIALS") or (str(own) if own.is_file() else "")
    if _set("GS_NO_SIGN_REQUEST").upper() in _YES or not (key or _is_rented_from("Google")):
        store["skip_signature"], gdal["GS_NO_SIGN_REQUEST"] = True, "YES"
    elif key:
        store["application_credentials"] = gdal["GOOGLE_APPLICATION_CREDENTIALS"] = key
    return Access(store, gdal)


# -- Azure -----------------------------------------------------------------------------


def _azure() -> Access:
    text = _set("AZURE_STORAGE_CONNECTION_STRING")
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    account = _set("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
    account = account or parts.get("AccountName", "")
    if not account:
        raise UnreadableImage(
            "az:// does not say in which account the container is.",
            "Set AZURE_STORAGE_ACCOUNT, or AZURE_STORAGE_CONNECTION_STRING.",
        )
    key = _set("AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
    key = key or parts.get("AccountKey", "")
    token = _set("AZURE_STORAGE_SAS_TOKEN") or parts.get("SharedAccessSignature", "")
    store: dict[str, Any] = {"account_name": account}
    gdal = {"AZURE_STORAGE_ACCOUNT": account}
    if endpoint := parts.get("BlobEndpoint", ""):
        store["endpoint"] = endpoint
    if text:
        # Its keys, and the address of its server, for which GDAL has no other option.
        gdal["AZURE_STORAGE_CONNECTION_STRING"] = text
    if key:
        store["account_key"], gdal["AZURE_STORAGE_ACCESS_KEY"] = key, key
    elif token:
        store["sas_key"], gdal["AZURE_STORAGE_SAS_TOKEN"] = token, token.lstrip("?")
    elif not (_set("AZURE_CLIENT_ID") or _is_rented_from("Microsoft")):
        store["skip_signature"], gdal["AZURE_NO_SIGN_REQUEST"] = True, "YES"
    return Access(store, gdal)
