#include "metrics/counters.h"
