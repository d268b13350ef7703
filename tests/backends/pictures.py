"""How close pictures of onnxruntime must be to those of torch."""

from typing import Any

# Both compute in fp32 and sum in another order: after up to 5 denoiser calls and in every size tried, the decoded
# pictures of UNets differed by 6e-6 (of 1) at most, those of transformers by 2e-5. Half a step of 1/255 is 2e-3, so a
# byte differs only where the value lies on the edge between two bytes, and then by one.
FLOAT_TOLERANCE = 5e-5
BYTE_TOLERANCE = 1


def differences(ours: Any, others: Any) -> list[float]:
    """Return the largest difference in each pair of pictures."""
    import numpy as np

    return [
        float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max())
        for one, other in zip(ours, others, strict=True)
    ]


def check_same(ours: Any, theirs: Any) -> None:
    """Compare what two backends make of one experiment, as bytes and after every denoiser call."""
    assert max(differences(ours.generate(), theirs.generate())) <= BYTE_TOLERANCE
    trajectory = ours.decode_run(3, every_call=True), theirs.decode_run(3, every_call=True)
    assert max(differences(*trajectory)) <= FLOAT_TOLERANCE
    assert ours.describe().weights_digest == theirs.describe().weights_digest
    assert ours.describe().parameter_count == theirs.describe().parameter_count
