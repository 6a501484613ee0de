"""The version of meshfold."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The installed version; "from a checkout" where none is installed."""
    try:
        return version("meshfold")
    except PackageNotFoundError:
        return "from a checkout"
