"""``sdbench preview-export``: exactly what would leave this machine."""

import argparse
import os
import sys

from sdbench.store.exporting import export_bundle
from sdbench.units import format_bytes, printable


def execute(options: argparse.Namespace) -> int:
    """Print the record that would leave, and on standard error what is withheld; return 0."""
    bundle, content = export_bundle(options.run, os.environ)
    if options.out is not None:
        from sdbench.store.files import write_whole

        write_whole(options.out, content)
    else:
        print(bundle.files["record.json"].decode(), end="")
    print(f"bundle   {bundle.sha256}  {format_bytes(len(content))}", file=sys.stderr)
    for name, file in sorted(bundle.files.items()):
        print(f"  leaves {printable(name)}  {format_bytes(len(file))}", file=sys.stderr)
    for name in bundle.record.exported.withheld if bundle.record.exported else ():
        print(f"  stays  {printable(name)}", file=sys.stderr)
    return 0
