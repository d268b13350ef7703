"""The grid under optimum-benchmark, run by an interpreter that has it: ``peer_grid.py PIPELINE SETTINGS``."""

import json
import sys
from importlib import import_module
from typing import Any


def main(folder: str, asked: dict[str, Any]) -> None:
    """Run one benchmark per batch size, with memory tracking, in its isolated process."""
    peer: Any = import_module("optimum_benchmark")
    for batch in asked["batches"]:
        config = peer.BenchmarkConfig(
            name=f"batch-{batch}",
            launcher=peer.ProcessConfig(start_method="spawn"),
            scenario=peer.InferenceConfig(
                memory=True,
                latency=True,
                iterations=asked["calls"],
                duration=0,
                warmup_runs=asked["warmup"],
                input_shapes={"batch_size": batch},
                call_kwargs={
                    "num_inference_steps": asked["steps"],
                    "height": asked["side_px"],
                    "width": asked["side_px"],
                },
            ),
            backend=peer.PyTorchConfig(model=folder, library="diffusers", task="text-to-image", device="cpu"),
        )
        report = peer.Benchmark.launch(config)
        if report.call.latency.count != asked["calls"]:
            raise RuntimeError(f"{report.call.latency.count} timed calls instead of {asked['calls']}")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
