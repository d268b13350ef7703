"""Student's t distribution, from scipy."""

# scipy is imported in the functions: it costs 0.6 s of CPU, which `--help`, `plan` and `validate` must not pay.


def t_quantile(degrees_of_freedom: float, confidence: float) -> float:
    """Return the t that bounds the two-sided interval of a ``confidence``, for example 0.95."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, 0.5 + confidence / 2))


def t_upper_tail(degrees_of_freedom: float, t: float) -> float:
    """Return the probability that Student's t exceeds ``t``."""
    from scipy.special import stdtr

    return float(stdtr(degrees_of_freedom, -t))
