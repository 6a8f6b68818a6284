#define STREAM_TABLE bench_stream_portable
#include "stream_loops.h"
