"""What is read beside the measurement: device, machine, memory, energy, telemetry.

A probe is one module and one line here.
"""

PROBES: dict[str, str] = {
    "device": "sdbench.probes.devices",
    "doctor": "sdbench.probes.doctor",
    "energy": "sdbench.probes.energy",
    "fingerprint": "sdbench.probes.fingerprint",
    "memory": "sdbench.probes.memory",
    "telemetry": "sdbench.probes.telemetry",
}
