"""The versions of installed packages."""

from importlib import metadata


def version_of(package: str) -> str | None:
    """Return the version of a package, None if it is not installed.

    A package can be installed by another name: tensorflow-cpu and nightly builds are TensorFlow.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        pass
    providers = metadata.packages_distributions().get(package.replace("-", "_"), [])
    return metadata.version(providers[0]) if providers else None
