import failing.helper
from failing import body
