"""What is read beside the measurement: device, machine, memory, energy, telemetry."""
