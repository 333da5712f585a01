"""The versions of installed packages."""

from importlib import metadata


def version_of(package: str) -> str | None:
    """Return the version of a package, None if it is not installed.

    Another distribution can provide the package: tensorflow-cpu or a nightly build, for example.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        pass
    providers = metadata.packages_distributions().get(package.replace("-", "_"), [])
    return metadata.version(providers[0]) if providers else None
