from failing.helper import HELPER
