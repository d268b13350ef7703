"""The manifests that ship with sdbench, by name."""

from importlib.resources import files
from pathlib import Path

from sdbench.errors import UserError
from sdbench.plan.manifest_file import nearest


def find_manifest(name: Path | str) -> Path:
    """Return the path of a manifest: an existing file wins, else a shipped manifest of that name.

    Raises:
        UserError: there is neither.
    """
    path = Path(name)
    if path.exists():
        return path
    # Shipped within the package, or at the top of a checkout.
    package = Path(str(files("sdbench")))
    folder = package / "manifests" if (package / "manifests").is_dir() else package.parent / "manifests"
    shipped = {manifest.stem: manifest for manifest in folder.glob("*.yaml")}
    # A record names the file, quick.yaml.
    if (stem := str(name).removesuffix(".yaml")) in shipped:
        return shipped[stem]
    if path.suffix or "/" in str(name):
        # A path: reading it reports what is wrong with it.
        return path
    raise UserError(f"no manifest {str(name)!r}: neither a file nor shipped; {nearest(str(name), shipped)}")
