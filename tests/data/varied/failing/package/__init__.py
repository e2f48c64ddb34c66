from . import child
from . import absent
