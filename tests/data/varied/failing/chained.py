try:
    from . import body
except ZeroDivisionError as error:
    raise ImportError("chained needs body", name="body") from error
