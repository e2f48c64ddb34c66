// A library with a versioned name: an exception type that two modules share, and a counter.
#include "base.h"

Oops::~Oops() = default;
const char *Oops::what() const noexcept { return "oops"; }

static int count = 0;
int base_count() { return ++count; }
void base_throw() { throw Oops(); }
