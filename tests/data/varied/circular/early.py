from .late import absent_yet
