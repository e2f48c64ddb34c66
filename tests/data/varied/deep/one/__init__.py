from ..two import NAME as two
from . import leaf
