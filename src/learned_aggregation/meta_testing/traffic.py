"""A method's traffic in the units of the tables: bytes of a whole round, from bits of one client."""

from learned_aggregation.types import Traffic


def cohort_bytes(traffic: Traffic, num_clients: int) -> tuple[float, float]:
    """(up, down) in bytes per round: what K clients send, and the one message that the server sends to all of them.

    up = K * traffic.up / 8 ;  down = traffic.down / 8

    Example:
      >>> cohort_bytes(Traffic(up=32.0, down=64.0), num_clients=4)
      (16.0, 8.0)
    """
    return num_clients * traffic.up / 8, traffic.down / 8


def whole(amount: float) -> int | float:
    """The amount as an int where it has no fraction, so that a file says 80 and not 80.0.

    Example:
      >>> whole(80.0), whole(0.25)
      (80, 0.25)
    """
    return int(amount) if float(amount).is_integer() else amount
