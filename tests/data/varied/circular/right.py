import circular.left as left
from circular import left as again

NAME = "right"
assert left is again
SEEN = sorted(name for name in vars(left) if not name.startswith("__"))


def other():
    return left.NAME
