from .. import two
from ..two import NAME
