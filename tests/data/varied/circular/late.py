from .early import anything

absent_yet = 1
