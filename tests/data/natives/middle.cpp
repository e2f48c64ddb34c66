// A library that needs another one, found by $ORIGIN.
#include "base.h"

int middle_count() { return 100 + base_count(); }
void middle_throw() { base_throw(); }
