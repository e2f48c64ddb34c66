__all__ = ["listed", "value"]
value, hidden = 1, 2
_private = 3
