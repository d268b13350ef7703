"""What is published of runs: redacted, bundled, transferred, signed."""
