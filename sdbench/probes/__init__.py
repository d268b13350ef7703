"""What is read next to the measurement: device, machine, memory, energy, telemetry."""
